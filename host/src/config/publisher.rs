//! `[publishers.LABEL]`: what every publisher has, and the type's own settings, which this room does not understand.

use super::delivery::{self, DeliveryConfig};
use super::document::{Entry, Node, Value};
use super::problems::{Position, Problem, Problems, Source};
use super::reader::{self, Check, Keys};
use super::secrets::Secrets;
use serde::de::DeserializeOwned;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

/// One publisher, as a section of the configuration describes it.
#[derive(Clone)]
#[non_exhaustive]
pub struct PublisherSection {
    /// The section's name, unique in the configuration.
    pub label: String,
    /// Its type, the key `type`.
    pub kind: String,
    /// How it is delivered to.
    pub delivery: DeliveryConfig,
    /// The type's own keys.
    pub settings: Settings,
    /// The line of the section's header, from 1; 0 for a section that is in no file.
    pub line: u32,
}

/// The keys that a section has whatever its type.
const COMMON: [&str; delivery::KEYS.len() + 1] = {
    let mut keys = ["type"; delivery::KEYS.len() + 1];
    let (_, rest) = keys.split_at_mut(1);
    rest.copy_from_slice(&delivery::KEYS);
    keys
};

impl PublisherSection {
    /// A section that is in no file, for what the host starts by itself: without settings, delivered to as by
    /// default.
    pub fn new(label: impl Into<String>, kind: impl Into<String>) -> Self {
        let (label, kind) = (label.into(), kind.into());
        let source = Source { file: "(built in)".into(), secrets: Secrets::default() };
        let mut settings = Settings {
            path: format!("publishers.{label}"),
            at: Position::default(),
            node: Arc::new(Node::new(Value::Table(Vec::new()))),
            source,
        };
        settings.set("type", &kind);
        Self { label, kind, delivery: DeliveryConfig::default(), settings, line: 0 }
    }

    /// The same with the setting `key`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.set(key, value);
        self
    }

    /// Reads the section of `entry`; `None` if it has no type, or is no section at all.
    pub(super) fn read(entry: &Entry, source: &Source, problems: &mut Problems) -> Option<Self> {
        let path = super::document::join("publishers", &entry.key);
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !(1..=64).contains(&entry.key.len()) || !entry.key.chars().all(letters) {
            let message = "a label is 1 to 64 letters, digits, \"_\" and \"-\", rename it";
            problems.push(source.problem(entry.at, path.as_str(), message));
        }
        if !matches!(entry.node.value, Value::Table(_)) {
            let message = format!("expected a section, [{path}]");
            problems.push(source.problem(entry.at, path, &message));
            return None;
        }
        let settings =
            Settings { path, at: entry.at, node: Arc::new(entry.node.clone()), source: source.clone() };
        let delivery = settings.read_delivery(problems);
        let kind = settings.read_kind(problems)?;
        Some(Self { label: entry.key.clone(), kind, delivery, settings, line: entry.at.line })
    }

    /// The keys of delivery that it says, whatever their values.
    pub fn delivery_keys(&self) -> impl Iterator<Item = &'static str> {
        delivery::KEYS.into_iter().filter(|key| self.settings.node.entry(key).is_some())
    }

    /// A problem with `key` of this section, which may have dots and, as in `members[1]`, numbers of items, at its
    /// place in the file.
    pub fn problem_at(&self, key: &str, message: &str) -> Problem {
        self.settings.problem_at(key, message)
    }

    /// A number that differs, for all practical purposes, if anything in the section does, its secrets included.
    /// It means nothing to another process, and nothing can be learnt from it.
    pub fn fingerprint(&self) -> u64 {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        KEY.hash_one((&self.label, &self.settings.node))
    }
}

/// Without secrets.
impl fmt::Debug for PublisherSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets = &self.settings.source.secrets;
        let delivery = format!("{:?}", self.delivery);
        f.debug_struct("PublisherSection")
            .field("label", &self.label)
            .field("kind", &secrets.redact(&self.kind))
            .field("delivery", &format_args!("{}", secrets.redact(&delivery)))
            .field("settings", &self.settings)
            .field("line", &self.line)
            .finish()
    }
}

/// A publisher's own keys, to be read by whoever knows its type.
#[derive(Clone)]
pub struct Settings {
    path: String,
    at: Position,
    /// The whole section, the common keys included.
    node: Arc<Node>,
    source: Source,
}

impl Settings {
    /// Reads them as `T`, which must deny unknown fields. `None` if anything is wrong, and then all that is wrong is
    /// in `problems`.
    pub fn read<T: DeserializeOwned>(&self, problems: &mut Problems) -> Option<T> {
        let outcome = reader::read(&self.node, self.at, &self.path, Keys::Except(&COMMON), &self.source);
        problems.extend(outcome.problems);
        outcome.value.filter(|_| outcome.sound)
    }

    /// A problem with `key`, as of [`PublisherSection::problem_at`].
    pub fn problem_at(&self, key: &str, message: &str) -> Problem {
        reader::problem_at(&self.node, self.at, &self.path, key, message, &self.source)
    }

    /// Whether the section says `key`, a common one or one of the type's own; it may have dots.
    pub fn says(&self, key: &str) -> bool {
        key.split('.').try_fold(&*self.node, |node, part| Some(&node.entry(part)?.node)).is_some()
    }

    /// The text of `key`, which may have dots; `None` if it is not there, or is none.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let node = key.split('.').try_fold(&*self.node, |node, part| Some(&node.entry(part)?.node))?;
        match &node.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What must not be seen of them, nor of the rest of the configuration.
    pub fn secrets(&self) -> &Secrets {
        &self.source.secrets
    }

    fn read_delivery(&self, problems: &mut Problems) -> DeliveryConfig {
        let keys = Keys::Only(&delivery::KEYS);
        let outcome = reader::read::<DeliveryConfig>(&self.node, self.at, &self.path, keys, &self.source);
        problems.extend(outcome.problems);
        let delivery = outcome.value.unwrap_or_default();
        let mut check = Check::new(&self.node, self.at, &self.path, &outcome.skipped, &self.source);
        delivery.validate(&mut check);
        problems.extend(check.into_problems());
        delivery
    }

    fn read_kind(&self, problems: &mut Problems) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Kind {
            r#type: String,
        }
        let outcome = reader::read(&self.node, self.at, &self.path, Keys::Only(&["type"]), &self.source);
        problems.extend(outcome.problems);
        outcome.value.map(|kind: Kind| kind.r#type)
    }

    fn set(&mut self, key: &str, value: &str) {
        let node = Node::new(Value::String(value.to_owned()));
        if let Value::Table(entries) = &mut Arc::make_mut(&mut self.node).value {
            entries.retain(|entry| entry.key != key);
            entries.push(Entry { key: key.to_owned(), at: Position::default(), node });
        }
    }
}

/// Without secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.node.entries().iter().filter(|entry| !COMMON.contains(&entry.key.as_str()));
        f.debug_map().entries(own.map(|entry| (&entry.key, &entry.node))).finish()
    }
}
