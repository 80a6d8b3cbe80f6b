//! When to try again: exponential backoff with jitter, the publisher's own advice honoured up to a bound, and a breaker
//! that says whether the publisher is down or has only failed now and then.
//!
//! With one worker per publisher and one call at a time, backing off is already what a breaker does: nothing is sent while
//! it waits, and what it sends then is the probe. (Of the whole batch: a server that takes a few rows and fails under
//! many would only be asked more often.) Down means more, though: the wait is never short by chance, and of one attempt's
//! two calls the second is not made.

use crate::config::RetryConfig;
use crate::publisher::{Breaker, BreakerSettings, Stand};
use std::time::Duration;
use tokio::time::Instant;

/// The pace of a worker's attempts.
pub(super) struct Pace {
    /// Attempts that failed in a row.
    failures: u32,
    breaker: Breaker,
    /// When the last attempt began.
    began: Instant,
    again_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        let breaker = Breaker::new(BreakerSettings::default());
        Self { failures: 0, breaker, began: Instant::now(), again_at: None }
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self) {
        self.began = Instant::now();
        self.breaker.probe();
    }

    /// Something was published: the next attempt begins anew.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
        self.breaker.succeeded();
        self.began = Instant::now();
        self.hurry();
    }

    /// The next attempt is due at once.
    pub(super) fn hurry(&mut self) {
        self.again_at = None;
    }

    /// When the next attempt is due.
    pub(super) fn due(&self) -> Instant {
        self.again_at.unwrap_or_else(Instant::now)
    }

    /// How the breaker stands, and how long it is until the next attempt.
    pub(super) fn stands(&self) -> (Stand, Option<Duration>) {
        let wait = self.again_at.map(|at| at.saturating_duration_since(Instant::now()));
        (self.breaker.stand(), wait.filter(|wait| !wait.is_zero()))
    }

    /// Whether the publisher counts as down.
    pub(super) fn is_down(&self) -> bool {
        self.breaker.stand() != Stand::Closed
    }

    /// The attempt failed: how long to wait before the next one. `advice` is waited for in full, but for no longer than
    /// an hour or the longest backoff, whichever is more: a server may ask for patience, not for eternity.
    pub(super) fn failed(&mut self, config: &RetryConfig, advice: Option<Duration>) -> Duration {
        self.breaker.failed(self.began.into_std(), Instant::now().into_std(), advice);
        let ceiling = config.initial.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let ceiling = ceiling.min(config.max);
        self.failures = self.failures.saturating_add(1);
        // Many that failed together are not to come back together; and one that is down is left alone for a while.
        let least = if self.is_down() { 0.5 } else { 0.0 };
        let jittered = ceiling.mul_f64(least + (1.0 - least) * fastrand::f64());
        let longest = config.max.max(Duration::from_secs(3_600));
        advice.map_or(jittered, |advice| jittered.max(advice.min(longest)))
    }

    /// The attempt was given up because somebody has to mend something: how long to wait before the next one.
    pub(super) fn held(&mut self, config: &RetryConfig) -> Duration {
        self.breaker.must_be_mended(self.began.into_std(), Instant::now().into_std());
        config.hold
    }

    /// The next attempt is due after `pause`.
    pub(super) fn wait(&mut self, pause: Duration) {
        self.again_at = Some(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(failures: u32) -> Duration {
        let RetryConfig { initial, max, .. } = RetryConfig::default();
        initial.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(max)
    }

    #[tokio::test(start_paused = true)]
    async fn waits_stay_below_a_ceiling_that_doubles_up_to_a_bound() {
        let (config, mut pace) = (RetryConfig::default(), Pace::new());
        for failures in 0..64_u32 {
            assert!(pace.failed(&config, None) <= ceiling(failures));
        }
        pace.reset();
        assert!(pace.failed(&config, None) <= config.initial);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_down_is_left_alone_for_at_least_half_of_it() {
        let (config, mut pace) = (RetryConfig::default(), Pace::new());
        for _ in 0..4 {
            pace.failed(&config, None);
            assert!(!pace.is_down());
        }
        for failures in 4..64_u32 {
            pace.begin();
            let (wait, ceiling) = (pace.failed(&config, None), ceiling(failures));
            assert!(pace.is_down() && wait >= ceiling / 2 && wait <= ceiling, "{wait:?}");
        }
        pace.reset();
        assert!(!pace.is_down());
        // One that does not answer is down at once.
        tokio::time::advance(Duration::from_secs(30)).await;
        pace.failed(&config, None);
        assert!(pace.is_down());
    }

    #[tokio::test(start_paused = true)]
    async fn advice_is_the_least_that_is_waited_and_bounded() {
        let (config, mut pace) = (RetryConfig::default(), Pace::new());
        assert!(pace.failed(&config, Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert_eq!(pace.failed(&config, Some(Duration::MAX)), Duration::from_secs(3_600));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_is_due_when_the_wait_is_over() {
        let (config, mut pace) = (RetryConfig::default(), Pace::new());
        assert_eq!((pace.due(), pace.stands()), (Instant::now(), (Stand::Closed, None)));
        let pause = pace.held(&config);
        pace.wait(pause);
        assert_eq!(
            (pace.due(), pace.stands()),
            (Instant::now() + config.hold, (Stand::Open, Some(config.hold)))
        );
        tokio::time::advance(config.hold).await;
        pace.begin();
        assert_eq!(pace.stands(), (Stand::Probing, None));
    }
}
