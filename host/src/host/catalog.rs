//! The catalogue of publisher types: what a section of the configuration becomes.
//!
//! Invariant: the one place that knows every type. A native type joins with one line, in [`Catalog::new`].

use super::composite::{self, Composites, FailoverSource};
use crate::config::units::ByteSize;
use crate::config::{Config, Only, OnlyStatus, Problems, PublisherSection};
use crate::delivery::{Filter, Rules};
use crate::paths::{self, Writable};
use crate::publisher::{BatchSize, Factory, FileUse, Publisher, PublisherType};
use crate::publishers;
use crate::record::Status;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a section comes by its publisher.
#[derive(Clone)]
pub(super) enum Source {
    /// Built by a factory of this program.
    Factory(Factory),
    /// A plugin of the plugin directory.
    #[cfg(feature = "wasm")]
    Plugin { name: String, config: Box<crate::wasm::WasmConfig> },
    /// Made of other entries.
    Failover(Box<FailoverSource>),
}

/// A section that becomes a delivery.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) section: PublisherSection,
    pub(super) source: Source,
    /// The files that its settings name.
    pub(super) files: Vec<FileUse>,
    /// Its own filter, and those of the composites it is a member of.
    pub(super) filters: Vec<Filter>,
}

/// What the section of a native type is read as: a factory, and the files that the section names.
type Read = (Factory, Vec<FileUse>);

/// A native type: how its section is read; which records reach it, and how many at once, where that says nothing of it.
#[derive(Clone, Copy)]
struct Native {
    read: fn(&PublisherSection, &mut Problems) -> Option<Read>,
    only: &'static [Status],
    batch: Option<BatchSize>,
}

/// The types of publishers, and the ones that the program brings along.
pub(super) struct Catalog {
    types: BTreeMap<&'static str, Native>,
    embedded: BTreeMap<String, Factory>,
    rules: Rules,
    /// Keeps other paths out of the directories that plugins may write to by the last configuration that was right.
    writable: Mutex<Vec<Writable>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedConfig {}

const EMBEDDED: &str = "embedded";
const WASM: &str = "wasm";

impl Catalog {
    pub(super) fn new(embedded: BTreeMap<String, Factory>) -> Self {
        let mut catalog =
            Self { types: BTreeMap::new(), embedded, rules: Rules::default(), writable: Mutex::default() };
        #[cfg(feature = "elasticsearch")]
        catalog.add::<publishers::ElasticsearchPublisher>();
        catalog.add::<publishers::FilePublisher>();
        #[cfg(feature = "grafana-cloud")]
        catalog.add::<publishers::GrafanaCloudPublisher>();
        #[cfg(feature = "grafana-cloud")]
        catalog.add::<publishers::LokiPublisher>();
        catalog.add::<publishers::StdoutPublisher>();
        #[cfg(feature = "prometheus")]
        catalog.add::<publishers::PrometheusPublisher>();
        catalog
    }

    fn add<P: PublisherType>(&mut self) {
        let native = Native { read: read_native::<P>, only: P::ONLY, batch: P::batch() };
        self.types.insert(P::TYPE, native);
    }

    /// What the configuration's publishers become, with everything that is wrong with their own keys.
    pub(super) fn read(&self, config: &Config, problems: &mut Problems) -> Vec<Entry> {
        let mut composites = Composites::new(config, self.embedded.keys());
        let mut entries = Vec::new();
        for section in &config.publishers {
            let mut files = Vec::new();
            let source = match section.kind.as_str() {
                composite::TYPE => {
                    if let Some(config) = composite::read(section, problems) {
                        composites.add(section, config);
                    }
                    continue;
                }
                EMBEDDED => self.read_embedded(section, problems),
                WASM => read_plugin(section, config, problems),
                kind => match self.types.get(kind) {
                    Some(native) => (native.read)(section, problems).map(|(factory, named)| {
                        files = named;
                        Source::Factory(factory)
                    }),
                    None => {
                        problems.push(section.problem_at("type", &self.unknown(kind)));
                        None
                    }
                },
            };
            #[cfg_attr(not(feature = "wasm"), allow(unused_mut, reason = "only plugins have instances"))]
            let mut section = self.completed(section);
            #[cfg(feature = "wasm")]
            if let Some(Source::Plugin { config, .. }) = &source {
                files = config.files();
                if !section.settings.says("batch.max_records") {
                    // Each instance takes its share of a batch.
                    section.delivery.batch.max_records *= config.limits.instances;
                }
            }
            entries.extend(source.map(|source| Entry { section, source, files, filters: Vec::new() }));
        }
        let writable = check_paths(config, &entries, problems);
        if problems.is_empty() {
            *self.writable.lock() = writable;
        }
        let mut entries = composites.expand(entries, &self.rules, problems);
        self.add_unnamed(config, &mut entries);
        entries
    }

    /// The section with what its type says where it does not itself.
    fn completed(&self, section: &PublisherSection) -> PublisherSection {
        let mut section = section.clone();
        let Some(native) = self.types.get(section.kind.as_str()) else { return section };
        if !native.only.is_empty() {
            let status = native.only.iter().filter_map(|status| match status {
                Status::Completed => Some(OnlyStatus::Completed),
                Status::Failed => Some(OnlyStatus::Failed),
                Status::Cancelled => Some(OnlyStatus::Cancelled),
                Status::Pending => None,
            });
            let only = || Only { status: status.collect(), ..Only::default() };
            section.delivery.only.get_or_insert_with(only);
        }
        if let Some(own) = native.batch {
            let batch = &mut section.delivery.batch;
            if !section.settings.says("batch.max_records") {
                batch.max_records = own.records;
            }
            if !section.settings.says("batch.max_bytes") {
                batch.max_bytes = ByteSize(own.bytes);
            }
        }
        section
    }

