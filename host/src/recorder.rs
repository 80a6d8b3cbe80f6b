//! The recorder: the handle that code under observation holds.
//!
//! Invariant: recording never fails its caller, and never waits for a publisher, a file, a network or the collector:
//! what it waits for, at most, is another thread's handful of moves. What cannot be kept is counted ([`RecorderCounts`]),
//! what makes no sense (an end without a start) is reported and counted.
//!
//! ```
//! # use pressroom::{collector::{Collector, CollectorSettings}, journal::{Journal, JournalSettings}, recorder::Recorder};
//! # let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
//! # let recorder = Recorder::new(Collector::new(journal, CollectorSettings::default()));
//! let event = recorder.event("resize").task("42").pipeline("thumbs").start();
//! let put = recorder.network("PUT", "s3.local", 443).task("42").start();
//! put.finish(20_480, 312);
//! event.retry();
//! event.complete(); // or `event.fail("disk full")`; dropping it cancels it
//! ```

mod follow;
mod guards;
mod keyed;
#[cfg(test)]
mod tests;

pub use follow::Follower;
pub use guards::{Event, EventBuilder, Network, NetworkBuilder};
pub use keyed::{EventKey, Outcome};

use crate::collector::{Collector, LaneRecord, OpenRef};
use crate::record::{Batch, EventMetrics, NetworkMetrics, Text};
use keyed::Keyed;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records events and network operations. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    collector: Collector,
    process_id: u32,
    keyed: Keyed,
    misuse: Misuse,
}

/// Calls that made no sense; each kind is logged once in a while, and counted always.
#[derive(Default)]
struct Misuse {
    unmatched_ends: AtomicU64,
    unmatched_retries: AtomicU64,
    restarted: AtomicU64,
}

/// What recorders have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RecorderCounts {
    /// Records that were finished and kept.
    pub finished: u64,
    /// Records that were finished and never accepted: too many were waiting for the journal, or the host was closing.
    pub dropped: u64,
    /// Records that were closed as cancelled because too many were unfinished.
    pub closed_oldest: u64,
    /// Ends and retries of records that had been closed that way.
    pub ended_late: u64,
    /// Ends of events that were not started, or had ended.
    pub unmatched_ends: u64,
    /// Retries of events that were not started, or had ended.
    pub unmatched_retries: u64,
    /// Events that were started again before they ended; the earlier execution is closed as cancelled.
    pub restarted: u64,
    /// Unfinished records now.
    pub pending: usize,
    /// Those of them that are network operations.
    pub pending_operations: usize,
}

impl RecorderCounts {
    /// What could not be recorded as asked, by what happened.
    pub fn problems(&self) -> [(&'static str, u64); 6] {
        [
            ("dropped", self.dropped),
            ("closed_oldest", self.closed_oldest),
            ("ended_late", self.ended_late),
            ("unmatched_ends", self.unmatched_ends),
            ("unmatched_retries", self.unmatched_retries),
            ("restarted", self.restarted),
        ]
    }
}

impl Recorder {
    /// A recorder whose records `collector` takes.
    pub fn new(collector: Collector) -> Self {
        let process_id = std::process::id();
        Self(Arc::new(Inner { collector, process_id, keyed: Keyed::default(), misuse: Misuse::default() }))
    }

    /// An event: one execution of the step `name`.
    #[must_use = "the event is recorded once it is started"]
    #[inline]
    pub fn event(&self, name: &str) -> EventBuilder<'_> {
        EventBuilder::new(self, name)
    }

