//! From the configuration and the plugin directory to the publishers that should run.

use super::catalog::{Catalog, Entry, Source};
use super::composite;
use super::files;
use super::plugins::{PluginDir, PluginFile};
#[cfg(feature = "wasm")]
use crate::config::Problem;
use crate::config::{Config, DeliveryConfig, Problems, Secrets};
use crate::delivery::{Plan, PublisherStatus, State};
use crate::output::escape;
use crate::publisher::{Context, Factory};
use crate::registry::Desired;
use crate::watch::{Marks, Referred};
use parking_lot::Mutex;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Knows what should run, and why a file of the plugin directory does not.
pub(super) struct Planner {
    pub(super) catalog: Catalog,
    pub(super) plugin_dir: PluginDir,
    #[cfg(feature = "wasm")]
    pub(super) plugin_host: crate::wasm::PluginHost,
    pub(super) host_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What the last look found in the plugin directory.
    pub(super) found: Mutex<Vec<Found>>,
    /// The files that are watched beside the configuration's own.
    pub(super) referred: Referred,
}

/// What should run.
pub(super) struct Planned {
    pub(super) desired: Vec<Desired>,
    pub(super) problems: Problems,
    /// The files that it depends on, as they were when they were read.
    pub(super) marks: Marks,
}

/// A file of the plugin directory, and what runs it.
#[derive(Clone)]
pub(super) struct Found {
    file: PluginFile,
    runners: Vec<Place>,
    /// Why it runs nowhere.
    idle: Option<String>,
}

/// Where a publisher is: a delivery's label and, within a failover, the labels that lead to the member.
pub(super) type Place = Vec<Arc<str>>;

/// What an entry becomes, as a delivery or as a member of one.
pub(super) struct Made {
    pub(super) factory: Factory,
    pub(super) fingerprint: String,
    /// Why it cannot be built now.
    pub(super) missing: Option<String>,
    /// That it cannot be built is a mistake: it is no plugin, and has none but plugins among its members.
    pub(super) required: bool,
    /// How long a call may take.
    pub(super) timeout: Duration,
    /// The labels within it.
    pub(super) members: Vec<Arc<str>>,
}

/// What reports show of a file of the plugin directory.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PluginReport {
    /// Its name: the file's, without `.wasm`.
    pub plugin: String,
    /// The file. In JSON it is a text: a byte that is not UTF-8 is `\xff`.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// The SHA-256 digest of what lies there now; what a publisher runs is in its detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is being compiled of it now: `tier`, and for how long, `elapsed_ms`.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub compiling: serde_json::Value,
    /// The publishers that run it.
    pub publishers: Vec<PluginPublisher>,
}

/// A path of any bytes, of which JSON knows only those that are UTF-8.
pub(super) fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => serializer.serialize_str(&escape::path(path)),
    }
}

/// A publisher that runs a plugin.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PluginPublisher {
    /// Its label.
    pub label: Arc<str>,
    /// How it stands.
    pub state: State,
    /// Why, unless it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why the newest version of the file, or of its settings, does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_failed: Option<String>,
    /// What the plugin's host says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

/// The labels of an entry that run a plugin, its own and those within it, each with the plugin's name.
pub(super) fn plugins_of(entry: &Entry) -> Vec<(&str, &str)> {
    match &entry.source {
        Source::Failover(source) => source.members.iter().flat_map(plugins_of).collect(),
        _ => plugin_of(entry).map(|name| (entry.section.label.as_str(), name)).into_iter().collect(),
    }
}

fn plugin_of(entry: &Entry) -> Option<&str> {
    match &entry.source {
        #[cfg(feature = "wasm")]
        Source::Plugin { name, .. } => Some(name),
        Source::Factory(_) | Source::Failover(_) => None,
    }
}

/// What tells one signature of a file from the next, where signatures matter, and the keys and the lock that it is held
/// against: a new one is another try.
fn signature(found: &Found, config: &Config) -> String {
    let mut signature = match &found.file.signature {
        Some(mark) if !config.plugins.trusted_keys.is_empty() => format!(" signed {mark:?}"),
        _ => String::new(),
    };
    for file in config.admission_files() {
        signature.push_str(&format!(" {:x}", files::digest(&file)));
    }
    signature
}

pub(super) fn missing(dir: &PluginDir, name: &str) -> String {
    format!("there is no {}", escape::path(dir.path_of(name)))
}

impl Planner {
    /// Checks what only the publishers' types know.
    pub(super) fn check(&self, config: &Config, problems: &mut Problems) {
        self.catalog.read(config, problems);
    }

