//! Compiled plugins, kept on disk: compiling takes from fifty milliseconds to five seconds, loading three.
//!
//! Invariant: nothing is loaded that this host's user did not write whole. An entry carries the digest of its own
//! content, is written beside and renamed into place, and lies in a directory that nobody else can write to; a
//! directory of which that cannot be said is not used. An entry that fails any check is removed, never run.

use super::component::hex;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use wasmtime::Engine;
use wasmtime::component::Component;

const DIGEST: usize = 32;
const EXTENSION: &str = "cwasm";
/// An entry larger than this was not written by [`Cache::put`].
const MAX_ENTRY: u64 = 1 << 30;
/// Entries that are older were left behind by plugins or versions of this host that are gone.
const MAX_AGE: Duration = Duration::from_secs(60 * 60 * 24 * 30);

/// A directory of compiled plugins, for one engine.
pub(super) struct Cache {
    dir: PathBuf,
    /// What else the compiled code depends on: the version of the compiler and how it is set.
    settings: u64,
}

impl Cache {
    /// Opens `dir`, made if it is missing, and removes what is old.
    pub(super) fn open(dir: &Path, engine: &Engine) -> io::Result<Self> {
        create_private(dir)?;
        check_private(dir)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self { dir: dir.to_owned(), settings: hasher.finish() };
        cache.remove_old();
        Ok(cache)
    }

    /// What was compiled of the file with `digest`, if it is here and sound.
    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest);
        let entry = match read_bounded(&path) {
            Ok(entry) => entry,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return None,
            Err(cause) => {
                tracing::warn!(path = %path.display(), %cause, "a compiled plugin cannot be read, compiling it again");
                return None;
            }
        };
        let loaded = match entry.split_at_checked(DIGEST) {
            Some((digest, code)) if Sha256::digest(code).as_slice() == digest => load(engine, code),
            _ => Err(wasmtime::Error::msg("its content is not what was written")),
        };
        match loaded {
            Ok(component) => Some(component),
            Err(cause) => {
                tracing::warn!(path = %path.display(), %cause, "removed a compiled plugin that is damaged, compiling it again");
                let _ = std::fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps `component`, compiled from the file with `digest`.
    pub(super) fn put(&self, digest: &str, component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(io::Error::other)?;
        let beside = self.dir.join(format!("{digest}-{:016x}.tmp", fastrand::u64(..)));
        let written = (|| {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&beside)?;
            file.write_all(&Sha256::digest(&code))?;
            file.write_all(&code)?;
            drop(file);
            std::fs::rename(&beside, self.path(digest))
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{:016x}.{EXTENSION}", self.settings))
    }

    fn remove_old(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let ours = path.extension().is_some_and(|extension| extension == EXTENSION || extension == "tmp");
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .map(|at| SystemTime::now().duration_since(at));
            if ours && matches!(age, Ok(Ok(age)) if age > MAX_AGE) {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

/// Makes code that this host compiled runnable.
#[allow(unsafe_code)]
fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` runs what it is given, so it must be what `Component::serialize` gave. It is: `code` has
    // the digest that `Cache::put` wrote before it, whole or not at all (rename); only this host's user can write to
    // the directory (`check_private`) or to the entry (created with mode 0600); and wasmtime checks by itself that
    // its own version and the engine's settings are those of the code. Who can write there as this user could as well
    // replace the host itself.
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
    use wasmtime::component::Component;

    /// Flips a bit of the one entry in `dir`, `at` bytes from its beginning.
    fn damage(dir: &std::path::Path, at: usize) {
        let path = std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
        let mut entry = std::fs::read(&path).unwrap();
        entry[at] ^= 1;
        std::fs::write(path, entry).unwrap();
    }

    #[test]
    fn an_entry_is_found_again_and_a_damaged_one_never_runs() {
        let engine = super::super::engine::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("cache");
        let cache = Cache::open(&dir, &engine).unwrap();
        let component = Component::new(&engine, wat::parse_str("(component)").unwrap()).unwrap();
        assert!(cache.get(&engine, "aa").is_none());
        for at in [0, DIGEST, DIGEST + 700] {
            cache.put("aa", &component).unwrap();
            assert!(cache.get(&engine, "aa").is_some());
            assert!(cache.get(&engine, "bb").is_none());
            damage(&dir, at);
            assert!(cache.get(&engine, "aa").is_none());
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "the damaged entry is gone");
        }
        std::fs::write(cache.path("aa"), b"short").unwrap();
        assert!(cache.get(&engine, "aa").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let engine = super::super::engine::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Cache::open(dir.path(), &engine).err().unwrap().to_string();
        assert!(refused.contains("others may write to it"), "{refused}");
    }
}
