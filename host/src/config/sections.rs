//! The host's own sections, each with its defaults. Paths are as they were written; `Config` resolves them.

use super::access::{Access, is_loopback};
use super::reader::Check;
use super::secrets::Secret;
use super::units::{self, ByteSize, OptionalAddress};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `[journal]`: how much the memory journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JournalConfig {
    /// At most so much, records and their rendered views together.
    pub max_bytes: ByteSize,
    /// At most so many records.
    pub max_records: usize,
}

/// `[recorder]`: what is bounded before the journal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RecorderConfig {
    /// Unfinished records; beyond, the oldest is closed as cancelled.
    pub max_pending: usize,
    /// The bytes that unfinished records occupy; beyond, the oldest is closed as cancelled.
    pub max_pending_bytes: ByteSize,
    /// Finished records that wait for the collector; beyond, they are dropped and counted.
    pub max_buffered: usize,
    /// The bytes that they occupy; beyond, they are dropped and counted.
    pub max_buffered_bytes: ByteSize,
}

/// `[reports]`: what reports are made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReportsConfig {
    /// Records in the history.
    pub max_records: usize,
    /// What they occupy.
    pub max_bytes: ByteSize,
    /// The age of the oldest.
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
    /// Slower records, and failed ones, are kept apart so that they outlive the ordinary.
    #[serde(deserialize_with = "units::duration")]
    pub slow_threshold: Duration,
    /// Distinct names in the statistics; the rest is in `other`.
    pub max_names: usize,
    /// The bytes that the statistics of names occupy; beyond, further names are in `other`, and quantiles are coarser.
    pub max_statistics_bytes: ByteSize,
}

/// `[server]`: the host's own HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens.
    #[serde(deserialize_with = "units::address")]
    pub listen: SocketAddr,
    /// Where it listens for OTLP beside that; the port 4318 of the same address unless it says otherwise.
    #[serde(deserialize_with = "units::optional_address")]
    pub otlp_listen: OptionalAddress,
    /// The bearer token that requests must carry.
    pub token: Option<Secret>,
    /// Whether it may listen on another address than loopback without a token.
    pub allow_without_token: bool,
    /// Further `Host` names that are answered.
    pub hosts: Vec<String>,
    /// Origins whose pages may send records, such as `https://app.example`.
    pub cors_origins: Vec<String>,
    /// The size of a request's body, as received.
    pub max_body: ByteSize,
    /// The size of a request's body, decompressed.
    pub max_decompressed: ByteSize,
    /// Requests with records at a time; 64 connections more are for everything else.
    pub max_connections: usize,
}

/// `[plugins]`: the plugin directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PluginsConfig {
    /// Where plugins are; see [`Config::plugins_dir`](super::Config::plugins_dir).
    pub dir: Option<PathBuf>,
    /// Whether a plugin that no section names runs under its own name.
    pub drop_in: bool,
    /// Where compiled plugins are kept; see [`Config::cache_dir`](super::Config::cache_dir).
    pub cache_dir: Option<PathBuf>,
    /// How much is kept there; what was used longest ago goes first.
    pub cache_max_bytes: ByteSize,
    /// Whether a new plugin runs at once on code that is quickly made, until its optimised code is ready.
    pub baseline: bool,
    /// How much memory the process may have that compiles a plugin.
    pub compile_memory: ByteSize,
    /// How long it may take.
    #[serde(deserialize_with = "units::duration")]
    pub compile_timeout: Duration,
    /// Public keys of minisign's, or files with one: only what one of them signed runs, if there are any.
    pub trusted_keys: Vec<String>,
    /// Whether only what `pressroom.lock` says runs; see [`Config::lock_path`](super::Config::lock_path).
    pub locked: bool,
    /// How long a file must have been left alone before it counts as changed.
    #[serde(deserialize_with = "units::duration")]
    pub debounce: Duration,
}

/// `[dead_letters]`: where what could not be published is set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeadLettersConfig {
    /// The file; see [`Config::dead_letters_path`](super::Config::dead_letters_path).
    pub path: Option<PathBuf>,
}

/// `[shutdown]`: the end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ShutdownConfig {
    /// How long publishers have to drain.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { max_bytes: ByteSize::mib(256), max_records: 1_000_000 }
    }
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            max_pending: 100_000,
            max_pending_bytes: ByteSize::mib(64),
            max_buffered: 65_536,
            max_buffered_bytes: ByteSize::mib(64),
        }
    }
}

