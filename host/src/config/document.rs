//! A TOML document as a tree in which every key and value knows its place, in the order of the file, with `${…}`
//! replaced. Everything else in this room reads this tree; nothing else knows the TOML crate.

use super::problems::{Position, Problem, Source};
use super::secrets::{REDACTED, Secrets};
use super::substitute::Expander;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) at: Position,
    /// It came through `${…}`, in whole or in part.
    pub(super) secret: bool,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    String(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
    /// A problem has been reported: it is as if it were not there, and nothing is said about its absence.
    Broken,
}

/// A key of a table, its place and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

impl Entry {
    /// Where a problem with the value is shown: a table's place is that of its name.
    pub(super) fn place(&self) -> Position {
        if matches!(self.node.value, Value::Table(_)) { self.at } else { self.node.at }
    }
}

impl Node {
    pub(super) fn new(value: Value) -> Self {
        Self { at: Position::default(), secret: false, value }
    }

    /// The entries of a table; of anything else, none.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Where `key` is, which may have dots, and numbers of items in brackets; as much of it as there is.
    pub(super) fn position_of(&self, key: &str) -> Position {
        let (mut node, mut at) = (self, self.at);
        for part in key.split('.') {
            let (name, item) = item_of(part);
            let Some(entry) = node.entry(name) else { break };
            node = &entry.node;
            at = entry.place();
            if let (Some(item), Value::Array(items)) = (item, &node.value)
                && let Some(item) = items.get(item)
            {
                (node, at) = (item, item.at);
            }
        }
        at
    }
}

/// Two trees hash alike if they say the same, wherever and in whatever order they say it.
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(&self.value).hash(state);
        match &self.value {
            Value::String(text) | Value::Datetime(text) => text.hash(state),
            Value::Integer(number) => number.hash(state),
            Value::Float(number) => number.to_bits().hash(state),
            Value::Boolean(value) => value.hash(state),
            Value::Array(nodes) => nodes.hash(state),
            Value::Table(entries) => {
                let mut sorted: Vec<_> = entries.iter().map(|entry| (&entry.key, &entry.node)).collect();
                sorted.sort_by_key(|(key, _)| *key);
                sorted.hash(state);
            }
            Value::Broken => {}
        }
    }
}

/// As TOML, without secrets.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            _ if self.secret => f.write_str(REDACTED),
            Value::String(text) => write!(f, "{text:?}"),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Datetime(text) => f.write_str(text),
            Value::Array(nodes) => f.debug_list().entries(nodes).finish(),
            Value::Table(entries) => {
                f.debug_map().entries(entries.iter().map(|entry| (&entry.key, &entry.node))).finish()
            }
            Value::Broken => f.write_str("broken"),
        }
    }
}

/// A document that has been read: its tree, and what was wrong with it.
pub(super) struct Document {
    pub(super) root: Node,
    pub(super) source: Source,
    pub(super) problems: Vec<Problem>,
    /// The files that `${file:…}` names, each with its place and key.
    pub(super) files: Vec<(Position, String, PathBuf)>,
    /// The text could not be understood as a whole: what the tree lacks may be there.
    pub(super) garbled: bool,
}

impl Document {
    pub(super) fn parse(text: &str, file: &str, mut expander: Expander<'_>) -> Self {
        let file: Arc<str> = file.into();
        let lines = Lines::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut found: Vec<(Position, String, String)> = Vec::new();
        for error in &errors {
            let at = lines.position(error.span().map_or(text.len(), |span| span.start));
            // One slip makes the parser stumble several times in a line; the first says it best.
            if !found.iter().any(|(other, ..)| other.line == at.line) {
                let twice = error.message() == "duplicate key";
                let key = error.span().filter(|_| twice).and_then(|span| text.get(span));
                found.push((at, key.unwrap_or_default().to_owned(), error.message().to_owned()));
            }
        }
        let mut files = Vec::new();
        let mut builder =
            Builder { lines: &lines, expander: &mut expander, found: &mut found, files: &mut files };
        let value = builder.table(table.get_ref(), "");
        let mut root = Node::new(value);
        root.at = Position { line: 1, column: 1 };

        let source = Source { file, secrets: Secrets::new(expander.into_values()) };
        let problems =
            found.into_iter().map(|(at, key, message)| source.problem(at, key, &message)).collect();
        Self { root, source, problems, files, garbled: !errors.is_empty() }
    }
}

struct Builder<'a, 'e> {
    lines: &'a Lines<'a>,
    expander: &'a mut Expander<'e>,
    /// Problems; they are made presentable when all secrets are known.
    found: &'a mut Vec<(Position, String, String)>,
    files: &'a mut Vec<(Position, String, PathBuf)>,
}

impl Builder<'_, '_> {
    fn table(&mut self, table: &DeTable<'_>, path: &str) -> Value {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| {
                let path = join(path, key.get_ref());
                let at = self.lines.position(key.span().start);
                Entry { key: key.get_ref().to_string(), at, node: self.node(value, &path) }
            })
            .collect();
        entries.sort_by_key(|entry| entry.at);
        Value::Table(entries)
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Node {
        let at = self.lines.position(value.span().start);
        let mut secret = false;
        let converted = match value.get_ref() {
            DeValue::String(text) => self.expander.expand(text).map(|expanded| match expanded {
                Some(expanded) => {
                    secret = expanded.secret;
                    Value::String(expanded.text)
                }
                None => Value::String(text.to_string()),
            }),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map(Value::Integer)
                .map_err(|_| "is too large a number".to_owned()),
            DeValue::Float(number) => {
                number.as_str().parse().map(Value::Float).map_err(|_| "is not a number".to_owned())
            }
            DeValue::Boolean(value) => Ok(Value::Boolean(*value)),
            DeValue::Datetime(datetime) => Ok(Value::Datetime(datetime.to_string())),
            DeValue::Array(values) => Ok(Value::Array(
                values
                    .iter()
                    .enumerate()
                    .map(|(number, value)| self.node(value, &format!("{path}[{number}]")))
                    .collect(),
            )),
            DeValue::Table(table) => Ok(self.table(table, path)),
        };
        let files = self.expander.take_files().into_iter();
        self.files.extend(files.map(|file| (at, path.to_owned(), file)));
        let value = converted.unwrap_or_else(|message| {
            self.found.push((at, path.to_owned(), message));
            Value::Broken
        });
        Node { at, secret, value }
    }
}

/// `name[3]` as its name and its number.
pub(super) fn item_of(part: &str) -> (&str, Option<usize>) {
    let item = part.strip_suffix(']').and_then(|part| part.rsplit_once('['));
    match item.and_then(|(name, number)| Some((name, number.parse().ok()?))) {
        Some((name, number)) => (name, Some(number)),
        None => (part, None),
    }
}

/// `key` in the table `path`, as a dotted key.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match (path.is_empty(), bare) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{key:?}"),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}.{key:?}"),
    }
}

/// Finds the place of a byte.
struct Lines<'a> {
    text: &'a str,
    /// Where each line starts.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn position(&self, byte: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..byte.min(self.text.len())).unwrap_or_default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Position { line: number(line), column: number(before.chars().count() + 1) }
    }
}
