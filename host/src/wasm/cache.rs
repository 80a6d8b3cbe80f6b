//! Compiled plugins, kept on disk: compiling takes from fifty milliseconds to five seconds, loading three.
//!
//! Invariant: nothing is loaded that this host's user did not write whole. An entry carries the digest of its own
//! name and content, is written beside and renamed into place, and lies in a directory that nobody else can write to; a
//! directory of which that cannot be said is not used. An entry that fails any check is removed, never run. All
//! entries together stay below a bound: what was used longest ago goes first.

use super::compile::MAX_CODE;
use super::component::hex;
use super::engine::Machine;
use crate::config::units::ByteSize;
use crate::paths;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use wasmtime::Engine;
use wasmtime::component::Component;

const DIGEST: usize = 32;
const EXTENSION: &str = "cwasm";
/// An entry larger than this was not written by [`Cache::put`].
const MAX_ENTRY: u64 = MAX_CODE + DIGEST as u64;
/// Entries that are older were left behind by plugins or versions of this host that are gone.
const MAX_AGE: Duration = Duration::from_secs(60 * 60 * 24 * 30);
/// What is being written by another host is left alone for so long.
const MAX_AGE_UNFINISHED: Duration = Duration::from_secs(60 * 60);

/// A directory of compiled plugins.
#[derive(Clone)]
pub(super) struct Cache {
    dir: PathBuf,
    max_bytes: ByteSize,
}