    /// What should run, with what is wrong in the configuration.
    pub(super) fn desired(&self, config: &Config) -> Planned {
        let mut problems = Problems::new();
        let entries = self.catalog.read(config, &mut problems);
        let read = files::read_by(&entries, &config.base_dir).into_iter().chain(config.admission_files());
        let marks = read.map(|file| (file.clone(), crate::watch::mark(&file))).collect();
        self.read_keys(&mut problems);
        let mut found: Vec<Found> = self
            .plugin_dir
            .scan()
            .into_iter()
            .map(|file| Found { runners: Vec::new(), idle: file.digest.clone().err(), file })
            .collect();
        let mut desired: Vec<Desired> =
            entries.iter().map(|entry| self.configured(entry, config, &mut found)).collect();
        if config.plugins.drop_in {
            desired.extend(self.dropped_in(&entries, config, &mut found));
        } else {
            let unused = found.iter_mut().filter(|found| found.runners.is_empty());
            unused.for_each(|found| {
                found.idle = Some("no section names it, and plugins.drop_in is false".into())
            });
        }
        let before = std::mem::replace(&mut *self.found.lock(), found.clone());
        for found in found.iter().filter(|found| found.runners.is_empty()) {
            let told =
                before.iter().any(|known| known.file.path == found.file.path && known.idle == found.idle);
            if !told {
                let reason = found.idle.as_deref().unwrap_or_default();
                tracing::warn!(plugin = %escape::path(&found.file.path), "does not run: {reason}");
            }
        }
        Planned { desired, problems, marks }
    }

    fn configured(&self, entry: &Entry, config: &Config, found: &mut [Found]) -> Desired {
        let section = &entry.section;
        let label: Arc<str> = section.label.as_str().into();
        let made = self.make(entry, section.delivery.timeout, std::slice::from_ref(&label), config, found);
        let mut fingerprint = made.fingerprint;
        for filter in &entry.filters {
            fingerprint.push_str(&format!(" {filter:?}"));
        }
        let delivery = DeliveryConfig { timeout: made.timeout, ..section.delivery.clone() };
        let filters = entry.filters.clone();
        let plan = self.plan(&label, &section.kind, delivery, filters, made.factory, config);
        let (missing, required, members) = (made.missing, made.required, made.members);
        Desired { label, fingerprint, plan, missing, configured: true, required, members }
    }

