//! Where a rotated file goes: `events.jsonl` becomes `events.jsonl.2026-11-23T11-14-44.123456789Z`.
//!
//! Invariant: no file is ever overwritten, and names sort by age even where the clock was set back.

use crate::output::file::directory;
use crate::record::Timestamp;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

/// Moves `path` to a name that nothing has.
pub(super) fn rotate(path: &Path, now: SystemTime) -> io::Result<()> {
    let newest = rotated(path)?.into_iter().next_back().map(|(at, _)| at);
    let mut at = Timestamp::from(now);
    if let Some(newest) = newest {
        // Later than all there are: what is kept is the newest by name.
        at = at.max(newest.after(Duration::from_nanos(1)));
    }
    let target = loop {
        let target = target(path, at);
        // An empty file of that name is ours alone, and so is what replaces it.
        match fs::File::create_new(&target) {
            Ok(_) => break target,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                at = at.after(Duration::from_nanos(1));
            }
            Err(error) => return Err(error),
        }
    };
    fs::rename(path, &target).inspect_err(|_| {
        let _ = fs::remove_file(&target);
    })
}

/// Removes all but the newest `keep` rotated files.
pub(super) fn prune(path: &Path, keep: usize) -> io::Result<()> {
    let rotated = rotated(path)?;
    let excess = rotated.len().saturating_sub(keep);
    rotated.into_iter().take(excess).try_for_each(|(_, old)| fs::remove_file(old))
}

/// The rotated files of `path`, the oldest first.
fn rotated(path: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let name = path.file_name().unwrap_or_default();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        if let Some(at) = rotated_at(name, &entry.file_name()) {
            found.push((at, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn rotated_at(name: &OsStr, candidate: &OsStr) -> Option<Timestamp> {
    let prefix = name.len() + 1;
    let (name, candidate) = (name.as_encoded_bytes(), candidate.as_encoded_bytes());
    let (before, stamp) = (candidate.get(..prefix)?, candidate.get(prefix..)?);
    if before.strip_suffix(b".")? != name {
        return None;
    }
    let (date, time) = std::str::from_utf8(stamp).ok()?.split_once('T')?;
    let at: Timestamp = format!("{date}T{}", time.replace('-', ":")).parse().ok()?;
    // Only what is written exactly as we write it is ours to remove.
    (suffix(at).as_bytes() == stamp).then_some(at)
}

fn target(path: &Path, at: Timestamp) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix(at));
    path.with_file_name(name)
}

/// The time in RFC 3339, without the colons that not every file system takes.
fn suffix(at: Timestamp) -> String {
    at.to_string().replace(':', "-")
}
