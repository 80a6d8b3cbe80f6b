//! What an operator says of a plugin: pin, settings, grants and limits.
//!
//! Invariant: nothing is granted that is not written here, and no setting is ever shown: `config` may hold secrets.

use crate::config::Secret;
use crate::config::units::{self, ByteSize};
use crate::paths::Writable;
use crate::publisher::{Access, FileUse};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The least a plugin can do anything in: below it not even an empty Rust guest starts.
const LEAST_MEMORY: u64 = 1 << 20;
/// A core memory of 32 bits has no more.
const MOST_MEMORY: u64 = 4 << 30;
const MOST_CONNECTIONS: usize = 1_000;
/// Each may hold as much as the limit says.
const MOST_INSTANCES: usize = 64;

/// The section of a publisher with `type = "wasm"`, beside the keys that every publisher has.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WasmConfig {
    /// The plugin's name: the file `NAME.wasm` in the plugin directory.
    pub plugin: Option<String>,
    /// The digest that the file must have, in hexadecimal.
    pub sha256: Option<String>,
    /// What the plugin reads through its `config` interface.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// What of the host it may reach.
    pub grant: Grant,
    /// How much it may use.
    pub limits: Limits,
    /// When what it was handed is delivered.
    pub acknowledge: Acknowledge,
}

/// When what a plugin was handed is delivered, and forgotten by the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Acknowledge {
    /// When it has answered ok: what it holds back after that is lost with its instance.
    #[default]
    Publish,
    /// When its `flush` has returned ok after that: what it holds back comes again if its instance is lost.
    Flush,
}

/// What of the host a plugin may reach; nothing by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Grant {
    /// Directories.
    pub dirs: Vec<DirGrant>,
    /// Variables of the host's environment, by name.
    pub env: Vec<String>,
    /// Requests, each as `METHOD scheme://host[:port]/path`: the method may be `*`, and the path may end in `/*`,
    /// which is everything below it.
    pub http: Vec<String>,
    /// Networks that names in requests may resolve into although they are private, such as `10.0.0.0/8`. A literal
    /// address in `http` grants itself, and `localhost` the loopback addresses.
    pub private: Vec<String>,
    /// Addresses that sockets may reach, as `udp://127.0.0.1:8125` or `tcp://[::1]:2003`.
    pub sockets: Vec<String>,
    /// Credentials that the host adds to requests; the plugin never sees them.
    pub inject: Vec<InjectGrant>,
    /// Certificates (PEM) that servers may also be signed by, beside the machine's own; a relative path starts at the
    /// configuration's directory.
    pub ca_file: Option<PathBuf>,
}

/// A directory of the host under a name of the guest's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirGrant {
    /// The directory; a relative path starts at the configuration's directory.
    pub host: PathBuf,
    /// What the plugin calls it.
    pub guest: String,
    /// Whether the plugin may change what is in it.
    #[serde(default)]
    pub write: bool,
}

/// A credential that the host adds to requests to one place: one of `header` with `value`, `bearer`, `basic`, `sigv4`
/// and `hmac`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct InjectGrant {
    /// Where: scheme, host, port, and a path; it and all below it.
    pub to: String,
    /// A header, whose value is `value`.
    pub header: Option<String>,
    /// The whole value of `header`.
    pub value: Option<Secret>,
    /// A token: `authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// User and password: `authorization: Basic …`.
    pub basic: Option<BasicGrant>,
    /// AWS Signature Version 4 of the request.
    pub sigv4: Option<AwsGrant>,
    /// A signature of the body.
    pub hmac: Option<HmacGrant>,
    /// Headers that a plugin may set although `sigv4` signs what they ask for: `x-amz-target`.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// User and password.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicGrant {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// Keys of AWS, and what they sign for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsGrant {
    /// The access key's id.
    pub access_key: Secret,
    /// The secret access key.
    pub secret_key: Secret,
    /// The token of temporary keys.
    pub session_token: Option<Secret>,
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// The service, such as `s3` or `es`.
    pub service: String,
}

/// How a body is signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacGrant {
    /// The header that the signature goes into, in hexadecimal.
    pub header: String,
    /// The key.
    pub secret: Secret,
    /// `sha256` (default) or `sha512`.
    #[serde(default = "sha256")]
    pub algorithm: String,
    /// What stands before the signature, such as `sha256=`.
    #[serde(default)]
    pub prefix: String,
}

fn sha256() -> String {
    "sha256".to_owned()
}

