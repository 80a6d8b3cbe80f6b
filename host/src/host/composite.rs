//! Composites: what becomes of the sections that they name.
//!
//! Invariants: a section is a member of one composite at most, and none is a member of itself, however far around. In the
//! mode `all` a composite leaves nothing behind but its filter, at each of its members; in the mode `failover` it is
//! one delivery, and its members are none.

use super::catalog::{Entry, Source};
use super::check::CheckedComposite;
use super::desired::{Found, Made, Planner, PluginPublisher};
use crate::config::{Config, Only, Problem, Problems, PublisherSection};
use crate::delivery::{PublisherStatus, Rules, State};
use crate::publishers::composite::{CompositeConfig, Failover, MemberPlan, Mode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The type, as configuration names it.
pub(super) const TYPE: &str = "composite";

/// A failover, with what it is made of.
#[derive(Clone)]
pub(super) struct FailoverSource {
    pub(super) config: CompositeConfig,
    /// The first choice first.
    pub(super) members: Vec<Entry>,
}

/// Reads the section of a composite, as far as that can be judged alone.
pub(super) fn read(section: &PublisherSection, problems: &mut Problems) -> Option<CompositeConfig> {
    let composite = section.settings.read::<CompositeConfig>(problems)?;
    let mut found: Vec<(String, String)> = Vec::new();
    match composite.mode {
        Mode::All => {
            let message = "belongs to the members: with mode = \"all\" each is delivered to on its own, and the \
                           composite has only `only` of the keys of delivery";
            let keys = section.delivery_keys().filter(|key| *key != "only");
            found.extend(keys.map(|key| (key.to_owned(), message.to_owned())));
            if composite.breaker.is_some() {
                let message = "only a failover has one: add mode = \"failover\", or remove it";
                found.push(("breaker".to_owned(), message.to_owned()));
            }
        }
        Mode::Failover => found.extend(composite.breaker.iter().flat_map(|breaker| breaker.problems())),
    }
    if let (Mode::Failover, [alone]) = (composite.mode, composite.members.as_slice()) {
        let message = format!(
            "one member has nothing to fail over to: name another one, or publish to \"{alone}\" itself"
        );
        found.push(("members".to_owned(), message));
    }
    if composite.members.is_empty() {
        found.push(("members".to_owned(), "is empty: name the labels of other publishers".to_owned()));
    }
    problems.extend(found.iter().map(|(key, message)| section.problem_at(key, message)));
    Some(composite)
}

/// What a section that has been read, and found right, is made of.
pub(super) fn of(section: &PublisherSection) -> Option<CheckedComposite> {
    if section.kind != TYPE {
        return None;
    }
    let CompositeConfig { mode, members, .. } = section.settings.read(&mut Problems::new())?;
    Some(CheckedComposite { mode: mode.as_str(), members })
}

/// All composites of a configuration.
pub(super) struct Composites<'a> {
    config: &'a Config,
    /// Publishers that the program brings along, which need no section.
    embedded: Vec<&'a str>,
    all: BTreeMap<&'a str, Composite<'a>>,
    /// Of which composite a label is a member.
    parents: BTreeMap<String, &'a str>,
}

struct Composite<'a> {
    section: &'a PublisherSection,
    config: CompositeConfig,
}

impl Composite<'_> {
    fn problem_at_member(&self, index: usize, message: &str) -> Problem {
        self.section.problem_at(&format!("members[{index}]"), message)
    }
}

impl<'a> Composites<'a> {
    pub(super) fn new(config: &'a Config, embedded: impl Iterator<Item = &'a String>) -> Self {
        let embedded = embedded.map(String::as_str).collect();
        Self { config, embedded, all: BTreeMap::new(), parents: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, section: &'a PublisherSection, config: CompositeConfig) {
        self.all.insert(&section.label, Composite { section, config });
    }

    /// Of entries for every section that is no composite, those for what is delivered to.
    pub(super) fn expand(
        mut self,
        entries: Vec<Entry>,
        rules: &Rules,
        problems: &mut Problems,
    ) -> Vec<Entry> {
        self.find_parents(problems);
        self.find_circles(problems);
        self.check_failovers(problems);
        let mut expanded = self.assemble(entries, problems);
        for entry in &mut expanded {
            let tables = self.tables(&entry.section);
            entry.filters = tables.into_iter().filter_map(|only| rules.filter(only)).collect();
        }
        expanded
    }

    fn find_parents(&mut self, problems: &mut Problems) {
        for (label, composite) in &self.all {
            for (index, member) in composite.config.members.iter().enumerate() {
                if self.section(member).is_none() {
                    problems.push(composite.problem_at_member(index, &self.unknown(member)));
                } else if let Some(other) = self.parents.get(member) {
                    let message = match other == label {
                        true => format!("\"{member}\" is named twice"),
                        false => format!("\"{member}\" is a member of [publishers.{other}] already"),
                    };
                    problems.push(composite.problem_at_member(index, &message));
                } else {
                    self.parents.insert(member.clone(), label);
                }
            }
        }
    }

    fn section(&self, label: &str) -> Option<&'a PublisherSection> {
        self.config.publishers.iter().find(|section| section.label == label)
    }

