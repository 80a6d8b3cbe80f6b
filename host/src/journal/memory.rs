//! The journal in memory: the state behind its lock.
//!
//! Invariant: `next` (read up to) and `acknowledged` (settled up to) of a cursor never go back, and
//! `acknowledged <= next`. A batch leaves when every cursor has acknowledged it, or when the journal overflows.

mod room;

use super::pace::Pace;
use super::{Books, DropReason, JournalSettings, Overflow, Segment, Settled, Start};
use crate::record::{Batch, Record, SharedBatch, Timestamp, ViewGauge};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A tail of this part of the journal's bytes is sealed: what is not sealed cannot make room.
const TAIL_PART: usize = 32;

pub(super) struct Memory {
    settings: JournalSettings,
    gauge: ViewGauge,
    batches: VecDeque<Arc<SharedBatch>>,
    /// What the sealed batches' records occupy.
    bytes: usize,
    tail: Batch,
    tail_bytes: usize,
    /// Room that is kept for records and bytes to come.
    reserved: (usize, usize),
    /// The position after the last record, the tail's included.
    end: u64,
    cursors: Vec<Place>,
    next_id: u32,
    closed: bool,
    /// Cursors that lost records since somebody asked last, and how many in all: to be told of outside the lock.
    overflowed: Vec<(Arc<str>, u64)>,
}

struct Place {
    id: u32,
    label: Arc<str>,
    overflow: Overflow,
    active: bool,
    next: u64,
    acknowledged: u64,
    in_hand: u64,
    /// Rows that the cursor has passed and whose dead letters are not written yet.
    refused: u64,
    start: u64,
    /// How many times it lost records to an overflow.
    overflows: u64,
    /// When it last did.
    last_loss: Option<Timestamp>,
    /// Where it ends, once it has been stopped: the end of a batch.
    stop: Option<u64>,
    /// All but `accepted` and `backlog`, which follow from positions.
    books: Books,
    pace: Pace,
}

impl Place {
    fn books(&self, end: u64) -> Books {
        let end = self.stop.unwrap_or(end);
        let backlog = end - self.next + self.in_hand + self.refused;
        Books { accepted: end - self.start, backlog, ..self.books }
    }

    /// Whether it has yet to pass what ends at `end`.
    fn is_behind(&self, end: u64) -> bool {
        self.acknowledged < end && self.stop.is_none_or(|stop| end <= stop)
    }
}

impl Memory {
    pub(super) fn new(mut settings: JournalSettings, gauge: ViewGauge) -> Self {
        // The tail cannot be dropped, so it must not be the whole of a small journal.
        settings.batch_records = settings.batch_records.min(settings.max_records).max(1);
        gauge.limit(settings.max_bytes);
        Self {
            settings,
            gauge,
            batches: VecDeque::new(),
            bytes: 0,
            tail: Batch::default(),
            tail_bytes: 0,
            reserved: (0, 0),
            end: 0,
            cursors: Vec::new(),
            next_id: 0,
            closed: false,
            overflowed: Vec::new(),
        }
    }

    /// Appends records: there is room for them, or they are taken without.
    pub(super) fn append(&mut self, batch: &mut Batch, bytes: usize) -> Vec<Arc<SharedBatch>> {
        self.end += batch.len() as u64;
        let mut rest = bytes;
        let mut sealed = Vec::new();
        let (mut events, mut operations) = (batch.events.drain(..), batch.operations.drain(..));
        while events.len() > 0 || operations.len() > 0 {
            let room = self.settings.batch_records.saturating_sub(self.tail.len()).max(1);
            let (taken, more) = fitting(events.as_slice(), room);
            let (taken_operations, more_operations) = fitting(operations.as_slice(), room - taken.len());
            // What all of it weighs is known: to weigh the lesser part is enough.
            let bytes = if taken.len() + taken_operations.len() <= more.len() + more_operations.len() {
                weigh(taken) + weigh(taken_operations)
            } else {
                rest.saturating_sub(weigh(more) + weigh(more_operations))
            };
            rest = rest.saturating_sub(bytes);
            self.tail_bytes += bytes;
            let counts = (taken.len(), taken_operations.len());
            self.tail.events.extend(events.by_ref().take(counts.0));
            self.tail.operations.extend(operations.by_ref().take(counts.1));
            let is_full = self.tail.len() >= self.settings.batch_records
                || self.tail_bytes >= self.settings.max_bytes / TAIL_PART;
            if is_full {
                let rest = events.len() + operations.len();
                sealed.extend(self.seal_before(rest));
            }
        }
        sealed
    }

    /// Who has lost records to an overflow since this was asked last, and how many in all.
    pub(super) fn take_overflowed(&mut self) -> Vec<(Arc<str>, u64)> {
        std::mem::take(&mut self.overflowed)
    }

    pub(super) fn seal(&mut self) -> Option<Arc<SharedBatch>> {
        self.seal_before(0)
    }

