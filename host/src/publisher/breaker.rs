//! A breaker: stops asking what is down, and probes it.
//!
//! Invariant: it is asked before each attempt and told of its outcome after it. Closed, it lets everything through. It
//! opens when too many attempts in a row have failed or they have failed for too long, and at once where somebody has
//! to mend something. Open, it lets through one attempt when its wait is over, the probe: that closes it, or opens it
//! for longer. It knows no clock: whoever asks says what time it is.

use serde::Serialize;
use std::time::{Duration, Instant};

/// When a breaker opens, and how long it stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failed attempts in a row open it, ...
    pub failures: u32,
    /// ... and so does one that fails when attempts have failed for so long, from the beginning of the first.
    pub failing_for: Duration,
    /// The bound of the wait for the first probe; it doubles with every probe that fails.
    pub initial: Duration,
    /// What it doubles to at most.
    pub max: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            failing_for: Duration::from_secs(10),
            initial: Duration::from_secs(5),
            max: Duration::from_secs(60),
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stand {
    /// Everything is let through.
    Closed,
    /// Nothing is.
    Open,
    /// One attempt is under way that decides.
    Probing,
}

impl Stand {
    /// As it is written in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}

/// Counts failed attempts, and says whether another one is worth it.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    stand: Stand,
    /// Failed attempts in a row.
    failures: u32,
    /// When the first of them began.
    failing_since: Option<Instant>,
    /// Probes of these.
    probes: u32,
    /// When the next one is due.
    until: Option<Instant>,
    held: bool,
}

/// Where a probe hangs, its time is lost to whoever waits for its end: at most a fifth is.
const REST_AFTER_A_PROBE: u32 = 4;
/// Advice is heeded for so long: a server may ask for patience, not for eternity.
const LONGEST_ADVICE: Duration = Duration::from_secs(3_600);

