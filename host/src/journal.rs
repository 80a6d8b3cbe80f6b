//! The journal: the ordered log of batches that every publisher reads at its own cursor.
//!
//! Invariants: a record is appended once and never copied for a publisher; a cursor that stands still holds back
//! nobody; and every cursor's books close at any moment ([`Books`]). The journal is bounded in records and bytes,
//! views included: one that does not fit any more is built for whoever asks, and not kept.
//!
//! Order of calls: [`Journal::append`] puts records into the tail; a full tail is sealed into a batch at once, a
//! slack one when [`Journal::seal`] is called. Cursors read sealed batches only. A worker reads at its cursor
//! ([`Cursor::read`]), settles what became of the rows ([`Cursor::settle`]), and acknowledges when nothing of what it
//! read is needed here ([`Cursor::acknowledge`]).

mod books;
mod memory;
mod pace;
#[cfg(test)]
mod tests;

pub use books::{Books, DropReason, Dropped, Settled};

use crate::record::{Batch, SharedBatch, Timestamp, ViewGauge};
use memory::Memory;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The journal's bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalSettings {
    /// Records and views, in bytes. What a publisher has in hand after the journal has dropped it comes on top: at
    /// most one batch per publisher, and a quarter of this that waits beside the others.
    pub max_bytes: usize,
    /// Records.
    pub max_records: usize,
    /// A tail of so many records is sealed at once, and so is one that occupies a good part of the bytes.
    pub batch_records: usize,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_records: 1_000_000, batch_records: 1024 }
    }
}

/// Where a new label's cursor starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the journal's end.
    #[default]
    Newest,
    /// At what is still held.
    Oldest,
}

/// What happens to a cursor that is hindmost when the journal is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It moves on; what it missed is counted as dropped.
    #[default]
    DropOldest,
    /// It does not: appending is refused, for everybody.
    Block,
}

/// Why records were not appended. None of the batch was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The journal is full, and a publisher that must not lose anything is behind.
    #[error("the journal is full and publisher \"{label}\" (overflow = \"block\") is behind")]
    Full {
        /// The publisher that everybody waits for.
        label: Arc<str>,
    },
    /// The host is shutting down.
    #[error("the host is shutting down")]
    Closed,
}

/// The ordered log of batches. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    settings: JournalSettings,
    /// Held from the sealing of a batch until its observer has seen it, so that it sees them in their order. Readers
    /// do not wait for it.
    order: Mutex<()>,
    memory: Mutex<Memory>,
    sealed: watch::Sender<u64>,
    /// Told whenever a cursor has moved on.
    moved_on: Notify,
    gauge: ViewGauge,
    observer: Observer,
}

/// A publisher that is so much of the journal behind, counted in records without their views, is given a moment.
const PRESSING_PART: usize = 32;

/// Is shown every sealed batch, once: how reports come by their history.
pub type Observer = Box<dyn Fn(&Arc<SharedBatch>) + Send + Sync>;

/// A part of a sealed batch: rows of both kinds.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The batch.
    pub batch: Arc<SharedBatch>,
    /// Rows of its events.
    pub events: Range<u32>,
    /// Rows of its network operations.
    pub operations: Range<u32>,
}

impl Journal {
    /// An empty journal. `observer` is called on the thread that appends: it must be quick.
    pub fn new(settings: JournalSettings, observer: Observer) -> Self {
        let gauge = ViewGauge::default();
        Self(Arc::new(Inner {
            order: Mutex::default(),
            memory: Mutex::new(Memory::new(settings.clone(), gauge.clone())),
            settings,
            sealed: watch::Sender::new(0),
            moved_on: Notify::new(),
            gauge,
            observer,
        }))
    }

    /// Appends a batch and leaves it empty: from here on its records are accepted.
    ///
    /// # Errors
    ///
    /// Nothing was appended and the batch is as it was: the journal is full and has to wait for a publisher, or it is
    /// closed.
    pub fn append(&self, batch: &mut Batch) -> Result<(), Refused> {
        let (records, bytes) = (batch.len(), batch.bytes());
        self.append_by(batch, bytes, |memory| memory.reserve(records, bytes).map(|()| (records, bytes)))
    }

    /// Appends a batch and leaves it empty, although the journal is full or closed: what the host has accepted and held
    /// elsewhere, at its end. No publisher loses anything for it.
    pub fn append_last(&self, batch: &mut Batch) {
        let bytes = batch.bytes();
        let Ok(()) = self.append_by(batch, bytes, |_| Ok::<_, Infallible>((0, 0)));
    }

