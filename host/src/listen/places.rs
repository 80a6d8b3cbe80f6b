//! The places that connections take, and which of them is closed when places, memory or answers are short.
//!
//! Invariant: a connection is closed early only while it waits for its client: for a request, for the next part of a
//! body, or for an answer to be read.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A client that has moved [`STEP`] bytes within this time does not stall.
const GRACE: Duration = Duration::from_secs(1);
const STEP: usize = 64 << 10;

/// Which connections may be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// Those that wait for a request, and those below.
    Any,
    /// Those whose client does not go on sending a body.
    Sender,
    /// Those whose client does not read an answer.
    Reader,
}

/// The places of all connections of one or more listeners. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    most: usize,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Pulse>>>,
    closed: AtomicU64,
}

/// A place that is taken, until this is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
    pulse: Arc<Pulse>,
}

/// How a connection stands.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    cut: Notify,
}

#[derive(Debug)]
struct State {
    /// A request of it has passed the guard.
    known: bool,
    /// A request is being answered.
    serving: bool,
    /// A request has come since a head was last read.
    begun: bool,
    /// Parts of that request's body are not read yet.
    body_left: bool,
    /// The host waits for such a part.
    awaiting: bool,
    /// An answer waits for its client to read.
    unread: bool,
    /// A head of an answer has not been written yet.
    owed: bool,
    /// Closes as soon as its answer is written, although the client may still send.
    closing: bool,
    /// Since when its client has moved less than [`STEP`].
    mark: Instant,
    moved: usize,
}

impl Places {
    /// Places for `most` connections.
    pub fn new(most: usize) -> Self {
        let (next, closed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { most: most.max(1), next, open: Mutex::default(), closed }))
    }

    /// Connections that were closed early so far.
    pub fn closed(&self) -> u64 {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Whether one more may come; where there is no place, one that stalls is closed for it.
    pub(super) fn has_room(&self) -> bool {
        self.0.open.lock().len() < self.0.most || self.relieve(Stalled::Any)
    }

    pub(super) fn take(&self) -> Place {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let pulse = Arc::new(Pulse::new());
        self.0.open.lock().insert(number, pulse.clone());
        Place { places: self.clone(), number, pulse }
    }

    /// Closes the connection that can be spared most, of those that `stalled` says. False if there is none.
    pub fn relieve(&self, stalled: Stalled) -> bool {
        let now = Instant::now();
        let mut open = self.0.open.lock();
        let spared = open.iter().filter_map(|(number, pulse)| Some((*number, pulse.to_spare(stalled, now)?)));
        let Some((number, _)) = spared.max_by_key(|(_, spare)| *spare) else { return false };
        if let Some(pulse) = open.remove(&number) {
            pulse.cut.notify_one();
        }
        self.0.closed.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Takes `permits` of `room`. While there are too few, connections that are `stalled` are closed, one after another.
    /// None if there are still too few after `patience`.
    pub async fn admit(
        &self,
        room: &Arc<Semaphore>,
        permits: u32,
        stalled: Stalled,
        patience: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        let mut acquired = std::pin::pin!(room.clone().acquire_many_owned(permits));
        let mut over = std::pin::pin!(tokio::time::sleep(patience));
        let mut ticks = tokio::time::interval(super::PAUSE);
        loop {
            tokio::select! {
                biased;
                permit = acquired.as_mut() => return permit.ok(),
                () = over.as_mut() => return None,
                _ = ticks.tick() => { self.relieve(stalled); }
            }
        }
    }
}

impl Place {
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// Carries on `connection` until it ends or is told to close.
    pub(super) async fn hold(self, connection: impl Future<Output = ()>) {
        tokio::select! {
            () = connection => {}
            () = self.pulse.cut.notified() => {
                tracing::debug!("a connection that stalled was closed: its place was needed");
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.open.lock().remove(&self.number);
    }
}

impl Pulse {
    fn new() -> Self {
        let state = State {
            known: false,
            serving: false,
            begun: false,
            body_left: false,
            awaiting: false,
            unread: false,
            owed: false,
            closing: false,
            mark: Instant::now(),
            moved: 0,
        };
        Self { state: Mutex::new(state), cut: Notify::new() }
    }

    /// How well the connection can be spared, if at all: strangers first, then those that wait for a request, then those
    /// that stall in one; among equals the one that has waited longest.
    fn to_spare(&self, stalled: Stalled, now: Instant) -> Option<(u8, Duration)> {
        let state = self.state.lock();
        let age = now.saturating_duration_since(state.mark);
        let (kind, rank) = match &*state {
            State { unread: true, .. } => (Stalled::Reader, 0),
            State { serving: true, awaiting: true, .. } => (Stalled::Sender, 0),
            State { serving: true, .. } => return None,
            State { known: true, .. } => (Stalled::Any, 1),
            State { known: false, .. } => (Stalled::Any, 2),
        };
        let wanted = stalled == Stalled::Any || stalled == kind;
        (wanted && (rank > 0 || age >= GRACE)).then_some((rank, age))
    }

    pub(super) fn known(&self) {
        self.state.lock().known = true;
    }

    /// A request has come.
    pub(super) fn begin(&self, has_body: bool) {
        let mut state = self.state.lock();
        (state.serving, state.body_left, state.begun) = (true, has_body, true);
        state.restart();
    }

    /// The request is answered. True if its body was not read to the end, so that the connection cannot go on.
    pub(super) fn end(&self) -> bool {
        let mut state = self.state.lock();
        state.closing |= state.body_left;
        (state.serving, state.body_left, state.awaiting, state.owed) = (false, false, false, true);
        state.restart();
        state.closing
    }

    /// Bytes have come or gone.
    pub(super) fn moved(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.moved += bytes;
        if state.moved >= STEP {
            state.restart();
        }
    }

    /// The body is asked for its next part; `delay` is how long the host took for the one before.
    pub(super) fn awaits(&self, delay: Duration) {
        let mut state = self.state.lock();
        state.awaiting = true;
        state.mark = (state.mark + delay).min(Instant::now());
    }

    /// A part of the body has come, or its end.
    pub(super) fn received(&self, is_end: bool) {
        let mut state = self.state.lock();
        state.awaiting = false;
        state.body_left &= !is_end;
    }

    /// An answer cannot be written on. Says since when its client reads less than [`STEP`].
    pub(super) fn unread(&self) -> Instant {
        let mut state = self.state.lock();
        state.unread = true;
        state.mark
    }

    /// Bytes of an answer were written.
    pub(super) fn written(&self, bytes: usize) {
        {
            let mut state = self.state.lock();
            (state.unread, state.owed) = (false, false);
        }
        self.moved(bytes);
    }

    /// Whether what is being written cannot be an answer to a request: none is under way or owed.
    pub(super) fn owes_nothing(&self) -> bool {
        let state = self.state.lock();
        !state.serving && !state.owed
    }

    /// Whether a head is being read, no request being answered; and if so, whether it is another one than last time.
    pub(super) fn reads_head(&self) -> Option<bool> {
        let mut state = self.state.lock();
        (!state.serving).then(|| std::mem::take(&mut state.begun))
    }

    /// The connection closes although its client may still send.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }
}

impl State {
    fn restart(&mut self) {
        self.mark = Instant::now();
        self.moved = 0;
    }
}