    /// A publisher of the program needs no section.
    fn add_unnamed(&self, config: &Config, entries: &mut Vec<Entry>) {
        for (label, factory) in &self.embedded {
            if config.publishers.iter().all(|section| section.label != *label) {
                let section = PublisherSection::new(label.as_str(), EMBEDDED);
                let source = Source::Factory(factory.clone());
                entries.push(Entry { section, source, files: Vec::new(), filters: Vec::new() });
            }
        }
    }

    fn read_embedded(&self, section: &PublisherSection, problems: &mut Problems) -> Option<Source> {
        section.settings.read::<EmbeddedConfig>(problems)?;
        let factory = self.embedded.get(&section.label);
        if factory.is_none() {
            let message = "no publisher of this label comes with the program: only a program that embeds Pressroom as \
                           a library can bring one (`Host::builder().publisher(…)`)";
            problems.push(section.problem_at("type", message));
        }
        factory.cloned().map(Source::Factory)
    }

    fn unknown(&self, kind: &str) -> String {
        let mut known: Vec<&str> = self.types.keys().copied().chain([composite::TYPE, EMBEDDED]).collect();
        if cfg!(feature = "wasm") {
            known.push(WASM);
        }
        known.sort_unstable();
        let similarity = |known: &&str| (strsim::jaro_winkler(known, kind) * 1_000.0) as u32;
        let near = known.iter().copied().max_by_key(similarity).filter(|near| similarity(near) > 750);
        match near {
            Some(near) => format!("unknown type, did you mean \"{near}\"?"),
            None => format!("unknown type, known are {}", known.join(", ")),
        }
    }
}

fn read_native<P: PublisherType>(section: &PublisherSection, problems: &mut Problems) -> Option<Read> {
    let config = section.settings.read::<P::Config>(problems)?;
    let found = P::validate(&config);
    if !found.is_empty() {
        problems.extend(found.iter().map(|(key, message)| section.problem_at(key, message)));
        return None;
    }
    let files = P::files(&config);
    let factory: Factory = Arc::new(move |context| {
        let config = config.clone();
        Box::pin(async move { Ok(Box::new(P::build(config, context)?) as Box<dyn Publisher>) })
    });
    Some((factory, files))
}

/// Checks that no path of the configuration leads through a directory that a plugin may write to, and returns what keeps
/// all other paths out of those directories.
#[cfg_attr(
    not(feature = "wasm"),
    allow(unused_mut, unused_variables, reason = "only plugins are granted directories")
)]
fn check_paths(config: &Config, entries: &[Entry], problems: &mut Problems) -> Vec<Writable> {
    let mut writable = Vec::new();
    #[cfg(feature = "wasm")]
    {
        let plugins: Vec<_> = entries
            .iter()
            .filter_map(|entry| match &entry.source {
                Source::Plugin { config, .. } => Some((&entry.section, &**config)),
                Source::Factory(_) | Source::Failover(_) => None,
            })
            .collect();
        let labelled: Vec<_> =
            plugins.iter().map(|(section, config)| (section.label.as_str(), *config)).collect();
        for (at, key, message) in crate::wasm::validate_overlaps(&labelled, &config.base_dir) {
            problems.extend(plugins.get(at).map(|(section, _)| section.problem_at(&key, &message)));
        }
        writable.extend(labelled.iter().flat_map(|(label, plugin)| plugin.writable(&config.base_dir, label)));
    }
    config.check_files(&writable, problems);
    for section in &config.publishers {
        // Of other types `path` is none of a file.
        let own = (section.kind == publishers::FilePublisher::TYPE).then_some("path");
        for key in own.into_iter().chain(["ca_file", "grant.ca_file"]) {
            let Some(file) = section.settings.text(key) else { continue };
            if let Err(cause) = paths::check_beside(&config.base_dir.join(file), &writable) {
                problems.push(section.problem_at(key, &cause.to_string()));
            }
        }
    }
    writable
}

#[cfg(feature = "wasm")]
fn read_plugin(section: &PublisherSection, whole: &Config, problems: &mut Problems) -> Option<Source> {
    let config = section.settings.read::<crate::wasm::WasmConfig>(problems)?;
    let mut found = config.validate();
    found.extend(config.validate_dirs(&whole.base_dir, &whole.guarded_paths()));
    let name = config.plugin.clone().unwrap_or_default();
    if config.plugin.is_none() {
        found.push(("plugin".to_owned(), "missing: name the plugin, plugins/NAME.wasm".to_owned()));
    } else if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        let message = "is the name of a file in the plugin directory, without directory and without `.wasm`";
        found.push(("plugin".to_owned(), message.to_owned()));
    }
    if !found.is_empty() {
        problems.extend(found.iter().map(|(key, message)| section.problem_at(key, message)));
        return None;
    }
    Some(Source::Plugin { name, config: Box::new(config) })
}

#[cfg(not(feature = "wasm"))]
fn read_plugin(section: &PublisherSection, _: &Config, problems: &mut Problems) -> Option<Source> {
    problems.push(section.problem_at("type", "this program was built without the feature `wasm`"));
    None
}
