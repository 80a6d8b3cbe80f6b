//! A lane: one instance at a time, replaced when it is lost.
//!
//! Invariant: a call takes the instance out, and puts it back only if it came to its end: after a trap, a deadline, or a
//! call that nobody waited for, it is gone, whatever happens. The next one is made within the next call, at once.

use super::super::bindings::{self, Answer, GuestError, Published};
use super::super::instance::{Failure, Instance, Setup};
use super::super::settings::Acknowledge;
use crate::publisher::{PublishError, PublishResult};
use crate::record::Rows;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, error::Elapsed, timeout};

/// One instance at a time.
pub(super) struct Lane {
    setup: Arc<Setup>,
    instance: Option<Instance>,
    /// The instance has answered rows that it has not flushed since.
    holds: bool,
    /// How often an instance was lost that held rows.
    lost: u64,
    /// How an instance died that was to be retired, and how old it was.
    died_retiring: Option<Death>,
    /// When the last instance was lost, until there is another one.
    lost_at: Option<Instant>,
}

/// How an instance was lost.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) text: String,
    /// How old it was, if it had come to life.
    pub(super) lived: Option<Duration>,
    /// It was the first thing that it did.
    pub(super) fresh: bool,
    pub(super) kind: Kind,
}

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The instance's own, in a call.
    Died,
    /// It had not come to life.
    Unborn,
    /// The host's: it waited for too long.
    Late,
}

/// What a call is to do beside publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Flush, so that what the next call dies of costs nothing.
    Flush,
}

impl Lane {
    /// Starts an instance, so that a plugin that cannot run is found out before anything depends on it.
    pub(super) async fn start(setup: Arc<Setup>) -> Result<Self, Failure> {
        let started = timeout(setup.limits.call_timeout, Instance::start(&setup)).await;
        let instance = started.map_err(|_| Failure::TimedOut(String::new()))??;
        Ok(Self { instance: Some(instance), ..Self::empty(setup) })
    }

    /// One whose instance is made when it is needed.
    pub(super) fn empty(setup: Arc<Setup>) -> Self {
        Self { setup, instance: None, holds: false, lost: 0, died_retiring: None, lost_at: None }
    }

    /// Takes all of it, for a task of its own; an empty one is left.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::empty(self.setup.clone()))
    }

    pub(super) fn is_alive(&self) -> bool {
        self.instance.is_some()
    }

    /// Whether its instance is to make way for another one before it is called again.
    pub(super) fn is_due(&self) -> bool {
        self.instance.as_ref().is_some_and(Instance::is_due)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// How an instance died that was to hand on what it held before it made way, if that was so.
    pub(super) fn died_retiring(&mut self) -> Option<Death> {
        self.died_retiring.take()
    }

    /// Has the instance publish `rows`, within `limit`. The error of a flush after that is passed on beside the answer.
    pub(super) async fn publish<R: Published>(
        &mut self,
        rows: &Rows<R>,
        then: Then,
        limit: Duration,
    ) -> Result<(PublishResult, Result<(), PublishError>), Death> {
        let mut call = Call::begin(self);
        let outcome = timeout(limit, call.publish(rows, then)).await;
        let (answer, flushed) = call.end(outcome)?;
        let secrets = &self.setup.secrets;
        let answer = bindings::answer(answer, rows.len(), R::FUNCTION, secrets);
        let flushed = flushed.map_err(|cause| bindings::error(cause, "flush", secrets));
        self.holds |= answer.is_ok();
        if then == Then::Flush && matches!(flushed, Ok(()) | Err(PublishError::Reject { .. })) {
            self.holds = false;
        }
        Ok((answer, flushed))
    }

    /// Has the instance hand on what it holds back. Without an instance nothing is.
    pub(super) async fn flush(&mut self) -> Result<Result<(), PublishError>, Death> {
        if self.instance.is_none() {
            return Ok(Ok(()));
        }
        let limit = self.setup.limits.call_timeout;
        let mut call = Call::begin(self);
        let outcome = timeout(limit, call.flush()).await;
        let flushed = call.end(outcome)?;
        let flushed = flushed.map_err(|cause| bindings::error(cause, "flush", &self.setup.secrets));
        if matches!(flushed, Ok(()) | Err(PublishError::Reject { .. })) {
            self.holds = false;
            if self.is_due() {
                self.retire();
            }
        }
        Ok(flushed)
    }

    /// The one way in which an instance goes that has done nothing wrong.
    fn retire(&mut self) {
        self.instance = None;
        self.setup.status.retired.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the instance is gone, and by whose doing.
    fn lose(&mut self, cause: &str, kind: Kind) {
        self.lost += u64::from(std::mem::take(&mut self.holds));
        self.lost_at = Some(Instant::now());
        let status = &self.setup.status;
        match kind {
            Kind::Died | Kind::Unborn => status.died(cause),
            Kind::Late => status.timed_out(cause),
        }
        tracing::debug!(target: "pressroom::plugin", label = &*self.setup.label, cause, "an instance was lost");
    }
}

/// A call under way. Dropped before its end, it takes the instance with it.
struct Call<'a> {
    lane: &'a mut Lane,
    instance: Option<Instance>,
    began: Instant,
    /// The instance of this call had done nothing before.
    fresh: bool,
    ended: bool,
}

