//! What the host has seen over its life: counts, retries and quantiles, per event name and per network operation.
//!
//! Invariants: folding a record in costs a lookup and a few additions, never an allocation for a known name; names
//! are bounded in number and length, and what lies beyond is in `other`, counted. Nothing here forgets.

use super::answers::{
    EventCounts, EventStatistics, OperationCounts, OperationStatistics, RetryDistribution, Totals,
};
use super::durations::{Budget, Durations};
use crate::record::{EventMetrics, NetworkMetrics, Record, SharedBatch, Status, Text};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

/// A longer name counts in `other`: no client decides how much memory a name takes.
const MAX_NAME_BYTES: usize = 256;

/// What the hash of a name in `other` is charged for.
const BEYOND_BYTES: usize = 4 * size_of::<u64>();

/// Everything since the host started.
#[derive(Debug)]
pub(super) struct Statistics {
    pub(super) totals: Totals,
    pub(super) events: Names<EventTally>,
    pub(super) operations: Names<OperationTally>,
    budget: Budget,
}

impl Statistics {
    pub(super) fn new(max_names: usize, max_bytes: usize) -> Self {
        Self {
            totals: Totals::default(),
            events: Names::new(max_names),
            operations: Names::new(max_names),
            budget: Budget(max_bytes),
        }
    }

    pub(super) fn fold(&mut self, batch: &SharedBatch) {
        let Self { totals, events, operations, budget } = self;
        for event in batch.events() {
            totals.events.add(event);
            events.entry(&event.event_name, budget).add(event, budget);
        }
        for operation in batch.operations() {
            totals.operations.add(operation);
            operations.entry(&operation.operation, budget).add(operation, budget);
        }
    }
}

/// A tally per name, for a bounded number of names.
#[derive(Debug)]
pub(super) struct Names<T> {
    max_names: usize,
    index: HashMap<Text, usize>,
    /// Rows are only ever added, so that a reader may let the lock go between two of them.
    rows: Vec<(Text, T)>,
    other: T,
    /// The distinct names in `other`, by their hashes, at most `max_names` of them, and as many as the bytes allow.
    beyond: HashSet<u64>,
    hasher: RandomState,
}

