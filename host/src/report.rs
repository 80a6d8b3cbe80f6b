//! Questions and answers: what failed, what was slow, what was tried again, and all of it by name.
//!
//! Invariants: a question never holds up the collector (no lock is held while records or names are searched), and a
//! host that runs for a year occupies no more than one that runs for an hour: history is bounded, and the statistics
//! know a bounded number of names. Statistics are not lost with the history.

mod answers;
mod durations;
mod history;
mod host_metrics;
mod records;
mod statistics;
#[cfg(test)]
mod tests;

pub use answers::{
    ByName, EventCounts, EventStatistics, FailedEvents, FailedNetworkOperations, Listed, MetricsReport,
    OperationCounts, OperationStatistics, PendingReport, Quantiles, RetryDistribution, RetryStatistics,
    RetryStats, SlowEvents, SlowNetworkOperations, Totals,
};
pub use durations::QUANTILE_ERROR;
pub use host_metrics::{Exposition, Number};
pub use records::{ReportedEvent, ReportedOperation};

use crate::record::{EventMetrics, NetworkMetrics, SharedBatch, Status, Timestamp};
use history::{Bounds, Held, History, Moment, Snapshot};
use parking_lot::{Mutex, MutexGuard, RwLock};
use records::Shown;
use statistics::{EventTally, Names, Statistics};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// How much is remembered for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportSettings {
    /// Records in the history. Failed and slow ones that have left it are kept aside, up to a tenth of this of each
    /// kind.
    pub max_records: usize,
    /// The bytes that the history's records occupy, bounded in the same way.
    pub max_bytes: usize,
    /// How long a record stays in the history after the host has seen it.
    pub max_age: Duration,
    /// What took as long as this, or longer, is kept aside when the history is full.
    pub slow_threshold: Duration,
    /// Distinct event names, and distinct operations, with statistics of their own; the rest is in `other`.
    pub max_names: usize,
    /// The bytes that all these statistics occupy. Beyond it further names are in `other`, and the quantiles of a name
    /// whose durations spread further are coarser than [`QUANTILE_ERROR`].
    pub max_statistics_bytes: usize,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self {
            max_records: 100_000,
            max_bytes: 8 << 20,
            max_age: Duration::from_secs(60 * 60),
            slow_threshold: Duration::from_secs(1),
            max_names: 10_000,
            max_statistics_bytes: 64 << 20,
        }
    }
}

/// What has started and not ended, as the recorder tells it.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Events, the oldest first, at most as many as were asked for.
    pub events: Vec<EventMetrics>,
    /// Network operations, the oldest first, at most as many as were asked for.
    pub operations: Vec<NetworkMetrics>,
    /// How many events there are.
    pub events_total: usize,
    /// How many network operations there are.
    pub operations_total: usize,
    /// What else the recorder has counted since the start, by what it is: `ends_without_start`.
    pub counters: Vec<(&'static str, u64)>,
}

/// Answers "what is pending?" with at most the given number of each kind.
pub type PendingSource = Arc<dyn Fn(usize) -> Pending + Send + Sync>;

/// Answers questions. Cheap to clone; all clones know the same.
#[derive(Clone)]
pub struct Reports {
    shared: Arc<Shared>,
    limit: usize,
}

struct Shared {
    started: Timestamp,
    statistics: Mutex<Statistics>,
    history: Mutex<History>,
    pending: RwLock<Option<PendingSource>>,
}

/// Names that are read in one go: less than a tenth of a millisecond, then the collector has its turn.
const NAMES_PER_TURN: usize = 32;

/// Rows that an answer lists unless it is asked for another number.
pub const DEFAULT_LIMIT: usize = 1_000;

impl Reports {
    /// Nothing has been seen yet.
    pub fn new(settings: ReportSettings) -> Self {
        let started = Timestamp::now();
        let bounds = Bounds {
            records: settings.max_records,
            bytes: settings.max_bytes,
            age: settings.max_age,
            slow: settings.slow_threshold,
        };
        let shared = Shared {
            started,
            statistics: Mutex::new(Statistics::new(settings.max_names, settings.max_statistics_bytes)),
            history: Mutex::new(History::new(bounds, started)),
            pending: RwLock::new(None),
        };
        Self { shared: Arc::new(shared), limit: DEFAULT_LIMIT }
    }

    /// Sets who knows what is pending: called once, by the host's wiring.
    pub fn set_pending(&self, source: PendingSource) {
        *self.shared.pending.write() = Some(source);
    }

    /// Takes in a batch: called once for each batch that the journal has accepted, in its order.
    pub fn observe(&self, batch: &Arc<SharedBatch>) {
        self.observe_at(batch, Moment::now());
    }

