//! Delivery: one worker per publisher carries batches from the journal to it, and says what became of them.
//!
//! Invariants: delivery knows no publisher's type; one call at a time; a row leaves a worker's hand as filtered,
//! delivered, dead-lettered or, with its publisher, dropped, and is booked at that moment. What is a retry stays in
//! hand, so the journal's order per publisher holds; only rows that wait for something of their own, such as an index that
//! refuses, are passed by the others.
//!
//! The chain: the [`batcher`](self) waits for a batch worth a call, the filter picks rows, an attempt calls the
//! publisher under a deadline, the window keeps what is to be tried again, the backoff says when, the waiting rows are
//! kept beside it, and dead letters take what never will work.

mod attempt;
mod batcher;
mod dead_letters;
mod filter;
mod retry;
mod sampling;
mod unflushed;
mod waiting;
mod window;
mod worker;

#[cfg(test)]
mod tests;

pub use dead_letters::{DeadLetters, Trouble as DeadLettersTrouble};
pub use filter::{Filter, Rules};

use crate::config::DeliveryConfig;
use crate::journal::{Books, Cursor, DropReason, Journal, Overflow, Start};
use crate::publisher::{Context, Factory, PublishError, Publisher, StallSource, Stand, StatusSource, panics};
use crate::record::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// What a worker needs to know of its publisher beside the publisher itself. All of it may be changed while it runs.
#[derive(Clone)]
pub struct Plan {
    /// The type, for reports.
    pub kind: Arc<str>,
    /// Batching, retrying, deadlines.
    pub config: DeliveryConfig,
    /// Every one of them must let a record through: its own, and those of the composites it is a member of.
    pub filters: Vec<Filter>,
    /// Builds the publisher again after a panic.
    pub factory: Factory,
    /// What it is built with.
    pub context: Context,
}

impl Plan {
    fn overflow(&self) -> Overflow {
        match self.config.overflow {
            crate::config::Overflow::DropOldest => Overflow::DropOldest,
            crate::config::Overflow::Block => Overflow::Block,
        }
    }
}

/// A running delivery: the handle to its worker.
pub struct Delivery {
    label: Arc<str>,
    cursor: Cursor,
    commands: mpsc::Sender<Command>,
    drain: watch::Sender<Option<Drain>>,
    shared: Arc<Shared>,
    refused: dead_letters::WaitingRows,
    worker: tokio::sync::Mutex<Option<tokio::task::JoinHandle<Books>>>,
}

/// A request to deliver what is left until `deadline`, and to end.
#[derive(Clone, Copy)]
struct Drain {
    deadline: Instant,
    reason: DropReason,
}

enum Command {
    /// Replaces the publisher at a batch boundary.
    Replace { publisher: Box<dyn Publisher>, plan: Box<Plan>, reply: oneshot::Sender<Result<(), String>> },
    /// Has the publisher forget what is held against it.
    Reset { reply: oneshot::Sender<bool> },
    /// There is no publisher for now: keep the cursor and wait.
    Suspend { absent: Absent, reply: oneshot::Sender<()> },
}

/// Why a delivery has no publisher. Its cursor keeps what is accepted meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is being built. A drain for the host's shutdown waits for it, for as long as the deadline allows.
    Pending(String),
    /// It cannot be built now, and why.
    Waiting(String),
}

impl Absent {
    fn state(&self) -> State {
        match self {
            Self::Pending(_) => State::Pending,
            Self::Waiting(_) => State::Waiting,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Pending(reason) | Self::Waiting(reason) => reason,
        }
    }
}

/// What reports show of a worker, kept up to date by it.
struct Shared {
    state: Mutex<Live>,
}

#[derive(Clone)]
struct Live {
    kind: Arc<str>,
    state: State,
    reason: Option<String>,
    since: Timestamp,
    attempts: u64,
    failed_attempts: u64,
    attempt_time: Duration,
    misreported_rows: u64,
    last_error: Option<String>,
    last_delivery: Option<Timestamp>,
    breaker: Stand,
    next_attempt: Option<Timestamp>,
    detail: Option<StatusSource>,
    stall: Option<StallSource>,
    /// Records that wait beside the others.
    waits: Option<waiting::Waits>,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It publishes, or waits for records.
    Running,
    /// The last attempt failed; it will be tried again.
    Retrying,
    /// Somebody has to mend something first.
    Held,
    /// It has failed by its own fault too often in a row: it is not asked any more until it changes, or is reset.
    Quarantined,
    /// It is being compiled, built or started.
    Pending,
    /// There is no publisher yet: its file is missing, or could not be loaded.
    Waiting,
    /// It delivers what is left and ends.
    Draining,
    /// It has never run: its plugin file could not be loaded.
    Failed,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Retrying,
        Self::Held,
        Self::Quarantined,
        Self::Pending,
        Self::Waiting,
        Self::Draining,
        Self::Failed,
    ];

    /// As it is written in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Quarantined => "quarantined",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