impl<T: Default> Names<T> {
    fn new(max_names: usize) -> Self {
        Self {
            max_names,
            index: HashMap::new(),
            rows: Vec::new(),
            other: T::default(),
            beyond: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// What a name is charged for: its row and its entry, both of which may have as much room again to grow, and its
    /// distribution.
    const fn name_bytes(name: &str) -> usize {
        let entry = size_of::<(Text, usize)>() + size_of::<u64>();
        2 * (size_of::<(Text, T)>() + entry + name.len()) + Durations::LEAST_BYTES
    }

    fn entry(&mut self, name: &str, budget: &mut Budget) -> &mut T {
        let mut at = self.index.get(name).copied();
        if at.is_none() {
            let fits = self.rows.len() < self.max_names && name.len() <= MAX_NAME_BYTES;
            if fits && budget.take(Self::name_bytes(name)) {
                let (name, row) = (Text::new(name), self.rows.len());
                self.index.insert(name.clone(), row);
                self.rows.push((name, T::default()));
                at = Some(row);
            } else if self.beyond.is_empty()
                || (self.beyond.len() < self.max_names && budget.take(BEYOND_BYTES))
            {
                self.beyond.insert(self.hasher.hash_one(name));
            }
        }
        match at.and_then(|row| self.rows.get_mut(row)) {
            Some((_, tally)) => tally,
            None => &mut self.other,
        }
    }

    /// The names that have a row of their own.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Up to `count` rows from `from` on, in the order in which the names were first seen.
    pub(super) fn rows(&self, from: usize, count: usize) -> impl Iterator<Item = (&str, &T)> {
        self.rows.iter().skip(from).take(count).map(|(name, tally)| (name.as_str(), tally))
    }

    /// The tally of all names without a row; `None` while there is no such name.
    pub(super) fn other(&self) -> Option<&T> {
        (!self.beyond.is_empty()).then_some(&self.other)
    }

    /// How many distinct names are in `other`; where a bound is reached there may be more.
    pub(super) fn names_in_other(&self) -> usize {
        self.beyond.len()
    }
}

/// What is known of one event name.
#[derive(Debug, Default)]
pub(super) struct EventTally {
    counts: EventCounts,
    durations: Durations,
}

impl EventTally {
    fn add(&mut self, event: &EventMetrics, budget: &mut Budget) {
        self.counts.add(event);
        if let Some(elapsed) = event.elapsed() {
            self.durations.add(elapsed, budget);
        }
    }

    pub(super) fn counts(&self) -> &EventCounts {
        &self.counts
    }

    pub(super) fn answer(&self, name: &str) -> EventStatistics {
        EventStatistics {
            event_name: name.to_owned(),
            counts: self.counts,
            duration_seconds: self.durations.quantiles(),
        }
    }
}

/// What is known of one kind of network operation.
#[derive(Debug, Default)]
pub(super) struct OperationTally {
    counts: OperationCounts,
    latencies: Durations,
}

impl OperationTally {
    fn add(&mut self, operation: &NetworkMetrics, budget: &mut Budget) {
        self.counts.add(operation);
        if let Some(elapsed) = operation.elapsed() {
            self.latencies.add(elapsed, budget);
        }
    }

    pub(super) fn answer(&self, name: &str) -> OperationStatistics {
        OperationStatistics {
            operation: name.to_owned(),
            counts: self.counts,
            latency_seconds: self.latencies.quantiles(),
        }
    }
}

impl EventCounts {
    fn add(&mut self, event: &EventMetrics) {
        self.count += 1;
        let (by_status, after_retry) = match event.status {
            Status::Completed => (&mut self.completed, &mut self.completed_after_retry),
            Status::Failed => (&mut self.failed, &mut self.failed_after_retry),
            // Nothing pending is in a batch; if it were, it would not have ended.
            Status::Cancelled | Status::Pending => (&mut self.cancelled, &mut self.cancelled_after_retry),
        };
        *by_status += 1;
        if event.retry_count > 0 {
            *after_retry += 1;
            self.events_with_retries += 1;
            self.retries += u64::from(event.retry_count);
        }
        *self.retry_distribution.bucket(event.retry_count) += 1;
    }
}

impl OperationCounts {
    fn add(&mut self, operation: &NetworkMetrics) {
        self.count += 1;
        self.failed += u64::from(operation.error.is_some());
        // The sizes are the client's word; a sum that cannot be is better than a host that stops.
        self.bytes_sent = self.bytes_sent.saturating_add(operation.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(operation.bytes_received);
    }
}

impl RetryDistribution {
    fn bucket(&mut self, retries: u32) -> &mut u64 {
        match retries {
            0 => &mut self.none,
            1 => &mut self.one,
            2 => &mut self.two,
            3 => &mut self.three,
            4 => &mut self.four,
            5 => &mut self.five,
            6..=10 => &mut self.six_to_ten,
            11.. => &mut self.more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Batch, Timestamp, ViewGauge};
    use crate::report::QUANTILE_ERROR;
    use proptest::prelude::*;
    use std::time::Duration;
    use uuid::Uuid;

    fn event(name: &str, status: Status, retries: u32, nanos: u64) -> EventMetrics {
        let start = Timestamp::from_nanos(1);
        let mut event = EventMetrics::started(Uuid::nil(), name, "t", start);
        event.end_time = Some(start.after(Duration::from_nanos(nanos)));
        event.status = status;
        event.retry_count = retries;
        event
    }

    fn fold(statistics: &mut Statistics, events: Vec<EventMetrics>) {
        let batch = Batch { events, operations: Vec::new() };
        statistics.fold(&SharedBatch::new(0, batch, ViewGauge::default()));
    }

    fn any_event() -> impl Strategy<Value = EventMetrics> {
        let status = prop_oneof![Just(Status::Completed), Just(Status::Failed), Just(Status::Cancelled)];
        // Every magnitude is as likely as another.
        let nanos = (0..64_u32, any::<u64>()).prop_map(|(shift, number)| (number >> shift).min(u64::MAX - 1));
        ("[a-e]", status, 0..20_u32, nanos)
            .prop_map(|(name, status, retries, nanos)| event(&name, status, retries, nanos))
    }

    /// The quantile as the sketch defines it, from all values.
    fn exact(sorted: &[f64], quantile: f64) -> f64 {
        sorted[(quantile * (sorted.len() - 1) as f64) as usize]
    }

    proptest! {
        #[test]
        fn a_recount_gives_the_same(events in prop::collection::vec(any_event(), 1..300)) {
            let mut statistics = Statistics::new(10, usize::MAX);
            for part in events.chunks(7) {
                fold(&mut statistics, part.to_vec());
            }
            let names: HashSet<&str> = events.iter().map(|event| event.name()).collect();
            prop_assert_eq!(statistics.events.len(), names.len());
            prop_assert_eq!(statistics.totals.events.count, events.len() as u64);
            for (name, tally) in statistics.events.rows(0, usize::MAX) {
                let of: Vec<_> = events.iter().filter(|event| event.name() == name).collect();
                let count = |is: &dyn Fn(&EventMetrics) -> bool| of.iter().filter(|event| is(event)).count() as u64;
                let counts = tally.counts();
                prop_assert_eq!(counts.count, of.len() as u64);
                prop_assert_eq!(counts.completed, count(&|event| event.status == Status::Completed));
                prop_assert_eq!(counts.failed, count(&|event| event.status == Status::Failed));
                prop_assert_eq!(counts.cancelled, count(&|event| event.status == Status::Cancelled));
                prop_assert_eq!(counts.retries, of.iter().map(|event| u64::from(event.retry_count)).sum::<u64>());
                prop_assert_eq!(counts.events_with_retries, count(&|event| event.retry_count > 0));
                prop_assert_eq!(
                    counts.failed_after_retry,
                    count(&|event| event.status == Status::Failed && event.retry_count > 0)
                );
                prop_assert_eq!(counts.retry_distribution.five, count(&|event| event.retry_count == 5));
                prop_assert_eq!(
                    counts.retry_distribution.six_to_ten,
                    count(&|event| (6..=10).contains(&event.retry_count))
                );
                prop_assert_eq!(counts.retry_distribution.more, count(&|event| event.retry_count > 10));

                let mut seconds: Vec<f64> = of.iter().map(|e| e.elapsed().unwrap().as_secs_f64()).collect();
                seconds.sort_by(f64::total_cmp);
                let quantiles = tally.answer(name).duration_seconds.unwrap();
                prop_assert_eq!(quantiles.min, seconds[0]);
                prop_assert_eq!(quantiles.max, seconds[seconds.len() - 1]);
                let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
                prop_assert!((quantiles.mean - mean).abs() <= mean * 1e-9);
                for (at, estimate) in
                    [(0.5, quantiles.p50), (0.9, quantiles.p90), (0.95, quantiles.p95), (0.99, quantiles.p99)]
                {
                    let truth = exact(&seconds, at);
                    prop_assert!(
                        (estimate - truth).abs() <= truth * QUANTILE_ERROR * 1.0001,
                        "p{}: {} instead of {}", at, estimate, truth
                    );
                }
            }
        }
    }

    #[test]
    fn names_beyond_the_bound_count_in_other() {
        let mut statistics = Statistics::new(2, usize::MAX);
        let names = ["a", "b", "c", "a", "d", "c", "b", "e", "f"];
        fold(&mut statistics, names.map(|name| event(name, Status::Failed, 1, 5)).to_vec());
        let rows: Vec<_> =
            statistics.events.rows(0, 9).map(|(name, tally)| (name, tally.counts.count)).collect();
        assert_eq!(rows, [("a", 2), ("b", 2)]);
        let other = statistics.events.other().unwrap().counts;
        assert_eq!((other.count, other.failed, other.retries), (5, 5, 5));
        // There are four, of which no more than the bound are told apart.
        assert_eq!(statistics.events.names_in_other(), 2);
        assert_eq!(statistics.totals.events.count, 9);
    }

    #[test]
    fn ten_thousand_names_with_wide_durations_are_within_their_bytes() {
        let max_bytes = 16 << 20;
        let mut statistics = Statistics::new(10_000, max_bytes);
        for number in 0..10_000 {
            let name = format!("{number:0>200}");
            let nanos = (0..64).map(|shift| 1_u64 << shift);
            fold(&mut statistics, nanos.map(|nanos| event(&name, Status::Completed, 0, nanos)).collect());
        }
        let names = &statistics.events;
        let row = size_of::<(Text, EventTally)>();
        let entry = size_of::<(Text, usize)>() + 1;
        let own: usize =
            names.rows.iter().map(|(name, tally)| 2 * name.len() + tally.durations.heap_bytes()).sum();
        let held = own + names.rows.capacity() * row + names.index.capacity() * entry;
        assert!(held <= max_bytes, "{held} of {max_bytes}");
        assert_eq!((names.len() > 1_000, names.other().is_some()), (true, true));
        let counted: u64 = names.rows.iter().map(|(_, tally)| tally.counts.count).sum();
        assert_eq!(
            counted + names.other().unwrap().counts.count,
            640_000,
            "nothing is left out of the counts"
        );
        assert_eq!(statistics.totals.events.count, 640_000);
    }

    #[test]
    fn a_name_without_end_counts_in_other() {
        let mut statistics = Statistics::new(100, usize::MAX);
        fold(&mut statistics, vec![event(&"x".repeat(257), Status::Completed, 0, 5)]);
        assert_eq!(statistics.events.len(), 0);
        assert_eq!(statistics.events.names_in_other(), 1);
        assert_eq!(statistics.events.other().unwrap().counts.count, 1);
    }

    #[test]
    fn operations_are_counted_by_operation() {
        let operation = |name: &str, error: Option<&str>, sent, received| {
            let start = Timestamp::from_nanos(1);
            let mut operation = NetworkMetrics::started(Uuid::nil(), "t", name, "h", 1, start);
            operation.end_time = Some(start.after(Duration::from_secs(2)));
            operation.error = error.map(Text::new);
            operation.bytes_sent = sent;
            operation.bytes_received = received;
            operation
        };
        let mut statistics = Statistics::new(100, usize::MAX);
        let operations = vec![
            operation("GET", None, 1, 10),
            operation("PUT", None, 2, u64::MAX),
            operation("GET", Some("reset"), 3, 30),
            operation("PUT", None, 2, u64::MAX),
        ];
        let batch = Batch { events: Vec::new(), operations };
        statistics.fold(&SharedBatch::new(0, batch, ViewGauge::default()));
        let rows: Vec<_> = statistics.operations.rows(0, 9).map(|(name, tally)| tally.answer(name)).collect();
        let counts = OperationCounts { count: 2, failed: 1, bytes_sent: 4, bytes_received: 40 };
        assert_eq!((rows[0].operation.as_str(), rows[0].counts), ("GET", counts));
        assert_eq!(rows[0].latency_seconds.unwrap().max, 2.0);
        assert_eq!(rows[1].counts.bytes_received, u64::MAX);
        assert_eq!(statistics.operations.other().map(|_| ()), None);
    }
}