    fn observe_at(&self, batch: &Arc<SharedBatch>, now: Moment) {
        self.shared.statistics.lock().fold(batch);
        let gone = self.shared.history.lock().observe(batch, now);
        drop(gone);
    }

    /// The same, but its answers list up to `limit` rows each instead of [`DEFAULT_LIMIT`].
    pub fn with_limit(&self, limit: usize) -> Self {
        Self { shared: self.shared.clone(), limit }
    }

    /// All counts since the start, for the host's own metrics.
    pub fn totals(&self) -> Totals {
        self.shared.statistics.lock().totals
    }

    /// Adds what has been recorded since the start to the host's own metrics.
    pub fn expose(&self, exposition: Exposition) -> Exposition {
        const RECORDS: (&str, &str) =
            ("pressroom_records_total", "Records that the journal accepted, by kind and status.");
        let totals = self.totals();
        let (events, operations) = (totals.events, totals.operations);
        let mut exposition = exposition;
        for (kind, status, count) in [
            ("event", Status::Completed, events.completed),
            ("event", Status::Failed, events.failed),
            ("event", Status::Cancelled, events.cancelled),
            ("network", Status::Completed, operations.count - operations.failed),
            ("network", Status::Failed, operations.failed),
        ] {
            let labels = [("kind", kind), ("status", status.as_str())];
            exposition = exposition.counter(RECORDS.0, RECORDS.1, &labels, count);
        }
        exposition.counter(
            "pressroom_event_retries_total",
            "Retries of the events that the journal accepted.",
            &[],
            events.retries,
        )
    }

    /// Everything: totals, statistics by name, what is pending, and the newest records.
    pub fn metrics(&self) -> MetricsReport {
        self.metrics_at(Moment::now())
    }

    fn metrics_at(&self, now: Moment) -> MetricsReport {
        let started = self.shared.started;
        let totals = self.totals();
        let events = self.by_name(
            |statistics| &statistics.events,
            EventTally::answer,
            |row| row.counts.count,
            |row| &row.event_name,
        );
        let operations = self.by_name(
            |statistics| &statistics.operations,
            statistics::OperationTally::answer,
            |row| row.counts.count,
            |row| &row.operation,
        );
        let recent_events = self.shared.history.lock().recent::<EventMetrics>(now);
        let recent_operations = self.shared.history.lock().recent::<NetworkMetrics>(now);
        MetricsReport {
            generated: now.time,
            started,
            totals,
            events,
            operations,
            pending: self.pending(now),
            recent_events: self.newest(&recent_events, |_| true, now),
            recent_operations: self.newest(&recent_operations, |_| true, now),
        }
    }

