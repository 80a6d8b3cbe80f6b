//! A plugin as a publisher: keeps an instance alive, bounds its calls, and replaces it when it fails.
//!
//! Invariant: at any moment there is one instance or none. A call takes the instance out, and puts it back only if it
//! came to its end: after a trap, a deadline, or a call that the caller gave up, it is gone, whatever happens.

use super::bindings::{self, Answer, GuestError, Published};
use super::instance::{Failure, Instance, Setup};
use crate::publisher::{PublishError, PublishResult, Publisher, StatusSource};
use crate::record::{EventBatch, NetworkBatch, Rows};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, error::Elapsed, timeout};

/// The bounds of the wait for the next instance, which doubles with every failure.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// An instance that has lived this long has made good for those before it.
const HEALTHY: Duration = Duration::from_secs(60);

/// A running plugin.
pub(super) struct Plugin {
    setup: Arc<Setup>,
    instance: Option<Instance>,
    backoff: Backoff,
}

impl Plugin {
    /// Makes the first instance, so that a plugin that cannot run is found out before anything depends on it.
    pub(super) async fn start(setup: Arc<Setup>) -> Result<Self, Failure> {
        let limit = setup.limits.call_timeout;
        let instance = timeout(limit, Instance::start(&setup)).await.map_err(|_| Failure::TimedOut)??;
        Ok(Self { setup, instance: Some(instance), backoff: Backoff::default() })
    }

    async fn publish<R: Published>(&mut self, rows: &Rows<R>) -> PublishResult {
        let limit = self.setup.limits.call_timeout;
        let mut call = Call::begin(self)?;
        let outcome = timeout(limit, call.publish(rows)).await;
        bindings::answer(call.end(outcome)?, rows.len())
    }

    /// The instance failed: what to tell delivery.
    fn failed(&mut self, failure: &Failure, lived: Option<Duration>) -> PublishError {
        let cause = self.setup.explain(failure);
        let wait = self.backoff.failed(lived);
        self.setup.status.failed(&cause);
        tracing::warn!(target: "pressroom::plugin", label = &*self.setup.label, cause, ?wait, "plugin failed, its instance is discarded");
        let reason = format!("plugin {}: {cause}", self.setup.label);
        PublishError::Retry { reason, after: Some(wait) }
    }
}

#[async_trait::async_trait]
impl Publisher for Plugin {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations).await
    }

    async fn flush(&mut self) -> Result<(), PublishError> {
        // Without an instance nothing is held back.
        if self.instance.is_none() {
            return Ok(());
        }
        let limit = self.setup.limits.call_timeout;
        let mut call = Call::begin(self)?;
        let outcome = timeout(limit, call.flush()).await;
        call.end(outcome)?.map_err(bindings::error)
    }

    fn status(&self) -> Option<StatusSource> {
        let status = self.setup.status.clone();
        Some(Arc::new(move || status.json()))
    }
}

/// A call under way. Dropped before its end, it takes the instance with it.
struct Call<'a> {
    plugin: &'a mut Plugin,
    instance: Option<Instance>,
    ended: bool,
}

impl<'a> Call<'a> {
    /// # Errors
    ///
    /// The next instance is not due yet.
    fn begin(plugin: &'a mut Plugin) -> Result<Self, PublishError> {
        let instance = plugin.instance.take();
        if instance.is_none()
            && let Some(wait) = plugin.backoff.wait()
        {
            let reason = format!("plugin {}: waits for its next instance", plugin.setup.label);
            return Err(PublishError::Retry { reason, after: Some(wait) });
        }
        Ok(Self { plugin, instance, ended: false })
    }

    async fn publish<R: Published>(&mut self, rows: &Rows<R>) -> Result<Answer, Failure> {
        self.retire_if_due().await?;
        self.instance().await?.publish(rows).await
    }

    async fn flush(&mut self) -> Result<Result<(), GuestError>, Failure> {
        self.instance().await?.flush().await
    }

    async fn instance(&mut self) -> Result<&mut Instance, Failure> {
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => Instance::start(&self.plugin.setup).await?,
        };
        Ok(self.instance.insert(instance))
    }

    /// An instance that is about to reach its limit, or runs code that there is better of, makes way for a fresh one,
    /// once it has handed on what it holds.
    async fn retire_if_due(&mut self) -> Result<(), Failure> {
        if let Some(instance) =
            self.instance.as_mut().filter(|instance| instance.is_full() || instance.is_outdated())
            && matches!(instance.flush().await?, Ok(()) | Err(GuestError::Reject(_)))
        {
            self.instance = None;
            self.plugin.setup.status.retired.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn end<T>(mut self, outcome: Result<Result<T, Failure>, Elapsed>) -> Result<T, PublishError> {
        self.ended = true;
        let failure = match outcome {
            Ok(Ok(answer)) => {
                self.plugin.instance = self.instance.take();
                return Ok(answer);
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::TimedOut,
        };
        let lived = self.instance.take().map(|instance| instance.since.elapsed());
        Err(self.plugin.failed(&failure, lived))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let lived = self.instance.take().map(|instance| instance.since.elapsed());
            self.plugin.failed(&Failure::Cancelled, lived);
        }
    }
}

/// When the next instance is due: full jitter below a bound that doubles with every failure.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// An instance failed that had lived so long, if it had come to life.
    fn failed(&mut self, lived: Option<Duration>) -> Duration {
        if lived.is_some_and(|lived| lived >= HEALTHY) {
            self.failures = 0;
        }
        let most =
            FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        let wait = most.mul_f64(fastrand::f64());
        self.until = Some(Instant::now() + wait);
        wait
    }

    /// How long there is still to wait.
    fn wait(&self) -> Option<Duration> {
        self.until?.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST_WAIT, HEALTHY, LONGEST_WAIT};

    #[tokio::test(start_paused = true)]
    async fn the_wait_grows_to_a_bound_and_is_forgotten_after_healthy_time() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(), None);
        for failures in 0..100_u32 {
            let wait = backoff.failed(None);
            assert!(
                wait <= FIRST_WAIT.saturating_mul(1 << failures.min(20)).min(LONGEST_WAIT),
                "{failures} {wait:?}"
            );
            assert_eq!(backoff.wait().unwrap_or_default(), wait);
            tokio::time::advance(wait).await;
            assert_eq!(backoff.wait(), None);
        }
        assert!(backoff.failed(Some(HEALTHY)) <= FIRST_WAIT);
    }
}