impl<'a> Call<'a> {
    fn begin(lane: &'a mut Lane) -> Self {
        let instance = lane.instance.take();
        Self { lane, instance, began: Instant::now(), fresh: false, ended: false }
    }

    async fn publish<R: Published>(
        &mut self,
        rows: &Rows<R>,
        then: Then,
    ) -> Result<(Answer, Result<(), GuestError>), Failure> {
        self.retire_if_due().await;
        let instance = self.instance().await?;
        let answer = instance.publish(rows).await?;
        let flushed = match then {
            Then::Flush => instance.flush().await?,
            Then::Nothing => Ok(()),
        };
        Ok((answer, flushed))
    }

    async fn flush(&mut self) -> Result<Result<(), GuestError>, Failure> {
        self.instance().await?.flush().await
    }

    async fn instance(&mut self) -> Result<&mut Instance, Failure> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                let instance = Instance::start(&self.lane.setup).await?;
                if let Some(lost) = self.lane.lost_at.take() {
                    self.lane.setup.status.succeeded(lost.elapsed());
                }
                instance
            }
        };
        self.fresh = instance.is_fresh();
        Ok(self.instance.insert(instance))
    }

    /// An instance that is due makes way for a fresh one, once it has handed on what it holds. Where rows are acknowledged
    /// when they are flushed, that is for whoever keeps them to ask for.
    async fn retire_if_due(&mut self) {
        let at_flush = self.lane.setup.acknowledge == Acknowledge::Flush;
        let Some(instance) = self.instance.as_mut().filter(|instance| !at_flush && instance.is_due()) else {
            return;
        };
        match instance.flush().await {
            Ok(Ok(()) | Err(GuestError::Reject(_))) => {
                self.instance = None;
                self.lane.retire();
            }
            Ok(Err(_)) => {}
            Err(failure) => {
                let lived = Some(instance.since.elapsed());
                self.instance = None;
                let text = self.lane.setup.explain(&failure);
                self.lane.lose(&text, Kind::Died);
                self.lane.died_retiring = Some(Death { text, lived, fresh: false, kind: Kind::Died });
            }
        }
    }

    fn end<T>(mut self, outcome: Result<Result<T, Failure>, Elapsed>) -> Result<T, Death> {
        self.ended = true;
        self.lane.setup.status.took(self.began.elapsed());
        let instance = self.instance.take();
        let (failure, kind) = match (outcome, &instance) {
            (Ok(Ok(answer)), _) => {
                self.lane.instance = instance;
                return Ok(answer);
            }
            (Ok(Err(failure)), Some(_)) => (failure, Kind::Died),
            (Ok(Err(failure)), None) => (failure, Kind::Unborn),
            (Err(_), Some(instance)) => match instance.timed_out() {
                (failure, true) => (failure, Kind::Died),
                (failure, false) => (failure, Kind::Late),
            },
            // It waited in its start, and not for itself: compute has a bound of its own.
            (Err(_), None) => (Failure::TimedOut(String::new()), Kind::Late),
        };
        let text = self.lane.setup.explain(&failure);
        let lived = instance.map(|instance| instance.since.elapsed());
        self.lane.lose(&text, kind);
        Err(Death { text, lived, fresh: self.fresh, kind })
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.lane.lost += u64::from(std::mem::take(&mut self.lane.holds));
            self.lane.setup.status.given_up("was given up in the middle of a call");
        }
    }
}