    /// What to do about a label that no section has.
    fn unknown(&self, member: &str) -> String {
        if self.embedded.contains(&member) {
            return format!(
                "\"{member}\" comes with the program and has no section: add [publishers.{member}] with \
                 type = \"embedded\""
            );
        }
        let plugin = self.config.plugins_dir().join(format!("{member}.wasm"));
        if self.config.plugins.drop_in && !member.contains(['/', '\\']) && plugin.is_file() {
            return format!(
                "\"{member}\" is a plugin that runs without a section: to make it a member add [publishers.{member}] \
                 with type = \"wasm\" and plugin = \"{member}\""
            );
        }
        let similarity = |label: &&str| (strsim::jaro_winkler(label, member) * 1_000.0) as u32;
        let labels = self.config.publishers.iter().map(|section| section.label.as_str());
        match labels.max_by_key(similarity).filter(|near| similarity(near) > 750) {
            Some(near) => format!("no publisher has the label \"{member}\", did you mean \"{near}\"?"),
            None => format!("no publisher has the label \"{member}\""),
        }
    }

    fn find_circles(&self, problems: &mut Problems) {
        for (label, composite) in &self.all {
            // Up from the composite: where that leads back to it, the last step came from one of its members.
            let mut at = *label;
            for _ in 0..self.parents.len() {
                let Some(parent) = self.parents.get(at) else { break };
                if parent == label {
                    let index = composite.config.members.iter().position(|member| member == at);
                    let message = match at == *label {
                        true => format!("\"{label}\" is a member of itself"),
                        false => format!("by way of \"{at}\", \"{label}\" is a member of itself"),
                    };
                    problems.push(composite.problem_at_member(index.unwrap_or(0), &message));
                    break;
                }
                at = parent;
            }
        }
    }

    fn check_failovers(&self, problems: &mut Problems) {
        let failovers = self.all.values().filter(|composite| composite.config.mode == Mode::Failover);
        for failover in failovers {
            for (index, member) in failover.config.members.iter().enumerate() {
                if self.all.get(member.as_str()).is_some_and(|member| member.config.mode == Mode::All) {
                    let message = format!(
                        "\"{member}\" has mode = \"all\", of which no failover can be made: name its members here, \
                         or give it mode = \"failover\""
                    );
                    problems.push(failover.problem_at_member(index, &message));
                    continue;
                }
                let Some(section) = self.section(member) else { continue };
                let of = &failover.section.label;
                for key in section.delivery_keys().filter(|key| *key != "timeout") {
                    let message = match key {
                        "only" => format!(
                            "every member of a failover takes the same records: say it at [publishers.{of}]"
                        ),
                        _ => format!(
                            "belongs to the failover that this is a member of: say it at [publishers.{of}]"
                        ),
                    };
                    problems.push(section.problem_at(key, &message));
                }
            }
        }
    }

    /// Puts the members of failovers into these.
    fn assemble(&self, entries: Vec<Entry>, problems: &mut Problems) -> Vec<Entry> {
        let mut apart = BTreeMap::new();
        let mut assembled = Vec::new();
        for entry in entries {
            match self.failover_of(&entry.section.label) {
                Some(_) => drop(apart.insert(entry.section.label.clone(), entry)),
                None => assembled.push(entry),
            }
        }
        for (label, composite) in &self.all {
            if composite.config.mode == Mode::Failover && self.failover_of(label).is_none() {
                assembled.push(self.failover(composite, &mut apart, self.all.len(), problems));
            }
        }
        assembled
    }

