//! The catalogue of publisher types: what a section of the configuration becomes.
//!
//! Invariant: the one place that knows every type. A native type joins with one line, in [`Catalog::new`].

use crate::config::{Config, Problems, PublisherSection};
use crate::delivery::{Filter, Rules};
use crate::publisher::{Factory, Publisher, PublisherType};
use crate::publishers;
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
}

/// A section that becomes a delivery.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) section: PublisherSection,
    pub(super) source: Source,
    /// Its own filter, and those of the composites it is a member of.
    pub(super) filters: Vec<Filter>,
}

type Read = fn(&PublisherSection, &mut Problems) -> Option<Factory>;

/// The types of publishers, and the ones that the program brings along.
pub(super) struct Catalog {
    types: BTreeMap<&'static str, Read>,
    embedded: BTreeMap<String, Factory>,
    rules: Rules,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompositeConfig {
    #[serde(default)]
    mode: Mode,
    members: Vec<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Each member is a delivery of its own.
    #[default]
    All,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedConfig {}

const COMPOSITE: &str = "composite";
const EMBEDDED: &str = "embedded";
const WASM: &str = "wasm";

impl Catalog {
    pub(super) fn new(embedded: BTreeMap<String, Factory>) -> Self {
        let mut catalog = Self { types: BTreeMap::new(), embedded, rules: Rules::default() };
        catalog.add::<publishers::FilePublisher>();
        catalog.add::<publishers::StdoutPublisher>();
        #[cfg(feature = "prometheus")]
        catalog.add::<publishers::PrometheusPublisher>();
        catalog
    }

    fn add<P: PublisherType>(&mut self) {
        self.types.insert(P::TYPE, read_native::<P>);
    }

    /// What the configuration's publishers become, with everything that is wrong with their own keys.
    pub(super) fn read(&self, config: &Config, problems: &mut Problems) -> Vec<Entry> {
        let mut composites = BTreeMap::new();
        let mut entries = Vec::new();
        for section in &config.publishers {
            let source = match section.kind.as_str() {
                COMPOSITE => {
                    if let Some(composite) = read_composite(section, problems) {
                        composites.insert(section.label.as_str(), (section, composite));
                    }
                    continue;
                }
                EMBEDDED => self.read_embedded(section, problems),
                WASM => read_plugin(section, problems),
                kind => match self.types.get(kind) {
                    Some(read) => read(section, problems).map(Source::Factory),
                    None => {
                        problems.push(section.problem_at("type", &self.unknown(kind)));
                        None
                    }
                },
            };
            let only = section.delivery.only.as_ref();
            let filters = only.and_then(|only| self.rules.filter(only)).into_iter().collect();
            entries.extend(source.map(|source| Entry { section: section.clone(), source, filters }));
        }
        expand(config, &composites, &mut entries, &self.rules, problems);
        self.add_unnamed(&mut entries);
        entries
    }

    /// A publisher of the program needs no section.
    fn add_unnamed(&self, entries: &mut Vec<Entry>) {
        for (label, factory) in &self.embedded {
            if entries.iter().all(|entry| entry.section.label != *label) {
                let section = PublisherSection::new(label.as_str(), EMBEDDED);
                let source = Source::Factory(factory.clone());
                entries.push(Entry { section, source, filters: Vec::new() });
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
        let mut known: Vec<&str> = self.types.keys().copied().chain([COMPOSITE, EMBEDDED]).collect();
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

fn read_native<P: PublisherType>(section: &PublisherSection, problems: &mut Problems) -> Option<Factory> {
    let config = section.settings.read::<P::Config>(problems)?;
    let found = P::validate(&config);
    if !found.is_empty() {
        problems.extend(found.iter().map(|(key, message)| section.problem_at(key, message)));
        return None;
    }
    Some(Arc::new(move |context| {
        let config = config.clone();
        Box::pin(async move { Ok(Box::new(P::build(config, context)?) as Box<dyn Publisher>) })
    }))
}

#[cfg(feature = "wasm")]
fn read_plugin(section: &PublisherSection, problems: &mut Problems) -> Option<Source> {
    let config = section.settings.read::<crate::wasm::WasmConfig>(problems)?;
    let mut found = config.validate();
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
fn read_plugin(section: &PublisherSection, problems: &mut Problems) -> Option<Source> {
    problems.push(section.problem_at("type", "this program was built without the feature `wasm`"));
    None
}

fn read_composite(section: &PublisherSection, problems: &mut Problems) -> Option<CompositeConfig> {
    let composite = section.settings.read::<CompositeConfig>(problems)?;
    let Mode::All = composite.mode;
    let only = section.delivery.only.clone();
    let plain = crate::config::DeliveryConfig { only, ..Default::default() };
    if section.delivery != plain {
        let message = "of the keys of delivery a composite has only `only`: say the others at its members";
        problems.push(section.problem_at("type", message));
    }
    Some(composite)
}

type Composites<'a> = BTreeMap<&'a str, (&'a PublisherSection, CompositeConfig)>;

/// Gives every member the filters of the composites that it is in, directly or not.
fn expand(
    config: &Config,
    composites: &Composites<'_>,
    entries: &mut [Entry],
    rules: &Rules,
    problems: &mut Problems,
) {
    let mut parents: BTreeMap<&str, &PublisherSection> = BTreeMap::new();
    for (section, composite) in composites.values() {
        if composite.members.is_empty() {
            problems.push(section.problem_at("members", "is empty: name the labels of other publishers"));
        }
        for member in &composite.members {
            if config.publishers.iter().all(|publisher| publisher.label != *member) {
                let labels = config.publishers.iter().map(|publisher| publisher.label.as_str());
                let near = labels.max_by_key(|label| (strsim::jaro_winkler(label, member) * 1_000.0) as u32);
                let near = near.filter(|near| strsim::jaro_winkler(near, member) > 0.75);
                let hint = near.map_or_else(String::new, |near| format!(", did you mean \"{near}\"?"));
                problems.push(
                    section.problem_at("members", &format!("no publisher has the label \"{member}\"{hint}")),
                );
            } else if let Some(other) = parents.insert(member, section) {
                let text = format!("\"{member}\" is a member of [publishers.{}] already", other.label);
                problems.push(section.problem_at("members", &text));
            }
        }
    }
    for entry in entries {
        let inherited = inherited(&entry.section.label, &parents);
        entry.filters.extend(inherited.iter().filter_map(|only| rules.filter(only)));
    }
    for label in composites.keys() {
        let mut at = *label;
        for _ in 0..=composites.len() {
            match parents.get(at) {
                Some(parent) if parent.label == **label => {
                    problems.push(
                        parent.problem_at("members", &format!("\"{label}\" is, at last, a member of itself")),
                    );
                    break;
                }
                Some(parent) => at = &parent.label,
                None => break,
            }
        }
    }
}

fn inherited(label: &str, parents: &BTreeMap<&str, &PublisherSection>) -> Vec<crate::config::Only> {
    let mut filters = Vec::new();
    let mut at = parents.get(label);
    // As many steps as there are memberships are enough, and an end where they go round in a circle.
    for _ in 0..parents.len() {
        let Some(parent) = at else { break };
        filters.extend(parent.delivery.only.clone());
        at = parents.get(parent.label.as_str());
    }
    filters
}