    /// Keeps room for `records` of `bytes` in all, which are appended with [`Reserved::append`].
    ///
    /// # Errors
    ///
    /// What an append would be told.
    pub fn reserve(&self, records: usize, bytes: usize) -> Result<Reserved, Refused> {
        let (reserved, overflowed) = {
            let mut memory = self.0.memory.lock();
            (memory.reserve(records, bytes), memory.take_overflowed())
        };
        warn_of(overflowed);
        reserved.map(|()| Reserved { journal: self.clone(), records, bytes })
    }

    /// Appends what `admit` lets through, which says how many records and bytes were reserved for it.
    fn append_by<E>(
        &self,
        batch: &mut Batch,
        bytes: usize,
        admit: impl FnOnce(&mut Memory) -> Result<(usize, usize), E>,
    ) -> Result<(), E> {
        let _order = self.0.order.lock();
        let (sealed, end, overflowed) = {
            let mut memory = self.0.memory.lock();
            let (records, reserved) = admit(&mut memory)?;
            let sealed = memory.append(batch, bytes);
            memory.release(records, reserved);
            (sealed, memory.sealed_end(), memory.take_overflowed())
        };
        warn_of(overflowed);
        self.announce(&sealed, end);
        Ok(())
    }

    /// Seals the tail, so that cursors can read it. False if there was nothing in it.
    pub fn seal(&self) -> bool {
        let _order = self.0.order.lock();
        let (sealed, end) = {
            let mut memory = self.0.memory.lock();
            (memory.seal(), memory.sealed_end())
        };
        self.announce(sealed.as_slice(), end);
        sealed.is_some()
    }

    fn announce(&self, sealed: &[Arc<SharedBatch>], end: u64) {
        if sealed.is_empty() {
            return;
        }
        sealed.iter().for_each(&self.0.observer);
        self.0.sealed.send_replace(end);
    }

    /// Whether an append would be taken now, as far as the number of records goes.
    ///
    /// # Errors
    ///
    /// What the append would be told.
    pub fn would_take(&self) -> Result<(), Refused> {
        self.0.memory.lock().would_take()
    }

    /// Returns when an append would press nobody, or after `patience`. A publisher that is at work and keeps up, but is
    /// some way behind, is given a moment: whoever sends as fast as the answers come would otherwise fill the journal
    /// against it, and overflow would take records from a publisher with which nothing is wrong. Nobody waits for one
    /// that is down or slow.
    pub async fn unpressed(&self, patience: Duration) {
        let max_bytes = self.0.settings.max_bytes / PRESSING_PART;
        let deadline = Instant::now() + patience;
        loop {
            let moved_on = self.0.moved_on.notified();
            let mut moved_on = std::pin::pin!(moved_on);
            // Registered before the look, so that no move between the two is missed.
            moved_on.as_mut().enable();
            if !self.0.memory.lock().is_pressed(max_bytes, Instant::now()) {
                return;
            }
            // Looked at anew every now and then: a publisher that has stopped says nothing.
            let look = deadline.min(Instant::now() + Duration::from_millis(250));
            let _ = tokio::time::timeout_at(look, moved_on).await;
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Refuses every append from here on.
    pub fn close(&self) {
        self.0.memory.lock().close();
        self.0.moved_on.notify_waiters();
    }

    /// A new cursor for the publisher `label`.
    pub fn cursor(&self, label: Arc<str>, start: Start, overflow: Overflow) -> Cursor {
        // A cursor that begins within the tail must not be handed what was there before it.
        let _order = self.0.order.lock();
        let (sealed, id, end) = {
            let mut memory = self.0.memory.lock();
            (memory.seal(), memory.add_cursor(label, start, overflow), memory.sealed_end())
        };
        self.announce(sealed.as_slice(), end);
        Cursor { journal: self.clone(), id, ended: Arc::default() }
    }

    /// What the journal holds now.
    pub fn held(&self) -> Held {
        let memory = self.0.memory.lock();
        Held {
            records: memory.held_records(),
            bytes: memory.held_bytes() + self.0.gauge.bytes(),
            accepted: memory.end(),
        }
    }
}

fn warn_of(overflowed: Vec<(Arc<str>, u64)>) {
    for (publisher, dropped) in overflowed {
        tracing::warn!(%publisher, dropped, "the journal is full, its oldest records are lost to this publisher");
    }
}

/// Room in the journal that nothing else gets. What is not used is given back when it is dropped.
#[derive(Debug)]
pub struct Reserved {
    journal: Journal,
    records: usize,
    bytes: usize,
}

impl Reserved {
    /// Appends a batch and leaves it empty. It may be larger than what was reserved: then the journal is beyond its
    /// bounds until a publisher has passed.
    ///
    /// # Errors
    ///
    /// The journal is closed. Nothing was appended and the batch is as it was.
    pub fn append(mut self, batch: &mut Batch) -> Result<(), Refused> {
        let (records, bytes) = (self.records, self.bytes);
        let admit = |memory: &mut Memory| memory.is_open().map(|()| (records, bytes));
        self.journal.append_by(batch, batch.bytes(), admit)?;
        (self.records, self.bytes) = (0, 0);
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.journal.0.memory.lock().release(self.records, self.bytes);
    }
}

/// What the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// Records that some publisher has not passed.
    pub records: usize,
    /// What they occupy, views included.
    pub bytes: usize,
    /// Records accepted since the start.
    pub accepted: u64,
}

/// A publisher's place in the journal, and its books. Cheap to clone: a handle. Reads are for its one worker; the
/// books may be asked for by anybody.
#[derive(Clone)]
pub struct Cursor {
    journal: Journal,
    id: u32,
    /// The books it was retired with.
    ended: Arc<OnceLock<Books>>,
}

impl Cursor {
    /// Reads on: at most `max_records`, at least one if there is one, and no further ones once `max_bytes` are
    /// reached. What is read is in hand until it is settled. Empty if nothing is sealed beyond the cursor.
    pub fn read(&self, max_records: usize, max_bytes: usize) -> Vec<Segment> {
        self.journal.0.memory.lock().read(self.id, max_records, max_bytes)
    }

