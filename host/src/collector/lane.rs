//! A lane: where the records of the threads assigned to it stand while they are open, and wait when they are
//! finished.
//!
//! Invariant: a lane's lock is held for a handful of moves, never across anything that waits.

use super::open::{Open, Ticket};
use crate::record::{Batch, EventMetrics, NetworkMetrics, Record, Status, Text, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

/// A number of places that all lanes share. Lanes lease some at a time, so that the shared counter stays off the
/// path of a record.
pub(super) struct Pool {
    left: AtomicUsize,
    chunk: usize,
}

impl Pool {
    pub(super) fn new(places: usize, lanes: usize) -> Self {
        Self { left: AtomicUsize::new(places), chunk: (places / (lanes * 8)).clamp(1, 256) }
    }

    /// A lease of `chunk` places, or what is left; 0 if nothing is.
    fn lease(&self) -> usize {
        let take = |left: usize| left.checked_sub(self.chunk.min(left));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        before.min(self.chunk)
    }

    pub(super) fn give_back(&self, places: usize) {
        if places > 0 {
            self.left.fetch_add(places, Ordering::Relaxed);
        }
    }
}

/// What happened in a lane; never reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LaneCounts {
    pub(super) finished: u64,
    pub(super) dropped: u64,
    pub(super) closed_oldest: u64,
    pub(super) ended_late: u64,
}

pub(crate) struct Lane {
    open_events: Open<EventMetrics>,
    open_operations: Open<NetworkMetrics>,
    open_leased: usize,
    finished: Batch,
    finished_leased: usize,
    sequence: u64,
    pub(super) counts: LaneCounts,
}

/// The two kinds of record, as a lane keeps them.
pub(crate) trait LaneRecord: Record {
    #[doc(hidden)]
    fn open(lane: &mut Lane) -> &mut Open<Self>;
    #[doc(hidden)]
    fn finished(batch: &mut Batch) -> &mut Vec<Self>;
    /// Marks the record as given up.
    fn cancel(&mut self);
    /// Sets the end.
    fn end(&mut self, end: Timestamp);
}

impl LaneRecord for EventMetrics {
    #[inline]
    fn open(lane: &mut Lane) -> &mut Open<Self> {
        &mut lane.open_events
    }
    #[inline]
    fn finished(batch: &mut Batch) -> &mut Vec<Self> {
        &mut batch.events
    }
    fn cancel(&mut self) {
        self.status = Status::Cancelled;
    }
    #[inline]
    fn end(&mut self, end: Timestamp) {
        self.end_time = Some(end);
    }
}