/// A file of the directory.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Cache {
    /// Opens `dir`, made if it is missing, and removes what is old or beyond `max_bytes`.
    pub(super) fn open(dir: &Path, max_bytes: ByteSize) -> io::Result<Self> {
        paths::check(dir)?;
        create_private(dir)?;
        check_private(dir)?;
        let cache = Self { dir: dir.to_owned(), max_bytes };
        cache.remove_excess();
        Ok(cache)
    }

    /// What was compiled for `machine` of the file with `digest`, if it is here and sound.
    pub(super) fn get(&self, machine: &Machine, digest: &str) -> Option<Component> {
        let path = self.path(machine, digest);
        let entry = match read_bounded(&path) {
            Ok(entry) => entry,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return None,
            Err(cause) => {
                tracing::warn!(path = %path.display(), %cause, "a compiled plugin cannot be read, compiling it again");
                return None;
            }
        };
        let loaded = match entry.split_at_checked(DIGEST) {
            Some((seal, code)) if self.seal(machine, digest, code).as_slice() == seal => {
                load(&machine.engine, code)
            }
            _ => Err(wasmtime::Error::msg("its content is not what was written")),
        };
        match loaded {
            Ok(component) => {
                // What is used stays longest.
                let _ = std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(cause) => {
                tracing::warn!(path = %path.display(), %cause, "removed a compiled plugin that is damaged, compiling it again");
                let _ = std::fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps `code`, compiled for `machine` from the file with `digest`.
    pub(super) fn put(&self, machine: &Machine, digest: &str, code: &[u8]) -> io::Result<()> {
        if code.len() as u64 > self.max_bytes.bytes() {
            return Err(io::Error::other(format!(
                "it is larger than the {} of plugins.cache_max_bytes",
                self.max_bytes
            )));
        }
        let beside = self.dir.join(format!("{digest}-{:016x}.tmp", fastrand::u64(..)));
        let written = (|| {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&beside)?;
            file.write_all(&self.seal(machine, digest, code))?;
            file.write_all(code)?;
            drop(file);
            std::fs::rename(&beside, self.path(machine, digest))
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        self.remove_excess();
        written
    }

    /// Whether there is an entry, sound or not.
    pub(super) fn has(&self, machine: &Machine, digest: &str) -> bool {
        self.path(machine, digest).exists()
    }

    /// Forgets an entry that a better one has replaced.
    pub(super) fn remove(&self, machine: &Machine, digest: &str) {
        let _ = std::fs::remove_file(self.path(machine, digest));
    }

    fn name(machine: &Machine, digest: &str) -> String {
        format!("{digest}-{}-{:016x}", machine.tier.as_str(), machine.settings)
    }

    fn path(&self, machine: &Machine, digest: &str) -> PathBuf {
        self.dir.join(format!("{}.{EXTENSION}", Self::name(machine, digest)))
    }

    /// Binds an entry to its name: one that was moved to another's place is as foreign as one that was changed.
    fn seal(&self, machine: &Machine, digest: &str, code: &[u8]) -> [u8; DIGEST] {
        Sha256::new().chain_update(Self::name(machine, digest)).chain_update(code).finalize().into()
    }

    fn entries(&self) -> Vec<Entry> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let ours = |path: &Path| path.extension().is_some_and(|kind| kind == EXTENSION || kind == "tmp");
        let entries = entries.flatten().filter(|entry| ours(&entry.path())).filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(Entry { path: entry.path(), bytes: metadata.len(), used: metadata.modified().ok()? })
        });
        entries.collect()
    }

    fn remove_excess(&self) {
        let now = SystemTime::now();
        let mut entries = self.entries();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        let mut held = 0_u64;
        for entry in entries {
            let age = now.duration_since(entry.used).unwrap_or_default();
            let is_finished = entry.path.extension().is_some_and(|kind| kind == EXTENSION);
            if is_finished {
                held = held.saturating_add(entry.bytes);
            }
            let goes = match is_finished {
                true => age > MAX_AGE || held > self.max_bytes.bytes(),
                false => age > MAX_AGE_UNFINISHED,
            };
            if goes {
                held = held.saturating_sub(if is_finished { entry.bytes } else { 0 });
                let _ = std::fs::remove_file(&entry.path);
            }
        }
    }
}

/// Makes code that this host compiled runnable.
#[allow(unsafe_code)]
pub(super) fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` runs what it is given, so it must be what the compiler gave. It is. Either `code` has just
    // been read whole from this process's own compiler, or from the pipe of a child that this process started for it
    // and that said it was done (`Compiler::compile`). Or it has the seal that `Cache::put` wrote before it, whole or
    // not at all (rename); only this host's user can write to the directory (`check_private`) or to the entry (created
    // with mode 0600). And wasmtime checks by itself that its own version and the engine's settings are those of the
    // code. Who can write there as this user could as well replace the host itself.
    unsafe { Component::deserialize(engine, code) }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut entry = Vec::with_capacity(usize::try_from(file.metadata()?.len().min(MAX_ENTRY)).unwrap_or(0));
    file.take(MAX_ENTRY).read_to_end(&mut entry)?;
    Ok(entry)
}

fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Refuses a directory to which anybody else could write. Whose it should be is learned from a file made in it.
#[cfg(unix)]
fn check_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let probe = dir.join(format!("{:016x}.tmp", fastrand::u64(..)));
    let user = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe)?.metadata()?.uid();
    std::fs::remove_file(&probe)?;
    let directory = std::fs::metadata(dir)?;
    if directory.uid() != user {
        return Err(io::Error::other("it belongs to another user"));
    }
    if directory.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it; chmod it to 0700"));
    }
    Ok(())
}

/// Elsewhere a directory of the user's own is private by inheritance.
#[cfg(not(unix))]
fn check_private(_dir: &Path) -> io::Result<()> {
    Ok(())
}

/// The digest of a file, in hexadecimal: what `sha256` in the configuration pins. No more is read of it than the length
/// that its metadata tell: some files have no end, and some that tell no length never answer.
///
/// # Errors
///
/// The file cannot be read.
pub fn digest(path: impl AsRef<Path>) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let length = std::fs::metadata(&path)?.len();
    if length > 0 {
        io::copy(&mut std::fs::File::open(path)?.take(length), &mut hasher)?;
    }
    Ok(hex(&hasher.finalize()))
}

/// As [`digest`], of what was read.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::{Cache, DIGEST};
    use crate::config::units::ByteSize;
    use crate::wasm::engine::{Machine, Tier};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    fn machine() -> Machine {
        Machine::new(Tier::Optimised).unwrap()
    }

    fn code(machine: &Machine, text: &str) -> Vec<u8> {
        machine.engine.precompile_component(&wat::parse_str(text).unwrap()).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Flips a bit of the one entry in `dir`, `at` bytes from its beginning.
    fn damage(dir: &Path, at: usize) {
        let path = std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
        let mut entry = std::fs::read(&path).unwrap();
        entry[at] ^= 1;
        std::fs::write(path, entry).unwrap();
    }

    #[test]
    fn an_entry_is_found_again_and_a_damaged_one_never_runs() {
        let machine = machine();
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("cache");
        let cache = Cache::open(&dir, ByteSize::mib(64)).unwrap();
        let code = code(&machine, "(component)");
        assert!(cache.get(&machine, "aa").is_none());
        for at in [0, DIGEST, DIGEST + 700] {
            cache.put(&machine, "aa", &code).unwrap();
            assert!(cache.get(&machine, "aa").is_some());
            assert!(cache.get(&machine, "bb").is_none());
            damage(&dir, at);
            assert!(cache.get(&machine, "aa").is_none());
            assert_eq!(names(&dir).len(), 0, "the damaged entry is gone");
        }
        std::fs::write(cache.path(&machine, "aa"), b"short").unwrap();
        assert!(cache.get(&machine, "aa").is_none());
    }

    #[test]
    fn what_was_compiled_of_another_file_or_for_another_tier_never_runs() {
        let (machine, other) = (machine(), Machine::new(Tier::Baseline).unwrap());
        assert_ne!(machine.settings, other.settings);
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), ByteSize::mib(64)).unwrap();
        cache.put(&machine, "aa", &code(&machine, "(component)")).unwrap();
        let genuine = std::fs::read(cache.path(&machine, "aa")).unwrap();
        for foreign in [cache.path(&machine, "bb"), cache.path(&other, "aa")] {
            std::fs::write(&foreign, &genuine).unwrap();
        }
        assert!(cache.get(&machine, "bb").is_none());
        assert!(cache.get(&other, "aa").is_none());
        // Not even where everything but the code itself is right.
        cache.put(&other, "aa", &code(&machine, "(component)")).unwrap();
        assert!(cache.get(&other, "aa").is_none());
        assert!(cache.get(&machine, "aa").is_some());
        assert_eq!(names(dir.path()).len(), 1, "what is foreign is gone");
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let machine = machine();
        let dir = tempfile::tempdir().unwrap();
        let code = code(&machine, "(component (core module (func)))");
        let room = ByteSize(3 * (code.len() + DIGEST) as u64);
        let cache = Cache::open(dir.path(), room).unwrap();
        let now = SystemTime::now();
        for (age, digest) in [(30, "cc"), (40, "aa"), (20, "bb")] {
            cache.put(&machine, digest, &code).unwrap();
            let file = std::fs::File::open(cache.path(&machine, digest)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        // The oldest is used, and stays.
        assert!(cache.get(&machine, "aa").is_some());
        cache.put(&machine, "dd", &code).unwrap();
        let held: Vec<_> = names(dir.path()).iter().map(|name| name[..2].to_owned()).collect();
        assert_eq!(held, ["aa", "bb", "dd"]);
        let small = Cache::open(dir.path(), ByteSize(100)).unwrap();
        assert_eq!(names(dir.path()).len(), 0);
        let refused = small.put(&machine, "aa", &code).unwrap_err().to_string();
        assert!(refused.contains("plugins.cache_max_bytes"), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Cache::open(dir.path(), ByteSize::mib(64)).err().unwrap().to_string();
        assert!(refused.contains("others may write to it"), "{refused}");
    }
}
