//! Rows that are refused for what is not their own fault, perhaps: their index, or the size of their request.
//!
//! Invariant: a row that is refused for its index, or that is too large although it is of a sane size, waits beside the
//! others; it neither holds them up nor is given up.

use super::super::body::Numbers;
use super::super::settings::Late;
use super::super::trouble::Trouble;
use super::Call;
use crate::publisher::{Fate, Unpublished};
use crate::publishers::limit::{LARGER, SANE, TOO_MANY};
use crate::record::Record;
use std::sync::Arc;

/// What a row waits for beside the others, and why.
pub(super) struct Waits {
    on: Arc<str>,
    reason: String,
    pub(super) hold: bool,
}

/// A row that the server finds too large.
pub(super) struct TooLarge {
    size: usize,
    reason: String,
}

impl<R: Record> Call<R> {
    /// The index of a row refuses whatever is sent to it. True if the row is to go to the index of today instead.
    pub(super) fn refused_by_index(
        &mut self,
        number: u32,
        sent_to: Option<u64>,
        today: u64,
        (reason, hold): (&str, bool),
    ) -> bool {
        let target = &self.bulk.target;
        let own = self.lines.get(number as usize).map_or(today, |(row, _)| target.part(row.start_time()));
        let part = sent_to.unwrap_or(own);
        let (index, reason) = (target.index(R::KIND, part), self.wire.tell(reason));
        match self.bulk.late {
            Late::Today if part != today => return true,
            Late::DeadLetter if part != today => {
                self.refused.insert(number, format!("{index} takes no late records: {reason}"));
            }
            _ => drop(self.held.insert(number, Waits { on: index.into(), reason, hold })),
        }
        false
    }

    /// One row alone was too large for the server, or for a proxy in front of it. If nothing is taken, whatever its size,
    /// nothing more is sent.
    pub(super) fn too_large_alone(&mut self, numbers: &Numbers, size: usize, said: &str) {
        if let Some(stopped) = self.stopped.clone() {
            // It was under way when that was found out.
            return self.trouble(numbers, &stopped);
        }
        let reason = format!("alone it is too large for the server, {size} bytes: {said}");
        for number in numbers.iter() {
            self.too_large.insert(number, TooLarge { size, reason: self.wire.tell(&reason) });
        }
        if !self.has_taken() && self.too_large.len() >= TOO_MANY {
            let trouble = Trouble::hold(format!(
                "the server, or a proxy in front of it, takes no request, not even one of {size} bytes: raise its limit: \
                 {said}"
            ));
            let all = std::mem::take(&mut self.too_large).into_keys().collect();
            self.stop(&Numbers::List(all), trouble);
            self.bulk.limit.forget();
        }
    }

    /// What becomes of rows that are too large alone. One of a sane size is never at fault; a larger one is, unless the
    /// server has never taken anything.
    pub(super) fn settle_too_large(&mut self) {
        let too_large = std::mem::take(&mut self.too_large);
        if !too_large.is_empty() && !self.has_taken() {
            // What was learnt by halving was no limit.
            self.bulk.limit.forget();
        }
        let takes_some = self.has_taken() || self.wire.counts.has_taken();
        for (number, TooLarge { size, reason }) in too_large {
            if size > SANE && takes_some {
                self.refused.insert(number, reason);
            } else {
                self.held.insert(number, Waits { on: LARGER.into(), reason, hold: true });
            }
        }
    }

    /// Where some rows are done the others are told row by row. What would hold the whole call is not told of a row: it comes
    /// again alone, and is held then.
    pub(super) fn unpublished(self) -> Vec<Unpublished> {
        let refused = self.refused.into_iter().map(|(row, reason)| (row, Fate::Reject { reason }));
        let held = self.held.into_iter().map(|(row, waits)| {
            let Waits { on, reason, hold } = waits;
            (row, Fate::Wait { on, reason, hold })
        });
        let again = self.in_trouble.into_iter().map(|(row, trouble)| match trouble {
            Trouble::Retry { reason, after } => (row, Fate::Retry { reason, after }),
            Trouble::Hold { reason } => (row, Fate::Retry { reason, after: None }),
        });
        let rows = refused.chain(held).chain(again).map(|(row, fate)| Unpublished { row, fate });
        let mut rows: Vec<Unpublished> = rows.collect();
        rows.sort_unstable_by_key(|unpublished| unpublished.row);
        rows
    }
}
