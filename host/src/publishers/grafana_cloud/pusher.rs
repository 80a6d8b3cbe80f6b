//! The loop that pushes: one task per publisher, one request at a time.
//!
//! Invariant: every try shows the newest state, so that nothing is queued and nothing that is older than what was sent
//! before ever follows it. What the receiver may know (the ledger) outlives the loop, and its successor goes on with it.

#[cfg(test)]
mod tests;

use super::exposition;
use super::groups::{Description, Group, Identity, of_families};
use super::ledger::{Ledger, Moment};
use super::status::{Event, Status};
use super::wire::{All, Request, Requests, STALE, describe};
use crate::config::Secrets;
use crate::publisher::PublishError;
use crate::publishers::limit::{Limit, SANE};
use crate::publishers::push::{Answer, Place};
use crate::publishers::series::Series;
use crate::record::Text;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The bound of the first wait after a push that failed; it doubles up to the other one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A receiver may ask for patience, not for eternity.
const LONGEST_ADVICE: Duration = Duration::from_secs(3_600);
/// How often it is tried again where somebody must mend something first.
const HOLD: Duration = Duration::from_secs(30);
/// How long a request may still run, and last words may take, while a successor waits.
const GRACE: Duration = Duration::from_secs(2);
/// How long last words are tried, if whoever waits for them has so much patience.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Mimir forgets what it was told of a family after ten minutes.
const DESCRIBE_EVERY: Duration = Duration::from_secs(300);
/// A clock that is behind by less was hardly set back: a push has just been.
const HARDLY: Duration = Duration::from_secs(1);

/// Milliseconds since the Unix epoch.
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What is pushed, and where to.
pub(super) struct Push {
    pub(super) label: Arc<str>,
    pub(super) secrets: Secrets,
    pub(super) place: Place,
    pub(super) series: Arc<Series>,
    pub(super) host_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Labels of everything.
    pub(super) common: Arc<[(Text, Text)]>,
    pub(super) interval: Duration,
    pub(super) clock: Clock,
    pub(super) status: Arc<Status>,
    /// How large a request may be, before it is compressed.
    pub(super) limit: Arc<Limit>,
}

/// How a loop follows another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Succession {
    /// It pushes to the same place under the same labels.
    pub(super) same_place: bool,
    /// It pushes the same series.
    pub(super) same_series: bool,
}

/// What a loop is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Push every interval.
    Push,
    /// End, for a successor that goes on.
    GoOver(Succession),
    /// Push a last time, say that it is over, and end.
    Close,
}

/// A running loop. It ends when this is dropped.
pub(super) struct Pusher {
    orders: watch::Sender<Order>,
    task: JoinHandle<Ended>,
}