impl Breaker {
    /// A closed one.
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            stand: Stand::Closed,
            failures: 0,
            failing_since: None,
            probes: 0,
            until: None,
            held: false,
        }
    }

    /// As it stands, with other settings from here on.
    #[must_use]
    pub fn with(self, settings: BreakerSettings) -> Self {
        Self { settings, ..self }
    }

    /// How it stands.
    pub fn stand(&self) -> Stand {
        self.stand
    }

    /// Whether it is open because somebody has to mend something.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Attempts that have failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next probe is due; `None` unless it is open.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether an attempt may be made now, which will be told of. Where it is open and its wait is over, that is the
    /// probe.
    pub fn admits(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now < until) {
            return false;
        }
        self.probe();
        true
    }

    /// An attempt is made now, whatever it says: where nobody else is left to be asked.
    pub fn probe(&mut self) {
        if self.stand != Stand::Closed {
            (self.stand, self.until) = (Stand::Probing, None);
        }
    }

    /// An attempt succeeded. True if it was not closed before.
    pub fn succeeded(&mut self) -> bool {
        let was_closed = self.stand == Stand::Closed;
        *self = Self::new(self.settings);
        !was_closed
    }

    /// An attempt that began then failed now; `advice` is how long to wait at least, if anyone said. True if that has
    /// opened it: it was closed before.
    pub fn failed(&mut self, began: Instant, now: Instant, advice: Option<Duration>) -> bool {
        self.held = false;
        self.count(began);
        let failing = now.saturating_duration_since(self.failing_since.unwrap_or(began));
        let patient = self.failures < self.settings.failures && failing < self.settings.failing_for;
        if self.stand == Stand::Closed && patient {
            return false;
        }
        self.open(began, now, advice)
    }

    /// An attempt that began then was given up now because somebody has to mend something. True if that is news.
    pub fn must_be_mended(&mut self, began: Instant, now: Instant) -> bool {
        let is_news = !std::mem::replace(&mut self.held, true);
        self.count(began);
        self.open(began, now, None);
        is_news
    }

    fn count(&mut self, began: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(began);
    }

    fn open(&mut self, began: Instant, now: Instant, advice: Option<Duration>) -> bool {
        let opened = self.stand == Stand::Closed;
        let ceiling =
            self.settings.initial.saturating_mul(1_u32.checked_shl(self.probes).unwrap_or(u32::MAX));
        let ceiling = ceiling.min(self.settings.max);
        self.probes = self.probes.saturating_add(1);
        // Never sooner than half of it: many that went down together do not come back together, nor at once.
        let jittered = ceiling.mul_f64(0.5 + fastrand::f64() / 2.0);
        let rest = now.saturating_duration_since(began).saturating_mul(REST_AFTER_A_PROBE);
        let advice = advice.unwrap_or_default().min(LONGEST_ADVICE);
        self.until = now.checked_add(jittered.max(rest).max(advice));
        self.stand = Stand::Open;
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> BreakerSettings {
        BreakerSettings { failures: 3, failing_for: 10 * SECOND, initial: 4 * SECOND, max: 20 * SECOND }
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_forgets_them() {
        let (mut breaker, now) = (Breaker::new(settings()), Instant::now());
        assert!(!breaker.failed(now, now, None) && !breaker.failed(now, now, None));
        assert!(!breaker.succeeded(), "it was closed all the time");
        assert!(!breaker.failed(now, now, None) && !breaker.failed(now, now, None));
        assert!(breaker.admits(now));
        assert!(breaker.failed(now, now, None), "the third in a row");
        assert_eq!((breaker.stand(), breaker.failures()), (Stand::Open, 3));
        assert!(!breaker.admits(now) && !breaker.is_held());
    }

    #[test]
    fn failing_for_long_opens_it_however_few_attempts_that_were() {
        let (mut breaker, now) = (Breaker::new(settings()), Instant::now());
        assert!(!breaker.failed(now, now + 6 * SECOND, None));
        assert!(breaker.failed(now + 7 * SECOND, now + 10 * SECOND, None));
        let mut breaker = Breaker::new(settings());
        assert!(breaker.failed(now, now + 10 * SECOND, None), "one that hangs is enough");
    }

    #[test]
    fn what_must_be_mended_opens_it_at_once_and_what_only_fails_then_is_no_longer_that() {
        let (mut breaker, now) = (Breaker::new(settings()), Instant::now());
        assert!(breaker.must_be_mended(now, now));
        assert!(breaker.is_held() && breaker.stand() == Stand::Open);
        assert!(!breaker.must_be_mended(now, now), "that is known");
        let due = breaker.until().unwrap();
        assert!(breaker.admits(due) && !breaker.must_be_mended(due, due));
        let due = breaker.until().unwrap();
        assert!(breaker.admits(due));
        breaker.failed(due, due, None);
        assert!(!breaker.is_held());
        assert!(breaker.must_be_mended(due, due), "it was open, and for another reason");
    }

    #[test]
    fn one_probe_is_let_through_and_decides() {
        let (mut breaker, now) = (Breaker::new(settings()), Instant::now());
        breaker.must_be_mended(now, now);
        let due = breaker.until().unwrap();
        assert!(!breaker.admits(due - Duration::from_nanos(1)));
        assert!(breaker.admits(due));
        assert_eq!((breaker.stand(), breaker.until()), (Stand::Probing, None));
        assert!(breaker.admits(due), "nobody was told how the last one ended");
        assert!(breaker.succeeded());
        assert_eq!((breaker.stand(), breaker.failures(), breaker.is_held()), (Stand::Closed, 0, false));
        // It is as new.
        assert!(!breaker.failed(due, due, None));
        assert!(breaker.admits(due));
    }

    #[test]
    fn advice_is_the_least_that_is_waited_within_reason() {
        let (mut breaker, now) = (Breaker::new(settings()), Instant::now());
        breaker.failed(now, now + 10 * SECOND, Some(100 * SECOND));
        assert_eq!(breaker.until(), Some(now + 110 * SECOND));
        breaker.failed(now, now, Some(Duration::MAX));
        assert_eq!(breaker.until(), Some(now + LONGEST_ADVICE));
    }

    proptest! {
        #[test]
        fn waits_grow_up_to_a_bound_and_hanging_costs_a_fifth(took in proptest::collection::vec(0_u64..30_000, 1..60)) {
            let (mut breaker, mut now) = (Breaker::new(settings()), Instant::now());
            breaker.must_be_mended(now, now);
            for (probes, took) in took.into_iter().enumerate() {
                now = breaker.until().unwrap();
                prop_assert!(breaker.admits(now));
                let (began, took) = (now, Duration::from_millis(took));
                now += took;
                prop_assert!(!breaker.failed(began, now, None), "it was open");
                let wait = breaker.until().unwrap() - now;
                let ceiling = (settings().initial * 2_u32.saturating_pow(probes as u32 + 1).min(1 << 20)).min(settings().max);
                prop_assert!(wait >= ceiling / 2 && wait >= 4 * took, "{wait:?} {ceiling:?}");
                prop_assert!(wait <= ceiling.max(4 * took), "{wait:?} {ceiling:?}");
            }
        }
    }
}
