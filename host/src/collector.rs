//! The collector: takes finished records from recorders and ingests, and appends them to the journal.
//!
//! Invariants: it never waits on a publisher; recording never waits on it. What recorders finish stands in lanes (one
//! per few threads, so that no lock is shared by all) until the collector's task takes it; if the journal refuses
//! (a publisher that must not lose is behind), lanes fill up to their bound, and what is finished beyond that is
//! dropped at the door and counted as never accepted. What an ingest is told is accepted is in the journal, or is open
//! and will be.

mod clock;
mod lane;
mod open;
mod pool;
mod room;
#[cfg(test)]
mod tests;

pub use crate::journal::{Refused, Reserved};
pub(crate) use lane::LaneRecord;

use crate::journal::Journal;
use crate::record::{Batch, EventMetrics, NetworkMetrics, Timestamp};
use clock::Clock;
use lane::Lane;
use open::Ticket;
use parking_lot::Mutex;
use pool::{Lease, Pools};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

/// The bounds of what recorders may leave with the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectorSettings {
    /// Unfinished records. Beyond it the oldest is closed as cancelled.
    pub max_pending: usize,
    /// The bytes that unfinished records occupy. Beyond it the oldest is closed as cancelled.
    pub max_pending_bytes: usize,
    /// Finished records that wait for the collector. Beyond it they are dropped and counted.
    pub max_buffered: usize,
    /// The bytes that they occupy. Beyond it they are dropped and counted.
    pub max_buffered_bytes: usize,
    /// How long records may wait before they are sealed into a batch that publishers can read.
    pub linger: Duration,
}

impl Default for CollectorSettings {
    fn default() -> Self {
        Self {
            max_pending: 100_000,
            max_pending_bytes: 64 << 20,
            max_buffered: 65_536,
            max_buffered_bytes: 64 << 20,
            linger: Duration::from_millis(20),
        }
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
    pools: Pools,
    taken: Mutex<Taken>,
    wake: Notify,
    /// The task sleeps until it is woken; recorders read this after every record.
    asleep: AtomicBool,
    closed: AtomicBool,
    /// Beside those that lanes count.
    dropped: AtomicU64,
}

/// What was taken from the lanes and the journal has refused so far. It keeps its lease until it is accepted.
#[derive(Default)]
struct Taken {
    batch: Batch,
    lease: Lease,
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

/// Unfinished records that are closed in one go at the end.
const CLOSED_PER_TURN: usize = 1_024;

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
            pools: Pools::new(&settings, lanes),
            settings,
            taken: Mutex::default(),
            wake: Notify::new(),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
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

    /// Keeps room in the journal for `records` of `bytes` in all: what an ingest does before it follows messages, so that
    /// what it is told to have taken is appended.
    ///
    /// # Errors
    ///
    /// The journal takes no more now.
    pub fn reserve(&self, records: usize, bytes: usize) -> Result<Reserved, Refused> {
        self.0.journal.reserve(records, bytes)
    }

    /// Appends `batch` to the room that was reserved for it, and leaves it empty: its records are accepted.
    ///
    /// # Errors
    ///
    /// The host has closed the journal. Nothing was accepted.
    pub fn accept_reserved(&self, reserved: Reserved, batch: &mut Batch) -> Result<(), Refused> {
        reserved.append(batch)?;
        self.wake_if_asleep();
        Ok(())
    }