    /// How an entry is built, wherever it is. A call of it may take `timeout`, if it is no failover.
    #[cfg_attr(
        not(feature = "wasm"),
        allow(unused_mut, unused_variables, reason = "nothing waits for a file where there are no plugins")
    )]
    pub(super) fn make(
        &self,
        entry: &Entry,
        timeout: Duration,
        place: &[Arc<str>],
        config: &Config,
        found: &mut [Found],
    ) -> Made {
        let section = &entry.section;
        let mut fingerprint = format!("{:x}", section.fingerprint());
        for file in files::read_by(std::slice::from_ref(entry), &config.base_dir) {
            fingerprint.push_str(&format!(" {:x}", files::digest(&file)));
        }
        let mut missing = None;
        let factory = match &entry.source {
            Source::Factory(factory) => factory.clone(),
            Source::Failover(source) => {
                return self.make_failover(source, fingerprint, timeout, place, config, found);
            }
            #[cfg(feature = "wasm")]
            Source::Plugin { name, config: plugin } => {
                match found.iter_mut().find(|found| found.file.name == *name) {
                    Some(found) => {
                        found.runners.push(place.to_vec());
                        match &found.file.digest {
                            Ok(digest) => {
                                fingerprint.push_str(&format!(" {digest}{}", signature(found, config)))
                            }
                            Err(reason) => missing = Some(reason.clone()),
                        }
                    }
                    None => {
                        let reason = self::missing(&self.plugin_dir, name);
                        missing = Some(config.secrets().redact(&reason).into_owned());
                    }
                }
                let mut plugin = (**plugin).clone();
                // A call is given up after its timeout: a longer one of the plugin's would never be reached.
                fingerprint.push_str(&format!(" {timeout:?}"));
                plugin.limits.call_timeout = plugin.limits.call_timeout.min(timeout);
                plugin.limits.attempt = timeout;
                self.plugin_host.factory(plugin, self.plugin_dir.path_of(name))
            }
        };
        let required = plugin_of(entry).is_none();
        Made { factory, fingerprint, missing, required, timeout, members: Vec::new() }
    }

    /// Files that no section names run under their own names.
    fn dropped_in(&self, entries: &[Entry], config: &Config, found: &mut [Found]) -> Vec<Desired> {
        let mut desired = Vec::new();
        for found in found.iter_mut().filter(|found| found.runners.is_empty()) {
            let Ok(digest) = found.file.digest.clone() else { continue };
            let name = &found.file.name;
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !(1..=64).contains(&name.len()) || !name.chars().all(letters) {
                let text = "its name cannot be a label, which is 1 to 64 letters, digits, \"_\" and \"-\": rename it";
                found.idle = Some(text.to_owned());
            } else if let Some(taken) = config.publishers.iter().find(|section| section.label == *name) {
                let (label, line) = (&taken.label, taken.line);
                found.idle = Some(format!(
                    "the label \"{name}\" is taken twice: by this file and by [publishers.{label}] in line {line} of \
                     the configuration; rename the file, or name it there (`plugin = \"{name}\"`)"
                ));
            } else if entries.iter().any(|entry| entry.section.label == *name) {
                found.idle = Some(format!(
                    "the label \"{name}\" is taken twice: by this file and by a publisher of the program; rename the \
                     file"
                ));
            } else {
                let label: Arc<str> = name.as_str().into();
                found.runners.push(vec![label.clone()]);
                let factory = self.plugin_factory(&found.file.path);
                let delivery = DeliveryConfig::default();
                let plan = self.plan(&label, "wasm", delivery, Vec::new(), factory, config);
                let fingerprint = format!("dropped in {digest}{}", signature(found, config));
                desired.push(Desired {
                    label,
                    fingerprint,
                    plan,
                    missing: None,
                    configured: false,
                    required: false,
                    members: Vec::new(),
                });
            }
        }
        desired
    }

    #[cfg(feature = "wasm")]
    fn read_keys(&self, problems: &mut Problems) {
        if let Err(error) = self.plugin_host.read_keys() {
            let (file, key) = ("plugins".into(), "plugins.trusted_keys".to_owned());
            problems.push(Problem { file, line: 0, column: 0, key, message: error.to_string() });
        }
    }

    #[cfg(not(feature = "wasm"))]
    fn read_keys(&self, _: &mut Problems) {}

    #[cfg(feature = "wasm")]
    fn plugin_factory(&self, file: &Path) -> Factory {
        self.plugin_host.factory(crate::wasm::WasmConfig::default(), file.to_owned())
    }

    #[cfg(feature = "wasm")]
    fn compiling(&self, digest: &str) -> serde_json::Value {
        self.plugin_host.compiling(digest)
    }

    #[cfg(not(feature = "wasm"))]
    fn compiling(&self, _: &str) -> serde_json::Value {
        serde_json::Value::Null
    }

    #[cfg(not(feature = "wasm"))]
    fn plugin_factory(&self, _: &Path) -> Factory {
        Arc::new(|_| Box::pin(async { anyhow::bail!("this program was built without the feature `wasm`") }))
    }

    fn plan(
        &self,
        label: &Arc<str>,
        kind: &str,
        delivery: DeliveryConfig,
        filters: Vec<crate::delivery::Filter>,
        factory: Factory,
        config: &Config,
    ) -> Plan {
        let context = self.context(label, config);
        Plan { kind: kind.into(), config: delivery, filters, factory, context }
    }

    /// What the publisher `label` is built with.
    pub(super) fn context(&self, label: &Arc<str>, config: &Config) -> Context {
        Context {
            label: label.clone(),
            base_dir: config.base_dir.clone(),
            secrets: config.secrets().clone(),
            host_metrics: self.host_metrics.clone(),
        }
    }

    /// The host's own metrics.
    pub(super) fn metrics(&self) -> String {
        (self.host_metrics)()
    }

    /// What lies in the plugin directory, and what became of it.
    pub(super) fn plugin_reports(&self, publishers: &[PublisherStatus]) -> Vec<PluginReport> {
        let found = self.found.lock().clone();
        found
            .into_iter()
            .map(|Found { file, runners, idle }| PluginReport {
                plugin: file.name,
                compiling: file
                    .digest
                    .as_ref()
                    .map_or_else(|_| serde_json::Value::Null, |digest| self.compiling(digest)),
                file: file.path,
                digest: file.digest.ok(),
                reason: idle,
                publishers: runners
                    .iter()
                    .filter_map(|place| {
                        let (label, within) = place.split_first()?;
                        let status = publishers.iter().find(|status| status.label == *label)?;
                        composite::runner(status, within)
                    })
                    .collect(),
            })
            .collect()
    }
}

/// Takes secrets out of what a status shows.
pub(super) fn redact(status: &mut PublisherStatus, secrets: &Secrets) {
    for text in [&mut status.reason, &mut status.last_error, &mut status.update_failed].into_iter().flatten()
    {
        *text = secrets.redact(text).into_owned();
    }
    if let Some(detail) = &mut status.detail {
        redact_json(detail, secrets);
    }
}

fn redact_json(value: &mut serde_json::Value, secrets: &Secrets) {
    match value {
        serde_json::Value::String(text) => *text = secrets.redact(text).into_owned(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| redact_json(item, secrets)),
        serde_json::Value::Object(fields) => {
            fields.values_mut().for_each(|field| redact_json(field, secrets))
        }
        _ => {}
    }
}
