//! The records of the recent past, for the reports that show records.
//!
//! Invariants: recent batches are shared with the journal, never copied, and bounded by records, bytes and age. A
//! record that failed or was slow is copied aside when its batch leaves, so that a flood of ordinary records does
//! not wash it away; it is never in both places. Age is the time since the host saw the record, for a client's
//! clock may say anything.

use crate::record::{EventMetrics, NetworkMetrics, Record, SharedBatch, Status, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When the host saw something: on the clock that never goes back, and on the one that people read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) time: Timestamp,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), time: Timestamp::now() }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) age: Duration,
    /// What took as long as this is kept aside.
    pub(super) slow: Duration,
}

impl Bounds {
    fn expired(&self, observed: Moment, now: Moment) -> bool {
        now.instant.saturating_duration_since(observed.instant) > self.age
    }
}

pub(super) struct History {
    bounds: Bounds,
    recent: VecDeque<Seen>,
    records: usize,
    bytes: usize,
    /// Every record seen after this is in `recent`.
    complete_since: Timestamp,
    events: Aside<EventMetrics>,
    operations: Aside<NetworkMetrics>,
}

/// A batch, and what of it still counts.
struct Seen {
    batch: Arc<SharedBatch>,
    observed: Moment,
    /// Rows that have left already, events first: the bound is held to the record.
    left: usize,
    /// The rows that failed or were slow, found while they were in the processor's cache.
    notable: Box<[usize]>,
}

impl Seen {
    fn bytes(&self) -> usize {
        self.batch.held_bytes() + size_of::<Self>() + size_of_val(&*self.notable)
    }
}

/// What was notable in batches that have left.
struct Aside<R> {
    failed: Kept<R>,
    slow: Kept<R>,
}

struct Kept<R> {
    entries: VecDeque<(Moment, Arc<R>)>,
    bytes: usize,
    complete_since: Timestamp,
}

impl History {
    pub(super) fn new(bounds: Bounds, started: Timestamp) -> Self {
        Self {
            bounds,
            recent: VecDeque::new(),
            records: 0,
            bytes: 0,
            complete_since: started,
            events: Aside::new(started),
            operations: Aside::new(started),
        }
    }

    /// Takes a batch in. What leaves for it is handed back, to be freed without the lock.
    pub(super) fn observe(&mut self, batch: &Arc<SharedBatch>, now: Moment) -> Vec<Arc<SharedBatch>> {
        if !batch.is_empty() {
            let slow = self.bounds.slow;
            let events = batch.events().iter().map(|event| notable(event, slow));
            let operations = batch.operations().iter().map(|operation| notable(operation, slow));
            let rows = events.chain(operations).enumerate();
            let notable = rows.filter_map(|(row, notable)| notable.then_some(row)).collect();
            let seen = Seen { batch: batch.clone(), observed: now, left: 0, notable };
            self.records += batch.len();
            self.bytes += seen.bytes();
            self.recent.push_back(seen);
        }
        self.trim(now)
    }

    /// Lets go what the bounds do not allow.
    fn trim(&mut self, now: Moment) -> Vec<Arc<SharedBatch>> {
        let bounds = self.bounds;
        let mut gone = Vec::new();
        while let Some(oldest) = self.recent.front_mut() {
            let held = oldest.batch.len() - oldest.left;
            let excess = self.records.saturating_sub(bounds.records);
            let expired = bounds.expired(oldest.observed, now);
            let whole = expired || self.bytes > bounds.bytes || excess >= held;
            if !whole && excess == 0 {
                break;
            }
            let leaving = oldest.left..oldest.left + if whole { held } else { excess };
            oldest.left = leaving.end;
            self.records -= leaving.len();
            self.complete_since = self.complete_since.max(oldest.observed.time);
            if !expired {
                let events = oldest.batch.events();
                for row in oldest.notable.iter().filter(|row| leaving.contains(row)) {
                    match (events.get(*row), oldest.batch.operations().get(row.saturating_sub(events.len())))
                    {
                        (Some(event), _) => self.events.keep(event, oldest.observed, &bounds),
                        (None, Some(operation)) => self.operations.keep(operation, oldest.observed, &bounds),
                        (None, None) => {}
                    }
                }
            }
            if whole && let Some(oldest) = self.recent.pop_front() {
                self.bytes -= oldest.bytes();
                gone.push(oldest.batch);
            }
        }
        self.events.expire(&bounds, now);
        self.operations.expire(&bounds, now);
        gone
    }