    /// Seals the tail while `rest` records of the same append are still to follow.
    fn seal_before(&mut self, rest: usize) -> Option<Arc<SharedBatch>> {
        if self.tail.is_empty() {
            return None;
        }
        let first = self.end - (self.tail.len() + rest) as u64;
        let (mut tail, bytes) = (std::mem::take(&mut self.tail), std::mem::take(&mut self.tail_bytes));
        if self.end - first < self.settings.batch_records as u64 / 2 {
            // It was to grow, and does not any more.
            tail.events.shrink_to_fit();
            tail.operations.shrink_to_fit();
        }
        let batch = Arc::new(SharedBatch::weighed(first, tail, bytes, self.gauge.clone()));
        if !self.cursors.is_empty() {
            self.bytes += batch.held_bytes();
            self.batches.push_back(batch.clone());
        }
        Some(batch)
    }

    /// Whether whoever appends does well to wait a little: a publisher that is at work and keeps up is more than
    /// `max_bytes` of records behind, or one that must not lose anything leaves no room. For one that is down, or so
    /// slow that waiting would not help it, nobody waits.
    pub(super) fn is_pressed(&mut self, max_bytes: usize, now: Instant) -> bool {
        if self.closed {
            return false;
        }
        let held = self.held_records();
        let allowed = if held == 0 { 0 } else { held * max_bytes / self.held_bytes().max(1) };
        let end = self.end;
        let pressing = |place: &mut Place| {
            let lag = place.stop.unwrap_or(end).saturating_sub(place.acknowledged);
            usize::try_from(lag).unwrap_or(usize::MAX) > allowed.max(1) && place.pace.keeps_up(lag, now)
        };
        self.cursors.iter_mut().filter(|place| place.active).any(pressing) || self.would_take().is_err()
    }

