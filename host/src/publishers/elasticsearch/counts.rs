//! What has been sent, and what servers said of it.
//!
//! Invariant: of the rows of every call that was answered each is counted once, as what becomes of it: so `accepted` and
//! `duplicates` together are what delivery books as delivered, and `rejected` what it sets aside.

use super::trouble::Trouble;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub(super) struct Counts {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    retried: AtomicU64,
    held: AtomicU64,
    rejected: AtomicU64,
    attributes_as_text: AtomicU64,
    requests: AtomicU64,
    bytes_sent: AtomicU64,
}

/// What became of the rows of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) retried: u64,
    pub(super) held: u64,
    pub(super) rejected: u64,
    pub(super) attributes_as_text: u64,
}

impl Tally {
    /// Of rows that are in trouble, all of them.
    pub(super) fn of(trouble: &Trouble, rows: usize) -> Self {
        let rows = rows as u64;
        match trouble {
            Trouble::Retry { .. } => Self { retried: rows, ..Self::default() },
            Trouble::Hold { .. } => Self { held: rows, ..Self::default() },
        }
    }
}

impl Counts {
    pub(super) fn add(&self, tally: Tally) {
        self.accepted.fetch_add(tally.accepted, Relaxed);
        self.duplicates.fetch_add(tally.duplicates, Relaxed);
        self.retried.fetch_add(tally.retried, Relaxed);
        self.held.fetch_add(tally.held, Relaxed);
        self.rejected.fetch_add(tally.rejected, Relaxed);
        self.attributes_as_text.fetch_add(tally.attributes_as_text, Relaxed);
    }

    /// Whether the server has ever taken a record.
    pub(super) fn has_taken(&self) -> bool {
        self.accepted.load(Relaxed) + self.duplicates.load(Relaxed) > 0
    }

    /// A bulk request of so many bytes goes out.
    pub(super) fn sent(&self, bytes: usize) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    /// As (key, value), for reports.
    pub(super) fn report(&self) -> [(&'static str, u64); 8] {
        [
            ("accepted", self.accepted.load(Relaxed)),
            ("duplicates", self.duplicates.load(Relaxed)),
            ("retried", self.retried.load(Relaxed)),
            ("held", self.held.load(Relaxed)),
            ("rejected", self.rejected.load(Relaxed)),
            ("attributes_as_text", self.attributes_as_text.load(Relaxed)),
            ("requests", self.requests.load(Relaxed)),
            ("bytes_sent", self.bytes_sent.load(Relaxed)),
        ]
    }
}