    /// The recent records of one kind.
    pub(super) fn recent<R: Held>(&mut self, now: Moment) -> Snapshot<R> {
        let gone = self.trim(now);
        let recent = self.recent.iter().map(|seen| (seen.batch.clone(), seen.left)).collect();
        Snapshot { recent, aside: Vec::new(), complete_since: self.complete_since, _gone: gone }
    }

    /// Those that failed are among these, as far back as anything is known.
    pub(super) fn failed<R: Held>(&mut self, now: Moment) -> Snapshot<R> {
        let mut snapshot = self.recent(now);
        let failed = &R::aside(self).failed;
        snapshot.aside = failed.entries.iter().map(|(_, record)| record.clone()).collect();
        snapshot.complete_since = failed.complete_since;
        snapshot
    }

    /// Those that took `threshold` or longer are among these. What was faster than the configured threshold is known
    /// from the recent ones only.
    pub(super) fn slow<R: Held>(&mut self, threshold: Duration, now: Moment) -> Snapshot<R> {
        let mut snapshot = self.recent(now);
        let aside = R::aside(self);
        let entries = aside.failed.entries.iter().chain(&aside.slow.entries);
        snapshot.aside = entries.map(|(_, record)| record.clone()).collect();
        if threshold >= self.bounds.slow {
            let aside = R::aside(self);
            snapshot.complete_since = aside.failed.complete_since.max(aside.slow.complete_since);
        }
        snapshot
    }
}

fn notable<R: Record>(record: &R, slow: Duration) -> bool {
    record.status() == Status::Failed || record.elapsed().is_some_and(|elapsed| elapsed >= slow)
}

impl<R: Record> Aside<R> {
    fn new(started: Timestamp) -> Self {
        Self { failed: Kept::new(started), slow: Kept::new(started) }
    }

    /// Failed and slow ones are bounded apart, so that a pipeline that is always slow does not hide what failed.
    fn keep(&mut self, record: &R, observed: Moment, bounds: &Bounds) {
        let kept = if record.status() == Status::Failed { &mut self.failed } else { &mut self.slow };
        kept.push(record, observed, bounds);
    }

    fn expire(&mut self, bounds: &Bounds, now: Moment) {
        self.failed.expire(bounds, now);
        self.slow.expire(bounds, now);
    }
}

impl<R: Record> Kept<R> {
    fn new(started: Timestamp) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, complete_since: started }
    }

    fn bytes(record: &R) -> usize {
        record.bytes() + size_of::<(Moment, Arc<R>)>()
    }

    /// There are four of these, and each may hold a tenth of what the recent ones may.
    fn push(&mut self, record: &R, observed: Moment, bounds: &Bounds) {
        self.bytes += Self::bytes(record);
        self.entries.push_back((observed, Arc::new(record.clone())));
        while self.entries.len() > bounds.records.div_ceil(10) || self.bytes > bounds.bytes / 10 {
            if !self.pop() {
                break;
            }
        }
    }

    fn expire(&mut self, bounds: &Bounds, now: Moment) {
        while self.entries.front().is_some_and(|(observed, _)| bounds.expired(*observed, now)) && self.pop() {
        }
        // Also what never was set aside has expired by now.
        let oldest = u64::try_from(bounds.age.as_nanos()).unwrap_or(u64::MAX);
        let oldest = Timestamp::from_nanos(now.time.as_nanos().saturating_sub(oldest));
        self.complete_since = self.complete_since.max(oldest);
    }

    fn pop(&mut self) -> bool {
        let Some((observed, record)) = self.entries.pop_front() else { return false };
        self.bytes -= Self::bytes(&record);
        self.complete_since = self.complete_since.max(observed.time);
        true
    }
}

/// How history holds a kind of record.
pub(super) trait Held: Record {
    fn rows(batch: &SharedBatch, left: usize) -> &[Self];
    #[allow(private_interfaces)]
    fn aside(history: &History) -> &Aside<Self>;
}

impl Held for EventMetrics {
    fn rows(batch: &SharedBatch, left: usize) -> &[Self] {
        batch.events().get(left..).unwrap_or_default()
    }
    #[allow(private_interfaces)]
    fn aside(history: &History) -> &Aside<Self> {
        &history.events
    }
}

