//! The members of a failover, beneath it.

use super::state::{NAME, REASON};
use crate::cli::words::{count, cut};
use serde::Deserialize;
use serde_json::Value;

/// A member, as a host tells of it; a newer host may say more.
#[derive(Debug, Deserialize)]
pub(super) struct Member {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    since: String,
    reason: Option<String>,
    next_probe: Option<String>,
    delivered: u64,
    rejected: u64,
    attempts: u64,
    failed_attempts: u64,
    last_error: Option<String>,
    last_delivery: Option<String>,
    /// How far within.
    #[serde(skip)]
    depth: usize,
}

/// The members that a detail tells of, those of a member behind it. There are none in anything else.
pub(super) fn members(detail: &Value) -> Vec<Member> {
    let mut found = Vec::new();
    find(detail, 1, &mut found);
    found
}

fn find(detail: &Value, depth: usize, found: &mut Vec<Member>) {
    let failover = detail.get("mode").and_then(Value::as_str) == Some("failover");
    for value in detail.get("members").and_then(Value::as_array).into_iter().flatten().filter(|_| failover) {
        if let Ok(member) = Member::deserialize(value) {
            found.push(Member { depth, ..member });
        }
        if let Some(detail) = value.get("detail") {
            find(detail, depth + 1, found);
        }
    }
}

impl Member {
    /// Its row in the table of publishers.
    pub(super) fn row(&self, when: impl Fn(&str) -> String) -> Vec<String> {
        let none = || "-".to_owned();
        vec![
            format!("{}{}", "  ".repeat(self.depth), cut(&self.label, NAME)),
            cut(&self.kind, NAME),
            cut(&self.state, NAME),
            none(),
            count(self.delivered),
            none(),
            count(self.rejected),
            none(),
            none(),
            none(),
            match self.failed_attempts {
                0 => count(self.attempts),
                failed => format!("{} ({} failed)", count(self.attempts), count(failed)),
            },
            self.last_delivery.as_deref().map_or_else(|| "never".to_owned(), when),
        ]
    }

    /// What ails it, a line each.
    pub(super) fn lines(&self, when: impl Fn(&str) -> String) -> Vec<String> {
        let label = cut(&self.label, NAME);
        let mut lines = Vec::new();
        if let Some(reason) = &self.reason {
            let (state, since) = (cut(&self.state, NAME), when(&self.since));
            let probe = self.next_probe.as_deref().map(|probe| format!(", next probe {}", when(probe)));
            let probe = probe.unwrap_or_default();
            lines.push(format!("  {label}: {state} since {since}{probe}: {}\n", cut(reason, REASON)));
        }
        if let Some(error) = self.last_error.as_ref().filter(|error| Some(*error) != self.reason.as_ref()) {
            lines.push(format!("  {label}: last error: {}\n", cut(error, REASON)));
        }
        lines
    }
}