struct Ended {
    ledger: Ledger,
    last_words: Result<(), PublishError>,
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pusher {
    /// Starts one, which goes on where `predecessor`, told so now, ends.
    pub(super) fn start(push: Push, predecessor: Option<(Self, Succession)>) -> Self {
        if let Some((old, succession)) = &predecessor {
            old.orders.send_replace(Order::GoOver(*succession));
        }
        let (orders, received) = watch::channel(Order::Push);
        let task = tokio::spawn(async move {
            let ledger = match predecessor {
                Some((old, succession)) => old.ledger(succession).await,
                None => None,
            };
            let ledger = ledger.unwrap_or_else(|| Ledger::new((push.clock)()));
            let work = Loop { push, ledger, orders: received, failures: 0, described: None };
            work.run().await
        });
        Self { orders, task }
    }

    /// Tells whether it runs, for a test that outlives it.
    #[cfg(test)]
    pub(super) fn is_running(&self) -> impl Fn() -> bool + use<> {
        let task = self.task.abort_handle();
        move || !task.is_finished()
    }

    /// What its receiver may know, for the one that follows; none if it has failed.
    async fn ledger(mut self, succession: Succession) -> Option<Ledger> {
        let Ended { mut ledger, .. } = (&mut self.task).await.ok()?;
        if !succession.same_place {
            ledger.elsewhere();
        }
        if !succession.same_series {
            ledger.restart();
        }
        Some(ledger)
    }

    /// Pushes the last state, tells the receiver that every series is over, and ends.
    ///
    /// # Errors
    ///
    /// The receiver did not take it. If the future is dropped before, the loop ends with it.
    pub(super) async fn close(mut self) -> Result<(), PublishError> {
        self.orders.send_replace(Order::Close);
        match (&mut self.task).await {
            Ok(ended) => ended.last_words,
            Err(error) => Err(PublishError::retry(format!("the loop that pushes has failed: {error}"))),
        }
    }
}

struct Loop {
    push: Push,
    ledger: Ledger,
    orders: watch::Receiver<Order>,
    /// Pushes that failed in a row.
    failures: u32,
    /// When the families were last described.
    described: Option<Instant>,
}

/// What became of a push.
enum Outcome {
    /// The receiver took all of it; so many samples.
    Done(u64),
    /// It may work later, with what there is then.
    Later { reason: String, after: Option<Duration> },
    /// Somebody must mend something first.
    Mend(String),
    /// The receiver did not want it, wholly or in part: that snapshot is lost, and the next one stands for itself.
    Discarded(String),
    /// The clock says that it is earlier than it was.
    Early,
    /// A request was too large: smaller ones are made at once.
    Smaller,
    /// A successor did not want to wait.
    Cut,
}

type Snapshot = (Vec<Group>, Vec<Description>);

impl Loop {
    async fn run(mut self) -> Ended {
        let mut next = Instant::now();
        loop {
            let order = *self.orders.borrow_and_update();
            match order {
                Order::Push => {}
                Order::GoOver(succession) => {
                    self.go_over(succession).await;
                    return Ended { ledger: self.ledger, last_words: Ok(()) };
                }
                Order::Close => {
                    let last_words = self.close().await;
                    return Ended { ledger: self.ledger, last_words };
                }
            }
            if next <= Instant::now() {
                let began = Instant::now();
                let outcome = self.push(false).await;
                next = self.note(outcome, began);
                continue;
            }
            tokio::select! {
                // An error means that the handle is gone, and the task with it.
                _ = self.orders.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Says how a push went, and when the next one is due.
    fn note(&mut self, outcome: Outcome, began: Instant) -> Instant {
        let (event, wait) = match outcome {
            Outcome::Done(samples) => {
                self.failures = 0;
                (Event::Pushed(samples), None)
            }
            Outcome::Discarded(reason) => {
                self.failures = 0;
                (Event::Discarded(reason), None)
            }
            Outcome::Later { reason, after } => (Event::Failed(reason), Some(self.backoff(after))),
            Outcome::Mend(reason) => (Event::Held(reason), Some(HOLD)),
            Outcome::Early => {
                let behind = self.ledger.behind((self.push.clock)());
                if behind < HARDLY {
                    return Instant::now() + behind;
                }
                (Event::Early(behind), Some(behind.min(self.push.interval)))
            }
            Outcome::Smaller | Outcome::Cut => return Instant::now(),
        };
        self.push.status.note(&self.push.label, &self.push.secrets, event);
        match wait {
            Some(wait) => Instant::now() + wait,
            None => began + self.push.interval,
        }
    }

    /// How long to wait after another failure: exponential with full jitter, but as long as the receiver asks for.
    fn backoff(&mut self, advice: Option<Duration>) -> Duration {
        let ceiling = FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let jittered = ceiling.min(LONGEST_WAIT).mul_f64(fastrand::f64());
        advice.map_or(jittered, |advice| jittered.max(advice.min(LONGEST_ADVICE)))
    }

    async fn push(&mut self, last: bool) -> Outcome {
        let (mut groups, descriptions) = match self.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(reason) => return Outcome::Later { reason, after: None },
        };
        // Read before the time is: a sample holds what was counted until then.
        let (now, interval) = ((self.push.clock)(), self.push.interval);
        let moment = if last {
            self.ledger.last_moment(now)
        } else if let Some(moment) = self.ledger.moment(now, interval) {
            moment
        } else {
            return Outcome::Early;
        };
        self.ledger.observe(&mut groups);
        let outcome = self.push_groups(&groups, moment).await;
        if matches!(outcome, Outcome::Done(_)) && !last {
            self.describe(&descriptions).await;
        }
        outcome
    }

    /// Everything as it is now. Rendered off the runtime's threads: there may be many series.
    async fn snapshot(&self) -> Result<Snapshot, String> {
        let (series, host_metrics) = (self.push.series.clone(), self.push.host_metrics.clone());
        let rendered = tokio::task::spawn_blocking(move || {
            let (mut groups, mut descriptions) = of_families(&series.gather());
            let (hosts, more) = exposition::read(&host_metrics());
            groups.extend(hosts);
            descriptions.extend(more);
            (groups, descriptions)
        });
        rendered.await.map_err(|error| format!("the series could not be rendered: {error}"))
    }

    async fn push_groups(&mut self, groups: &[Group], moment: Moment) -> Outcome {
        let mut sum = Sum::default();
        let gone = self.ledger.gone();
        if let Err(outcome) = self.bury(&gone, moment.end, &mut sum).await {
            return outcome;
        }
        let new: Vec<_> = groups.iter().filter(|group| self.ledger.is_new(group)).collect();
        let zeros: Vec<_> = new.iter().map(|group| All(*group, 0.0)).collect();
        let common = self.push.common.clone();
        for request in Requests::new(&zeros, &common, moment.zero, self.push.limit.get()) {
            let groups = request.groups.iter().map(|All(group, _)| *group);
            self.ledger.sending(groups.clone());
            if let Err(outcome) = self.send(request, &mut sum).await {
                return outcome;
            }
            self.ledger.born(groups);
        }
        let born: Vec<_> = groups.iter().filter(|group| self.ledger.is_born(group)).collect();
        for request in Requests::new(&born, &common, moment.value, self.push.limit.get()) {
            self.ledger.sending(request.groups.iter().copied());
            if let Err(outcome) = self.send(request, &mut sum).await {
                return outcome;
            }
        }
        sum.into()
    }

    /// Tells the receiver that these series are over.
    async fn bury(&mut self, gone: &[Arc<Identity>], at: i64, sum: &mut Sum) -> Result<(), Outcome> {
        let ends: Vec<_> = gone.iter().map(|identity| All(identity.clone(), f64::from_bits(STALE))).collect();
        let common = self.push.common.clone();
        for request in Requests::new(&ends, &common, at, self.push.limit.get()) {
            self.send(request, sum).await?;
        }
        self.ledger.told(gone);
        Ok(())
    }

    /// Sends one request. An error means that nothing more of this push is to be sent.
    async fn send<T>(&mut self, request: Request<'_, T>, sum: &mut Sum) -> Result<(), Outcome> {
        let Request { body, series, groups, bytes, timestamp } = request;
        match self.answer(body).await {
            None => {
                self.ledger.taken(timestamp);
                Err(Outcome::Cut)
            }
            Some(Answer::Taken) => {
                self.ledger.taken(timestamp);
                self.push.limit.taken(bytes);
                sum.samples += series as u64;
                Ok(())
            }
            Some(Answer::Unwanted { reason }) => {
                // The others may be welcome.
                sum.unwanted.get_or_insert(reason);
                Ok(())
            }
            Some(Answer::TooLarge { reason }) => self.too_large(groups.len(), bytes, reason, sum),
            Some(Answer::Misdirected { reason }) => Err(Outcome::Discarded(reason)),
            Some(Answer::Silent { reason }) => {
                self.ledger.taken(timestamp);
                Err(Outcome::Later { reason, after: None })
            }
            Some(Answer::Later { reason, after }) => Err(Outcome::Later { reason, after }),
            Some(Answer::Mend { reason }) => Err(Outcome::Mend(reason)),
        }
    }

    /// A request of so many groups and bytes was too large for the receiver, or for a proxy in front of it.
    fn too_large(&self, groups: usize, bytes: usize, reason: String, sum: &mut Sum) -> Result<(), Outcome> {
        if groups > 1 {
            let limit = &self.push.limit;
            // A request may be larger than the limit by its last group.
            if let Some(limit) = limit.refused(bytes).or_else(|| limit.refused(limit.get())) {
                tracing::warn!(
                    publisher = %self.push.label,
                    limit,
                    "a push was too large for the receiver, smaller ones are made for a while: {reason}"
                );
            }
            return Err(Outcome::Smaller);
        }
        if bytes > SANE {
            sum.unwanted.get_or_insert(reason);
            return Ok(());
        }
        // What was learnt by halving was no limit.
        self.push.limit.forget();
        Err(Outcome::Mend(format!(
            "not even {bytes} bytes are taken, raise the receiver's or the proxy's limit: {reason}"
        )))
    }

    /// The receiver's answer; none if a successor has waited for long enough.
    async fn answer(&mut self, body: Vec<u8>) -> Option<Answer> {
        let mut orders = self.orders.clone();
        let succeeded = async {
            if orders.wait_for(|order| matches!(order, Order::GoOver(_))).await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            answer = self.push.place.send(body) => Some(answer),
            () = succeeded => None,
        }
    }

    /// Says what the families are, now and then. Whether anybody takes it makes no difference to the samples.
    async fn describe(&mut self, descriptions: &[Description]) {
        if self.described.is_some_and(|at| at.elapsed() < DESCRIBE_EVERY) {
            return;
        }
        self.described = Some(Instant::now());
        match self.answer(describe(descriptions)).await {
            Some(Answer::Taken) | None => {}
            Some(answer) => {
                let answer = format!("{answer:?}");
                let answer = self.push.secrets.redact(&answer);
                tracing::debug!(publisher = %self.push.label, "descriptions are not wanted: {answer}");
            }
        }
    }

    /// Ends, for a successor. It goes on with the same series at the same place; what it will not go on with is said
    /// here, once, if the receiver was well until now.
    async fn go_over(&mut self, Succession { same_place, same_series }: Succession) {
        if (same_place && same_series) || self.push.status.stall().is_some() {
            return;
        }
        let words = async {
            let mut outcome = self.push(true).await;
            if !same_place && matches!(outcome, Outcome::Done(_) | Outcome::Discarded(_)) {
                outcome = self.bury_all().await;
            }
            outcome
        };
        match timeout(GRACE, words).await {
            Ok(Outcome::Done(_)) => {}
            _ => tracing::warn!(
                publisher = %self.push.label,
                "the last state before the settings changed was not taken; what was counted since the last push is lost"
            ),
        }
    }

    async fn bury_all(&mut self) -> Outcome {
        let moment = self.ledger.last_moment((self.push.clock)());
        let sent = self.ledger.sent();
        let mut sum = Sum::default();
        match self.bury(&sent, moment.value, &mut sum).await {
            Ok(()) => sum.into(),
            Err(outcome) => outcome,
        }
    }

    async fn close(&mut self) -> Result<(), PublishError> {
        let deadline = Instant::now() + LAST_WORDS;
        self.failures = 0;
        let pushed = self.insist(deadline, async |work| work.push(true).await).await;
        if matches!(pushed, Ok(()) | Err(PublishError::Reject { .. })) {
            self.insist(deadline, async |work| work.bury_all().await).await?;
        }
        pushed
    }

    /// Tries until it has worked, never will, or `deadline`.
    async fn insist(
        &mut self,
        deadline: Instant,
        try_once: impl AsyncFn(&mut Self) -> Outcome,
    ) -> Result<(), PublishError> {
        loop {
            let began = Instant::now();
            let outcome = try_once(self).await;
            let result = match &outcome {
                Outcome::Later { reason, after } => {
                    Err(PublishError::Retry { reason: reason.clone(), after: *after })
                }
                Outcome::Mend(reason) => Err(PublishError::hold(reason)),
                Outcome::Smaller => Err(PublishError::retry("a push was too large")),
                Outcome::Discarded(reason) => Err(PublishError::reject(reason)),
                Outcome::Done(_) | Outcome::Early | Outcome::Cut => Ok(()),
            };
            let again = self.note(outcome, began);
            match result {
                Err(PublishError::Retry { .. }) if again < deadline => sleep_until(again).await,
                result => return result,
            }
        }
    }
}

/// What the requests of a push came to.
#[derive(Default)]
struct Sum {
    samples: u64,
    unwanted: Option<String>,
}

impl From<Sum> for Outcome {
    fn from(sum: Sum) -> Self {
        match sum.unwanted {
            Some(reason) => Self::Discarded(reason),
            None => Self::Done(sum.samples),
        }
    }
}