    /// The failover that a label is a member of.
    fn failover_of(&self, label: &str) -> Option<&Composite<'a>> {
        let parent = self.all.get(self.parents.get(label)?)?;
        (parent.config.mode == Mode::Failover).then_some(parent)
    }

    /// `depth` ends what goes round in a circle, which is told of elsewhere.
    fn failover(
        &self,
        composite: &Composite<'a>,
        apart: &mut BTreeMap<String, Entry>,
        depth: usize,
        problems: &mut Problems,
    ) -> Entry {
        let mut members = Vec::new();
        for label in &composite.config.members {
            match self.all.get(label.as_str()) {
                Some(inner) if depth > 0 => members.push(self.failover(inner, apart, depth - 1, problems)),
                _ => members
                    .extend(apart.remove(label.as_str()).inspect(|entry| flushes_itself(entry, problems))),
            }
        }
        let source = FailoverSource { config: composite.config.clone(), members };
        Entry {
            section: composite.section.clone(),
            source: Source::Failover(Box::new(source)),
            files: Vec::new(),
            filters: Vec::new(),
        }
    }

    /// A section's own filter, and those of the composites that it is in, directly or not.
    fn tables<'s>(&self, section: &'s PublisherSection) -> Vec<&'s Only>
    where
        'a: 's,
    {
        let mut filters: Vec<&Only> = section.delivery.only.iter().collect();
        let mut at = section.label.as_str();
        // As many steps as there are memberships are enough, and an end where they go round in a circle.
        for _ in 0..self.parents.len() {
            let Some(parent) = self.parents.get(at) else { break };
            filters.extend(self.section(parent).and_then(|section| section.delivery.only.as_ref()));
            at = parent;
        }
        filters
    }
}

/// What one member holds back no other can answer for.
#[cfg(feature = "wasm")]
fn flushes_itself(entry: &Entry, problems: &mut Problems) {
    if let Source::Plugin { config, .. } = &entry.source
        && config.acknowledge == crate::wasm::Acknowledge::Flush
    {
        let message = "a member of a failover is asked for rows one call at a time: it must be \"publish\"";
        problems.push(entry.section.problem_at("acknowledge", message));
    }
}

#[cfg(not(feature = "wasm"))]
fn flushes_itself(_: &Entry, _: &mut Problems) {}

impl Planner {
    /// How a failover is built. An attempt at a member may take `timeout`, unless that says otherwise itself.
    pub(super) fn make_failover(
        &self,
        source: &FailoverSource,
        mut fingerprint: String,
        timeout: Duration,
        place: &[Arc<str>],
        config: &Config,
        found: &mut [Found],
    ) -> Made {
        let (mut plans, mut members, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &source.members {
            let section = &entry.section;
            let label: Arc<str> = section.label.as_str().into();
            let own = section.delivery_keys().any(|key| key == "timeout").then_some(section.delivery.timeout);
            let place = [place, std::slice::from_ref(&label)].concat();
            let made = self.make(entry, own.unwrap_or(timeout), &place, config, found);
            fingerprint.push_str(&format!(" [{}]", made.fingerprint));
            members.push(label.clone());
            members.extend(made.members);
            missing.extend(made.missing.as_ref().map(|reason| format!("{label}: {reason}")));
            plans.push(MemberPlan {
                kind: section.kind.as_str().into(),
                factory: made.factory,
                context: self.context(&label, config),
                timeout: made.timeout,
                fingerprint: made.fingerprint,
                missing: made.missing,
                required: made.required,
            });
        }
        Made {
            fingerprint,
            missing: (missing.len() == plans.len()).then(|| missing.join("; ")),
            required: plans.iter().any(|plan| plan.required),
            timeout: Failover::call_timeout(&plans),
            members,
            factory: Failover::factory(source.config.breaker.clone().unwrap_or_default().settings(), plans),
        }
    }
}

/// What is shown of a plugin that runs as a publisher, or as a member within it.
pub(super) fn runner(status: &PublisherStatus, within: &[Arc<str>]) -> Option<PluginPublisher> {
    let Some(label) = within.last() else {
        return Some(PluginPublisher {
            label: status.label.clone(),
            state: status.state,
            reason: status.reason.clone(),
            update_failed: status.update_failed.clone(),
            detail: status.detail.clone(),
        });
    };
    let mut detail = status.detail.as_ref();
    let mut member = None;
    for label in within {
        let found = members(detail).iter().find(|member| member["label"] == **label);
        (member, detail) = (found, found.and_then(|found| found.get("detail")));
    }
    let text = |key: &str| member.and_then(|member| member[key].as_str());
    let state = match text("state") {
        Some("active" | "standby") => State::Running,
        Some("held") if detail.is_some_and(|detail| detail["state"] == "quarantined") => State::Quarantined,
        Some("held") => State::Held,
        Some("waiting") => State::Waiting,
        Some(_) => State::Retrying,
        // The failover has no publisher now.
        None => status.state,
    };
    Some(PluginPublisher {
        label: label.clone(),
        state,
        reason: text("reason").or(status.reason.as_deref()).map(str::to_owned),
        update_failed: status.update_failed.clone(),
        detail: detail.cloned(),
    })
}

/// The members that a failover's detail tells of.
pub(super) fn members(detail: Option<&Value>) -> &[Value] {
    detail.and_then(|detail| detail["members"].as_array()).map(Vec::as_slice).unwrap_or_default()
}
