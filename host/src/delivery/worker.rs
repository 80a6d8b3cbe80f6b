//! The worker: one task that owns a publisher and carries batches to it.
//!
//! Invariant: what is waited for (a batch, a wait's end, a command) may be given up at any time; a call of the
//! publisher is given up only at its own deadline or the drain's.

mod holding;
mod succession;
mod waiting;

use super::attempt::{Called, call, drained};
use super::batcher::Batcher;
use super::dead_letters::Refusals;
use super::retry::Pace;
use super::unflushed::Unflushed;
use super::waiting::Waiting;
use super::window::{InHand, Trouble, Window, judge, without_secrets};
use super::{Absent, Command, Drain, Plan, Shared, State};
use crate::journal::{Books, Cursor, DropReason, Settled};
use crate::publisher::panics::{ask, discard};
use crate::publisher::{PublishError, Publisher, Standing};
use crate::record::{EventMetrics, NetworkMetrics, Record, Rows, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(super) struct Worker {
    label: Arc<str>,
    cursor: Cursor,
    publisher: Option<Box<dyn Publisher>>,
    /// There is no publisher and its factory is not asked: a command will bring one.
    suspended: bool,
    /// The command that brings one is on its way.
    pending: bool,
    plan: Plan,
    refusals: Refusals,
    /// It waits because too many of its dead letters cannot be written.
    stuck: bool,
    commands: mpsc::Receiver<Command>,
    drain: watch::Receiver<Option<Drain>>,
    shared: Arc<Shared>,
    batcher: Batcher,
    window: Window,
    /// What the publisher has answered for and holds back, where that is not delivered before it is flushed.
    unflushed: Unflushed,
    /// Some of that was lost in the attempt under way, and is in hand again.
    recalled: bool,
    /// Some of it was lost since everything in hand was published: it is flushed before every call.
    careful: bool,
    /// What is tried again beside the others.
    waiting: Waiting,
    /// How the publisher stood after the last call.
    standing: Standing,
    /// What is in hand waits for others to be judged beside.
    wants_company: bool,
    /// When the window is to be tried again.
    pace: Pace,
    flush_at: Instant,
    draining: bool,
}

/// What a worker waits for.
enum Step {
    Command(Option<Command>),
    Read,
    Attempt,
    /// One of each of the rows that wait is tried.
    Probe,
    /// Rows that have waited are published.
    Release,
    Flush,
    /// What is to be set aside has been, or cannot be.
    Refused,
    /// A drain was asked for, or its deadline has passed.
    Drain,
}

impl Worker {
    #[allow(clippy::too_many_arguments)] // Called once, by `Delivery::start`.
    pub(super) fn new(
        label: Arc<str>,
        cursor: Cursor,
        publisher: Result<Box<dyn Publisher>, Absent>,
        plan: Plan,
        refusals: Refusals,
        commands: mpsc::Receiver<Command>,
        drain: watch::Receiver<Option<Drain>>,
        shared: Arc<Shared>,
    ) -> Self {
        let flush_at = Instant::now() + plan.config.flush_interval;
        let mut worker = Self {
            batcher: Batcher::new(&cursor),
            waiting: Waiting::new(cursor.pressing()),
            label,
            cursor,
            publisher: None,
            suspended: false,
            pending: false,
            plan,
            refusals,
            stuck: false,
            commands,
            drain,
            shared,
            window: Window::default(),
            unflushed: Unflushed::default(),
            recalled: false,
            careful: false,
            standing: Standing::default(),
            wants_company: false,
            pace: Pace::new(),
            flush_at,
            draining: false,
        };
        match publisher {
            Ok(publisher) => worker.adopt(publisher),
            Err(absent) => worker.suspend(&absent),
        }
        worker
    }

    pub(super) async fn run(mut self) -> Books {
        loop {
            match self.next().await {
                Step::Command(Some(command)) => self.obey(command).await,
                Step::Command(None) => return self.end(DropReason::Shutdown).await,
                Step::Read => self.read(),
                Step::Attempt => self.attempt().await,
                Step::Probe => self.probe().await,
                Step::Release => self.release(),
                Step::Flush => self.tend().await,
                Step::Refused | Step::Drain => {}
            }
            self.heed_refusals();
            let draining = *self.drain.borrow();
            if let Some(Drain { deadline, reason }) = draining {
                if !std::mem::replace(&mut self.draining, true) {
                    // There may be no time for the rest of a wait: what is in hand is tried once more at once.
                    self.pace.reset();
                    self.waiting.hurry();
                    if self.unflushed.is_stuck() {
                        self.flush_at = Instant::now();
                    }
                }
                let nothing_left = self.has_passed_all() && self.waiting.is_empty();
                if nothing_left && self.unflushed.is_ready() && !self.past_deadline() {
                    self.tend().await;
                }
                let nothing_left = nothing_left && self.window.is_empty() && self.unflushed.is_empty();
                let all_written = self.refusals.waiting() == 0;
                // One that is being built may still deliver it, before the host ends.
                let may_come = self.pending && reason == DropReason::Shutdown;
                let over = (self.suspended && !may_come) || Instant::now() >= deadline;
                if (nothing_left && all_written) || over {
                    return self.end(reason).await;
                }
            }
        }
    }

    async fn next(&mut self) -> Step {
        let draining = self.drain.borrow().is_some();
        // What cannot be flushed holds up the rest: it would only grow.
        let full = self.refusals.is_full();
        let rests = self.suspended || self.unflushed.is_stuck() || full;
        let idle = self.window.is_empty();
        // One that was lost is built again even if there is nothing to publish: it may be scraped.
        let lost = self.publisher.is_none();
        let again_at = self.pace.due();
        let to_read = draining && !self.has_passed_all();
        let waits = !rests && idle && !self.waiting.is_empty();
        let probe_at = self.waiting.due(&self.plan.config.retry);
        tokio::select! {
            biased;
            command = self.commands.recv() => Step::Command(command),
            () = drain_news(&mut self.drain, draining) => Step::Drain,
            () = tokio::time::sleep_until(self.flush_at), if self.publisher.is_some() => Step::Flush,
            () = tokio::time::sleep_until(again_at), if !rests && (!idle || lost) => Step::Attempt,
            () = std::future::ready(()), if waits && self.waiting.is_open() => Step::Release,
            () = tokio::time::sleep_until(probe_at), if waits => Step::Probe,
            () = std::future::ready(()), if !rests && idle && to_read => Step::Read,
            () = self.refusals.changed(), if full || draining => Step::Refused,
            () = self.batcher.ready(&self.cursor, &self.plan.config.batch), if !rests && (idle || self.wants_company) => {
                Step::Read
            }
        }
    }

    /// Whether everything that it is to read has left its hand.
    fn has_passed_all(&self) -> bool {
        self.window.is_empty() && self.cursor.readable(1, 1).0 == 0
    }

    fn read(&mut self) {
        let config = &self.plan.config.batch;
        let mut window = Window::default();
        let mut read = 0;
        for segment in self.cursor.read(config.max_records, config.max_bytes.as_usize()) {
            read += segment.events.len() + segment.operations.len();
            window.events.push_admitted(&segment.batch, segment.events, &self.plan.filters);
            window.operations.push_admitted(&segment.batch, segment.operations, &self.plan.filters);
        }
        let filtered = read - window.events.len() - window.operations.len();
        self.cursor.settle(Settled { filtered: filtered as u64, ..Settled::default() });
        self.window.read_on(window);
        self.wants_company = false;
        self.pace.hurry();
        self.pass();
    }

    async fn attempt(&mut self) {
        let age = self.window.age();
        self.recalled = false;
        self.pace.begin();
        self.show_pace();
        if self.publisher.is_none()
            && let Err(trouble) = self.rebuild().await
        {
            return self.not_done(trouble, age).await;
        }
        let mut trouble = None;
        let mut progress = false;
        // A publisher that did not answer, or is gone, is not asked again before the backoff; nor is one that has just
        // shown that it is still down.
        let go_on = self.publish::<EventMetrics>(&mut trouble, &mut progress).await;
        if go_on && (trouble.is_none() || progress || !self.pace.is_down()) && self.flush_between().await {
            self.publish::<NetworkMetrics>(&mut trouble, &mut progress).await;
        }
        if progress {
            self.pace.reset();
            self.waiting.note_delivery();
            self.shared.update(|live| live.last_delivery = Some(Timestamp::now()));
        }
        let Standing { undecided, unfinished, flush_due, .. } = self.standing;
        self.wants_company = undecided > 0 && undecided == self.window.len();
        self.show_waiting();
        match trouble {
            // It was flushed in between, and what came of that has been told.
            None if !self.window.is_empty() => {}
            None => self.acknowledge(),
            Some(_) if unfinished && !self.past_deadline() => self.pace.hurry(),
            Some(trouble) => self.not_done(trouble, age).await,
        }
        let careful = self.careful && !self.unflushed.is_empty();
        let wanted = flush_due || careful || self.unflushed.is_full(&self.plan.config.batch);
        if wanted && !self.unflushed.is_stuck() {
            self.tend().await;
        }
    }

    /// After an attempt that left something in hand, which has been tried for so long.
    async fn not_done(&mut self, trouble: Trouble, age: Duration) {
        let retry = &self.plan.config.retry;
        let (age, max_age) = match trouble.hold {
            false => (age, Some(retry.max_age)),
            true => (self.window.age_with_holds(), retry.hold_max_age),
        };
        let too_old = max_age.filter(|max_age| !self.window.is_empty() && age >= *max_age);
        // What was lost in this attempt was answered well before: it must not become a dead letter with the others.
        if let Some(max_age) = too_old.filter(|_| !self.recalled && !self.past_deadline()) {
            self.give_up(&trouble, max_age).await;
        } else {
            self.wait(&trouble);
        }
    }

    /// Whether a drain's deadline has passed: what is in hand now is dropped.
    fn past_deadline(&self) -> bool {
        self.drain.borrow().is_some_and(|drain| Instant::now() >= drain.deadline)
    }

    /// Publishes what is in hand of one kind. False if the publisher is not to be asked again now.
    async fn publish<R: InHand>(&mut self, trouble: &mut Option<Trouble>, progress: &mut bool) -> bool {
        let rows = std::mem::take(R::rows(&mut self.window));
        let Some(publisher) = self.publisher.as_deref_mut().filter(|_| !rows.is_empty()) else {
            *R::rows(&mut self.window) = rows;
            return true;
        };
        let publish = async { R::publish(publisher, &rows).await };
        let began = Instant::now();
        let called = call(publish, self.plan.config.timeout, &mut self.drain).await;
        let mut go_on = true;
        let answer = match called {
            Called::Answered(answer) => answer,
            Called::TimedOut(after) => {
                go_on = false;
                let after = humantime::format_duration(after);
                Err(PublishError::retry(format!("no answer within {after}")))
            }
            Called::Panicked(text) => {
                go_on = false;
                discard(self.publisher.take());
                Err(PublishError::retry(format!("the publisher panicked: {text}")))
            }
            Called::GivenUp => {
                *R::rows(&mut self.window) = rows;
                self.look();
                *trouble = Some(Trouble::retry("given up at the deadline"));
                return false;
            }
        };
        let mut verdict = judge(&rows, without_secrets(answer, &self.plan.context.secrets));
        let whole = verdict.held.is_empty() && verdict.delivered == 0;
        let failed = verdict.trouble.is_some() || !verdict.rejected.is_empty() || !verdict.held.is_empty();
        self.park(&mut verdict);
        self.shared.update(|live| {
            live.attempts += 1;
            live.attempt_time += began.elapsed();
            live.failed_attempts += u64::from(failed);
            live.misreported_rows += verdict.misreported;
        });
        *progress |= verdict.delivered > 0;
        let taken = verdict.taken(&rows);
        let mut keep = verdict.keep;
        let mut found = verdict.trouble;
        if let Err(error) = self.set_aside(&verdict.rejected, verdict.reasons).await {
            // A reject that cannot be written down is not forgotten: it is tried again, as the rest is.
            found = Some(Trouble::retry(error).and(found));
            keep = if whole { rows } else { merge(keep, verdict.rejected) };
        }
        *R::rows(&mut self.window) = keep;
        // Before what was taken now joins what was held before: that may be lost.
        if self.look().at_flush {
            self.unflushed.hold(taken);
        } else {
            self.cursor.settle(Settled { delivered: taken.len() as u64, ..Settled::default() });
        }
        *trouble = found.map(|found| found.and(trouble.take())).or(trouble.take());
        go_on
    }

    /// Sets `rows` aside. They are no longer in hand, and backlog until their letters are on the disk.
    async fn set_aside<R: Record>(&mut self, rows: &Rows<R>, reasons: Vec<Arc<str>>) -> Result<(), String> {
        let Some(reason) = reasons.first().cloned() else { return Ok(()) };
        self.refusals.add(rows, reasons).await?;
        self.shared.update(|live| live.last_error = Some(reason.to_string()));
        Ok(())
    }

    /// Where no more may wait to be set aside, and the file cannot be written, it waits too, and says why.
    fn heed_refusals(&mut self) {
        match self.refusals.stuck() {
            Some(reason) => {
                self.stuck = true;
                self.window.pause();
                self.stands(State::Held, &Trouble { hold: true, ..Trouble::retry(reason) });
            }
            None if std::mem::take(&mut self.stuck) => self.acknowledge(),
            None => {}
        }
    }

    /// The window has been tried for long enough.
    async fn give_up(&mut self, trouble: &Trouble, max_age: Duration) {
        let age = humantime::format_duration(max_age);
        let reason: Arc<str> = format!("not published within {age}: {}", trouble.reason).into();
        let events = vec![reason.clone(); self.window.events.len()];
        let operations = vec![reason; self.window.operations.len()];
        let in_hand = (self.window.events.clone(), self.window.operations.clone());
        let set_aside = match self.set_aside(&in_hand.0, events).await {
            Ok(()) => {
                self.window.events = Rows::default();
                self.set_aside(&in_hand.1, operations).await
            }
            failed => failed,
        };
        match set_aside {
            Ok(()) => {
                self.window.operations = Rows::default();
                self.acknowledge();
            }
            Err(error) => self.wait(&Trouble::retry(error)),
        }
    }

    /// Moves the cursor on, if nothing that was read is open.
    fn pass(&mut self) {
        if self.window.is_empty() && self.unflushed.is_empty() {
            self.cursor.acknowledge();
        }
    }

    /// Everything in hand is published, or waits beside the rest.
    fn acknowledge(&mut self) {
        self.careful = false;
        self.waiting.tried();
        self.show_waiting();
        self.pass();
        self.cursor.set_active(true);
        self.pace.reset();
        self.show_pace();
        if self.shared.set(State::Running, None) {
            tracing::info!(publisher = %self.label, "publishing again");
        }
    }

    /// Keeps what is in hand, and says when it is tried again.
    fn wait(&mut self, trouble: &Trouble) {
        let config = &self.plan.config.retry;
        let (state, pause) = if trouble.hold {
            self.window.pause();
            (self.held(), self.pace.held(config))
        } else {
            (State::Retrying, self.pace.failed(config, trouble.after))
        };
        self.pace.wait(self.before_the_end(pause));
        self.show_pace();
        self.stands(state, trouble);
    }

    /// A wait that outlasts a drain's deadline would lose what one more attempt may save.
    fn before_the_end(&self, pause: Duration) -> Duration {
        let now = Instant::now();
        let half = self.drain.borrow().map(|drain| drain.deadline.saturating_duration_since(now) / 2);
        half.map_or(pause, |half| pause.min(half.max(Duration::from_millis(100))))
    }

    fn held(&self) -> State {
        if self.standing.quarantined { State::Quarantined } else { State::Held }
    }

    /// Says that it does not get on, and why.
    fn stands(&self, state: State, trouble: &Trouble) {
        self.cursor.set_active(false);
        if self.shared.set(state, Some(&trouble.reason)) {
            if trouble.hold {
                tracing::error!(publisher = %self.label, "on hold until somebody mends it: {}", trouble.reason);
            } else {
                tracing::warn!(publisher = %self.label, "will be tried again: {}", trouble.reason);
            }
        }
    }

    /// Shows how the breaker stands, and when the next attempt is due.
    fn show_pace(&self) {
        let (breaker, wait) = self.pace.stands();
        let next_attempt = wait.map(|wait| Timestamp::now().after(wait));
        self.shared.update(|live| (live.breaker, live.next_attempt) = (breaker, next_attempt));
    }
}

/// Returns when a drain is asked for, or, when one has been, at its deadline.
async fn drain_news(drain: &mut watch::Receiver<Option<Drain>>, draining: bool) {
    if draining {
        drained(drain).await;
    } else {
        // An error means that the handle is gone, and then so is the sender of commands, which is looked at first.
        let _ = drain.changed().await;
    }
}

/// The rows of both, those of `a` first.
fn merge<R: Record>(mut a: Rows<R>, b: Rows<R>) -> Rows<R> {
    a.append(b);
    a
}
