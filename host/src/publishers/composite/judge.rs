//! What a member's answer means for the rows that it was handed, and what is left of a batch.
//!
//! Invariant: rows keep the numbers that they have in the batch as delivery handed it over, however many members they
//! have passed.

use crate::publisher::{Fate, PublishError, PublishResult, Unpublished};
use crate::record::{Record, Rows};
use std::collections::BTreeMap;
use std::time::Duration;

/// A row that a member may take later.
pub(super) struct Again {
    pub(super) at: u32,
    pub(super) reason: String,
    pub(super) after: Option<Duration>,
    /// Somebody must mend something first.
    pub(super) hold: bool,
}

/// What a member answered, row by row.
#[derive(Default)]
pub(super) struct Judged {
    /// Those that it may take later.
    pub(super) again: Vec<Again>,
    /// Those that it never will, with the reason.
    pub(super) rejected: Vec<(u32, String)>,
    /// How often it spoke of a row that it was not handed, or twice of one. The first word holds.
    pub(super) strays: u64,
}

impl Judged {
    /// Of an answer about so many rows.
    pub(super) fn new(unpublished: Vec<Unpublished>, rows: usize) -> Self {
        let (mut fates, mut judged) = (BTreeMap::new(), Self::default());
        for Unpublished { row, fate } in unpublished {
            if (row as usize) < rows && !fates.contains_key(&row) {
                fates.insert(row, fate);
            } else {
                judged.strays += 1;
            }
        }
        for (row, fate) in fates {
            match fate {
                Fate::Reject { reason } => judged.rejected.push((row, reason)),
                Fate::Retry { reason, after } => {
                    judged.again.push(Again { at: row, reason, after, hold: false });
                }
                // Another member may take it.
                Fate::Wait { on, reason, hold } => {
                    let reason = format!("{on}: {reason}");
                    judged.again.push(Again { at: row, reason, after: None, hold });
                }
            }
        }
        judged
    }

    /// How many of so many rows it took.
    pub(super) fn taken(&self, rows: usize) -> usize {
        rows - self.again.len() - self.rejected.len()
    }
}

/// The rows of a batch that nobody has taken yet.
pub(super) struct Rest<R: Record> {
    pub(super) rows: Rows<R>,
    /// Their numbers in the batch; `None` while they are all of it.
    numbers: Option<Vec<u32>>,
}

impl<R: Record> Rest<R> {
    pub(super) fn all(batch: &Rows<R>) -> Self {
        Self { rows: batch.clone(), numbers: None }
    }

    /// The number in the batch of the row `at` of the rest.
    pub(super) fn number(&self, at: u32) -> u32 {
        match &self.numbers {
            None => at,
            Some(numbers) => numbers.get(at as usize).copied().unwrap_or(u32::MAX),
        }
    }

    /// Leaves the rows `at`, ascending.
    pub(super) fn narrow(&mut self, at: impl Iterator<Item = u32> + Clone) {
        self.numbers = Some(at.clone().map(|at| self.number(at)).collect());
        self.rows = self.rows.select(at);
    }

    /// The answer about the whole batch, if this is what becomes of the rest.
    pub(super) fn answer(self, error: PublishError, mut left_out: Vec<Unpublished>) -> PublishResult {
        if self.numbers.is_none() && left_out.is_empty() {
            return Err(error);
        }
        let fate = match error {
            PublishError::Reject { reason } => Fate::Reject { reason },
            PublishError::Retry { reason, after } => Fate::Retry { reason, after },
            // A row alone cannot be held: the next call, of what is left, is.
            PublishError::Hold { reason } => Fate::Retry { reason, after: None },
        };
        let rows = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        left_out.extend((0..rows).map(|at| Unpublished { row: self.number(at), fate: fate.clone() }));
        Ok(left_out)
    }
}