/// What reports show of a publisher.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PublisherStatus {
    /// Its label.
    pub label: Arc<str>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// How it stands.
    pub state: State,
    /// Why, unless it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it stands so.
    pub since: Timestamp,
    /// What became of its records.
    pub books: Books,
    /// When records were last lost to an overflow (`books.dropped.overflow`), if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_overflow: Option<Timestamp>,
    /// Calls of the publisher.
    pub attempts: u64,
    /// Calls that failed, wholly or for some rows.
    pub failed_attempts: u64,
    /// How long all calls took together.
    pub attempt_seconds: f64,
    /// How long the oldest of the backlog has been waiting; 0 where there is none.
    pub backlog_age_seconds: f64,
    /// Rows that it reported and that do not exist, or that it reported twice.
    pub misreported_rows: u64,
    /// Rows of the backlog that it refused, and that wait to be written to the dead letters.
    pub refused_waiting: u64,
    /// The last error, even if it has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Why the newest version of its settings or its file does not run; the one before goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_failed: Option<String>,
    /// When it last published something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<Timestamp>,
    /// Open while it has failed so often, or for so long, that it counts as down.
    pub breaker: Stand,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// What the publisher says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

impl PublisherStatus {
    /// The status of a publisher that could not be started, and has neither cursor nor books.
    pub fn failed(label: Arc<str>, kind: Arc<str>, reason: String, since: Timestamp) -> Self {
        Self {
            label,
            kind,
            state: State::Failed,
            reason: Some(reason.clone()),
            since,
            books: Books::default(),
            last_overflow: None,
            attempts: 0,
            failed_attempts: 0,
            attempt_seconds: 0.0,
            backlog_age_seconds: 0.0,
            misreported_rows: 0,
            refused_waiting: 0,
            last_error: Some(reason),
            update_failed: None,
            last_delivery: None,
            breaker: Stand::Closed,
            next_attempt: None,
            detail: None,
        }
    }
}

impl Delivery {
    /// Starts a worker with a cursor of its own in `journal`. `publisher` is open; or there is none yet.
    pub fn start(
        label: Arc<str>,
        journal: &Journal,
        publisher: Result<Box<dyn Publisher>, Absent>,
        plan: Plan,
        dead_letters: Arc<DeadLetters>,
    ) -> Self {
        let start = match plan.config.from {
            crate::config::From::Newest => Start::Newest,
            crate::config::From::Oldest => Start::Oldest,
        };
        let cursor = journal.cursor(label.clone(), start, plan.overflow());
        let (commands, received) = mpsc::channel(4);
        let (drain, drained) = watch::channel(None);
        let shared = Arc::new(Shared::new(&plan.kind));
        let refusals = dead_letters.for_publisher(label.clone(), cursor.clone());
        let refused = refusals.watch();
        let worker = worker::Worker::new(
            label.clone(),
            cursor.clone(),
            publisher,
            plan,
            refusals,
            received,
            drained,
            shared.clone(),
        );
        let worker = tokio::sync::Mutex::new(Some(tokio::spawn(worker.run())));
        Self { label, cursor, commands, drain, shared, refused, worker }
    }

