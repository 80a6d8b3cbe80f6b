//! Whether a plugin is well: when its next instance is due, and when it is given up until somebody does something.
//!
//! Invariant: only instances that died by their own doing count, and what was published or handed on takes back what
//! counted before: one bad record, a slow server, or a call that was given up quarantine nobody.

use std::time::Duration;
use tokio::time::Instant;

/// The bounds of the wait for the next instance, which doubles with every failure.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// An instance that has lived this long has made good for those before it.
const HEALTHY: Duration = Duration::from_secs(60);

/// What an instance died of, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Starting or publishing.
    Publish,
    /// Handing on what it held back: that it had published is no excuse.
    Flush,
}

/// How a plugin fares.
#[derive(Debug)]
pub(super) struct Health {
    /// So many strikes are too many.
    most: u32,
    backoff: Backoff,
    publish: u32,
    flush: u32,
    /// Why it is not asked any more.
    quarantined: Option<String>,
}

impl Health {
    pub(super) fn new(most: u32) -> Self {
        Self { most, backoff: Backoff::default(), publish: 0, flush: 0, quarantined: None }
    }

    /// Instances died in vain, the last of `cause` after it had lived so long, if it had come to life. Returns how long to
    /// wait before the next one.
    pub(super) fn failed(&mut self, at: At, lived: Option<Duration>, cause: &str) -> Duration {
        if lived.is_some_and(|lived| lived >= HEALTHY) {
            (self.publish, self.flush) = (0, 0);
        }
        let strikes = match at {
            At::Publish => &mut self.publish,
            At::Flush => &mut self.flush,
        };
        *strikes = strikes.saturating_add(1);
        let strikes = *strikes;
        if strikes >= self.most {
            self.quarantined.get_or_insert_with(|| {
                let what = match at {
                    At::Publish => "published nothing",
                    At::Flush => "could not flush",
                };
                format!("quarantined after {strikes} instances in a row that {what}: {cause}")
            });
        }
        self.backoff.failed(lived)
    }

    /// Something was published: it is not the plugin.
    pub(super) fn published(&mut self) {
        self.publish = 0;
    }

    /// What was held back was handed on.
    pub(super) fn flushed(&mut self) {
        self.flush = 0;
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.most);
    }

    pub(super) fn strikes(&self) -> u32 {
        self.publish.max(self.flush)
    }

    /// Why it is quarantined, if it is.
    pub(super) fn quarantined(&self) -> Option<&str> {
        self.quarantined.as_deref()
    }

    /// How long it is until the next instance is due.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.backoff.wait()
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
    use super::{At, Backoff, FIRST_WAIT, HEALTHY, Health, LONGEST_WAIT};

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

    #[test]
    fn strikes_in_a_row_end_in_quarantine_and_progress_of_the_same_kind_takes_them_back() {
        let mut health = Health::new(3);
        for _ in 0..2 {
            health.failed(At::Publish, None, "a trap");
            health.failed(At::Flush, None, "another");
        }
        health.published();
        assert_eq!((health.strikes(), health.quarantined()), (2, None), "it still cannot flush");
        health.flushed();
        assert_eq!(health.strikes(), 0);
        for _ in 0..2 {
            health.failed(At::Publish, None, "a trap");
        }
        health.failed(At::Publish, Some(HEALTHY), "it lived long enough");
        assert_eq!((health.strikes(), health.quarantined()), (1, None));
        for _ in 0..2 {
            health.failed(At::Publish, None, "a trap");
        }
        let reason = "quarantined after 3 instances in a row that published nothing: a trap";
        assert_eq!(health.quarantined(), Some(reason));
        health.published();
        assert!(health.quarantined().is_some(), "only somebody ends it");
        health.reset();
        assert_eq!((health.strikes(), health.quarantined(), health.wait()), (0, None, None));
    }
}