    fn forget_oldest(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes = self.bytes.saturating_sub(batch.held_bytes());
            batch.forget_views();
            self.limit_views();
        }
    }

    pub(super) fn add_cursor(&mut self, label: Arc<str>, start: Start, overflow: Overflow) -> u32 {
        let at = match start {
            Start::Newest => self.end,
            Start::Oldest => self.batches.front().map_or_else(|| self.sealed_end(), |batch| batch.first()),
        };
        self.next_id += 1;
        self.cursors.push(Place {
            id: self.next_id,
            label,
            overflow,
            active: true,
            next: at,
            acknowledged: at,
            in_hand: 0,
            refused: 0,
            start: at,
            overflows: 0,
            last_loss: None,
            stop: None,
            books: Books::default(),
            pace: Pace::default(),
        });
        self.next_id
    }

    pub(super) fn read(&mut self, id: u32, max_records: usize, max_bytes: usize) -> Vec<Segment> {
        let mut segments = Vec::new();
        let max_records = max_records.max(1);
        let (mut records, mut bytes) = (0_usize, 0_usize);
        let Some(place) = self.cursors.iter_mut().find(|place| place.id == id) else { return segments };
        let from = self.batches.partition_point(|batch| batch.end() <= place.next);
        let stop = place.stop.unwrap_or(u64::MAX);
        for batch in self.batches.iter().skip(from).take_while(|batch| batch.end() <= stop) {
            if records >= max_records || (records > 0 && bytes >= max_bytes) {
                break;
            }
            let skipped = usize::try_from(place.next - batch.first()).unwrap_or(usize::MAX);
            let average = (batch.record_bytes() / batch.len().max(1)).max(1);
            let by_bytes = max_bytes.saturating_sub(bytes).div_ceil(average).max(1);
            let rest = batch.len() - skipped;
            let take = rest.min(max_records - records).min(by_bytes);
            // A batch that is handed on whole brings its views along: rather than cut it, leave it for the next read.
            if take < rest && records > 0 {
                break;
            }
            records += take;
            bytes += take * average;
            place.next += take as u64;
            place.in_hand += take as u64;
            segments.push(segment(batch, skipped..skipped + take));
        }
        segments
    }

    pub(super) fn readable(&self, id: u32, enough_records: usize, enough_bytes: usize) -> (usize, usize) {
        let (mut records, mut bytes) = (0, 0);
        let Some(place) = self.cursors.iter().find(|place| place.id == id) else { return (0, 0) };
        let from = self.batches.partition_point(|batch| batch.end() <= place.next);
        let stop = place.stop.unwrap_or(u64::MAX);
        for batch in self.batches.iter().skip(from).take_while(|batch| batch.end() <= stop) {
            let rest = usize::try_from(batch.end() - place.next.max(batch.first())).unwrap_or(usize::MAX);
            records += rest;
            bytes += batch.record_bytes() / batch.len().max(1) * rest;
            if records >= enough_records || bytes >= enough_bytes {
                break;
            }
        }
        (records, bytes)
    }

    pub(super) fn settle(&mut self, id: u32, settled: Settled) {
        if let Some(place) = self.place(id) {
            place.in_hand = place.in_hand.saturating_sub(settled.total());
            place.books.filtered += settled.filtered;
            place.books.delivered += settled.delivered;
            place.books.dead_lettered += settled.dead_lettered;
            place.refused += settled.refused;
        }
    }

    /// False where the cursor has been retired: the rows were dropped then.
    pub(super) fn set_aside(&mut self, id: u32, rows: u64) -> bool {
        let Some(place) = self.place(id) else { return false };
        place.refused = place.refused.saturating_sub(rows);
        place.books.dead_lettered += rows;
        true
    }

    pub(super) fn acknowledge(&mut self, id: u32) {
        let end = self.sealed_end();
        let Some(place) = self.place(id) else { return };
        let (from, to) = (place.acknowledged, place.next);
        place.acknowledged = to;
        place.pace.advanced(to - from, Instant::now());
        if to >= end {
            place.pace.rests();
        }
        self.forget_unneeded_views(from, to);
        self.forget_acknowledged();
    }

    fn forget_acknowledged(&mut self) {
        let all = self.cursors.iter().map(|place| place.acknowledged).min().unwrap_or(self.end);
        while self.batches.front().is_some_and(|batch| batch.end() <= all) {
            self.forget_oldest();
        }
    }

    /// Views of batches that end in `from..=to` go when no active cursor is still to pass them.
    fn forget_unneeded_views(&self, from: u64, to: u64) {
        let needed = self.cursors.iter().filter(|place| place.active).map(|place| place.acknowledged).min();
        let to = needed.map_or(to, |needed| needed.min(to));
        let start = self.batches.partition_point(|batch| batch.end() <= from);
        for batch in self.batches.iter().skip(start).take_while(|batch| batch.end() <= to) {
            batch.forget_views();
        }
    }

    pub(super) fn set_active(&mut self, id: u32, active: bool) {
        let Some(place) = self.place(id) else { return };
        place.active = active;
        if !active {
            let from = place.acknowledged;
            self.forget_unneeded_views(from, self.end);
        }
    }

    pub(super) fn set_overflow(&mut self, id: u32, overflow: Overflow) {
        if let Some(place) = self.place(id) {
            place.overflow = overflow;
        }
    }

    /// Nothing more is accepted for the cursor: it ends where everything sealed ends now.
    pub(super) fn stop(&mut self, id: u32) {
        let end = self.sealed_end();
        if let Some(place) = self.place(id) {
            place.stop.get_or_insert(end);
        }
    }

    /// The books of a cursor that has not been retired.
    pub(super) fn books(&self, id: u32) -> Option<Books> {
        self.cursors.iter().find(|place| place.id == id).map(|place| place.books(self.end))
    }

    /// How long the oldest batch that the cursor has not acknowledged has been waiting.
    pub(super) fn last_loss(&self, id: u32) -> Option<Timestamp> {
        self.cursors.iter().find(|place| place.id == id)?.last_loss
    }

    pub(super) fn behind(&self, id: u32) -> Duration {
        let Some(place) = self.cursors.iter().find(|place| place.id == id) else { return Duration::ZERO };
        let oldest = self.batches.partition_point(|batch| batch.end() <= place.acknowledged);
        let oldest = self.batches.get(oldest).filter(|batch| place.is_behind(batch.end()));
        oldest.map_or(Duration::ZERO, |batch| batch.age())
    }

    pub(super) fn retire(&mut self, id: u32, reason: DropReason) -> Option<Books> {
        let at = self.cursors.iter().position(|place| place.id == id)?;
        let place = self.cursors.remove(at);
        let mut books = place.books(self.end);
        match reason {
            DropReason::Removed => books.dropped.removed += books.backlog,
            DropReason::Shutdown => books.dropped.shutdown += books.backlog,
        }
        books.backlog = 0;
        self.forget_acknowledged();
        self.forget_unneeded_views(place.acknowledged, self.end);
        Some(books)
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn sealed_end(&self) -> u64 {
        self.end - self.tail.len() as u64
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn held_records(&self) -> usize {
        self.batches.front().map_or(self.tail.len(), |oldest| {
            usize::try_from(self.end - oldest.first()).unwrap_or(usize::MAX)
        })
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes + self.tail_weight()
    }

    /// What the tail will weigh when it is sealed.
    fn tail_weight(&self) -> usize {
        if self.tail.is_empty() { 0 } else { self.tail_bytes + size_of::<SharedBatch>() }
    }

    fn place(&mut self, id: u32) -> Option<&mut Place> {
        self.cursors.iter_mut().find(|place| place.id == id)
    }
}

/// The first records, as many as there is room for, and the others.
fn fitting<R>(records: &[R], room: usize) -> (&[R], &[R]) {
    records.split_at_checked(room).unwrap_or((records, &[]))
}

fn weigh<R: Record>(records: &[R]) -> usize {
    records.iter().map(Record::bytes).sum()
}

/// The records `rows` of `batch`, counted over both kinds, as rows of each kind.
fn segment(batch: &Arc<SharedBatch>, rows: Range<usize>) -> Segment {
    let events = batch.events().len();
    let row = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Segment {
        batch: batch.clone(),
        events: row(rows.start.min(events))..row(rows.end.min(events)),
        operations: row(rows.start.saturating_sub(events))..row(rows.end.saturating_sub(events)),
    }
}