    /// [`Reports::metrics`] as JSON.
    pub fn metrics_json(&self) -> String {
        // The answers hold nothing that JSON cannot say; were it otherwise, the reader is told.
        serde_json::to_string(&self.metrics())
            .unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }).to_string())
    }

    /// The events that failed, the newest first.
    pub fn failed_events(&self) -> FailedEvents {
        self.failed_events_at(Moment::now())
    }

    fn failed_events_at(&self, now: Moment) -> FailedEvents {
        let snapshot = self.shared.history.lock().failed::<EventMetrics>(now);
        // Counted after history was read, lest it show more than there were.
        let failed_since_start = self.totals().events.failed;
        let events = self.newest(&snapshot, |event| event.status == Status::Failed, now);
        FailedEvents { generated: now.time, started: self.shared.started, failed_since_start, events }
    }

    /// The events that took `threshold` or longer, the slowest first.
    pub fn slow_events(&self, threshold: Duration) -> SlowEvents {
        self.slow_events_at(threshold, Moment::now())
    }

    fn slow_events_at(&self, threshold: Duration, now: Moment) -> SlowEvents {
        let snapshot = self.shared.history.lock().slow::<EventMetrics>(threshold, now);
        let events = self.slowest(&snapshot, threshold, now);
        SlowEvents { generated: now.time, threshold_seconds: threshold.as_secs_f64(), events }
    }

    /// How often events were tried again, and what became of them.
    pub fn retry_stats(&self) -> RetryStats {
        let generated = Timestamp::now();
        let all = self.totals().events;
        let answer = |tally: &EventTally, name: &str| {
            let counts = tally.counts();
            RetryStatistics {
                event_name: name.to_owned(),
                events: counts.count,
                retries: counts.retries,
                events_with_retries: counts.events_with_retries,
                completed_after_retry: counts.completed_after_retry,
                failed_after_retry: counts.failed_after_retry,
                cancelled_after_retry: counts.cancelled_after_retry,
            }
        };
        let by_name =
            self.by_name(|statistics| &statistics.events, answer, |row| row.retries, |row| &row.event_name);
        RetryStats {
            generated,
            started: self.shared.started,
            events: all.count,
            retries: all.retries,
            events_with_retries: all.events_with_retries,
            completed_after_retry: all.completed_after_retry,
            failed_after_retry: all.failed_after_retry,
            cancelled_after_retry: all.cancelled_after_retry,
            retry_distribution: all.retry_distribution,
            by_name,
        }
    }

    /// The network operations that failed, the newest first.
    pub fn failed_network_operations(&self) -> FailedNetworkOperations {
        let now = Moment::now();
        let snapshot = self.shared.history.lock().failed::<NetworkMetrics>(now);
        // Counted after history was read, lest it show more than there were.
        let failed_since_start = self.totals().operations.failed;
        let operations = self.newest(&snapshot, |operation| operation.error.is_some(), now);
        let started = self.shared.started;
        FailedNetworkOperations { generated: now.time, started, failed_since_start, operations }
    }

    /// The network operations that took `threshold` or longer, the slowest first.
    pub fn slow_network_operations(&self, threshold: Duration) -> SlowNetworkOperations {
        let now = Moment::now();
        let snapshot = self.shared.history.lock().slow::<NetworkMetrics>(threshold, now);
        let operations = self.slowest(&snapshot, threshold, now);
        SlowNetworkOperations { generated: now.time, threshold_seconds: threshold.as_secs_f64(), operations }
    }

    fn newest<R: Held + Shown>(
        &self,
        snapshot: &Snapshot<R>,
        wanted: impl Fn(&R) -> bool,
        now: Moment,
    ) -> Listed<R::Row> {
        let (mut rows, mut total) = (Vec::new(), 0);
        for record in snapshot.newest_first().filter(|record| wanted(record)) {
            total += 1;
            if rows.len() < self.limit {
                rows.push(record.clone().row(now.time));
            }
        }
        listed(rows, total, snapshot)
    }

    fn slowest<R: Held + Shown>(
        &self,
        snapshot: &Snapshot<R>,
        threshold: Duration,
        now: Moment,
    ) -> Listed<R::Row> {
        let slow = |record| Some((R::elapsed(record)?, record)).filter(|(elapsed, _)| *elapsed >= threshold);
        let mut found: Vec<_> = snapshot.newest_first().filter_map(slow).collect();
        // Of two that took as long the newer comes first: the sort is stable.
        found.sort_by_key(|(elapsed, _)| Reverse(*elapsed));
        let rows = found.iter().take(self.limit).map(|(_, record)| R::clone(record).row(now.time)).collect();
        listed(rows, found.len(), snapshot)
    }

    /// The rows of a table of names that weigh anything, the heaviest first. The lock is taken anew, and
    /// fairly, every few names: the collector waits for no more than those.
    fn by_name<T: Default, A>(
        &self,
        names: impl Fn(&Statistics) -> &Names<T>,
        answer: impl Fn(&T, &str) -> A,
        weight: impl Fn(&A) -> u64,
        name: impl Fn(&A) -> &String,
    ) -> ByName<A> {
        let (mut rows, mut from) = (Vec::new(), 0);
        let (other, names_in_other) = loop {
            let statistics = self.shared.statistics.lock();
            let names = names(&statistics);
            let turn = names.rows(from, NAMES_PER_TURN).map(|(name, tally)| answer(tally, name));
            rows.extend(turn.filter(|row| weight(row) > 0));
            from += NAMES_PER_TURN;
            if from >= names.len() {
                break (names.other().map(|tally| answer(tally, "other")), names.names_in_other());
            }
            MutexGuard::unlock_fair(statistics);
        };
        rows.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| name(a).cmp(name(b))));
        let found = rows.len();
        rows.truncate(self.limit);
        ByName { names: found, shown: rows.len(), rows, other, names_in_other }
    }

    fn pending(&self, now: Moment) -> PendingReport {
        let source = self.shared.pending.read().clone();
        let Pending { events, operations, events_total, operations_total, counters } =
            source.map(|source| source(self.limit)).unwrap_or_default();
        PendingReport {
            events_total,
            operations_total,
            events: events.into_iter().take(self.limit).map(|event| event.row(now.time)).collect(),
            operations: operations.into_iter().take(self.limit).map(|one| one.row(now.time)).collect(),
            recorder: counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        }
    }
}

fn listed<R: Held, T>(rows: Vec<T>, total: usize, snapshot: &Snapshot<R>) -> Listed<T> {
    let (considered, complete_since) = (snapshot.len(), snapshot.complete_since);
    Listed { total, shown: rows.len(), considered, complete_since, rows }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports").field("totals", &self.totals()).finish_non_exhaustive()
    }
}