    /// The label.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Puts `publisher`, built and not opened, in the place of the one that runs, at a batch boundary. The old one is
    /// flushed; it goes on as it was if the new one cannot be opened.
    ///
    /// # Errors
    ///
    /// Why the new one could not be opened.
    pub async fn replace(&self, publisher: Box<dyn Publisher>, plan: Plan) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Replace { publisher, plan: Box::new(plan), reply };
        let gone = || "the delivery has ended".to_owned();
        self.commands.send(command).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Retires the publisher and keeps its cursor, until [`Delivery::replace`] brings another one.
    pub async fn suspend(&self, absent: Absent) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Suspend { absent, reply }).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Has the publisher forget what is held against it: failures, waits, quarantine. What is in hand is tried at once. False
    /// if it never holds anything against itself, or if there is none.
    pub async fn reset(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        match self.commands.send(Command::Reset { reply }).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => false,
        }
    }

    /// Delivers what is left, flushes, and ends; at `deadline` the rest is dropped for `reason`. Returns the final
    /// books. What is accepted after this call is not counted: it was never for this publisher.
    pub async fn drain(&self, deadline: Instant, reason: DropReason) -> Books {
        self.begin_drain(deadline, reason);
        match self.worker.lock().await.take() {
            Some(worker) => worker.await.unwrap_or_else(|_| self.cursor.retire(reason)),
            None => self.cursor.books(),
        }
    }

    /// As [`Delivery::drain`], and does not wait for the end. Where a drain is under way, the earlier deadline holds.
    pub fn begin_drain(&self, deadline: Instant, reason: DropReason) {
        // What is accepted from here on is not for it: else it would never be done while records flow.
        self.cursor.stop();
        self.drain.send_modify(|drain| match drain {
            Some(under_way) => under_way.deadline = under_way.deadline.min(deadline),
            None => *drain = Some(Drain { deadline, reason }),
        });
    }

    /// How it stands now.
    pub fn status(&self) -> PublisherStatus {
        let mut live = self.shared.state.lock().clone();
        live.note_stall();
        let waits = live.note_waits();
        PublisherStatus {
            label: self.label.clone(),
            kind: live.kind,
            state: if self.drain.borrow().is_some() { State::Draining } else { live.state },
            reason: live.reason,
            since: live.since,
            books: self.cursor.books(),
            last_overflow: self.cursor.last_loss(),
            attempts: live.attempts,
            failed_attempts: live.failed_attempts,
            attempt_seconds: live.attempt_time.as_secs_f64(),
            backlog_age_seconds: self.cursor.behind().max(waits).as_secs_f64(),
            misreported_rows: live.misreported_rows,
            refused_waiting: self.refused.get(),
            last_error: live.last_error,
            update_failed: None,
            last_delivery: live.last_delivery,
            breaker: live.breaker,
            next_attempt: live.next_attempt,
            detail: live.detail.and_then(|detail| panics::ask(|| detail())),
        }
    }
}

impl Live {
    /// A publisher that answers well may still not get what it took to its place: then that is how it stands.
    fn note_stall(&mut self) {
        let Some(stall) = self.stall.as_ref().filter(|_| self.state == State::Running) else { return };
        let Some(stall) = panics::ask(|| stall()).flatten() else { return };
        let hold = matches!(stall.error, PublishError::Hold { .. });
        self.state = if hold { State::Held } else { State::Retrying };
        self.since = stall.since;
        self.reason = Some(stall.error.to_string());
        self.last_error = self.reason.clone();
    }
}

impl Live {
    /// Records may wait beside those that are published: then that is how it stands. Returns for how long they have.
    fn note_waits(&mut self) -> Duration {
        let Some(waits) = self.waits.take() else { return Duration::ZERO };
        let age = Timestamp::now().since(waits.since);
        if self.state == State::Running {
            self.state = if waits.hold { State::Held } else { State::Retrying };
            self.since = waits.since;
            self.last_error = Some(waits.reason.clone());
            self.reason = Some(waits.reason);
        }
        age
    }
}

impl Shared {
    fn new(kind: &Arc<str>) -> Self {
        Self {
            state: Mutex::new(Live {
                kind: kind.clone(),
                state: State::Running,
                reason: None,
                since: Timestamp::now(),
                attempts: 0,
                failed_attempts: 0,
                attempt_time: Duration::ZERO,
                misreported_rows: 0,
                last_error: None,
                last_delivery: None,
                breaker: Stand::Closed,
                next_attempt: None,
                detail: None,
                stall: None,
                waits: None,
            }),
        }
    }

    /// Notes how the delivery stands. True if that is new.
    fn set(&self, state: State, reason: Option<&str>) -> bool {
        let mut live = self.state.lock();
        let new = live.state != state;
        if new {
            // That it waited is no failure of what runs now.
            if matches!(live.state, State::Pending | State::Waiting) && live.last_error == live.reason {
                live.last_error = None;
            }
            live.state = state;
            live.since = Timestamp::now();
        }
        live.reason = reason.map(str::to_owned);
        // That it is being built is no error.
        if reason.is_some() && state != State::Pending {
            live.last_error = reason.map(str::to_owned);
        }
        new
    }

    fn update(&self, change: impl FnOnce(&mut Live)) {
        change(&mut self.state.lock());
    }
}
