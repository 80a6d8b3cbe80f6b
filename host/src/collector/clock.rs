//! The recorders' clock: wall time at the price of a counter, and durations that no clock change bends.
//!
//! Invariant: while the processor's counter runs as the system's monotonic clock does, it is the clock, at half the
//! price; once it has not (a virtual machine was moved to another processor), the system's is, for good.

use crate::record::Timestamp;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Wall time is a monotonic clock plus an offset that the collector renews about every second.
pub(crate) struct Clock {
    /// The processor's counter where it is steady, else the system's monotonic clock.
    counter: quanta::Clock,
    counter_base: u64,
    base: Instant,
    trusted: AtomicBool,
    /// Both clocks at the last renewal, the counter's first.
    compared: [AtomicU64; 2],
    offset: AtomicU64,
}

/// Between two renewals the counter may be off by one part in so many, and by what lies between reading both.
const TOLERANCE: u64 = 256;
const SLACK: u64 = 5_000_000;

impl Clock {
    pub(crate) fn new() -> Self {
        let counter = quanta::Clock::new();
        let (counter_base, base) = (counter.raw(), Instant::now());
        let clock = Self {
            counter,
            counter_base,
            base,
            trusted: AtomicBool::new(true),
            compared: Default::default(),
            offset: AtomicU64::new(0),
        };
        clock.renew();
        clock
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        if self.trusted.load(Ordering::Relaxed) { self.by_counter() } else { self.by_system() }
    }

    /// What the wall clock says when this clock says `nanos`.
    #[inline]
    pub(crate) fn wall(&self, nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos.wrapping_add(self.offset.load(Ordering::Relaxed)))
    }

    /// Follows the system's clock, which may have been set or slewed.
    pub(super) fn renew(&self) {
        self.compare(self.by_counter(), self.by_system());
        let (wall, now) = (Timestamp::now().as_nanos(), self.now());
        self.offset.store(wall.wrapping_sub(now), Ordering::Relaxed);
    }

    /// Leaves the counter for good where it has not run as the system's clock did.
    fn compare(&self, by_counter: u64, by_system: u64) {
        let [counter, system] = &self.compared;
        let counted = by_counter.saturating_sub(counter.swap(by_counter, Ordering::Relaxed));
        let passed = by_system.saturating_sub(system.swap(by_system, Ordering::Relaxed));
        if counted.abs_diff(passed) > passed / TOLERANCE + SLACK
            && self.trusted.swap(false, Ordering::Relaxed)
        {
            tracing::warn!(
                counted,
                passed,
                "the processor's counter is not steady, the system's clock is used"
            );
        }
    }

    #[inline]
    fn by_counter(&self) -> u64 {
        self.counter.delta_as_nanos(self.counter_base, self.counter.raw())
    }

    fn by_system(&self) -> u64 {
        // u64 nanoseconds last for 584 years of uptime.
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, SLACK};

    #[test]
    fn both_clocks_agree_and_the_wall_is_followed() {
        let clock = Clock::new();
        let (before, system, after) = (clock.by_counter(), clock.by_system(), clock.by_counter());
        assert!(before <= system + SLACK && system <= after + SLACK, "{before} {system} {after}");
        let (wall, now) = (clock.wall(clock.now()), crate::record::Timestamp::now());
        assert!(wall.as_nanos().abs_diff(now.as_nanos()) < 1_000_000_000, "{wall:?} {now:?}");
    }

    #[test]
    fn a_counter_that_runs_away_is_left_for_good() {
        let clock = Clock::new();
        let second = 1_000_000_000;
        let (counter, system) = (clock.by_counter() + second, clock.by_system() + second);
        clock.compare(counter, system);
        assert!(clock.trusted.load(std::sync::atomic::Ordering::Relaxed));
        clock.compare(counter + 2 * second, system + second);
        assert!(!clock.trusted.load(std::sync::atomic::Ordering::Relaxed));
        clock.compare(counter + 3 * second, system + 2 * second);
        assert!(!clock.trusted.load(std::sync::atomic::Ordering::Relaxed));
        let now = clock.by_system();
        assert!((now..now + 60 * second).contains(&clock.now()), "the system's clock");
    }
}
