//! The file itself: opened, locked, mended, appended to, rotated, and found again when it was moved away.
//!
//! Invariant: between two calls the file ends in a whole line, or `unconfirmed` says up to where it is good; nothing
//! is written, rotated or handed on before the rest is cut off. Everything here blocks.

use super::rotation;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The wall clock: a file's age counts on while the host is down.
pub(super) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A rotation that failed is tried again after that long; meanwhile the file grows on.
const ROTATE_AGAIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) max_size: Option<u64>,
    pub(super) max_age: Option<Duration>,
    pub(super) keep: Option<usize>,
}

/// What `status` shows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    size: AtomicU64,
    rotated: AtomicU64,
}

impl Counters {
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub(super) fn rotated(&self) -> u64 {
        self.rotated.load(Ordering::Relaxed)
    }
}

/// Why the file could not be written.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// Whether a person has to mend something.
    pub(super) hold: bool,
}

impl Failure {
    fn new(doing: &str, path: &Path, error: &io::Error) -> Self {
        let hold = matches!(
            error.kind(),
            // A file where a directory is to be is said to exist already.
            ErrorKind::AlreadyExists
                | ErrorKind::PermissionDenied
                | ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::InvalidFilename
                | ErrorKind::InvalidInput
        );
        Self { reason: format!("cannot {doing} {}: {error}", path.display()), hold }
    }

    fn hold(path: &Path, reason: &str) -> Self {
        Self { reason: format!("cannot write to {}: {reason}", path.display()), hold: true }
    }
}

pub(super) struct Writer {
    settings: Settings,
    clock: Clock,
    counters: Arc<Counters>,
    open: Option<Open>,
    rotate_after: Option<SystemTime>,
}

struct Open {
    file: File,
    identity: Identity,
    /// Devices can be written to and nothing else.
    regular: bool,
    since: SystemTime,
    /// Up to where the file is good, if what follows was not confirmed.
    unconfirmed: Option<u64>,
    unsynced: bool,
}

/// What tells one file from another of the same name.
type Identity = Option<(u64, u64)>;

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    None
}

