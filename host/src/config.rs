//! The configuration: TOML in, plain structs out, and every problem at once, each with its place and what to do.
//!
//! Invariant: a leaf. No publisher's type is known here: a section's own keys stay [`Settings`] until whoever knows
//! the type reads them, with the same care and the same words. Nothing that came through `${…}` is shown by `Debug` or
//! in a problem.
//!
//! ```
//! # fn main() -> Result<(), pressroom::config::ConfigError> {
//! use pressroom::config::Config;
//!
//! let config = Config::parse("[publishers.console]\ntype = \"stdout\"", ".", "pressroom.toml")?;
//! assert_eq!(config.publishers[0].kind, "stdout");
//!
//! let error = Config::parse("[journal]\nmax_byte = 1", ".", "pressroom.toml").unwrap_err();
//! assert_eq!(error.to_string(), r#"pressroom.toml:2:1: journal.max_byte: unknown key, did you mean "max_bytes"?"#);
//! # Ok(())
//! # }
//! ```

mod access;
mod changes;
mod delivery;
mod deserialize;
mod document;
mod ingest;
mod only;
mod problems;
mod publisher;
mod reader;
mod secrets;
mod sections;
mod substitute;
#[cfg(test)]
mod tests;
pub mod units;

pub use access::{Access, MIN_TOKEN, is_loopback};
pub use delivery::{BatchConfig, DeliveryConfig, From, Overflow, RetryConfig};
pub use ingest::{IngestConfig, OtlpConfig};
pub use only::{Glob, Only, OnlyKind, OnlyStatus, Share};
pub use problems::{ConfigError, Problem, Problems};
pub use publisher::{PublisherSection, Settings};
pub use secrets::{Secret, Secrets};
pub use sections::{
    DeadLettersConfig, JournalConfig, PluginsConfig, RecorderConfig, ReportsConfig, ServerConfig,
    ShutdownConfig,
};

use crate::paths::{self, Writable};
use document::{Document, Entry};
use problems::{Source, suggest};
use reader::{Check, Keys};
use sections::Section;
use std::fmt;
use std::path::{Path, PathBuf};
use substitute::Expander;

/// Everything that an operator can say.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Config {
    /// `[journal]`.
    pub journal: JournalConfig,
    /// `[recorder]`.
    pub recorder: RecorderConfig,
    /// `[reports]`.
    pub reports: ReportsConfig,
    /// `[server]`.
    pub server: ServerConfig,
    /// `[ingest]`.
    pub ingest: IngestConfig,
    /// `[plugins]`.
    pub plugins: PluginsConfig,
    /// `[dead_letters]`.
    pub dead_letters: DeadLettersConfig,
    /// `[shutdown]`.
    pub shutdown: ShutdownConfig,
    /// `[publishers.…]`, in the order of the file.
    pub publishers: Vec<PublisherSection>,
    /// Relative paths start here: the directory of the file.
    pub base_dir: PathBuf,
    secrets: Secrets,
    /// The files that `${file:…}` names, each with a problem at its place that has no words yet.
    files: Vec<(PathBuf, Problem)>,
    /// The same of the dead letters' place.
    dead_letters_at: Option<Problem>,
}

