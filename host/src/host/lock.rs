//! What `pressroom plugin lock` writes down: every plugin that would run, and what it is granted.

use super::catalog::{Catalog, Entry, Source};
use super::desired::missing;
use super::plugins::PluginDir;
use crate::config::{Config, ConfigError};
use crate::wasm::{Grant, Lock, Locked};
use std::path::{Path, PathBuf};

/// Why there is nothing to lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Something is wrong in the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Files that are to be locked are not there, or cannot be read.
    #[error("{}", .0.join("\n"))]
    Files(Vec<String>),
}

/// The lock of the configuration in `file`, as its plugins lie there now, and where it belongs. Nothing is started or
/// written.
///
/// # Errors
///
/// The configuration is wrong, or a plugin that it names is not there.
pub fn lock(file: impl AsRef<Path>) -> Result<(PathBuf, Lock), LockError> {
    let (config, mut problems) = Config::read_file(file)?;
    let entries = Catalog::new(std::collections::BTreeMap::new()).read(&config, &mut problems);
    problems.into_result()?;
    let dir = PluginDir::new(config.plugins_dir());
    let files = dir.scan();
    let (mut lock, mut missed, mut named) = (Lock::default(), Vec::new(), Vec::new());
    for (label, name, grant) in entries.iter().flat_map(granted) {
        named.push(name);
        match files.iter().find(|file| file.name == *name).map(|file| (&file.path, &file.digest)) {
            Some((path, Ok(digest))) => lock.insert(label, Locked::new(path, digest, grant)),
            Some((path, Err(cause))) => {
                missed.push(format!("{}: {cause}", crate::output::escape::path(path)))
            }
            None => missed.push(missing(&dir, name)),
        }
    }
    // Files that no section names run under their own names, with nothing granted.
    let dropped_in =
        files.iter().filter(|file| config.plugins.drop_in && !named.contains(&file.name.as_str()));
    for file in dropped_in {
        if let Ok(digest) = &file.digest {
            lock.insert(&file.name, Locked::new(&file.path, digest, &Grant::default()));
        }
    }
    match missed.is_empty() {
        true => Ok((config.lock_path(), lock)),
        false => Err(LockError::Files(missed)),
    }
}

/// The labels of an entry that run a plugin, its own and those within it, each with the plugin's name and grants.
fn granted(entry: &Entry) -> Vec<(&str, &str, &Grant)> {
    match &entry.source {
        Source::Failover(source) => source.members.iter().flat_map(granted).collect(),
        Source::Plugin { name, config } => vec![(entry.section.label.as_str(), name.as_str(), &config.grant)],
        Source::Factory(_) => Vec::new(),
    }
}