    /// A network operation: one call of `host`. `operation` says what is done, in a word or two: `GET`.
    #[must_use = "the network operation is recorded once it is started"]
    #[inline]
    pub fn network(&self, operation: &str, host: &str, port: u16) -> NetworkBuilder<'_> {
        NetworkBuilder::new(self, operation, host, port)
    }

    /// Starts an event whose end is seen elsewhere. One that is open under the same key is closed as cancelled; then
    /// the answer is false.
    pub fn start_event(&self, key: EventKey<'_>) -> bool {
        self.start_keyed(&key, Some(self.0.process_id), None)
    }

    fn start_keyed(
        &self,
        key: &EventKey<'_>,
        process_id: Option<u32>,
        mut closed: Option<&mut Batch>,
    ) -> bool {
        let collector = &self.0.collector;
        let start = |id, time| {
            let mut event = EventMetrics::started(id, key.event_name, key.task_id, time);
            event.pipeline_id = key.pipeline_id.map(Text::new);
            event.process_id = process_id;
            event
        };
        let open = collector.start(start, key.held_bytes(), closed.as_deref_mut());
        let restarted = self.0.keyed.insert(collector, key, open).is_some_and(|earlier| match closed {
            Some(closed) => collector.take(earlier, EventMetrics::cancel, closed),
            None => collector.finish(earlier, EventMetrics::cancel),
        });
        if restarted {
            self.0.misuse.count(&self.0.misuse.restarted, key, "was started again before it ended");
        }
        !restarted
    }

    /// Notes that an event started with [`Recorder::start_event`] is tried again. False if there is no such event.
    pub fn record_retry(&self, key: EventKey<'_>) -> bool {
        let retry = |event: &mut EventMetrics| event.retry_count = event.retry_count.saturating_add(1);
        let found = self.0.keyed.get(&key).is_some_and(|open| self.0.collector.update(open, retry));
        if !found {
            self.0.misuse.count(&self.0.misuse.unmatched_retries, &key, "was retried, but is not open");
        }
        found
    }

    /// Ends an event started with [`Recorder::start_event`]. False if there is no such event.
    pub fn end_event(&self, key: EventKey<'_>, outcome: Outcome<'_>) -> bool {
        self.end_keyed(&key, |open| {
            self.0.collector.finish(open, |event: &mut EventMetrics| outcome.apply(event))
        })
    }

    fn end_keyed(&self, key: &EventKey<'_>, end: impl FnOnce(OpenRef) -> bool) -> bool {
        let found = self.0.keyed.remove(key).is_some_and(end);
        if !found {
            self.0.misuse.count(&self.0.misuse.unmatched_ends, key, "was ended, but is not open");
        }
        found
    }

    /// Follows events of other processes, of which messages tell. What ends goes into `ended`.
    pub fn follow<'a>(&'a self, ended: &'a mut Batch) -> Follower<'a> {
        Follower::new(self, ended)
    }

    /// What recorders have done so far.
    pub fn counts(&self) -> RecorderCounts {
        let collector = self.0.collector.counts();
        RecorderCounts {
            finished: collector.finished,
            dropped: collector.dropped,
            closed_oldest: collector.closed_oldest,
            ended_late: collector.ended_late,
            unmatched_ends: self.0.misuse.unmatched_ends.load(Ordering::Relaxed),
            unmatched_retries: self.0.misuse.unmatched_retries.load(Ordering::Relaxed),
            restarted: self.0.misuse.restarted.load(Ordering::Relaxed),
            pending: collector.pending,
            pending_operations: collector.pending_operations,
        }
    }

    /// Copies of unfinished records, at most `most` of each kind, and no more of a kind once `bytes` are reached.
    pub fn pending(&self, most: usize, bytes: usize) -> (Vec<EventMetrics>, Vec<NetworkMetrics>) {
        self.0.collector.pending(most, bytes)
    }
}

impl Misuse {
    fn count(&self, counter: &AtomicU64, key: &EventKey<'_>, what: &str) {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        // The first, then the second, the fourth …: a broken caller is heard of and does not flood the log.
        if (before + 1).is_power_of_two() {
            tracing::warn!(
                event_name = key.event_name,
                task_id = key.task_id,
                pipeline_id = key.pipeline_id,
                count = before + 1,
                "an event {what}"
            );
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Recorder").field(&self.counts()).finish()
    }
}
