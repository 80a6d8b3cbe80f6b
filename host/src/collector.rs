//! The collector: takes finished records from recorders and ingests, and appends them to the journal.
//!
//! Invariants: it never waits on a publisher; recording never waits on it. What recorders finish stands in lanes (one
//! per few threads, so that no lock is shared by all) until the collector's task takes it; if the journal refuses
//! (a publisher that must not lose is behind), lanes fill up to their bound, and what is finished beyond that is
//! dropped at the door and counted as never accepted.

mod clock;
mod lane;
mod open;
#[cfg(test)]
mod tests;

pub use crate::journal::Refused;
pub(crate) use lane::LaneRecord;

use crate::journal::Journal;
use crate::record::{Batch, EventMetrics, NetworkMetrics, Timestamp};
use clock::Clock;
use lane::{Lane, Pool};
use open::Ticket;
use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

/// The bounds of what recorders may leave with the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectorSettings {
    /// Unfinished records. Beyond it the oldest is closed as cancelled.
    pub max_pending: usize,
    /// Finished records that wait for the collector. Beyond it they are dropped and counted.
    pub max_buffered: usize,
    /// How long records may wait before they are sealed into a batch that publishers can read.
    pub linger: Duration,
}

impl Default for CollectorSettings {
    fn default() -> Self {
        Self { max_pending: 100_000, max_buffered: 65_536, linger: Duration::from_millis(20) }
    }
}

/// Takes finished records to the journal. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Collector(Arc<Inner>);

struct Inner {
    lanes: Box<[Padded<Mutex<Lane>>]>,
    clock: Clock,
    journal: Journal,
    settings: CollectorSettings,
    open_places: Pool,
    finished_places: Pool,
    taken: Mutex<Taken>,
    wake: Notify,
    /// The task sleeps until it is woken; recorders read this after every record.
    asleep: AtomicBool,
    closed: AtomicBool,
}

/// What was taken from the lanes and the journal has refused so far. It keeps its places until it is accepted.
#[derive(Default)]
struct Taken {
    batch: Batch,
    places: usize,
}

/// Keeps lanes on cache lines of their own.
#[repr(align(128))]
struct Padded<T>(T);

/// Names an unfinished record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenRef {
    lane: usize,
    ticket: Ticket,
}

/// What recorders have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CollectorCounts {
    /// Records that were finished and kept.
    pub finished: u64,
    /// Records that were finished and dropped at the door, because too many were waiting.
    pub dropped: u64,
    /// Records that were closed as cancelled, because too many were unfinished.
    pub closed_oldest: u64,
    /// Ends and retries of records that had been closed that way.
    pub ended_late: u64,
    /// Unfinished records now.
    pub pending: usize,
    /// Those of them that are network operations.
    pub pending_operations: usize,
}

/// How long an ingest waits at most before it takes more; then the journal's overflow decides.
const PATIENCE: Duration = Duration::from_secs(2);