impl Config {
    /// Reads the file `path`, with the environment's variables.
    ///
    /// # Errors
    ///
    /// It cannot be read, or something in it is wrong: all of it, but for what only the publishers' types know.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (config, problems) = Self::read_file(path)?;
        problems.into_result().map(|()| config)
    }

    /// As [`Config::load`], with what is wrong beside the configuration, so that more can be added by whoever knows
    /// the publishers' types. Where something is wrong the configuration has defaults, and must not be used.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read_file(path: impl AsRef<Path>) -> Result<(Self, Problems), ConfigError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            let source = Source { file: file.as_str().into(), secrets: Secrets::default() };
            source.problem(problems::Position::default(), "", &format!("cannot be read: {error}"))
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let base_dir = absolute.parent().unwrap_or(Path::new("/"));
        Ok(Self::read(&text, base_dir, &file, &|name| std::env::var(name).ok()))
    }

    /// Reads `text` as the file `name` in the directory `base_dir`, with the environment's variables.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(text: &str, base_dir: impl AsRef<Path>, name: &str) -> Result<Self, ConfigError> {
        let (config, problems) = Self::read(text, base_dir, name, &|name| std::env::var(name).ok());
        problems.into_result().map(|()| config)
    }

    /// As [`Config::parse`] with these `variables`, and as [`Config::read_file`] with what is wrong beside the
    /// configuration.
    pub fn read(
        text: &str,
        base_dir: impl AsRef<Path>,
        name: &str,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> (Self, Problems) {
        let base_dir = base_dir.as_ref();
        let document = Document::parse(text, name, Expander::new(variables, base_dir));
        let Document { root, source, problems: found, files, garbled } = document;
        let mut config =
            Self { base_dir: base_dir.to_owned(), secrets: source.secrets.clone(), ..Self::default() };
        config.files = files.into_iter().map(|(at, key, file)| (file, source.problem(at, key, ""))).collect();
        let mut problems = Problems::new();
        problems.extend(found);
        // What a garbled text seems to say, or not to say, is no use to anyone.
        if !garbled {
            for entry in root.entries() {
                config.read_section(entry, &source, &mut problems);
            }
        }
        let key = "dead_letters.path";
        config.dead_letters_at = Some(source.problem(root.position_of(key), key, ""));
        (config, problems)
    }

    fn read_section(&mut self, entry: &Entry, source: &Source, problems: &mut Problems) {
        match entry.key.as_str() {
            "journal" => self.journal = section(entry, source, problems),
            "recorder" => self.recorder = section(entry, source, problems),
            "reports" => self.reports = section(entry, source, problems),
            "server" => self.server = section(entry, source, problems),
            "ingest" => self.ingest = section(entry, source, problems),
            "plugins" => self.plugins = section(entry, source, problems),
            "dead_letters" => self.dead_letters = section(entry, source, problems),
            "shutdown" => self.shutdown = section(entry, source, problems),
            "publishers" => {
                if !matches!(entry.node.value, document::Value::Table(_)) {
                    let message = "expected sections, [publishers.LABEL] each";
                    problems.push(source.problem(entry.at, "publishers", message));
                }
                let sections = entry.node.entries().iter();
                self.publishers =
                    sections.filter_map(|entry| PublisherSection::read(entry, source, problems)).collect();
            }
            unknown => {
                let known = [
                    "journal",
                    "recorder",
                    "reports",
                    "server",
                    "ingest",
                    "plugins",
                    "dead_letters",
                    "shutdown",
                    "publishers",
                ];
                let message = match entry.node.value {
                    document::Value::Table(_) => format!("unknown section, {}", suggest(unknown, known)),
                    _ => "no key stands outside of a section, put it under a [SECTION]".to_owned(),
                };
                problems.push(source.problem(entry.at, document::join("", unknown), &message));
            }
        }
    }

    /// Where plugins are: `plugins.dir`, else `plugins` beside the configuration.
    pub fn plugins_dir(&self) -> PathBuf {
        self.base_dir.join(self.plugins.dir.as_deref().unwrap_or(Path::new("plugins")))
    }

    /// Where compiled plugins are kept: `plugins.cache_dir`, else `.cache` in the plugin directory.
    pub fn cache_dir(&self) -> PathBuf {
        match &self.plugins.cache_dir {
            Some(dir) => self.base_dir.join(dir),
            None => self.plugins_dir().join(".cache"),
        }
    }

    /// Where dead letters are set aside: `dead_letters.path`, else `dead-letters.jsonl` beside the configuration.
    pub fn dead_letters_path(&self) -> PathBuf {
        self.base_dir.join(self.dead_letters.path.as_deref().unwrap_or(Path::new("dead-letters.jsonl")))
    }

    /// Where the lock of plugins lies: `pressroom.lock` beside the configuration.
    pub fn lock_path(&self) -> PathBuf {
        self.base_dir.join("pressroom.lock")
    }

    /// Files that decide which plugins are let in: keys, and the lock where it is in force.
    pub fn admission_files(&self) -> Vec<PathBuf> {
        let keys = self.plugins.trusted_keys.iter();
        // A key that is no file's name is not found as one.
        let files = keys.map(|key| self.base_dir.join(key));
        files.chain(self.plugins.locked.then(|| self.lock_path())).collect()
    }

    /// What decides which plugins run, and what each may do: no plugin may write to it.
    pub fn guarded_paths(&self) -> Vec<PathBuf> {
        vec![self.plugins_dir(), self.cache_dir(), self.lock_path()]
    }

    /// Checks that neither the dead letters nor a file that `${file:…}` names lie behind one of the directories that plugins
    /// may write to.
    pub(crate) fn check_files(&self, writable: &[Writable], problems: &mut Problems) {
        let dead_letters = self.dead_letters_at.iter().map(|at| (self.dead_letters_path(), at));
        let files = self.files.iter().map(|(file, at)| (file.clone(), at));
        for (file, problem) in files.chain(dead_letters) {
            if let Err(cause) = paths::check_beside(&file, writable) {
                problems.push(Problem { message: cause.to_string(), ..problem.clone() });
            }
        }
    }

    /// The files that `${file:…}` names. They are a part of the configuration: it changes with them.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(file, _)| file.as_path())
    }

    /// Everything that came through `${…}`: what must not be seen in logs, reports and errors.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}

/// Reads one of the host's own sections; where something is wrong with it, with defaults.
fn section<T: Section>(entry: &Entry, source: &Source, problems: &mut Problems) -> T {
    let outcome = reader::read::<T>(&entry.node, entry.place(), &entry.key, Keys::All, source);
    problems.extend(outcome.problems);
    let section = outcome.value.unwrap_or_default();
    let mut check = Check::new(&entry.node, entry.at, &entry.key, &outcome.skipped, source);
    section.validate(&mut check);
    problems.extend(check.into_problems());
    section
}

/// Without secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = format!(
            "journal: {:?}, recorder: {:?}, reports: {:?}, server: {:?}, ingest: {:?}, plugins: {:?}, dead_letters: {:?}, shutdown: {:?}",
            self.journal,
            self.recorder,
            self.reports,
            self.server,
            self.ingest,
            self.plugins,
            self.dead_letters,
            self.shutdown
        );
        write!(f, "Config {{ {}, publishers: {:?}", self.secrets.redact(&hosts), self.publishers)?;
        write!(f, ", base_dir: {:?} }}", self.base_dir)
    }
}