/// How much a plugin may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that an instance may make the host hold: its memories and tables, and what is under way of its requests
    /// and their answers.
    pub memory: ByteSize,
    /// Wall clock of a call, waits in the host and the start of an instance included.
    #[serde(deserialize_with = "units::duration")]
    pub call_timeout: Duration,
    /// Compute alone of a call.
    #[serde(deserialize_with = "units::duration")]
    pub cpu_per_call: Duration,
    /// Requests that an instance may have under way at once.
    pub connections: usize,
    /// Bytes of the body of one request, and of one answer.
    pub body: ByteSize,
    /// Log lines a second, in the long run; ten times as many at once.
    pub log_rate: u32,
    /// How many instances share the work, at the same time.
    pub instances: usize,
    /// So many instances that die in a row without having done anything are quarantined.
    pub strikes: u32,
    /// How long a publisher's call may take, which may be many of the plugin's: the section's `timeout`.
    #[serde(skip)]
    pub(crate) attempt: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(128),
            call_timeout: Duration::from_secs(10),
            cpu_per_call: Duration::from_secs(2),
            connections: 16,
            body: ByteSize::mib(16),
            log_rate: 100,
            instances: 1,
            strikes: 5,
            attempt: Duration::from_secs(30),
        }
    }
}

impl WasmConfig {
    /// The files that it names: see [`PublisherType::files`](crate::publisher::PublisherType::files).
    pub fn files(&self) -> Vec<FileUse> {
        let ca_file = self.grant.ca_file.iter().map(|path| FileUse::read("grant.ca_file", path));
        let dirs = self.grant.dirs.iter().enumerate().filter(|(_, dir)| dir.write);
        let dirs = dirs.map(|(number, dir)| FileUse {
            key: format!("grant.dirs[{number}].host"),
            path: dir.host.clone(),
            access: Access::WriteWithin,
        });
        ca_file.chain(dirs).collect()
    }

    /// Checks what the types of the settings do not. Every problem found, as (key, message); the key may be dotted.
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, text: String| problems.push((key.to_owned(), text));
        if let Some(pin) = &self.sha256
            && (pin.len() != 64 || !pin.bytes().all(|digit| digit.is_ascii_hexdigit()))
        {
            problem("sha256", "must be the file's SHA-256 digest: 64 hexadecimal digits".to_owned());
        }
        if !(LEAST_MEMORY..=MOST_MEMORY).contains(&self.limits.memory.bytes()) {
            problem("limits.memory", "must be from 1MiB to 4GiB".to_owned());
        }
        if self.limits.call_timeout.is_zero() {
            problem("limits.call_timeout", "must be longer than nothing".to_owned());
        }
        if self.limits.cpu_per_call < super::engine::TICK {
            problem(
                "limits.cpu_per_call",
                "must be at least 10ms, which is how finely it is measured".to_owned(),
            );
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.limits.connections) {
            problem("limits.connections", format!("must be from 1 to {MOST_CONNECTIONS}"));
        }
        if self.limits.body.bytes() == 0 {
            problem("limits.body", "must be more than nothing".to_owned());
        }
        if self.limits.log_rate == 0 {
            problem("limits.log_rate", "must be at least one line a second".to_owned());
        }
        if !(1..=MOST_INSTANCES).contains(&self.limits.instances) {
            problem("limits.instances", format!("must be from 1 to {MOST_INSTANCES}"));
        } else if self.limits.instances > 1 && self.acknowledge == Acknowledge::Flush {
            problem(
                "limits.instances",
                "must be 1 with acknowledge = \"flush\": one instance is flushed at a time".to_owned(),
            );
        }
        if self.limits.strikes == 0 {
            problem("limits.strikes", "must be at least 1".to_owned());
        }
        for (at, dir) in self.grant.dirs.iter().enumerate() {
            if dir.guest.is_empty() {
                problem(
                    &format!("grant.dirs.{at}.guest"),
                    "must name what the plugin calls it, such as /out".into(),
                );
            }
        }
        for (at, name) in self.grant.env.iter().enumerate() {
            if name.is_empty() || name.contains(['=', '\0']) {
                problem(&format!("grant.env.{at}"), "must be the name of an environment variable".to_owned());
            }
        }
        problems.extend(super::grants::problems(&self.grant));
        problems
    }

    /// Checks that no directory is granted for writing that holds, is or lies in one of `guarded`. As [`Self::validate`];
    /// a directory that is relative starts at `base_dir`.
    pub fn validate_dirs(&self, base_dir: &Path, guarded: &[PathBuf]) -> Vec<(String, String)> {
        super::grants::dir_problems(&self.grant, base_dir, guarded)
    }

    /// Keeps all other paths out of the directories that the section `label` lets its plugin write to, for as long as
    /// what is returned lives.
    pub(crate) fn writable(&self, base_dir: &Path, label: &str) -> Vec<Writable> {
        super::grants::writable(&self.grant, base_dir, label)
    }
}

