//! Rows that a publisher has answered for, and that are delivered when it has flushed them: read, and not settled.
//!
//! Invariant: bounded, for a flush is asked for when it is full; and what is in it comes out once, settled or in hand again.

use super::window::{InHand, Window};
use crate::config::BatchConfig;
use crate::record::{Record, Rows};
use std::time::Duration;
use tokio::time::Instant;

/// How many batches it takes at most.
const BATCHES: usize = 8;

/// What a publisher holds back.
#[derive(Default)]
pub(super) struct Unflushed {
    held: Window,
    bytes: usize,
    /// The last flush failed.
    stuck: bool,
    /// Since when flushes have failed, the time left out in which somebody was to mend something.
    since: Option<Instant>,
    /// Since when flushes have failed, that time included.
    stuck_since: Option<Instant>,
}

impl Unflushed {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a flush may settle something now.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_empty() && !self.stuck
    }

    /// Whether the last flush failed.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Whether it takes no more.
    pub(super) fn is_full(&self, batch: &BatchConfig) -> bool {
        self.held.len() >= batch.max_records.saturating_mul(BATCHES)
            || self.bytes >= batch.max_bytes.as_usize().saturating_mul(BATCHES)
    }

    /// The publisher has answered for `rows`.
    pub(super) fn hold<R: InHand>(&mut self, rows: Rows<R>) {
        self.bytes += rows.iter().map(Record::bytes).sum::<usize>();
        R::rows(&mut self.held).append(rows);
    }

    /// All of it; nothing is left.
    pub(super) fn take(&mut self) -> Window {
        self.bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// A flush succeeded, or nothing is held any more. True if the last one had failed.
    pub(super) fn settled(&mut self) -> bool {
        (self.since, self.stuck_since) = (None, None);
        std::mem::take(&mut self.stuck)
    }

    /// A flush failed. Returns for how long they have; what is on hold does not age.
    pub(super) fn stuck_for(&mut self, hold: bool) -> Duration {
        self.stuck = true;
        self.stuck_since.get_or_insert_with(Instant::now);
        if hold {
            self.since = None;
            return Duration::ZERO;
        }
        self.since.get_or_insert_with(Instant::now).elapsed()
    }

    /// For how long flushes have failed, the time on hold included.
    pub(super) fn stuck_in_all(&self) -> Duration {
        self.stuck_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