impl LaneRecord for NetworkMetrics {
    #[inline]
    fn open(lane: &mut Lane) -> &mut Open<Self> {
        &mut lane.open_operations
    }
    #[inline]
    fn finished(batch: &mut Batch) -> &mut Vec<Self> {
        &mut batch.operations
    }
    fn cancel(&mut self) {
        self.error = Some(Text::const_new("cancelled"));
    }
    #[inline]
    fn end(&mut self, end: Timestamp) {
        self.end_time = Some(end);
    }
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            open_events: Open::new(),
            open_operations: Open::new(),
            open_leased: 0,
            finished: Batch::default(),
            finished_leased: 0,
            sequence: fastrand::u64(..),
            counts: LaneCounts::default(),
        }
    }

    /// A version 7 UUID of `start`: milliseconds, twelve bits of their fraction, and a counter that began at random.
    #[inline]
    pub(super) fn next_id(&mut self, start: Timestamp) -> Uuid {
        self.sequence = self.sequence.wrapping_add(1);
        id_from(start, self.sequence)
    }

    #[inline]
    pub(super) fn open_operations(&self) -> usize {
        self.open_operations.len()
    }

    pub(super) fn open_len(&self) -> usize {
        self.open_events.len() + self.open_operations.len()
    }

    /// Makes room for one more open record out of `pool`. False if the pool is empty.
    #[inline]
    pub(super) fn lease_open(&mut self, pool: &Pool) -> bool {
        if self.open_len() >= self.open_leased {
            self.open_leased += pool.lease();
        }
        self.open_len() < self.open_leased
    }

    /// A place that another lane gave up.
    pub(super) fn gain_open(&mut self) {
        self.open_leased += 1;
    }

    /// Gives one place up for another lane, if it has a spare one.
    pub(super) fn cede_open(&mut self) -> bool {
        let spare = self.open_len() < self.open_leased;
        self.open_leased -= usize::from(spare);
        spare
    }

    #[inline]
    pub(super) fn return_spare_open(&mut self, pool: &Pool) {
        if self.open_leased - self.open_len() > 2 * pool.chunk {
            self.open_leased -= pool.chunk;
            pool.give_back(pool.chunk);
        }
    }

    /// When the oldest open record of either kind started.
    pub(super) fn oldest_open(&self) -> Option<u64> {
        let event = self.open_events.oldest().map(|(_, started)| started);
        let operation = self.open_operations.oldest().map(|(_, started)| started);
        event.into_iter().chain(operation).min()
    }

    /// Closes the oldest open record as cancelled, to make room.
    pub(super) fn close_oldest(&mut self, now: u64, pool: &Pool) {
        self.counts.closed_oldest += u64::from(self.cancel_oldest(now, pool));
    }

    /// Closes all open records as cancelled, and says how many.
    pub(super) fn close_all(&mut self, now: u64, pool: &Pool) -> usize {
        std::iter::repeat_with(|| self.cancel_oldest(now, pool)).take_while(|closed| *closed).count()
    }

    fn cancel_oldest(&mut self, now: u64, pool: &Pool) -> bool {
        let event = self.open_events.oldest();
        let operation = self.open_operations.oldest();
        match (event, operation) {
            (Some((ticket, event)), operation) if operation.is_none_or(|(_, other)| event <= other) => {
                self.close::<EventMetrics>(ticket, now, pool)
            }
            (_, Some((ticket, _))) => self.close::<NetworkMetrics>(ticket, now, pool),
            (_, None) => false,
        }
    }

    fn close<R: LaneRecord>(&mut self, ticket: Ticket, now: u64, pool: &Pool) -> bool {
        let ended = self.end(ticket, now, R::cancel);
        if ended {
            self.finish::<R>(ticket, pool);
        }
        ended
    }

    pub(super) fn finished_len(&self) -> usize {
        self.finished.len()
    }

    /// Ends an open record at `now`, where it stands. False if it has gone.
    #[inline(always)]
    pub(super) fn end<R: LaneRecord>(
        &mut self,
        ticket: Ticket,
        now: u64,
        change: impl FnOnce(&mut R),
    ) -> bool {
        let Some((record, started)) = R::open(self).get_mut(ticket) else { return false };
        let took = now.saturating_sub(started);
        record.end(Timestamp::from_nanos(record.start_time().as_nanos().saturating_add(took)));
        change(record);
        true
    }

    /// Puts an open record that has ended where the collector finds it. Returns how many wait; 0 if it had to be
    /// dropped.
    #[inline(always)]
    pub(super) fn finish<R: LaneRecord>(&mut self, ticket: Ticket, pool: &Pool) -> usize {
        let waiting = self.finished.len();
        if waiting >= self.finished_leased {
            self.finished_leased += pool.lease();
        }
        if waiting >= self.finished_leased {
            self.discard::<R>(ticket);
            return 0;
        }
        let Some(record) = R::open(self).remove(ticket) else { return 0 };
        R::finished(&mut self.finished).push(record);
        self.counts.finished += 1;
        waiting + 1
    }

    /// Drops an open record that has ended and that nobody can take.
    #[cold]
    pub(super) fn discard<R: LaneRecord>(&mut self, ticket: Ticket) {
        if R::open(self).remove(ticket).is_some() {
            self.counts.dropped += 1;
        }
    }

    /// Moves the finished records into `batch`, whose buffers the lane keeps for the next ones if it is empty. Returns
    /// how many places they held; those go back when the records are accepted.
    pub(super) fn drain_into(&mut self, batch: &mut Batch) -> usize {
        if batch.is_empty() {
            std::mem::swap(batch, &mut self.finished);
        } else {
            batch.events.append(&mut self.finished.events);
            batch.operations.append(&mut self.finished.operations);
        }
        std::mem::take(&mut self.finished_leased)
    }
}

/// A version 7 UUID (RFC 9562) of `start` and a number that tells records of the same moment apart.
#[inline]
fn id_from(start: Timestamp, number: u64) -> Uuid {
    let (millis, rest) = (start.as_nanos() / 1_000_000, start.as_nanos() % 1_000_000);
    let fraction = rest * 4096 / 1_000_000;
    let high = (millis << 16) | 0x7000 | fraction;
    let low = (number & (u64::MAX >> 2)) | (1 << 63);
    Uuid::from_u64_pair(high, low)
}
