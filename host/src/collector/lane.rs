//! A lane: where the records of the threads assigned to it stand while they are open, and wait when they are
//! finished.
//!
//! Invariant: a lane's lock is held for a handful of moves, never across anything that waits.

use super::open::{Open, Ticket};
use super::pool::{Lease, Pools, Share};
use crate::record::{Batch, EventMetrics, NetworkMetrics, Record, Status, Text, Timestamp};
use uuid::Uuid;

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
    open_bytes: Share,
    finished: Batch,
    finished_leased: usize,
    finished_bytes: Share,
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
            open_bytes: Share::default(),
            finished: Batch::default(),
            finished_leased: 0,
            finished_bytes: Share::default(),
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

    /// Makes room for one more open record out of the pool of places. False if that is empty.
    #[inline]
    pub(super) fn lease_open(&mut self, pools: &Pools) -> bool {
        if self.open_len() >= self.open_leased {
            self.open_leased += pools.open_places.lease();
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
    pub(super) fn return_spare_open(&mut self, pools: &Pools) {
        let pool = &pools.open_places;
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

    /// Opens what `record` makes, and charges the lane for it and for `extra` bytes. False if all lanes together are
    /// beyond their bytes now.
    #[inline(always)]
    pub(super) fn insert<R: LaneRecord>(
        &mut self,
        started: u64,
        extra: usize,
        record: impl FnOnce() -> R,
        pools: &Pools,
    ) -> (Ticket, bool) {
        let charge = |record: &R| saturated(record.bytes() + size_of::<Ticket>() + extra);
        let (ticket, charge) = R::open(self).insert(started, record, charge);
        (ticket, self.open_bytes.take(charge as usize, &pools.open_bytes))
    }

    /// Changes an open record. False if all lanes together are beyond their bytes now; nothing if the record has gone.
    pub(super) fn update<R: LaneRecord>(
        &mut self,
        ticket: Ticket,
        change: impl FnOnce(&mut R),
        pools: &Pools,
    ) -> Option<bool> {
        let (record, _, charge) = R::open(self).get_mut(ticket)?;
        let before = record.bytes();
        change(record);
        let grown = record.bytes().saturating_sub(before);
        *charge = charge.saturating_add(saturated(grown));
        Some(self.open_bytes.take(grown, &pools.open_bytes))
    }

    /// Whether the bytes of its open records are within what all lanes may have together.
    pub(super) fn covers_open_bytes(&mut self, pools: &Pools) -> bool {
        self.open_bytes.cover(&pools.open_bytes)
    }

    pub(super) fn return_spare_open_bytes(&mut self, pools: &Pools) {
        self.open_bytes.return_spare(&pools.open_bytes);
    }

    /// Closes the oldest open record as cancelled, to make room. It goes into `closed`, or where the collector finds it.
    pub(super) fn close_oldest(&mut self, now: u64, closed: Option<&mut Batch>, pools: &Pools) {
        self.counts.closed_oldest += u64::from(self.cancel_oldest(now, closed, pools));
    }

    /// Moves what is finished into `batch`, and then open records, closed as cancelled, the oldest first, until `batch`
    /// holds `most`. Returns how many were closed.
    pub(super) fn close_into(&mut self, batch: &mut Batch, most: usize, now: u64, pools: &Pools) -> usize {
        self.drain_into(batch).give_back(pools);
        let mut closed = 0;
        while batch.len() < most && self.cancel_oldest(now, Some(batch), pools) {
            closed += 1;
        }
        closed
    }

    fn cancel_oldest(&mut self, now: u64, closed: Option<&mut Batch>, pools: &Pools) -> bool {
        let event = self.open_events.oldest();
        let operation = self.open_operations.oldest();
        match (event, operation) {
            (Some((ticket, event)), operation) if operation.is_none_or(|(_, other)| event <= other) => {
                self.close::<EventMetrics>(ticket, now, closed, pools)
            }
            (_, Some((ticket, _))) => self.close::<NetworkMetrics>(ticket, now, closed, pools),
            (_, None) => false,
        }
    }

    fn close<R: LaneRecord>(
        &mut self,
        ticket: Ticket,
        now: u64,
        closed: Option<&mut Batch>,
        pools: &Pools,
    ) -> bool {
        let Some(weight) = self.end(ticket, now, R::cancel) else { return false };
        match closed {
            Some(closed) => self.take::<R>(ticket, weight, closed, pools),
            None => drop(self.finish::<R>(ticket, weight, pools)),
        }
        true
    }

    pub(super) fn finished_len(&self) -> usize {
        self.finished.len()
    }

    /// Ends an open record at `now`, where it stands. Says what it weighs now; nothing if it has gone.
    #[inline(always)]
    pub(super) fn end<R: LaneRecord>(
        &mut self,
        ticket: Ticket,
        now: u64,
        change: impl FnOnce(&mut R),
    ) -> Option<usize> {
        let (record, started, charge) = R::open(self).get_mut(ticket)?;
        let took = now.saturating_sub(started);
        record.end(Timestamp::from_nanos(record.start_time().as_nanos().saturating_add(took)));
        change(record);
        // An end brings an error at most.
        let error = record.error().map_or(0, str::len);
        *charge = charge.saturating_add(saturated(error));
        let weight = *charge as usize;
        self.open_bytes.add(error);
        Some(weight)
    }

    /// Puts an open record that has ended where the collector finds it. Returns how many wait; 0 if it had to be
    /// dropped.
    #[inline(always)]
    pub(super) fn finish<R: LaneRecord>(&mut self, ticket: Ticket, weight: usize, pools: &Pools) -> usize {
        let waiting = self.finished.len();
        if waiting >= self.finished_leased {
            self.finished_leased += pools.finished_places.lease();
        }
        let has_room =
            waiting < self.finished_leased && self.finished_bytes.try_take(weight, &pools.finished_bytes);
        if !has_room {
            self.discard::<R>(ticket, weight, pools);
            return 0;
        }
        let Some(record) = R::open(self).remove(ticket) else { return 0 };
        self.open_bytes.release(weight, &pools.open_bytes);
        R::finished(&mut self.finished).push(record);
        self.counts.finished += 1;
        waiting + 1
    }

    /// Moves an open record that has ended into `ended`.
    pub(super) fn take<R: LaneRecord>(
        &mut self,
        ticket: Ticket,
        weight: usize,
        ended: &mut Batch,
        pools: &Pools,
    ) {
        if let Some(record) = R::open(self).remove(ticket) {
            self.open_bytes.release(weight, &pools.open_bytes);
            R::finished(ended).push(record);
            self.counts.finished += 1;
        }
    }

    /// Drops an open record that has ended and for which there is no room.
    #[cold]
    pub(super) fn discard<R: LaneRecord>(&mut self, ticket: Ticket, weight: usize, pools: &Pools) {
        if R::open(self).remove(ticket).is_some() {
            self.open_bytes.release(weight, &pools.open_bytes);
            self.counts.dropped += 1;
        }
    }

    /// Moves the finished records into `batch`, whose buffers the lane keeps for the next ones if it is empty. Returns
    /// what they held; that goes back when the records are accepted.
    pub(super) fn drain_into(&mut self, batch: &mut Batch) -> Lease {
        if batch.is_empty() {
            std::mem::swap(batch, &mut self.finished);
        } else {
            batch.events.append(&mut self.finished.events);
            batch.operations.append(&mut self.finished.operations);
        }
        Lease { places: std::mem::take(&mut self.finished_leased), bytes: self.finished_bytes.hand_over() }
    }
}

/// A charge is kept in 32 bits: one record of 4 GiB counts as just that.
fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
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
