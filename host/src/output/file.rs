//! A file of JSON lines: opened to append, locked, found again when it was moved away, and never left with half a line.
//!
//! Invariants: what is written goes to the file that is under the path at that moment, which its inode decides and not its
//! name. Between two calls the file ends in a whole line, or `unconfirmed` says up to where it is good; nothing is written
//! before the rest is cut off. A file whose last line is not a line of this host is never cut. Everything here blocks.

use super::escape;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why the file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What could not be done to which file, and why.
    pub reason: String,
    /// Whether a person has to change something first.
    pub hold: bool,
}

impl Failure {
    /// `doing` something to `path` failed.
    pub fn new(doing: &str, path: &Path, error: &io::Error) -> Self {
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
        Self { reason: format!("cannot {doing} {}: {error}", escape::path(path)), hold }
    }

    fn hold(path: &Path, reason: &str) -> Self {
        Self { reason: format!("cannot write to {}: {reason}", escape::path(path)), hold: true }
    }
}

/// A file of JSON lines under a path. It is opened by the first call that needs it.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    private: bool,
    open: Option<Open>,
}

#[derive(Debug)]
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

impl LineFile {
    /// The file under `path`, opened by nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, private: false, open: None }
    }

    /// A file that is created so that its owner alone can read it.
    pub fn private(path: PathBuf) -> Self {
        Self { private: true, ..Self::new(path) }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the open file over from `old`, if it is the one under this path. The lock goes with it, and so does what is
    /// not confirmed.
    pub fn take_over(&mut self, old: &mut Self) -> bool {
        let same_file = |open: &Open| open.identity.is_some() && open.is_at(&self.path);
        if self.path == old.path || old.open.as_ref().is_some_and(same_file) {
            self.open = old.open.take();
            return self.open.is_some();
        }
        false
    }

    /// Has the file open that is under the path, and ending where it is good. `now` is when one that is empty begins.
    ///
    /// # Errors
    ///
    /// It cannot be opened, locked or cut.
    pub fn ready(&mut self, now: SystemTime) -> Result<(), Failure> {
        let path = &self.path;
        if let Some(open) = &mut self.open {
            open.cut_off().map_err(|error| Failure::new("cut a half-written batch off", path, &error))?;
            if !open.is_at(path) {
                tracing::info!(path = %escape::path(path), "the file was moved away, it is opened anew");
                open.sync().map_err(|error| Failure::new("sync what was", path, &error))?;
                self.open = None;
            }
        }
        if self.open.is_none() {
            self.open = Some(Open::at(path, self.private, now)?);
        }
        Ok(())
    }

    /// Appends `lines` to the file, which is [`ready`](Self::ready). They stand when [`LineFile::confirm`] follows; else the
    /// next call cuts them off. Returns how large the file is then.
    ///
    /// # Errors
    ///
    /// Not all of them could be written: none of them stands.
    pub fn append(&mut self, lines: &[u8]) -> Result<u64, Failure> {
        let failed = |error: io::Error| Failure::new("write to", &self.path, &error);
        let Some(open) = &mut self.open else { return Err(failed(ErrorKind::NotFound.into())) };
        let good = open.size().map_err(failed)?;
        open.unconfirmed = Some(good);
        if let Err(error) = open.file.write_all(lines) {
            // Where this fails too, the next call begins with it.
            let _ = open.cut_off();
            return Err(failed(error));
        }
        open.unsynced = true;
        Ok(good + lines.len() as u64)
    }

    /// What was appended stands.
    pub fn confirm(&mut self) {
        if let Some(open) = &mut self.open {
            open.unconfirmed = None;
        }
    }

    /// What was appended and not confirmed is cut off.
    ///
    /// # Errors
    ///
    /// It could not be; the next call tries again.
    pub fn revoke(&mut self) -> Result<(), Failure> {
        let cut = self.open.as_mut().map_or(Ok(()), Open::cut_off);
        cut.map_err(|error| Failure::new("cut what does not stand off", &self.path, &error))
    }

    /// Returns when the disk has what was appended.
    ///
    /// # Errors
    ///
    /// It may not have.
    pub fn sync(&mut self) -> Result<(), Failure> {
        let synced = self.open.as_mut().map_or(Ok(()), Open::sync);
        synced.map_err(|error| Failure::new("sync", &self.path, &error))
    }

    /// Lets the open file go, and its lock.
    pub fn release(&mut self) {
        self.open = None;
    }

    /// Whether a file is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the open file is still the one under the path.
    pub fn is_in_place(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_at(&self.path))
    }

    /// How large the open file is, and since when it is written; nothing for a device.
    ///
    /// # Errors
    ///
    /// The file system does not say.
    pub fn size_and_start(&self) -> Result<Option<(u64, SystemTime)>, Failure> {
        let Some(open) = self.open.as_ref().filter(|open| open.regular) else { return Ok(None) };
        let size = open.size().map_err(|error| Failure::new("look at", &self.path, &error))?;
        Ok(Some((size, open.since)))
    }
}

impl Open {
    fn at(path: &Path, private: bool, now: SystemTime) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new("open", path, &error);
        crate::paths::check(path).map_err(failed)?;
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(Failure::hold(path, "it is a directory")),
            // Opening a pipe would wait for its reader.
            Ok(found) if !found.is_file() && !is_device(&found) => {
                return Err(Failure::hold(path, "it is neither a file nor a device"));
            }
            _ => {}
        }
        let directory = directory(path);
        fs::create_dir_all(directory)
            .map_err(|error| Failure::new("create the directory", directory, &error))?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        if private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        let _ = private;
        let file = options.open(path).map_err(failed)?;
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
                // Its owner rotated it while it was being opened; the next call finds the new one, locked.
                return Err(Failure {
                    reason: format!("{} was moved away just now", escape::path(path)),
                    hold: false,
                });
            }
            open.complete_last_line(path)?;
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
                tracing::warn!(path = %escape::path(path), %error, "the file cannot be locked, it is written without");
                Ok(())
            }
        }
    }

    /// Cuts off, or completes, a last line that a crash left without its end.
    fn complete_last_line(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::new("repair the last line of", path, &error);
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
            tracing::warn!(path = %escape::path(path), "the last line had no end, it was completed");
            return Ok(());
        }
        // A line begins with a brace; what a power cut left may be zeroes. Anything else is another program's file.
        if !torn.starts_with(b"{") && torn.iter().any(|byte| *byte != 0) {
            return Err(Failure::hold(path, "its last line is no JSON and was not written by this host"));
        }
        self.file.set_len(start).map_err(failed)?;
        tracing::warn!(path = %escape::path(path), bytes = size - start, "a torn last line was cut off");
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
        // Another program may have made it shorter meanwhile; it must not grow.
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

/// The directory that `path` is in.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
