//! A member of a failover: a publisher with a breaker, deadlines of its own, and counts.
//!
//! Invariant: whatever a member does, answers or not, is counted once and told to its breaker; a panic costs its publisher
//! its life, and the next attempt builds another one.

use super::MemberPlan;
use super::judge::Judged;
use super::status::Seen;
use crate::publisher::panics::{ask, caught, discard};
use crate::publisher::{
    Breaker, BreakerSettings, PublishError, PublishResult, Published, Publisher, Stand, close, flush,
};
use crate::record::{Rows, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Member {
    plan: MemberPlan,
    /// The failover, for the log.
    within: Arc<str>,
    /// Absent when it could not be built or opened, and after a panic.
    publisher: Option<Box<dyn Publisher>>,
    /// Why it could not be built at first.
    not_built: Option<String>,
    settings: BreakerSettings,
    breaker: Breaker,
    /// When the last attempt ended.
    ended: Option<Instant>,
    /// When the attempt began that is under way; if that is still there at the next one, it was cut off.
    began: Option<Instant>,
    /// Its last flush came to nothing.
    flush_failed: bool,
    seen: Arc<Mutex<Seen>>,
}

/// What a member said to a batch.
pub(super) enum Answer {
    /// It took it, but for these rows.
    Took(Judged),
    /// It did not.
    Not(PublishError),
}

/// How an attempt ended.
enum Ended {
    Answered(PublishResult),
    Unbuilt(anyhow::Error),
}

/// Between two attempts at a member that is out, whoever asks for them.
const REST: Duration = Duration::from_secs(1);

/// Of the clock that tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Member {
    /// # Errors
    ///
    /// It cannot be built, and that is a mistake.
    pub(super) async fn build(
        plan: MemberPlan,
        settings: BreakerSettings,
        within: Arc<str>,
    ) -> anyhow::Result<Self> {
        let seen = Seen::new(plan.context.label.clone(), plan.kind.clone(), plan.missing.clone());
        let mut member = Self {
            within,
            publisher: None,
            not_built: None,
            settings,
            breaker: Breaker::new(settings),
            ended: None,
            began: None,
            flush_failed: false,
            seen: Arc::new(Mutex::new(seen)),
            plan,
        };
        if member.plan.missing.is_some() {
            return Ok(member);
        }
        let build = async { (member.plan.factory)(member.plan.context.clone()).await };
        let error = match caught(build).await {
            Ok(Ok(publisher)) => {
                member.publisher = Some(publisher);
                return Ok(member);
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(text) => format!("building it panicked: {text}"),
        };
        if member.plan.required {
            anyhow::bail!("member \"{}\": {error}", member.label());
        }
        let error = member.redact(&error);
        member.must_be_mended(now(), &error);
        member.not_built = Some(error);
        Ok(member)
    }

    pub(super) fn label(&self) -> &Arc<str> {
        &self.plan.context.label
    }

    /// What it said, as the failover passes it on.
    pub(super) fn says(&self, reason: String) -> String {
        format!("{}: {reason}", self.label())
    }

    /// Whether there is a publisher to ask.
    pub(super) fn is_there(&self) -> bool {
        self.publisher.is_some()
    }

    pub(super) fn publisher(&mut self) -> Option<&mut dyn Publisher> {
        // Not `as_deref_mut`: the trait object's lifetime would be that of the borrow.
        match &mut self.publisher {
            Some(publisher) => Some(publisher.as_mut()),
            None => None,
        }
    }

    pub(super) fn not_built(&self) -> Option<&str> {
        self.not_built.as_deref()
    }

    pub(super) fn seen(&self) -> Arc<Mutex<Seen>> {
        self.seen.clone()
    }

    /// Whether it takes everything it is handed, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        self.breaker.stand() == Stand::Closed
    }

    /// Whether somebody has to mend something before it takes anything.
    pub(super) fn is_held(&self) -> bool {
        self.plan.missing.is_some() || self.breaker.is_held()
    }

    /// How long it is until its next probe.
    pub(super) fn until_probe(&self) -> Option<Duration> {
        self.breaker.until().map(|until| until.saturating_duration_since(now()))
    }

    /// Why it is out, if it is.
    pub(super) fn reason(&self) -> Option<String> {
        self.seen.lock().reason.clone()
    }

    /// Whether anything could come of it.
    pub(super) fn can_be_asked(&self) -> bool {
        self.plan.missing.is_none()
    }

    /// Whether it is to be asked now.
    pub(super) fn admits(&mut self) -> bool {
        self.settle_cut_off();
        let admits = self.can_be_asked() && self.breaker.admits(now());
        self.note();
        admits
    }

    /// Asks it before its probe is due, if it has had a rest: for one who asks although nobody is due.
    pub(super) fn insist(&mut self) -> bool {
        let rested = self.ended.is_none_or(|ended| now().saturating_duration_since(ended) >= REST);
        let insist = self.can_be_asked() && rested;
        if insist {
            self.breaker.probe();
            self.note();
        }
        insist
    }

    /// Opens it. What it needs from `predecessor` it takes over. If it cannot be opened it is out.
    pub(super) async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) {
        let (began, timeout) = (now(), self.plan.timeout);
        let Some(publisher) = self.publisher() else { return };
        let opened = tokio::time::timeout(timeout, caught(publisher.open(predecessor))).await;
        let error = match opened {
            Ok(Ok(Ok(()))) => return self.look(),
            Ok(Ok(Err(error))) => format!("{error:#}"),
            Ok(Err(text)) => format!("opening it panicked: {text}"),
            Err(_) => format!("not opened within {}", humantime::format_duration(timeout)),
        };
        discard(self.publisher.take());
        self.must_be_mended(began, &self.redact(&error));
    }

    /// Whether it is the same as `old`, which is alive: then it does not open, but goes on as that.
    pub(super) fn continues(&self, old: &Self) -> bool {
        self.plan.fingerprint == old.plan.fingerprint && self.plan.missing.is_none() && old.is_there()
    }

    /// Takes over from its predecessor under the same label: itself, if nothing has changed; else what it has counted.
    pub(super) fn succeed(&mut self, old: &mut Self) {
        if self.continues(old) {
            std::mem::swap(&mut self.publisher, &mut old.publisher);
            std::mem::swap(&mut self.seen, &mut old.seen);
            self.breaker = old.breaker.clone().with(self.settings);
            (self.began, self.ended, self.flush_failed) = (old.began, old.ended, old.flush_failed);
            self.not_built = None;
        } else {
            let counts = old.seen.lock().counts.clone();
            self.seen.lock().counts = counts;
        }
    }

    /// Says that it is out from the start, if it is.
    pub(super) fn report(&self) {
        let Some(reason) = self.reason() else { return };
        let (publisher, member) = (&self.within, self.label());
        match self.plan.missing {
            Some(_) => tracing::warn!(%publisher, %member, "waits, the others go on without it: {reason}"),
            None => tracing::error!(%publisher, %member, "cannot run, the others go on without it: {reason}"),
        }
    }

    /// Has it publish `rows`, within its deadline.
    pub(super) async fn publish<R: Published>(&mut self, rows: &Rows<R>) -> Answer {
        let began = now();
        self.began = Some(began);
        self.seen.lock().counts.attempts += 1;
        let was_there = self.is_there();
        let (publisher, plan) = (&mut self.publisher, &self.plan);
        let attempt = async {
            match ready(publisher, plan).await {
                Ok(publisher) => Ended::Answered(R::publish(publisher, rows).await),
                Err(error) => Ended::Unbuilt(error),
            }
        };
        let ended = tokio::time::timeout(self.plan.timeout, caught(attempt)).await;
        (self.began, self.ended) = (None, Some(now()));
        if !was_there && self.is_there() {
            self.look();
        }
        let error = match ended {
            Ok(Ok(Ended::Answered(Ok(unpublished)))) => {
                return Answer::Took(self.took(began, rows.len(), Judged::new(unpublished, rows.len())));
            }
            Ok(Ok(Ended::Answered(Err(error)))) => error,
            Ok(Ok(Ended::Unbuilt(error))) => {
                PublishError::hold(format!("could not be built again: {error:#}"))
            }
            Ok(Err(text)) => {
                discard(self.publisher.take());
                PublishError::retry(format!("the publisher panicked: {text}"))
            }
            Err(_) => {
                let timeout = humantime::format_duration(self.plan.timeout);
                PublishError::retry(format!("no answer within {timeout}"))
            }
        };
        match &error {
            PublishError::Reject { .. } => {
                self.seen.lock().counts.rejected += rows.len() as u64;
                // Its verdict on the rows, not a failure of its own.
                self.succeeded();
            }
            PublishError::Retry { reason, after } => self.failed(began, reason, *after),
            PublishError::Hold { reason } => self.held(began, reason),
        }
        Answer::Not(error)
    }

    fn held(&mut self, began: Instant, reason: &str) {
        self.seen.lock().counts.failed_attempts += 1;
        let reason = self.redact(reason);
        if self.must_be_mended(began, &reason) {
            let (publisher, member) = (&self.within, self.label());
            tracing::error!(%publisher, %member, "takes no records until somebody mends it: {reason}");
        }
    }

    fn took(&mut self, began: Instant, rows: usize, judged: Judged) -> Judged {
        let taken = judged.taken(rows) as u64;
        {
            let counts = &mut self.seen.lock().counts;
            counts.delivered += taken;
            counts.rejected += judged.rejected.len() as u64;
            counts.misreported_rows += judged.strays;
            if taken > 0 {
                counts.last_delivery = Some(Timestamp::now());
            }
        }
        let advice = judged.again.iter().filter_map(|again| again.after).max();
        match judged.again.first() {
            // As if it had answered that of all of them.
            Some(again) if taken == 0 && judged.again.iter().all(|again| again.hold) => {
                self.held(began, &again.reason);
            }
            Some(again) => self.failed(began, &again.reason, advice),
            None => self.succeeded(),
        }
        judged
    }

    /// Has it flush, within its deadline. One that is down and could not flush is not waited for again before its next
    /// probe is due.
    ///
    /// # Errors
    ///
    /// What it holds back could not be handed on: why.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        self.settle_cut_off();
        let (began, timeout) = (now(), self.plan.timeout);
        if self.flush_failed && self.breaker.until().is_some_and(|until| began < until) {
            return Ok(());
        }
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        self.began = Some(began);
        let flushed = tokio::time::timeout(timeout, caught(flush(&mut **publisher))).await;
        self.began = None;
        self.flush_failed = !matches!(flushed, Ok(Ok(Ok(()))));
        let (error, is_down) = match flushed {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => (error.to_string(), false),
            Ok(Err(text)) => {
                discard(self.publisher.take());
                (format!("the publisher panicked: {text}"), true)
            }
            Err(_) => (format!("no answer within {}", humantime::format_duration(timeout)), true),
        };
        let error = format!("could not flush: {error}");
        if is_down {
            self.failed(began, &error, None);
        } else {
            self.seen.lock().counts.last_error = Some(self.redact(&error));
        }
        Err(format!("{}: {error}", self.label()))
    }

    /// Has it say its last words: nobody is asked after that.
    pub(super) async fn close(&mut self) -> Result<(), String> {
        let timeout = self.plan.timeout;
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        let error = match tokio::time::timeout(timeout, caught(close(&mut **publisher))).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(text)) => {
                discard(self.publisher.take());
                format!("the publisher panicked: {text}")
            }
            Err(_) => format!("no answer within {}", humantime::format_duration(timeout)),
        };
        Err(format!("{}: could not close: {}", self.label(), self.redact(&error)))
    }

    /// Has its publisher forget what is held against it; then it is asked again when its turn comes. False if there is
    /// nothing to forget.
    pub(super) fn reset(&mut self) -> bool {
        let publisher = self.publisher.as_mut();
        let reset = publisher.and_then(|publisher| ask(|| publisher.reset())).unwrap_or_default();
        if reset {
            self.breaker = Breaker::new(self.settings);
            self.seen.lock().reason = None;
            self.note();
        }
        reset
    }

    fn settle_cut_off(&mut self) {
        if let Some(began) = self.began.take() {
            self.failed(began, "the attempt was cut off", None);
        }
    }

    fn succeeded(&mut self) {
        if self.breaker.succeeded() {
            tracing::info!(publisher = %self.within, member = %self.label(), "takes records again");
        }
        self.seen.lock().reason = None;
        self.note();
    }

    fn failed(&mut self, began: Instant, reason: &str, advice: Option<Duration>) {
        let reason = self.redact(reason);
        if self.breaker.failed(began, now(), advice) {
            let (publisher, member) = (&self.within, self.label());
            tracing::warn!(%publisher, %member, "takes no records until it has recovered: {reason}");
        }
        {
            let mut seen = self.seen.lock();
            seen.counts.failed_attempts += 1;
            seen.counts.last_error = Some(reason.clone());
            seen.reason = Some(reason);
        }
        self.note();
    }

    /// True if that is news. The reason is one that anyone may read.
    fn must_be_mended(&mut self, began: Instant, reason: &str) -> bool {
        let is_news = self.breaker.must_be_mended(began, now());
        {
            let mut seen = self.seen.lock();
            seen.counts.last_error = Some(reason.to_owned());
            seen.reason = Some(reason.to_owned());
        }
        self.note();
        is_news
    }

    /// Shows how its breaker stands.
    fn note(&self) {
        self.seen.lock().set(&self.breaker);
    }

    /// Asks what its publisher says of itself.
    fn look(&self) {
        let detail = self.publisher.as_ref().and_then(|publisher| ask(|| publisher.status()).flatten());
        self.seen.lock().detail = detail;
    }

    fn redact(&self, text: &str) -> String {
        self.plan.context.secrets.redact(text).into_owned()
    }
}

/// The publisher; built and opened anew if it was lost.
async fn ready<'a>(
    publisher: &'a mut Option<Box<dyn Publisher>>,
    plan: &MemberPlan,
) -> anyhow::Result<&'a mut dyn Publisher> {
    let ready = match publisher.take() {
        Some(ready) => ready,
        None => {
            let mut built = (plan.factory)(plan.context.clone()).await?;
            built.open(None).await?;
            built
        }
    };
    Ok(publisher.insert(ready).as_mut())
}

/// Two of them that panic while one failover goes must not be the end of the process.
impl Drop for Member {
    fn drop(&mut self) {
        discard(self.publisher.take());
    }
}
