//! Reads a part of the document into a type and finds all that is wrong with it, not only the first thing.
//!
//! A deserialiser of serde stops at the first error. So what was wrong is reported, passed over and the reading
//! started again, until nothing new is found: keys and list items in `skipped` are as if they were not there, and
//! keys that are missing are `filled` with placeholders.

use super::deserialize::{Fault, NodeReader};
use super::document::{Node, item_of, join};
use super::problems::{Position, Problem, Source};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

/// Rounds after which reading is given up: far more than anyone makes mistakes in one section.
const MAX_ROUNDS: usize = 10_000;

/// What of the section's own keys is read.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    All,
    Only(&'a [&'a str]),
    Except(&'a [&'a str]),
}

impl Keys<'_> {
    pub(super) fn contain(self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(keys) => keys.contains(&key),
            Self::Except(keys) => !keys.contains(&key),
        }
    }

    /// Keys that are known in the section although they are not read now.
    fn hidden(&self) -> &[&str] {
        match self {
            Self::Except(keys) => keys,
            Self::All | Self::Only(_) => &[],
        }
    }
}

/// What the parts of one reading share.
pub(super) struct Reading<'a> {
    pub(super) root: &'a Node,
    pub(super) keys: Keys<'a>,
    source: &'a Source,
    skipped: RefCell<HashSet<String>>,
    filled: RefCell<HashSet<(String, &'static str)>>,
    problems: RefCell<Vec<Problem>>,
}

/// What a reading came to.
pub(super) struct Outcome<T> {
    /// The value; with defaults where `skipped` says so.
    pub(super) value: Option<T>,
    pub(super) problems: Vec<Problem>,
    /// The keys that were passed over.
    pub(super) skipped: HashSet<String>,
    /// Nothing was passed over, nothing was made up.
    pub(super) sound: bool,
}

/// Reads the section `node`, which is named `path`.
pub(super) fn read<T: DeserializeOwned>(
    node: &Node,
    at: Position,
    path: &str,
    keys: Keys<'_>,
    source: &Source,
) -> Outcome<T> {
    let reading = Reading {
        root: node,
        keys,
        source,
        skipped: RefCell::default(),
        filled: RefCell::default(),
        problems: RefCell::default(),
    };
    let mut value = None;
    for _ in 0..MAX_ROUNDS {
        let section = NodeReader::new(&reading, node, at, path.to_owned());
        match T::deserialize(section.clone()) {
            Ok(read) => value = Some(read),
            Err(fault) => match section.explain(fault) {
                Fault::PassedOver => continue,
                _ => break,
            },
        }
        break;
    }
    let Reading { skipped, filled, problems, .. } = reading;
    let (skipped, filled, problems) = (skipped.into_inner(), filled.into_inner(), problems.into_inner());
    let sound = skipped.is_empty() && filled.is_empty() && problems.is_empty();
    // What was filled in is made up.
    let value = value.filter(|_| filled.is_empty());
    Outcome { value, problems, skipped, sound }
}

impl Reading<'_> {
    pub(super) fn is_root(&self, node: &Node) -> bool {
        std::ptr::eq(self.root, node)
    }

    pub(super) fn report(&self, at: Position, key: &str, message: &str) {
        self.problems.borrow_mut().push(self.source.problem(at, key, message));
    }

    pub(super) fn skip(&self, path: String) {
        self.skipped.borrow_mut().insert(path);
    }

    pub(super) fn is_skipped(&self, path: &str) -> bool {
        self.skipped.borrow().contains(path)
    }

    /// Fills in a key that is missing; false if that was done before, and did not help.
    pub(super) fn fill(&self, table: &str, key: &'static str) -> bool {
        self.filled.borrow_mut().insert((table.to_owned(), key))
    }

    pub(super) fn filled(&self, table: &str) -> Vec<&'static str> {
        let filled = self.filled.borrow();
        filled.iter().filter(|(path, _)| path == table).map(|(_, key)| *key).collect()
    }

    /// Keys that are known in the table `node` beside those that its type names.
    pub(super) fn also_known(&self, node: &Node) -> &[&str] {
        if self.is_root(node) { self.keys.hidden() } else { &[] }
    }
}

/// Checks what the types of a section's keys do not say. What is known to be wrong is not judged again.
pub(super) struct Check<'a> {
    node: &'a Node,
    at: Position,
    path: &'a str,
    skipped: &'a HashSet<String>,
    source: &'a Source,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        node: &'a Node,
        at: Position,
        path: &'a str,
        skipped: &'a HashSet<String>,
        source: &'a Source,
    ) -> Self {
        Self { node, at, path, skipped, source, problems: Vec::new() }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Reports `message` at the first of `keys` unless it `holds`, or one of `keys`, on which it depends, was
    /// passed over.
    pub(super) fn that(&mut self, keys: &[&str], holds: bool, message: impl FnOnce() -> String) {
        if holds || keys.iter().any(|key| self.is_skipped(key)) {
            return;
        }
        let Some(key) = keys.first() else { return };
        let problem = problem_at(self.node, self.at, self.path, key, &message(), self.source);
        self.problems.push(problem);
    }

    pub(super) fn positive(&mut self, key: &str, number: u64) {
        self.that(&[key], number > 0, || "must be at least 1".to_owned());
    }

    pub(super) fn lasting(&mut self, key: &str, duration: Duration) {
        self.that(&[key], !duration.is_zero(), || "must be longer than zero".to_owned());
    }

    pub(super) fn path(&mut self, key: &str, path: Option<&Path>) {
        self.that(&[key], path != Some(Path::new("")), || "is empty, name a path or remove it".to_owned());
    }

    fn is_skipped(&self, key: &str) -> bool {
        let mut path = self.path.to_owned();
        key.split('.').any(|part| {
            path = join(&path, part);
            self.skipped.contains(&path)
        })
    }
}

/// A problem with `key`, which may have dots and numbers of items, of the section `node`; `at` is the section's own
/// place.
pub(super) fn problem_at(
    node: &Node,
    at: Position,
    path: &str,
    key: &str,
    message: &str,
    source: &Source,
) -> Problem {
    let key_exists = key.split('.').next().is_some_and(|first| node.entry(item_of(first).0).is_some());
    let at = if key_exists { node.position_of(key) } else { at };
    let key = match (path.is_empty(), key.is_empty()) {
        (_, true) => path.to_owned(),
        (true, false) => key.to_owned(),
        (false, false) => format!("{path}.{key}"),
    };
    source.problem(at, key, message)
}
