//! What can be said of a configuration without running it: is it right, and can what it needs be had?
//!
//! Invariant: nothing is started, opened for writing, made or changed.

use super::catalog::Catalog;
use super::composite;
use super::desired::{as_text, missing, plugins_of};
use super::files::{self, CheckedFile};
use super::plugins::PluginDir;
use crate::config::{Config, ConfigError};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A configuration that can be used.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Checked {
    /// The publishers of the configuration.
    pub publishers: Vec<CheckedPublisher>,
    /// The plugin directory; in JSON as [`PluginReport::file`](super::PluginReport::file).
    #[serde(serialize_with = "as_text")]
    pub plugins_dir: PathBuf,
    /// The plugins in it.
    pub plugins: Vec<CheckedPlugin>,
    /// Files that are to be read or written and cannot be.
    pub files: Vec<CheckedFile>,
}

/// A file of the plugin directory.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckedPlugin {
    /// Its name.
    pub name: String,
    /// Why it cannot be loaded, as far as can be told without compiling it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A publisher of the configuration.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckedPublisher {
    /// Its label.
    pub label: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is made of, if it is a composite.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub composite: Option<CheckedComposite>,
    /// What will keep it waiting: its plugin file is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// What a composite is made of.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckedComposite {
    /// `all` or `failover`.
    pub mode: &'static str,
    /// The labels of its members, as they are named: in a failover the first choice first.
    pub members: Vec<String>,
}

/// Checks a configuration file, the types' own keys included, and tries whether what it will read and write can be. Starts
/// nothing.
///
/// # Errors
///
/// It cannot be read, or something in it is wrong: all of it.
pub fn check(path: impl AsRef<Path>) -> Result<Checked, ConfigError> {
    let (config, mut problems) = Config::read_file(path)?;
    let entries = Catalog::new(std::collections::BTreeMap::new()).read(&config, &mut problems);
    problems.into_result()?;
    let dir = PluginDir::new(config.plugins_dir());
    let files = dir.scan();
    let plugins: Vec<(&str, &str)> = entries.iter().flat_map(plugins_of).collect();
    let waits = |label: &str| {
        let (_, name) = plugins.iter().find(|(of, _)| *of == label)?;
        let is_there = files.iter().any(|file| file.name == *name);
        (!is_there).then(|| config.secrets().redact(&missing(&dir, name)).into_owned())
    };
    Ok(Checked {
        files: files::try_all(&entries, &config),
        publishers: config
            .publishers
            .iter()
            .map(|section| CheckedPublisher {
                label: section.label.clone(),
                kind: section.kind.clone(),
                composite: composite::of(section),
                waits: waits(&section.label),
            })
            .collect(),
        plugins_dir: config.plugins_dir(),
        plugins: files
            .into_iter()
            .map(|file| CheckedPlugin {
                problem: file.digest.err().or_else(|| inspect(&file.path)),
                name: file.name,
            })
            .collect(),
    })
}

#[cfg(feature = "wasm")]
fn inspect(file: &Path) -> Option<String> {
    crate::wasm::inspect(file).err().map(|error| error.to_string())
}

#[cfg(not(feature = "wasm"))]
fn inspect(_: &Path) -> Option<String> {
    None
}