    /// How many records, and how many bytes of them, could be read now.
    pub fn readable(&self, enough_records: usize, enough_bytes: usize) -> (usize, usize) {
        self.journal.0.memory.lock().readable(self.id, enough_records, enough_bytes)
    }

    /// Records, and bytes, beyond which a backlog should not wait for company: a quarter of what the journal holds.
    pub fn pressing(&self) -> (usize, usize) {
        let settings = &self.journal.0.settings;
        ((settings.max_records / 4).max(1), (settings.max_bytes / 4).max(1))
    }

    /// A receiver that changes whenever more has been sealed.
    pub fn sealed(&self) -> watch::Receiver<u64> {
        self.journal.0.sealed.subscribe()
    }

    /// Books what became of rows in hand.
    pub fn settle(&self, settled: Settled) {
        self.journal.0.memory.lock().settle(self.id, settled);
    }

    /// Books `rows` that were settled as refused as dead letters. False where the cursor has been retired meanwhile: they
    /// are booked as dropped, and their letters must not stand.
    pub fn set_aside(&self, rows: u64) -> bool {
        self.journal.0.memory.lock().set_aside(self.id, rows)
    }

    /// Whether the cursor has been retired.
    pub fn is_retired(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Everything that was read is settled, or kept by the worker beside the rest: the journal may forget it as far as this
    /// cursor goes.
    pub fn acknowledge(&self) {
        self.journal.0.memory.lock().acknowledge(self.id);
        self.journal.0.moved_on.notify_waiters();
    }

    /// Whether the publisher is at work. One that fails or waits does not keep views alive.
    pub fn set_active(&self, active: bool) {
        self.journal.0.memory.lock().set_active(self.id, active);
    }

    /// Changes what happens when the journal is full.
    pub fn set_overflow(&self, overflow: Overflow) {
        self.journal.0.memory.lock().set_overflow(self.id, overflow);
    }

    /// Accepts no more: what is appended from here on is not for this cursor. What was appended before can be read,
    /// the tail included.
    pub fn stop(&self) {
        let _order = self.journal.0.order.lock();
        let (sealed, end) = {
            let mut memory = self.journal.0.memory.lock();
            let sealed = memory.seal();
            memory.stop(self.id);
            (sealed, memory.sealed_end())
        };
        self.journal.announce(sealed.as_slice(), end);
    }

    /// The books, closed at this moment; once the cursor has been retired, the final ones.
    pub fn books(&self) -> Books {
        let memory = self.journal.0.memory.lock();
        memory.books(self.id).or_else(|| self.ended.get().copied()).unwrap_or_default()
    }

    /// How long the oldest batch that is not acknowledged has been waiting; nothing where all of them are.
    pub fn behind(&self) -> Duration {
        self.journal.0.memory.lock().behind(self.id)
    }

    /// When it last lost records to an overflow; none if it never did, or has ended.
    pub fn last_loss(&self) -> Option<Timestamp> {
        self.journal.0.memory.lock().last_loss(self.id)
    }

    /// Ends the cursor: its backlog is dropped for `reason`. Returns the final books; if it had ended, those of then.
    pub fn retire(&self, reason: DropReason) -> Books {
        let mut memory = self.journal.0.memory.lock();
        let books = memory.retire(self.id, reason);
        *self.ended.get_or_init(|| books.unwrap_or_default())
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Journal").field(&self.held()).finish()
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cursor").field(&self.books()).finish()
    }
}