/// Checks that no two directories of `sections`, each with its label, overlap if a plugin may write to one of them. Every
/// problem found, as (number of the section, key, message).
pub(crate) fn validate_overlaps(
    sections: &[(&str, &WasmConfig)],
    base_dir: &Path,
) -> Vec<(usize, String, String)> {
    let grants: Vec<_> = sections.iter().map(|(label, config)| (*label, &config.grant)).collect();
    super::grants::overlaps(&grants, base_dir)
}

impl fmt::Debug for WasmConfig {
    /// Names the settings and keeps what they say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmConfig")
            .field("plugin", &self.plugin)
            .field("sha256", &self.sha256)
            .field("config", &self.config.keys().collect::<Vec<_>>())
            .field("grant", &self.grant)
            .field("limits", &self.limits)
            .field("acknowledge", &self.acknowledge)
            .finish()
    }
}

/// The settings as a plugin asks for them.
pub(super) struct Answers {
    pub(super) all: String,
    pub(super) one: BTreeMap<String, String>,
}

impl Answers {
    pub(super) fn new(config: &serde_json::Map<String, serde_json::Value>) -> Self {
        let mut one = BTreeMap::new();
        let mut all = serde_json::Value::Object(config.clone());
        dates_as_text(&mut all);
        for (key, value) in all.as_object().into_iter().flatten() {
            flatten(key.clone(), value, &mut one);
        }
        Self { all: all.to_string(), one }
    }
}

/// TOML has dates, JSON has not: the `toml` crate hands one over as a table of this single key.
fn dates_as_text(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(table) => {
            if let Some(date) = table.get("$__toml_private_datetime").cloned() {
                *value = date;
            } else {
                table.values_mut().for_each(dates_as_text);
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(dates_as_text),
        _ => {}
    }
}

/// A table is reachable as a whole, as JSON, and key by key.
fn flatten(key: String, value: &serde_json::Value, into: &mut BTreeMap<String, String>) {
    if let serde_json::Value::Object(table) = value {
        for (inner, value) in table {
            flatten(format!("{key}.{inner}"), value, into);
        }
    }
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    into.insert(key, text);
}

#[cfg(test)]
mod tests {
    use super::{Answers, WasmConfig};
    use std::time::Duration;

    #[test]
    fn the_documented_section_is_read() {
        let config: WasmConfig = toml::from_str(
            r#"
            plugin = "ndjson"
            config = { path = "a", nested = { deep = 3, on = true }, list = [1, 2], day = 2026-11-23 }
            [grant]
            dirs = [{ host = "out", guest = "/out", write = true }]
            env = ["REGION"]
            [limits]
            memory = "64MiB"
            call_timeout = "10s"
            cpu_per_call = "500ms"
            "#,
        )
        .unwrap();
        assert_eq!(config.limits.memory.bytes(), 64 << 20);
        assert_eq!(config.limits.cpu_per_call, Duration::from_millis(500));
        assert!(config.grant.dirs[0].write);
        assert_eq!(config.validate(), []);
        let answers = Answers::new(&config.config);
        assert_eq!(answers.one["path"], "a");
        assert_eq!(answers.one["nested.deep"], "3");
        assert_eq!(answers.one["nested"], r#"{"deep":3,"on":true}"#);
        assert_eq!(answers.one["list"], "[1,2]");
        assert_eq!(answers.one["day"], "2026-11-23");
        assert!(answers.all.contains("\"nested\":{\"deep\":3"));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused() {
        let unknown = toml::from_str::<WasmConfig>("grants = {}").unwrap_err().to_string();
        assert!(unknown.contains("unknown field `grants`"), "{unknown}");
        let size = toml::from_str::<WasmConfig>("limits = { memory = \"lots\" }").unwrap_err().to_string();
        assert!(size.contains("expected a size such as"), "{size}");
        let config: WasmConfig =
            toml::from_str("sha256 = 'abc'\nlimits = { memory = 1, cpu_per_call = '1ms' }").unwrap();
        let keys: Vec<_> = config.validate().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["sha256", "limits.memory", "limits.cpu_per_call"]);
    }

    #[test]
    fn settings_are_not_shown() {
        let config: WasmConfig = toml::from_str("config = { token = 'hunter2' }").unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("token") && !shown.contains("hunter2"), "{shown}");
    }
}
