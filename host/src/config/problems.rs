//! What is wrong with a configuration: every problem, each with its place, its key and what to do.

use super::secrets::Secrets;
use crate::output::escape;
use std::fmt;
use std::sync::Arc;

/// A place in a file: line and column, from 1, columns in characters. Without a place both are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0 where the problem is not at a place in the file.
    pub line: u32,
    /// The column, from 1, in characters; 0 as with the line.
    pub column: u32,
    /// The key, with dots; empty where the problem is not with a key.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape::line(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", escape::line(&self.key))?;
        }
        write!(f, ": {}", escape::line(&self.message))
    }
}

/// The file that problems are in, and what must not be said about it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: Arc<str>,
    pub(super) secrets: Secrets,
}

impl Source {
    pub(super) fn problem(&self, at: Position, key: impl Into<String>, message: &str) -> Problem {
        Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            key: key.into(),
            message: self.secrets.redact(message).into_owned(),
        }
    }
}

/// Problems as they are found; sorted by their place when they are shown.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Ends the search.
    ///
    /// # Errors
    ///
    /// Something was found: all of it.
    pub fn into_result(mut self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        self.0.dedup();
        Err(ConfigError { problems: self.0 })
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.0.extend(problems);
    }
}

/// A configuration that cannot be used. `Display` is a line per problem, in the order of the file:
/// `pressroom.toml:12:5: publishers.search.batch.max_record: unknown key, did you mean "max_records"?`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// Every problem, in the order of the file; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What follows `unknown key` or `unknown value`: the nearest of `known`, or all of them.
pub(super) fn suggest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let distance = |name: &&&str| strsim::damerau_levenshtein(&unknown.to_lowercase(), name);
    let nearest = known.iter().min_by_key(distance);
    match nearest {
        Some(name) if distance(&name) <= (unknown.chars().count().max(name.len()) / 3).max(1) => {
            format!("did you mean \"{name}\"?")
        }
        Some(_) => format!("known are {}", known.join(", ")),
        None => "none is known here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_suggested_if_it_is_near() {
        let known = ["max_records", "max_bytes", "max_age"];
        assert_eq!(suggest("max_record", known), "did you mean \"max_records\"?");
        assert_eq!(suggest("MAX_AGE", known), "did you mean \"max_age\"?");
        assert_eq!(suggest("maxage", known), "did you mean \"max_age\"?");
        assert_eq!(suggest("colour", known), "known are max_age, max_bytes, max_records");
        assert_eq!(suggest("colour", []), "none is known here");
    }

    #[test]
    fn problems_are_shown_in_the_order_of_the_file_and_once() {
        let source = Source { file: "a.toml".into(), secrets: Secrets::default() };
        let mut problems = Problems::new();
        problems.push(source.problem(Position { line: 9, column: 1 }, "b", "second"));
        problems.push(source.problem(Position { line: 2, column: 7 }, "", "first"));
        problems.push(source.problem(Position { line: 9, column: 1 }, "b", "second"));
        problems.push(source.problem(Position::default(), "", "at no place"));
        let error = problems.into_result().unwrap_err();
        assert_eq!(error.to_string(), "a.toml: at no place\na.toml:2:7: first\na.toml:9:1: b: second");
        assert_eq!(Problems::new().into_result(), Ok(()));
    }
}
