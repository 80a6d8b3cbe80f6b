//! What the receiver may know already: which series were announced to it, and when the last sample was sent.
//!
//! Invariants, whatever becomes of requests: of a series no sample is ever older than one that was sent before, nor as
//! old; a value goes out only after its series' zero was taken (or can no longer be had), so that no zero ever follows
//! a value and no counter seems to start anew; a series that was sent and is gone is known until somebody was told.

use super::groups::{Group, Identity};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Prometheus looks back so far for a series' last sample. Later it is gone without being told.
const LOOKBACK: Duration = Duration::from_secs(300);

/// A push has three times, a millisecond apart at least.
const STEP: i64 = 3;

/// The times of one push, in milliseconds since the Unix epoch: all later than any before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// For the ends of series that are gone. First, for histograms of other buckets have some series in common.
    pub(super) end: i64,
    /// For the zeros of series that are new.
    pub(super) zero: i64,
    /// For values.
    pub(super) value: i64,
}

pub(super) struct Ledger {
    known: HashMap<Arc<Identity>, Known>,
    gone: Vec<Gone>,
    /// The newest time stamp that was sent, or was going to be.
    last: i64,
    /// The newest one that the receiver took, or may have taken.
    taken: i64,
    /// Counts the snapshots seen.
    snapshot: u64,
}

struct Known {
    stage: Stage,
    own: bool,
    /// Something of it was sent: whether or not it was taken, the receiver may have it.
    sent: bool,
    /// The last snapshot that it was in.
    snapshot: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its zero is yet to be taken.
    New,
    /// Its values may go out.
    Born,
}

struct Gone {
    identity: Arc<Identity>,
    since: Instant,
}

impl Ledger {
    /// Nothing was sent before `now`.
    pub(super) fn new(now: i64) -> Self {
        Self { known: HashMap::new(), gone: Vec::new(), last: now, taken: now, snapshot: 0 }
    }

    /// The times of a push that begins now, if the clock has moved on since the last one. Ends and zeros lie behind
    /// the last push, when the one was over and the other had not begun, but no more than `interval` back: receivers
    /// refuse what is old.
    pub(super) fn moment(&mut self, now: i64, interval: Duration) -> Option<Moment> {
        self.forget_refused(now);
        if now < self.last.saturating_add(STEP) {
            return None;
        }
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        let zero = self.last.saturating_add(2).max(now.saturating_sub(interval)).min(now - 1);
        self.last = now;
        Some(Moment { end: zero - 1, zero, value: now })
    }

    /// As [`Ledger::moment`], for last words, which do not wait for a clock that was set back.
    pub(super) fn last_moment(&mut self, now: i64) -> Moment {
        self.forget_refused(now);
        let value = now.max(self.last.saturating_add(STEP));
        self.last = value;
        Moment { end: value - 2, zero: value - 1, value }
    }

    /// Where the clock was set back, only what was taken, or may have been, forbids what is older: what the receiver has
    /// refused it does not have.
    fn forget_refused(&mut self, now: i64) {
        if now < self.last && now >= self.taken.saturating_add(STEP) {
            self.last = self.taken;
        }
    }

    /// The receiver took samples of this time, or may have.
    pub(super) fn taken(&mut self, at: i64) {
        self.taken = self.taken.max(at);
    }

    /// How long it takes the clock until there is a [`Ledger::moment`] again.
    pub(super) fn behind(&self, now: i64) -> Duration {
        let last = if now < self.last { self.taken } else { self.last };
        Duration::from_millis(u64::try_from(last.saturating_add(STEP) - now).unwrap_or(0))
    }

    /// Takes note of a snapshot: what is new, and what is gone. A group that is there twice is left out the second time.
    pub(super) fn observe(&mut self, groups: &mut Vec<Group>) {
        self.snapshot += 1;
        let Self { known, snapshot, .. } = self;
        groups.retain(|group| {
            // Of what the host counted before anybody looked nobody knows when it was 0.
            let from_zero = group.kind.is_cumulative() && (group.own || *snapshot > 1);
            let known = known.entry(group.identity.clone()).or_insert_with(|| Known {
                stage: if from_zero { Stage::New } else { Stage::Born },
                own: group.own,
                sent: false,
                snapshot: 0,
            });
            std::mem::replace(&mut known.snapshot, *snapshot) != *snapshot
        });
        let now = Instant::now();
        let mut gone = Vec::new();
        known.retain(|identity, known| {
            let there = known.snapshot == *snapshot;
            if !there && known.sent {
                gone.push(Gone { identity: identity.clone(), since: now });
            }
            there
        });
        self.gone.extend(gone);
        // One that is back goes on, and one that is forgotten anyway need not be buried.
        self.gone.retain(|gone| !self.known.contains_key(&gone.identity) && now - gone.since < LOOKBACK);
    }

    /// Whether a group's zero is to be sent.
    pub(super) fn is_new(&self, group: &Group) -> bool {
        self.known.get(&group.identity).is_some_and(|known| known.stage == Stage::New)
    }

    /// Whether a group's values may go out.
    pub(super) fn is_born(&self, group: &Group) -> bool {
        self.known.get(&group.identity).is_some_and(|known| known.stage == Stage::Born)
    }

    /// A request with these is about to be sent.
    pub(super) fn sending<'a>(&mut self, groups: impl IntoIterator<Item = &'a Group>) {
        for group in groups {
            if let Some(known) = self.known.get_mut(&group.identity) {
                known.sent = true;
            }
        }
    }

    /// The zeros of these were taken, or never will be.
    pub(super) fn born<'a>(&mut self, groups: impl IntoIterator<Item = &'a Group>) {
        for group in groups {
            if let Some(known) = self.known.get_mut(&group.identity) {
                known.stage = Stage::Born;
            }
        }
    }

    /// What has gone and was not told.
    pub(super) fn gone(&self) -> Vec<Arc<Identity>> {
        self.gone.iter().map(|gone| gone.identity.clone()).collect()
    }

    /// Somebody was told of these.
    pub(super) fn told(&mut self, gone: &[Arc<Identity>]) {
        let told: HashSet<_> = gone.iter().collect();
        self.gone.retain(|gone| !told.contains(&gone.identity));
    }

    /// All that the receiver may know, to be told where everything ends.
    pub(super) fn sent(&self) -> Vec<Arc<Identity>> {
        let sent = self.known.iter().filter(|(_, known)| known.sent);
        sent.map(|(identity, _)| identity.clone()).chain(self.gone()).collect()
    }

    /// The publisher's own series start at 0 again.
    pub(super) fn restart(&mut self) {
        self.known.values_mut().filter(|known| known.own).for_each(|known| known.stage = Stage::New);
    }

    /// From now on everything goes where nobody knows any of it. What was counted till now was not counted there, so
    /// those that have values already get no zero.
    pub(super) fn elsewhere(&mut self) {
        self.gone.clear();
        self.known.values_mut().for_each(|known| known.sent = false);
    }
}