/// A lane that has so many finished records wakes the collector.
const WAKE_AT: usize = 512;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Collector {
    /// A collector that appends to `journal`. Nothing moves until [`Collector::run`] runs.
    pub fn new(journal: Journal, settings: CollectorSettings) -> Self {
        let threads = std::thread::available_parallelism().map_or(4, usize::from);
        let lanes = (2 * threads).next_power_of_two().min(64);
        Self(Arc::new(Inner {
            lanes: (0..lanes).map(|_| Padded(Mutex::new(Lane::new()))).collect(),
            clock: Clock::new(),
            journal,
            // Without a single place, nothing could ever be started.
            open_places: Pool::new(settings.max_pending.max(1), lanes),
            finished_places: Pool::new(settings.max_buffered, lanes),
            settings,
            taken: Mutex::default(),
            wake: Notify::new(),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }))
    }

    /// Appends a batch that an ingest has decoded, and leaves it empty. When this returns `Ok`, its records are
    /// accepted.
    ///
    /// # Errors
    ///
    /// Nothing was accepted, and the batch is as it was.
    pub async fn accept(&self, batch: &mut Batch) -> Result<(), Refused> {
        if batch.is_empty() {
            return Ok(());
        }
        self.0.journal.append(batch)?;
        self.wake_if_asleep();
        Ok(())
    }

    /// Waits a moment where publishers that keep up are some way behind: what an ingest does before it takes more. See
    /// [`Journal::unpressed`].
    pub async fn unpressed(&self) {
        self.0.journal.unpressed(PATIENCE).await;
    }

    /// Whether `records` that recorders finish now would be kept: what an ingest asks before it follows messages.
    ///
    /// # Errors
    ///
    /// The journal takes nothing now, and too many wait for it.
    pub fn has_room(&self, records: usize) -> Result<(), Refused> {
        let coming = self.waiting() + records;
        match self.0.journal.would_take(coming) {
            Err(Refused::Full { .. }) if coming <= self.0.settings.max_buffered => Ok(()),
            answer => answer,
        }
    }

    /// Carries records to the journal until [`Collector::close`] is called. One task runs this.
    pub async fn run(&self) {
        let mut renewed = Instant::now();
        let mut idle = 0_u32;
        while !self.0.closed.load(Ordering::SeqCst) {
            if renewed.elapsed() > Duration::from_secs(1) {
                self.0.clock.renew();
                renewed = Instant::now();
            }
            let moved = self.collect();
            // While the journal refuses, it is asked again soon: nobody says when it has room.
            idle = if moved || self.refused() { 0 } else { idle.saturating_add(1) };
            if idle < 3 {
                let _ = tokio::time::timeout(self.0.settings.linger, self.0.wake.notified()).await;
                continue;
            }
            self.0.asleep.store(true, Ordering::SeqCst);
            if !self.collect() && !self.0.closed.load(Ordering::SeqCst) {
                // The clock is renewed before the next record is stamped late by a long sleep's drift.
                let _ = tokio::time::timeout(Duration::from_secs(1), self.0.wake.notified()).await;
            }
            self.0.asleep.store(false, Ordering::SeqCst);
        }
    }

    /// Carries what is finished to the journal and seals it, now. False if there was nothing.
    ///
    /// Reports call this first, so that an answer holds what was recorded before the question.
    pub fn collect(&self) -> bool {
        let mut taken = self.0.taken.lock();
        let mut moved = !taken.batch.is_empty();
        let mut accepted = self.append(&mut taken);
        for Padded(lane) in &self.0.lanes {
            if !accepted {
                break;
            }
            taken.places += lane.lock().drain_into(&mut taken.batch);
            moved |= !taken.batch.is_empty();
            accepted = self.append(&mut taken);
        }
        moved &= accepted;
        drop(taken);
        self.0.journal.seal() || moved
    }

    /// Appends what was taken. False if the journal refuses.
    fn append(&self, taken: &mut Taken) -> bool {
        let accepted = taken.batch.is_empty() || self.0.journal.append(&mut taken.batch).is_ok();
        if accepted {
            self.0.finished_places.give_back(std::mem::take(&mut taken.places));
        }
        accepted
    }

    fn refused(&self) -> bool {
        !self.0.taken.lock().batch.is_empty()
    }

    /// Ends [`Collector::run`]. What is finished by now is carried on; what is finished later is dropped and counted.
    pub fn close(&self) {
        // In this order: whoever finishes a record sees `closed` under its lane's lock, or is still collected.
        self.0.closed.store(true, Ordering::SeqCst);
        self.collect();
        self.0.wake.notify_one();
    }

    /// Closes every unfinished record as cancelled: the host is shutting down and nobody will see their end.
    pub fn cancel_open(&self) -> usize {
        let now = self.0.clock.now();
        let close = |Padded(lane): &Padded<Mutex<Lane>>| lane.lock().close_all(now, &self.0.finished_places);
        self.0.lanes.iter().map(close).sum()
    }

    /// What recorders have done so far.
    pub fn counts(&self) -> CollectorCounts {
        let mut sum = CollectorCounts::default();
        for Padded(lane) in &self.0.lanes {
            let lane = lane.lock();
            sum.finished += lane.counts.finished;
            sum.dropped += lane.counts.dropped;
            sum.closed_oldest += lane.counts.closed_oldest;
            sum.ended_late += lane.counts.ended_late;
            sum.pending += lane.open_len();
            sum.pending_operations += lane.open_operations();
        }
        sum
    }

    /// Finished records that the journal has not accepted yet.
    pub fn waiting(&self) -> usize {
        // Held to the end, so that nothing is on its way from a lane meanwhile.
        let taken = self.0.taken.lock();
        taken.batch.len() + self.0.lanes.iter().map(|Padded(lane)| lane.lock().finished_len()).sum::<usize>()
    }

    /// Copies of unfinished records, at most `most` of each kind.
    pub fn pending(&self, most: usize) -> (Vec<EventMetrics>, Vec<NetworkMetrics>) {
        (self.pending_of(most), self.pending_of(most))
    }

    fn pending_of<R: LaneRecord>(&self, most: usize) -> Vec<R> {
        let mut found = Vec::new();
        for Padded(lane) in &self.0.lanes {
            let mut next = Some(0);
            while let Some(at) = next
                && found.len() < most
            {
                // In pieces: recorders of this lane wait for the lock meanwhile.
                let mut lane = lane.lock();
                let (records, more) = R::open(&mut lane).peek(at, 128);
                found.extend(records.take(most - found.len()).cloned());
                next = more;
            }
        }
        found
    }

    /// Opens a record that starts now.
    pub(crate) fn start<R: LaneRecord>(&self, record: impl FnOnce(Uuid, Timestamp) -> R) -> OpenRef {
        let index = LANE.get();
        let index = if index == usize::MAX { assign_lane() } else { index } & (self.0.lanes.len() - 1);
        let started = self.0.clock.now();
        let time = self.0.clock.wall(started);
        let mut lane = self.lane(index).lock();
        while !lane.lease_open(&self.0.open_places) {
            drop(lane);
            let freed = self.take_spare_place() || self.close_oldest(started);
            if !freed {
                // The places are on their way: other threads have just taken them, and are about to use them.
                std::thread::yield_now();
            }
            lane = self.lane(index).lock();
            if freed {
                lane.gain_open();
            }
        }
        let id = lane.next_id(time);
        let ticket = R::open(&mut lane).insert(started, || record(id, time));
        OpenRef { lane: index, ticket }
    }

    /// Changes an open record. False if it has been closed for others' sake.
    pub(crate) fn update<R: LaneRecord>(&self, open: OpenRef, change: impl FnOnce(&mut R)) -> bool {
        let mut lane = self.lane(open.lane).lock();
        match R::open(&mut lane).get_mut(open.ticket) {
            Some((record, _)) => {
                change(record);
                true
            }
            None => {
                lane.counts.ended_late += 1;
                false
            }
        }
    }

    /// Ends an open record now. False if it has been closed for others' sake.
    pub(crate) fn finish<R: LaneRecord>(&self, open: OpenRef, change: impl FnOnce(&mut R)) -> bool {
        let now = self.0.clock.now();
        let mut lane = self.lane(open.lane).lock();
        if !lane.end(open.ticket, now, change) {
            lane.counts.ended_late += 1;
            return false;
        }
        let waiting = if self.0.closed.load(Ordering::Relaxed) {
            lane.discard::<R>(open.ticket);
            0
        } else {
            lane.finish::<R>(open.ticket, &self.0.finished_places)
        };
        lane.return_spare_open(&self.0.open_places);
        drop(lane);
        if waiting == WAKE_AT {
            self.0.wake.notify_one();
        } else {
            self.wake_if_asleep();
        }
        true
    }

    /// Whether the record is still open.
    pub(crate) fn is_open<R: LaneRecord>(&self, open: OpenRef) -> bool {
        R::open(&mut self.lane(open.lane).lock()).get_mut(open.ticket).is_some()
    }

    /// Takes a place that a lane has leased and does not need now. False if there is none.
    fn take_spare_place(&self) -> bool {
        self.0.lanes.iter().any(|Padded(lane)| lane.lock().cede_open())
    }

    /// Closes the oldest open record of all lanes and takes its place away from its lane. False if another thread was
    /// quicker.
    fn close_oldest(&self, now: u64) -> bool {
        let oldest = self
            .0
            .lanes
            .iter()
            .filter_map(|Padded(lane)| lane.lock().oldest_open().map(|started| (started, lane)))
            .min_by_key(|(started, _)| *started);
        let Some((_, lane)) = oldest else { return false };
        let mut lane = lane.lock();
        lane.close_oldest(now, &self.0.finished_places);
        lane.cede_open()
    }

    #[inline]
    fn lane(&self, index: usize) -> &Mutex<Lane> {
        #[allow(clippy::indexing_slicing)] // Indices are masked by the number of lanes, a power of two.
        &self.0.lanes[index & (self.0.lanes.len() - 1)].0
    }

    #[inline]
    fn wake_if_asleep(&self) {
        if self.0.asleep.load(Ordering::SeqCst) && self.0.asleep.swap(false, Ordering::SeqCst) {
            self.0.wake.notify_one();
        }
    }
}

#[cold]
fn assign_lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let index = NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1);
    LANE.set(index);
    index
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Collector").field(&self.counts()).finish()
    }
}