impl Held for NetworkMetrics {
    fn rows(batch: &SharedBatch, left: usize) -> &[Self] {
        batch.operations().get(left.saturating_sub(batch.events().len())..).unwrap_or_default()
    }
    #[allow(private_interfaces)]
    fn aside(history: &History) -> &Aside<Self> {
        &history.operations
    }
}

/// What history holds of one kind of record, to be searched without its lock.
pub(super) struct Snapshot<R> {
    recent: Vec<(Arc<SharedBatch>, usize)>,
    aside: Vec<Arc<R>>,
    /// Every record that was asked for and was seen after this is here.
    pub(super) complete_since: Timestamp,
    /// Batches that left meanwhile, freed with the snapshot.
    _gone: Vec<Arc<SharedBatch>>,
}

impl<R: Held> Snapshot<R> {
    /// All of them, the last seen first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &R> {
        let recent = self.recent.iter().rev();
        recent
            .flat_map(|(batch, left)| R::rows(batch, *left).iter().rev())
            .chain(self.aside.iter().rev().map(|record| &**record))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let recent: usize = self.recent.iter().map(|(batch, left)| R::rows(batch, *left).len()).sum();
        recent + self.aside.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Batch, Text, ViewGauge};
    use proptest::prelude::*;
    use uuid::Uuid;

    const SECOND: Duration = Duration::from_secs(1);

    fn bounds(records: usize) -> Bounds {
        Bounds { records, bytes: 1 << 20, age: 60 * SECOND, slow: SECOND }
    }

    fn event(number: u128, status: Status, duration: Duration) -> EventMetrics {
        let start = Timestamp::from_nanos(1);
        let mut event = EventMetrics::started(Uuid::from_u128(number), "e", "t", start);
        event.end_time = Some(start.after(duration));
        event.status = status;
        event
    }

    fn operation(number: u128, error: Option<&str>) -> NetworkMetrics {
        let start = Timestamp::from_nanos(1);
        let mut operation = NetworkMetrics::started(Uuid::from_u128(number), "t", "GET", "h", 1, start);
        operation.end_time = Some(start);
        operation.error = error.map(Text::new);
        operation
    }

    fn sealed(events: Vec<EventMetrics>, operations: Vec<NetworkMetrics>) -> Arc<SharedBatch> {
        Arc::new(SharedBatch::new(0, Batch { events, operations }, ViewGauge::default()))
    }

    fn numbers<R: Held>(snapshot: &Snapshot<R>, wanted: impl Fn(&R) -> bool) -> Vec<u128> {
        snapshot.newest_first().filter(|record| wanted(record)).map(|record| record.id().as_u128()).collect()
    }

    fn later(start: Moment, seconds: u32) -> Moment {
        let passed = SECOND * seconds;
        Moment { instant: start.instant + passed, time: start.time.after(passed) }
    }

    /// A step: the seconds that pass, then a batch of events that are fast (0), slow (1) or failed (2).
    fn step() -> impl Strategy<Value = (u32, Vec<u8>)> {
        (0..30_u32, prop::collection::vec(0..3_u8, 0..8))
    }

    proptest! {
        /// Beside a model that keeps everything.
        #[test]
        fn bounds_hold_and_nothing_is_lost_or_doubled(steps in prop::collection::vec(step(), 1..40), records in 0..30_usize) {
            let start = Moment::now();
            let mut history = History::new(bounds(records), start.time);
            let (mut all, mut seconds) = (Vec::new(), 0);
            for (passed, kinds) in steps {
                seconds += passed;
                let now = later(start, seconds);
                let events: Vec<_> = kinds.iter().enumerate().map(|(row, kind)| {
                    let status = if *kind == 2 { Status::Failed } else { Status::Completed };
                    event((all.len() + row) as u128, status, SECOND * u32::from(*kind == 1))
                }).collect();
                all.extend(kinds.iter().map(|kind| (now, *kind)));
                history.observe(&sealed(events, Vec::new()), now);

                let young = |at: &usize| now.instant - all[*at].0.instant <= 60 * SECOND;
                let first_recent = all.len().saturating_sub(records);
                let recent: Vec<_> = (first_recent..all.len()).filter(young).rev().map(|at| at as u128).collect();
                prop_assert_eq!(numbers(&history.recent::<EventMetrics>(now), |_| true), recent.clone());

                for (kind, status) in [(1, Status::Completed), (2, Status::Failed)] {
                    let of_kind = |at: &usize| all[*at].1 == kind;
                    let mut expected: Vec<_> =
                        recent.iter().copied().filter(|number| of_kind(&(*number as usize))).collect();
                    // A tenth of the bound, of the youngest that have left.
                    let aside = (0..first_recent).rev().filter(of_kind).take(records.div_ceil(10)).filter(young);
                    expected.extend(aside.map(|at| at as u128));
                    let snapshot = match status {
                        Status::Failed => history.failed::<EventMetrics>(now),
                        _ => history.slow::<EventMetrics>(SECOND, now),
                    };
                    let found = numbers(&snapshot, |event| {
                        event.status == status && (kind == 2 || event.elapsed() >= Some(SECOND))
                    });
                    prop_assert_eq!(&found, &expected);
                    // What it says of its completeness is so.
                    let complete = (0..all.len())
                        .filter(|at| of_kind(at) && all[*at].0.time > snapshot.complete_since);
                    for at in complete {
                        prop_assert!(found.contains(&(at as u128)));
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_are_bounded() {
        let one = sealed(vec![event(0, Status::Failed, Duration::ZERO)], Vec::new());
        let bytes = one.held_bytes() + size_of::<Seen>() + size_of::<usize>();
        let now = Moment::now();
        let mut history = History::new(Bounds { bytes: 20 * bytes, ..bounds(1_000) }, now.time);
        for number in 0..100 {
            let status = if number < 50 { Status::Failed } else { Status::Completed };
            let gone = history.observe(&sealed(vec![event(number, status, Duration::ZERO)], Vec::new()), now);
            assert_eq!(gone.len(), usize::from(number >= 20));
        }
        assert_eq!(history.recent::<EventMetrics>(now).len(), 20);
        let failed = history.failed::<EventMetrics>(now);
        let kept = 2 * bytes / Kept::bytes(&event(0, Status::Failed, Duration::ZERO));
        let expected: Vec<_> = (0..50).rev().take(kept).collect();
        assert_eq!(numbers(&failed, |event| event.status == Status::Failed), expected);
    }

    #[test]
    fn a_batch_is_shared_and_released() {
        let now = Moment::now();
        let mut history = History::new(bounds(2), now.time);
        let batch = sealed(vec![event(1, Status::Completed, SECOND)], vec![operation(2, Some("reset"))]);
        assert!(history.observe(&batch, now).is_empty());
        assert_eq!(Arc::strong_count(&batch), 2);
        // The first record leaves: the bound is held to the record, and the batch stays for the second.
        history.observe(&sealed(vec![event(3, Status::Completed, Duration::ZERO)], Vec::new()), now);
        assert_eq!(numbers(&history.recent::<EventMetrics>(now), |_| true), [3]);
        assert_eq!(numbers(&history.recent::<NetworkMetrics>(now), |_| true), [2]);
        assert_eq!(numbers(&history.slow::<EventMetrics>(SECOND, now), |_| true), [3, 1]);
        history.observe(&sealed(Vec::new(), vec![operation(4, None), operation(5, None)]), now);
        assert_eq!(Arc::strong_count(&batch), 1);
        assert_eq!(numbers(&history.recent::<EventMetrics>(now), |_| true), []);
        assert_eq!(numbers(&history.failed::<NetworkMetrics>(now), |_| true), [5, 4, 2]);
    }

    #[test]
    fn a_lower_threshold_than_configured_reaches_back_less_far() {
        let start = Moment::now();
        let mut history = History::new(bounds(10), start.time);
        for number in 0..20 {
            let status = Status::Completed;
            let batch = sealed(vec![event(number, status, SECOND / 2)], Vec::new());
            history.observe(&batch, later(start, number as u32));
        }
        let now = later(start, 20);
        assert_eq!(history.slow::<EventMetrics>(SECOND, now).complete_since, start.time);
        let half = history.slow::<EventMetrics>(SECOND / 2, now);
        assert_eq!((half.complete_since, half.len()), (later(start, 9).time, 10));
    }
}
