//! The files that sections name: what is read counts as a part of its section, and what will be written is tried.
//!
//! Invariant: a file is looked at before it is read, so that a change while it is read is seen by the next look.

use super::catalog::{Entry, Source};
use super::desired::as_text;
use crate::config::{Config, ConfigError, Problems};
use crate::publisher::{Access, FileUse};
use crate::watch::Marks;
use serde::Serialize;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Certificates and keys are small; of something larger this much tells one version from the next.
const MOST_READ: u64 = 4 << 20;

/// A number that differs, for all practical purposes, if what `file` holds does, or why it cannot be read. It means
/// nothing to another process.
pub(super) fn digest(file: &Path) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let read = || -> std::io::Result<Vec<u8>> {
        // Opening a pipe would wait for its writer.
        if !std::fs::metadata(file)?.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let mut bytes = Vec::new();
        std::fs::File::open(file)?.take(MOST_READ).read_to_end(&mut bytes).map(|_| bytes)
    };
    KEY.hash_one(read().map_err(|error: std::io::Error| error.kind()))
}

/// Reads the configuration in `file`, and marks the files whose text it takes in as they were before.
///
/// # Errors
///
/// It cannot be read.
pub(super) fn read_config(file: &Path) -> Result<(Config, Problems, Marks), ConfigError> {
    let mut marks = Marks::new();
    loop {
        let (config, problems) = Config::read_file(file)?;
        let known = marks.len();
        for file in config.files() {
            marks.entry(file.to_owned()).or_insert_with_key(|file| crate::watch::mark(file));
        }
        // What was read before it was marked is read again.
        if marks.len() == known {
            return Ok((config, problems, marks));
        }
    }
}

/// The files that the sections of `entries` read, members of failovers included.
pub(super) fn read_by<'a>(entries: &'a [Entry], base_dir: &'a Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in entries {
        if let Source::Failover(source) = &entry.source {
            files.extend(read_by(&source.members, base_dir));
        }
        let read = entry.files.iter().filter(|file| file.access == Access::Read);
        files.extend(read.map(|file| base_dir.join(&file.path)));
    }
    files
}

/// What will be needed and cannot be had.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckedFile {
    /// The key that names the file, or would.
    pub key: String,
    /// The file; in JSON as [`PluginReport::file`](super::PluginReport::file).
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Why it cannot be had, and what to do.
    pub problem: String,
    /// The host does without.
    pub optional: bool,
}

/// Tries what the publishers of `entries` will read and write. Nothing is opened or made.
pub(super) fn try_all(entries: &[Entry], config: &Config) -> Vec<CheckedFile> {
    let mut found: Vec<_> = entries.iter().flat_map(|entry| try_entry(entry, config)).collect();
    found.extend(try_dead_letters(config));
    found.extend(try_cache(config));
    found
}

fn try_entry(entry: &Entry, config: &Config) -> Vec<CheckedFile> {
    if let Source::Failover(source) = &entry.source {
        return source.members.iter().flat_map(|member| try_entry(member, config)).collect();
    }
    let tried = entry.files.iter().filter_map(|FileUse { key, path, access }| {
        let path = config.base_dir.join(path);
        let problem = match access {
            Access::Read => readable(&path),
            Access::Write => writable(&path),
            Access::WriteWithin => may_write(&path),
        };
        let key = format!("publishers.{}.{key}", entry.section.label);
        problem.err().map(|problem| CheckedFile { key, path, problem, optional: false })
    });
    tried.collect()
}

/// Whether dead letters can be written, found out before the first one.
pub(super) fn try_dead_letters(config: &Config) -> Option<CheckedFile> {
    let path = config.dead_letters_path();
    let cause = writable(&path).err()?;
    let problem = format!("{cause}; name a file that can be written in dead_letters.path");
    Some(CheckedFile { key: "dead_letters.path".to_owned(), path, problem, optional: false })
}

fn try_cache(config: &Config) -> Option<CheckedFile> {
    let path = config.cache_dir();
    if !cfg!(feature = "wasm") || (config.plugins.cache_dir.is_none() && !config.plugins_dir().exists()) {
        return None;
    }
    let cause = may_be_made(&path).err()?;
    let problem = format!(
        "{cause}; each start compiles the plugins: name a directory that can be written in plugins.cache_dir"
    );
    Some(CheckedFile { key: "plugins.cache_dir".to_owned(), path, problem, optional: true })
}

fn readable(path: &Path) -> Result<(), String> {
    let file = std::fs::metadata(path).and_then(|found| match found.is_file() {
        true => std::fs::File::open(path).map(drop),
        false => Err(std::io::Error::other("not a file")),
    });
    file.map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// A file that exists must be writable, and so must the directory: it is rotated, or made there.
fn writable(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(format!("{} cannot be written: it is a directory", path.display()))
        }
        Ok(_) => may_write(path),
        Err(_) => may_be_made(path.parent().unwrap_or(Path::new("/"))),
    }
}

/// Of a directory that does not exist the nearest one above it must be writable: the others are made.
fn may_be_made(dir: &Path) -> Result<(), String> {
    fn here(dir: &Path) -> &Path {
        if dir == Path::new("") { Path::new(".") } else { dir }
    }
    let existing = dir.ancestors().map(here).find(|dir| dir.exists()).unwrap_or(dir);
    if existing.exists() && !existing.is_dir() {
        return Err(format!("{} cannot be made: {} is no directory", dir.display(), existing.display()));
    }
    may_write(existing)
}

/// What the system says, without anything being opened or made.
#[cfg(unix)]
fn may_write(path: &Path) -> Result<(), String> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let wanted = if path.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    accessat(CWD, path, wanted, AtFlags::EACCESS).map_err(|error| {
        let cause = std::io::Error::from(error);
        format!("{} cannot be written: {cause}", path.display())
    })
}

#[cfg(not(unix))]
fn may_write(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if found.permissions().readonly() => {
            Err(format!("{} cannot be written: it is read-only", path.display()))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{} cannot be written: {error}", path.display())),
    }
}
