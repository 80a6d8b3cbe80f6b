//! The file that the publisher writes: appended to, rotated, and taken over from a predecessor.
//!
//! Invariant: nothing is rotated or handed on before what was not confirmed is cut off. Everything here blocks.

use super::rotation;
use crate::output::escape;
use crate::output::file::{Failure, LineFile};
use std::fs;
use std::path::PathBuf;
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

pub(super) struct Writer {
    settings: Settings,
    clock: Clock,
    counters: Arc<Counters>,
    file: LineFile,
    rotate_after: Option<SystemTime>,
}

impl Writer {
    /// Takes nothing yet: the file is opened by whatever needs it first.
    pub(super) fn new(settings: Settings, clock: Clock, counters: Arc<Counters>) -> Self {
        let file = LineFile::new(settings.path.clone());
        Self { settings, clock, counters, file, rotate_after: None }
    }

    /// Takes the open file over from `old`, if it is the one that this one is to write.
    pub(super) fn take_over(&mut self, old: &mut Self) -> bool {
        let taken = self.file.take_over(&mut old.file);
        if taken {
            self.counters.size.store(old.counters.size(), Ordering::Relaxed);
        }
        taken
    }

    /// Has the file open that is under the path, and ending where it is good.
    pub(super) fn ready(&mut self) -> Result<(), Failure> {
        self.file.ready((self.clock)())
    }

    /// Appends `lines`. They stand when [`Writer::confirm`] follows; else the next call cuts them off.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        self.ready()?;
        self.rotate_if_due(lines.len() as u64)?;
        let size = self.file.append(lines)?;
        self.counters.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// What was appended stands.
    pub(super) fn confirm(&mut self) {
        self.file.confirm();
    }

    /// Returns when the disk has what was appended. A file that has become too old is rotated.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if !self.file.is_open() {
            return Ok(());
        }
        self.ready()?;
        self.file.sync()?;
        self.rotate_if_due(0)
    }

    fn rotate_if_due(&mut self, coming: u64) -> Result<(), Failure> {
        let now = (self.clock)();
        let (settings, path) = (&self.settings, &self.settings.path);
        let Some((size, since)) = self.file.size_and_start()? else { return Ok(()) };
        let too_large = settings.max_size.is_some_and(|max| size.saturating_add(coming) > max);
        let age = now.duration_since(since).unwrap_or_default();
        let too_old = settings.max_age.is_some_and(|max| age >= max);
        if size == 0 || !(too_large || too_old) {
            return Ok(());
        }
        if self.rotate_after.is_some_and(|after| now < after) {
            return Ok(());
        }
        // Synced now, for later syncs reach the new file only. Where the path is a link, the file itself is rotated,
        // beside itself, and the link leads to the new one.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let rotate = |error: std::io::Error| Failure::new("rotate", path, &error);
        let rotated = self.file.sync().and_then(|()| rotation::rotate(&real, now).map_err(rotate));
        if let Err(error) = rotated {
            tracing::warn!("{error}: it grows on");
            self.rotate_after = now.checked_add(ROTATE_AGAIN);
            return Ok(());
        }
        self.rotate_after = None;
        self.file.release();
        self.counters.rotated.fetch_add(1, Ordering::Relaxed);
        self.counters.size.store(0, Ordering::Relaxed);
        if let Some(keep) = settings.keep
            && let Err(error) = rotation::prune(&real, keep)
        {
            tracing::warn!(path = %escape::path(path), %error, "cannot remove an old rotated file");
        }
        self.file.ready(now)
    }
}