#[cfg(unix)]
fn is_device(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_device(_: &Metadata) -> bool {
    false
}

impl Writer {
    /// Takes nothing yet: the file is opened by whatever needs it first.
    pub(super) fn new(settings: Settings, clock: Clock, counters: Arc<Counters>) -> Self {
        Self { settings, clock, counters, open: None, rotate_after: None }
    }

    /// Takes the open file over from `old`, if it is the one that this one is to write. The lock goes with it, and
    /// so does what is not confirmed.
    pub(super) fn take_over(&mut self, old: &mut Self) -> bool {
        let same = self.settings.path == old.settings.path
            || old
                .open
                .as_ref()
                .is_some_and(|open| open.identity.is_some() && open.is_at(&self.settings.path));
        if same && old.open.is_some() {
            self.open = old.open.take();
            self.counters.size.store(old.counters.size(), Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Sees to it that the file is open, is the one under its path, and ends where it is good.
    pub(super) fn ready(&mut self) -> Result<(), Failure> {
        let path = &self.settings.path;
        if let Some(open) = &mut self.open {
            open.cut_off().map_err(|error| Failure::new("cut a half-written batch off", path, &error))?;
            if !open.is_at(path) {
                tracing::info!(path = %path.display(), "the file was moved away, it is opened anew");
                open.sync().map_err(|error| Failure::new("sync what was", path, &error))?;
                self.open = None;
            }
        }
        if self.open.is_none() {
            self.open = Some(Open::at(path, (self.clock)())?);
        }
        Ok(())
    }

    /// Appends `lines`. They stand when [`Writer::confirm`] follows; else the next call cuts them off.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        self.ready()?;
        self.rotate_if_due(lines.len() as u64)?;
        let path = &self.settings.path;
        let failed = |error: io::Error| Failure::new("write to", path, &error);
        let Some(open) = &mut self.open else { return Err(failed(ErrorKind::NotFound.into())) };
        let good = open.size().map_err(failed)?;
        open.unconfirmed = Some(good);
        if let Err(error) = open.file.write_all(lines) {
            // Where this fails too, the next call begins with it.
            let _ = open.cut_off();
            return Err(failed(error));
        }
        open.unsynced = true;
        self.counters.size.store(good + lines.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What was appended stands.
    pub(super) fn confirm(&mut self) {
        if let Some(open) = &mut self.open {
            open.unconfirmed = None;
        }
    }

    /// Returns when the disk has what was appended. A file that has become too old is rotated.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.open.is_none() {
            return Ok(());
        }
        self.ready()?;
        if let Some(open) = &mut self.open {
            open.sync().map_err(|error| Failure::new("sync", &self.settings.path, &error))?;
        }
        self.rotate_if_due(0)
    }

    fn rotate_if_due(&mut self, coming: u64) -> Result<(), Failure> {
        let now = (self.clock)();
        let (settings, Some(open)) = (&self.settings, &mut self.open) else { return Ok(()) };
        let path = &settings.path;
        let size = open.size().map_err(|error| Failure::new("look at", path, &error))?;
        let too_large = settings.max_size.is_some_and(|max| size.saturating_add(coming) > max);
        let age = now.duration_since(open.since).unwrap_or_default();
        let too_old = settings.max_age.is_some_and(|max| age >= max);
        if !open.regular || size == 0 || !(too_large || too_old) {
            return Ok(());
        }
        if self.rotate_after.is_some_and(|after| now < after) {
            return Ok(());
        }
        // Synced now, for later syncs reach the new file only. Where the path is a link, the file itself is rotated,
        // beside itself, and the link leads to the new one.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if let Err(error) = open.sync().and_then(|()| rotation::rotate(&real, now)) {
            tracing::warn!(path = %path.display(), %error, "cannot rotate the file, it grows on");
            self.rotate_after = now.checked_add(ROTATE_AGAIN);
            return Ok(());
        }
        self.rotate_after = None;
        self.open = None;
        self.counters.rotated.fetch_add(1, Ordering::Relaxed);
        self.counters.size.store(0, Ordering::Relaxed);
        if let Some(keep) = settings.keep
            && let Err(error) = rotation::prune(&real, keep)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old rotated file");
        }
        self.open = Some(Open::at(path, now)?);
        Ok(())
    }
}

impl Open {
    fn at(path: &Path, now: SystemTime) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new("open", path, &error);
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(Failure::hold(path, "it is a directory")),
            // Opening a pipe would wait for its reader.
            Ok(found) if !found.is_file() && !is_device(&found) => {
                return Err(Failure::hold(path, "it is neither a file nor a device"));
            }
            _ => {}
        }
        let directory = rotation::directory(path);
        fs::create_dir_all(directory)
            .map_err(|error| Failure::new("create the directory", directory, &error))?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut open = Self {
            file,
            identity: identity(&metadata),
            regular: metadata.is_file(),
            since: metadata.created().or_else(|_| metadata.modified()).unwrap_or(now),
            unconfirmed: None,
            unsynced: false,
        };
        if metadata.len() == 0 {
            open.since = now;
        }
        if open.regular {
            open.lock(path)?;
            if !open.is_at(path) {
                // Its owner rotated it while it was being opened; who is asked again finds the new one, locked.
                return Err(Failure {
                    reason: format!("{} was moved away just now", path.display()),
                    hold: false,
                });
            }
            open.mend(path)?;
        }
        Ok(open)
    }

    fn lock(&self, path: &Path) -> Result<(), Failure> {
        match self.file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(Failure::hold(
                path,
                "another publisher or process has locked it: give each a file of its own",
            )),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "the file cannot be locked, it is written without");
                Ok(())
            }
        }
    }

    /// Cuts off, or completes, a last line that a crash left without its end.
    fn mend(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::new("mend the last line of", path, &error);
        let size = self.size().map_err(failed)?;
        let start = self.last_line(size).map_err(failed)?;
        if start == size {
            return Ok(());
        }
        let mut torn = Vec::new();
        self.file.seek(SeekFrom::Start(start)).map_err(failed)?;
        (&mut self.file).take(size - start).read_to_end(&mut torn).map_err(failed)?;
        if serde_json::from_slice::<serde::de::IgnoredAny>(&torn).is_ok() {
            self.file.write_all(b"\n").map_err(failed)?;
            tracing::warn!(path = %path.display(), "the last line had no end, it was completed");
            return Ok(());
        }
        // A record begins with a brace; what a power cut left may be zeroes. Anything else is somebody's file.
        if !torn.starts_with(b"{") && torn.iter().any(|byte| *byte != 0) {
            return Err(Failure::hold(path, "its last line is no JSON and was not written by this host"));
        }
        self.file.set_len(start).map_err(failed)?;
        tracing::warn!(path = %path.display(), bytes = size - start, "a torn last line was cut off");
        Ok(())
    }

    /// Where the last line begins: the file's end, if its last byte ends a line.
    fn last_line(&mut self, size: u64) -> io::Result<u64> {
        let mut block = [0; 64 * 1024];
        let mut end = size;
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let length = usize::try_from(end - start).unwrap_or(block.len());
            let Some(block) = block.get_mut(..length) else { break };
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(block)?;
            if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Cuts off what was not confirmed.
    fn cut_off(&mut self) -> io::Result<()> {
        // Somebody may have made it shorter meanwhile; it must not grow.
        if let Some(good) = self.unconfirmed.filter(|_| self.regular)
            && self.size()? > good
        {
            self.file.set_len(good)?;
        }
        self.unconfirmed = None;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.regular && self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Whether this is still the file under `path`.
    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| identity(&found) == self.identity)
    }
}
