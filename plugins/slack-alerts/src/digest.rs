//! What failed since the last message, as a few lines.
//!
//! Invariant: what is held is bounded by names and by the length of a text, however much fails; every row counts.

use std::fmt::Write;

/// Longer texts are cut: an error of a megabyte is no news.
const MAX_TEXT: usize = 200;
const MAX_NAME: usize = 80;

/// Failures, by name.
#[derive(Debug)]
pub struct Digest {
    max_names: usize,
    groups: Vec<Group>,
    /// Failures of names beyond `max_names`.
    other: u64,
}

#[derive(Debug)]
struct Group {
    name: String,
    count: u64,
    /// The last failure's task and text.
    task: String,
    error: String,
}

impl Digest {
    /// One that tells `max_names` names apart.
    pub fn new(max_names: usize) -> Self {
        Self { max_names, groups: Vec::new(), other: 0 }
    }

    /// Whether nothing failed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.other == 0
    }

    /// Counts a failure.
    pub fn add(&mut self, name: &str, task: &str, error: &str) {
        let name = cut(name, MAX_NAME);
        let group = match self.groups.iter().position(|group| group.name == name) {
            Some(at) => self.groups.get_mut(at),
            None if self.groups.len() < self.max_names => {
                self.groups.push(Group { name, count: 0, task: String::new(), error: String::new() });
                self.groups.last_mut()
            }
            None => None,
        };
        match group {
            Some(group) => {
                group.count += 1;
                group.task = cut(task, MAX_NAME);
                group.error = cut(error, MAX_TEXT);
            }
            None => self.other += 1,
        }
    }

    /// Forgets what was told.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.other = 0;
    }

    /// The message, in Slack's own markup: the most frequent first.
    pub fn message(&self) -> String {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        let total = groups.iter().map(|group| group.count).sum::<u64>() + self.other;
        let mut text = format!("*{total} failed*");
        for group in groups {
            let Group { name, count, task, error } = group;
            // Writing to a text does not fail.
            let _ = write!(
                text,
                "\n• {count} × {}, last in task {}: {}",
                escape(name),
                escape(task),
                escape(error)
            );
        }
        if self.other > 0 {
            let _ = write!(text, "\n• {} of other names", self.other);
        }
        text
    }
}

/// The first `most` characters, on one line.
fn cut(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        cut.push('…');
    }
    cut
}

/// Slack takes these three for markup, and with them mentions of people and channels.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_comes_first_and_every_row_counts() {
        let mut digest = Digest::new(2);
        digest.add("store", "1", "disk full");
        for task in ["2", "3"] {
            digest.add("resize", task, "no <!channel> & no memory\nat all");
        }
        digest.add("upload", "4", "reset");
        assert_eq!(
            digest.message(),
            "*4 failed*\n• 2 × resize, last in task 3: no &lt;!channel&gt; &amp; no memory at all\n\
             • 1 × store, last in task 1: disk full\n• 1 of other names"
        );
        digest.clear();
        assert!(digest.is_empty());
    }

    #[test]
    fn a_giant_text_is_cut() {
        let mut digest = Digest::new(1);
        digest.add(&"ä".repeat(10_000), "1", &"ß".repeat(1_000_000));
        assert!(digest.message().chars().count() < MAX_NAME + MAX_TEXT + 60, "{}", digest.message());
    }
}