    /// Counts records that were open, have ended and were not accepted: the host ended meanwhile.
    pub fn count_dropped(&self, records: usize) {
        self.0.dropped.fetch_add(records as u64, Ordering::Relaxed);
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
            let lease = lane.lock().drain_into(&mut taken.batch);
            taken.lease.add(lease);
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
            std::mem::take(&mut taken.lease).give_back(&self.0.pools);
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

    /// Ends everything: closes the journal, and appends to it what is finished and, as cancelled, what is unfinished. The
    /// journal's bounds do not refuse that: its bytes have been held all the time, and were accepted. Returns how many
    /// records were closed.
    pub fn end(&self) -> usize {
        let mut closed = self.close_open();
        self.0.journal.close();
        self.0.closed.store(true, Ordering::SeqCst);
        // What was started or finished meanwhile.
        closed += self.close_open();
        self.0.wake.notify_one();
        closed
    }

    fn close_open(&self) -> usize {
        let now = self.0.clock.now();
        let mut taken = self.0.taken.lock();
        let Taken { batch, lease } = &mut *taken;
        self.0.journal.append_last(batch);
        std::mem::take(lease).give_back(&self.0.pools);
        let mut closed = 0;
        for Padded(lane) in &self.0.lanes {
            loop {
                // In turns: recorders of this lane wait for the lock meanwhile.
                closed += lane.lock().close_into(batch, CLOSED_PER_TURN, now, &self.0.pools);
                if batch.is_empty() {
                    break;
                }
                self.0.journal.append_last(batch);
            }
        }
        closed
    }

    /// What recorders have done so far.
    pub fn counts(&self) -> CollectorCounts {
        let dropped = self.0.dropped.load(Ordering::Relaxed);
        let mut sum = CollectorCounts { dropped, ..CollectorCounts::default() };
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

    /// Copies of unfinished records, at most `most` of each kind, and no more of a kind once `bytes` are reached.
    pub fn pending(&self, most: usize, bytes: usize) -> (Vec<EventMetrics>, Vec<NetworkMetrics>) {
        (self.pending_of(most, bytes), self.pending_of(most, bytes))
    }

    fn pending_of<R: LaneRecord>(&self, most: usize, bytes: usize) -> Vec<R> {
        let (mut found, mut held) = (Vec::new(), 0);
        for Padded(lane) in &self.0.lanes {
            let mut next = Some(0);
            while let Some(at) = next
                && found.len() < most
                && held < bytes
            {
                // In pieces: recorders of this lane wait for the lock meanwhile.
                let mut lane = lane.lock();
                let (records, more) = R::open(&mut lane).peek(at, 128);
                for record in records.take(most - found.len()) {
                    if held >= bytes {
                        break;
                    }
                    held += record.bytes();
                    found.push(record.clone());
                }
                next = more;
            }
        }
        found
    }

    /// Opens a record that starts now. Whoever holds it beside the collector says how many `extra` bytes that takes. What
    /// has to be closed to make room goes into `closed`, or where the collector finds it.
    pub(crate) fn start<R: LaneRecord>(
        &self,
        record: impl FnOnce(Uuid, Timestamp) -> R,
        extra: usize,
        mut closed: Option<&mut Batch>,
    ) -> OpenRef {
        let pools = &self.0.pools;
        let index = LANE.get();
        let index = if index == usize::MAX { assign_lane() } else { index } & (self.0.lanes.len() - 1);
        let started = self.0.clock.now();
        let time = self.0.clock.wall(started);
        let mut lane = self.lane(index).lock();
        while !lane.lease_open(pools) {
            drop(lane);
            let freed = self.take_spare_place() || self.close_oldest(started, closed.as_deref_mut());
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
        let (ticket, covered) = lane.insert(started, extra, || record(id, time), pools);
        drop(lane);
        if !covered {
            self.relieve(index, closed);
        }
        OpenRef { lane: index, ticket }
    }

    /// Changes an open record. False if it has been closed for others' sake.
    pub(crate) fn update<R: LaneRecord>(&self, open: OpenRef, change: impl FnOnce(&mut R)) -> bool {
        let mut lane = self.lane(open.lane).lock();
        match lane.update(open.ticket, change, &self.0.pools) {
            Some(covered) => {
                drop(lane);
                if !covered {
                    self.relieve(open.lane, None);
                }
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
        let pools = &self.0.pools;
        let mut lane = self.lane(open.lane).lock();
        let Some(weight) = lane.end(open.ticket, now, change) else {
            lane.counts.ended_late += 1;
            return false;
        };
        let waiting = if self.0.closed.load(Ordering::Relaxed) {
            lane.discard::<R>(open.ticket, weight, pools);
            0
        } else {
            lane.finish::<R>(open.ticket, weight, pools)
        };
        lane.return_spare_open(pools);
        drop(lane);
        if waiting == WAKE_AT {
            self.0.wake.notify_one();
        } else {
            self.wake_if_asleep();
        }
        true
    }

    /// Ends an open record now and moves it into `ended`: whoever asked appends it. False if it has been closed for
    /// others' sake.
    pub(crate) fn take<R: LaneRecord>(
        &self,
        open: OpenRef,
        change: impl FnOnce(&mut R),
        ended: &mut Batch,
    ) -> bool {
        let now = self.0.clock.now();
        let mut lane = self.lane(open.lane).lock();
        let Some(weight) = lane.end(open.ticket, now, change) else {
            lane.counts.ended_late += 1;
            return false;
        };
        lane.take::<R>(open.ticket, weight, ended, &self.0.pools);
        lane.return_spare_open(&self.0.pools);
        true
    }

    /// Whether the record is still open.
    pub(crate) fn is_open<R: LaneRecord>(&self, open: OpenRef) -> bool {
        R::open(&mut self.lane(open.lane).lock()).get_mut(open.ticket).is_some()
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
