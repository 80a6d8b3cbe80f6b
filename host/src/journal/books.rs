//! What became of the records that one publisher was to publish.

use serde::{Deserialize, Serialize};

/// One cursor's books. They close at any moment:
/// `accepted = filtered + delivered + dropped + dead_lettered + backlog`, where the backlog is counted from the
/// journal's positions, not from the other figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Books {
    /// Records appended to the journal since the cursor began.
    pub accepted: u64,
    /// Not meant for this publisher (`only`).
    pub filtered: u64,
    /// Published.
    pub delivered: u64,
    /// Lost, and why.
    pub dropped: Dropped,
    /// Set aside with a reason.
    pub dead_lettered: u64,
    /// Not yet any of these.
    pub backlog: u64,
}

/// Records that were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Dropped {
    /// The journal was full and this cursor was the hindmost.
    pub overflow: u64,
    /// The publisher was removed before it had published them.
    pub removed: u64,
    /// The host was shut down before it had published them.
    pub shutdown: u64,
}

/// Why a retired cursor's backlog is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The publisher was removed.
    Removed,
    /// The host was shut down.
    Shutdown,
}

/// What became of rows in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Not meant for this publisher.
    pub filtered: u64,
    /// Published.
    pub delivered: u64,
    /// Set aside.
    pub dead_lettered: u64,
    /// Refused, and to be set aside: still backlog until [`Cursor::set_aside`](super::Cursor::set_aside) books them.
    pub refused: u64,
}

impl Settled {
    pub(super) fn total(self) -> u64 {
        self.filtered + self.delivered + self.dead_lettered + self.refused
    }
}

impl Dropped {
    /// All of them.
    pub fn total(self) -> u64 {
        self.overflow + self.removed + self.shutdown
    }
}

impl Books {
    /// Whether they close.
    pub fn balance(&self) -> bool {
        self.accepted
            == self.filtered + self.delivered + self.dropped.total() + self.dead_lettered + self.backlog
    }
}
