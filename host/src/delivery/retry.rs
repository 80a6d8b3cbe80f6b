//! When to try again: exponential backoff with full jitter, the publisher's own advice honoured up to a bound.

use crate::config::RetryConfig;
use std::time::Duration;

/// Counts the attempts that failed in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next attempt begins anew.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next attempt. `advice` is waited for in full, but for no longer than an hour or the
    /// longest backoff, whichever is more: a server may ask for patience, not for eternity.
    pub(super) fn next(&mut self, config: &RetryConfig, advice: Option<Duration>) -> Duration {
        let ceiling = config.initial.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let ceiling = ceiling.min(config.max);
        self.failures = self.failures.saturating_add(1);
        let jittered = ceiling.mul_f64(fastrand::f64());
        let longest = config.max.max(Duration::from_secs(3_600));
        advice.map_or(jittered, |advice| jittered.max(advice.min(longest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_ceiling_that_doubles_up_to_a_bound() {
        let config = RetryConfig::default();
        let mut backoff = Backoff::default();
        for failures in 0..64_u32 {
            let ceiling = config.initial.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
            assert!(backoff.next(&config, None) <= ceiling.min(config.max));
        }
        backoff.reset();
        assert!(backoff.next(&config, None) <= config.initial);
    }

    #[test]
    fn advice_is_the_least_that_is_waited_and_bounded() {
        let config = RetryConfig::default();
        let mut backoff = Backoff::default();
        assert!(backoff.next(&config, Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert_eq!(backoff.next(&config, Some(Duration::MAX)), Duration::from_secs(3_600));
    }
}
