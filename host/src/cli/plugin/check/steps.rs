//! What a plugin is put through, and how it is judged.
//!
//! Invariant: a plugin fails by what would cost an operator something: a call that does not come to an orderly end, or
//! an answer that names rows that are not there.

use super::super::super::{Failure, words};
use super::super::sandbox::Subject;
use super::batches;
use crate::publisher::{PublishError, PublishResult, Unpublished};
use crate::record::{EventBatch, NetworkBatch};
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

/// What came of one step.
pub(super) enum Verdict {
    /// Published, but for so many rows.
    Published { rows: u64, left_out: u64 },
    /// Everything held back was handed on.
    Flushed,
    /// It answered in an orderly way that it did not publish.
    Declined { how: &'static str, reason: String },
    /// It broke, or broke the contract.
    Broken(String),
}

/// How long a step waits for an instance at most, and how often.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const MOST_WAITS: u32 = 20;

enum Batch {
    Events(EventBatch),
    Operations(NetworkBatch),
    Flush,
}

impl Verdict {
    pub(super) fn passes(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published { rows, left_out: 0 } => write!(f, "published {}", words::count(*rows)),
            Self::Published { rows, left_out } => {
                write!(f, "published {}, left out {}", words::count(*rows), words::count(*left_out))
            }
            Self::Flushed => f.write_str("nothing held back"),
            Self::Declined { how, reason } => write!(f, "answered {how}: {}", words::cut(reason, 300)),
            Self::Broken(why) => f.write_str(&words::cut(why, 300)),
        }
    }
}

/// Puts `subject` through all of it.
pub(super) async fn run(
    subject: &mut Subject,
    mut report: impl FnMut(&str, &Verdict) -> Result<(), Failure>,
) -> Result<(), Failure> {
    use batches::{event, operation, rows};
    let events = |made| Batch::Events(EventBatch::detached(made));
    let operations = |made| Batch::Operations(NetworkBatch::detached(made));
    let part = EventBatch::detached(rows(5_000, 512, event)).select([0, 3, 4, 200, 511]);
    let steps = [
        ("one event", events(rows(0, 1, event))),
        ("one network operation", operations(rows(0, 1, operation))),
        ("1,024 events", events(rows(1, 1_024, event))),
        ("1,024 network operations", operations(rows(1, 1_024, operation))),
        ("the same events again", events(rows(1, 1_024, event))),
        ("some rows of a larger batch", Batch::Events(part)),
        ("events with huge texts", events(rows(2_000, 64, batches::huge_event))),
        ("network operations with huge texts", operations(rows(2_000, 64, batches::huge_operation))),
        ("events in other scripts", events(rows(3_000, 32, batches::foreign_event))),
        ("network operations in other scripts", operations(rows(3_000, 32, batches::foreign_operation))),
        ("events without what may be missing", events(rows(4_000, 32, batches::bare_event))),
        ("operations without what may be missing", operations(rows(4_000, 32, batches::bare_operation))),
        ("a flush", Batch::Flush),
        ("another flush", Batch::Flush),
        ("an event after it", events(rows(6_000, 1, event))),
        ("the last flush", Batch::Flush),
    ];
    for (name, batch) in steps {
        report(name, &step(subject, &batch).await)?;
    }
    Ok(())
}

async fn step(subject: &mut Subject, batch: &Batch) -> Verdict {
    let counts = |subject: &Subject| [subject.figure("traps") as u64, subject.figure("calls") as u64];
    for _ in 0..MOST_WAITS {
        let [traps, calls] = counts(subject);
        let (verdict, after) = match batch {
            Batch::Events(rows) => published(subject.publisher.publish_event_metrics(rows).await, rows.len()),
            Batch::Operations(rows) => {
                published(subject.publisher.publish_network_metrics(rows).await, rows.len())
            }
            Batch::Flush => {
                subject.publisher.flush().await.map_or_else(declined, |()| (Verdict::Flushed, None))
            }
        };
        let [traps_now, calls_now] = counts(subject);
        if traps_now != traps {
            return Verdict::Broken(subject.text("last_error").unwrap_or_else(|| "it failed".to_owned()));
        }
        // After a failure the next instance is made to wait: it has not been asked yet.
        let was_asked = calls_now != calls || matches!(batch, Batch::Flush);
        match (was_asked, after) {
            (true, _) => return verdict,
            (false, Some(after)) => tokio::time::sleep(after.min(LONGEST_WAIT)).await,
            (false, None) => return Verdict::Broken(format!("was not even asked: {verdict}")),
        }
    }
    Verdict::Broken("was not asked, for no instance came to life".to_owned())
}

/// The verdict, and how long the next try is to wait.
fn published(answer: PublishResult, rows: usize) -> (Verdict, Option<Duration>) {
    match answer {
        Ok(left_out) => match lie(&left_out, rows) {
            Some(lie) => (Verdict::Broken(lie), None),
            None => {
                let (rows, left_out) = (rows.saturating_sub(left_out.len()) as u64, left_out.len() as u64);
                (Verdict::Published { rows, left_out }, None)
            }
        },
        Err(error) => declined(error),
    }
}

/// Rows count from 0 within the batch, and each is left out once.
fn lie(left_out: &[Unpublished], rows: usize) -> Option<String> {
    let mut seen = HashSet::new();
    left_out.iter().find_map(|Unpublished { row, .. }| {
        if *row as usize >= rows {
            Some(format!("it left out row {row} of a batch of {rows}; rows count from 0"))
        } else if !seen.insert(row) {
            Some(format!("it left out row {row} twice"))
        } else {
            None
        }
    })
}

fn declined(error: PublishError) -> (Verdict, Option<Duration>) {
    let (how, reason, after) = match error {
        PublishError::Retry { reason, after } => ("retry", reason, after),
        PublishError::Reject { reason } => ("reject", reason, None),
        PublishError::Hold { reason } => ("hold", reason, None),
    };
    (Verdict::Declined { how, reason }, after)
}

#[cfg(test)]
mod tests {
    use super::{Verdict, lie, published};
    use crate::publisher::{Fate, PublishError, Unpublished};

    fn left_out(rows: &[u32]) -> Vec<Unpublished> {
        rows.iter().map(|row| Unpublished { row: *row, fate: Fate::Reject { reason: "no".into() } }).collect()
    }

    #[test]
    fn an_answer_about_rows_that_are_not_there_is_a_lie() {
        assert_eq!(lie(&left_out(&[0, 2]), 3), None);
        assert!(lie(&left_out(&[3]), 3).unwrap().contains("row 3 of a batch of 3"));
        assert!(lie(&left_out(&[1, 1]), 3).unwrap().contains("row 1 twice"));
        assert!(matches!(published(Ok(left_out(&[1])), 3).0, Verdict::Published { rows: 2, left_out: 1 }));
        assert!(!published(Ok(left_out(&[9])), 3).0.passes());
        assert!(published(Err(PublishError::hold("a grant")), 3).0.passes());
    }
}