impl Default for ReportsConfig {
    fn default() -> Self {
        Self {
            max_records: 100_000,
            max_bytes: ByteSize::mib(8),
            max_age: Duration::from_secs(60 * 60),
            slow_threshold: Duration::from_secs(1),
            max_names: 10_000,
            max_statistics_bytes: ByteSize::mib(64),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4680)),
            otlp_listen: OptionalAddress::Unsaid,
            token: None,
            allow_without_token: false,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            max_body: ByteSize::mib(16),
            max_decompressed: ByteSize::mib(64),
            max_connections: 1_024,
        }
    }
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            dir: None,
            drop_in: true,
            cache_dir: None,
            cache_max_bytes: ByteSize::mib(1_024),
            baseline: true,
            compile_memory: ByteSize::mib(2_048),
            compile_timeout: Duration::from_secs(60),
            trusted_keys: Vec::new(),
            locked: false,
            debounce: Duration::from_millis(250),
        }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10) }
    }
}

/// A section of the host's own.
pub(super) trait Section: Default + serde::de::DeserializeOwned {
    /// What the types of its keys do not say.
    fn validate(&self, check: &mut Check<'_>);
}

impl Section for JournalConfig {
    fn validate(&self, check: &mut Check<'_>) {
        check.positive("max_bytes", self.max_bytes.bytes());
        check.positive("max_records", self.max_records as u64);
    }
}

impl Section for RecorderConfig {
    fn validate(&self, check: &mut Check<'_>) {
        check.positive("max_pending", self.max_pending as u64);
        check.positive("max_pending_bytes", self.max_pending_bytes.bytes());
        check.positive("max_buffered", self.max_buffered as u64);
        check.positive("max_buffered_bytes", self.max_buffered_bytes.bytes());
    }
}

impl Section for ReportsConfig {
    fn validate(&self, check: &mut Check<'_>) {
        check.positive("max_records", self.max_records as u64);
        check.lasting("max_age", self.max_age);
        check.positive("max_names", self.max_names as u64);
        check.positive("max_statistics_bytes", self.max_statistics_bytes.bytes());
    }
}

impl Section for ServerConfig {
    fn validate(&self, check: &mut Check<'_>) {
        let access = Access {
            prefix: "server.",
            listen: self.listen,
            token: self.token.as_ref().map(Secret::expose),
            allow_without_token: self.allow_without_token,
            hosts: &self.hosts,
        };
        for (key, problem) in access.problems() {
            match key {
                "listen" => {
                    let keys = ["listen", "token", "allow_without_token", "enabled"];
                    check.that(&keys, !self.enabled, || problem);
                }
                key => check.that(&[key], false, || problem),
            }
        }
        if let OptionalAddress::At(listen) = self.otlp_listen
            && is_loopback(self.listen)
        {
            let keys = ["otlp_listen", "token", "allow_without_token", "enabled"];
            for (_, problem) in
                (Access { listen, ..access }).problems().into_iter().filter(|(key, _)| *key == "listen")
            {
                check.that(&keys, !self.enabled, || problem);
            }
        }
        check.that(&["cors_origins"], self.cors_origins.iter().all(|origin| is_origin(origin)), || {
            "expected origins such as \"https://app.example\" or \"http://localhost:3000\", each in full"
                .to_owned()
        });
        check.positive("max_body", self.max_body.bytes());
        check.that(&["max_decompressed", "max_body"], self.max_body <= self.max_decompressed, || {
            format!("{} is less than server.max_body, which is {}", self.max_decompressed, self.max_body)
        });
        check.positive("max_connections", self.max_connections as u64);
    }
}

/// As browsers say it: a scheme, a host, and a port that is not the scheme's own.
fn is_origin(origin: &str) -> bool {
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    authority.is_some_and(|authority| !authority.is_empty() && authority.chars().all(allowed))
}

impl Section for PluginsConfig {
    fn validate(&self, check: &mut Check<'_>) {
        for (key, path) in [("dir", &self.dir), ("cache_dir", &self.cache_dir)] {
            check.path(key, path.as_deref());
        }
        check.positive("cache_max_bytes", self.cache_max_bytes.bytes());
        check.that(&["compile_memory"], self.compile_memory >= LEAST_COMPILE_MEMORY, || {
            format!("the compiler needs {LEAST_COMPILE_MEMORY} to begin with")
        });
        check.lasting("compile_timeout", self.compile_timeout);
        check.that(&["trusted_keys"], self.trusted_keys.iter().all(|key| !key.trim().is_empty()), || {
            "an empty text is no key: write a public key (RW…), or the name of a file with one".to_owned()
        });
    }
}

/// What the process that compiles has of addresses before it has read a byte.
const LEAST_COMPILE_MEMORY: ByteSize = ByteSize::mib(256);

impl Section for DeadLettersConfig {
    fn validate(&self, check: &mut Check<'_>) {
        check.path("path", self.path.as_deref());
    }
}

impl Section for ShutdownConfig {
    fn validate(&self, _check: &mut Check<'_>) {}
}
