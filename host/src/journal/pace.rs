//! How fast a cursor moves on: what tells a publisher that is a little behind from one that is slow or down.

use std::time::Duration;
use tokio::time::Instant;

/// A publisher that would need longer for its backlog does not keep up, and nobody waits for it.
const WORTH_WAITING: Duration = Duration::from_secs(5);

/// The pace of one cursor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When it last moved on; until it has, when it was first seen to be behind.
    last: Option<Instant>,
    /// Records a second, the last few moves counting most.
    rate: f64,
}

impl Pace {
    /// It moved on by so many records.
    #[allow(clippy::cast_precision_loss)] // An estimate is what is meant.
    pub(super) fn advanced(&mut self, records: u64, now: Instant) {
        if let Some(last) = self.last {
            let took = now.saturating_duration_since(last).max(Duration::from_micros(1));
            let rate = records as f64 / took.as_secs_f64();
            self.rate = if self.rate == 0.0 { rate } else { 0.75 * self.rate + 0.25 * rate };
        }
        self.last = Some(now);
    }

    /// It has nothing more to do: how long that lasts says nothing of its pace.
    pub(super) fn rests(&mut self) {
        self.last = None;
    }

    /// Whether it will be through with `lag` records soon, by what it has shown of late. One that has shown nothing yet
    /// is trusted for a while.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn keeps_up(&mut self, lag: u64, now: Instant) -> bool {
        let last = *self.last.get_or_insert(now);
        let due = if self.rate > 0.0 { lag as f64 / self.rate } else { 0.0 };
        due < WORTH_WAITING.as_secs_f64() && now.saturating_duration_since(last) < WORTH_WAITING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_quick_keeps_up_and_one_that_is_slow_or_silent_does_not() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut pace = Pace::default();
        assert!(pace.keeps_up(1_000_000, start), "nothing is known of it yet");
        assert!(!pace.keeps_up(1_000_000, at(5.0)), "it has been silent for too long");
        pace = Pace::default();
        for call in 0..10_u32 {
            pace.advanced(10_000, at(0.1 * f64::from(call)));
        }
        assert!(pace.keeps_up(100_000, at(1.0)));
        assert!(!pace.keeps_up(10_000_000, at(1.0)), "it would take 100 seconds");
        assert!(!pace.keeps_up(100_000, at(60.0)), "it has stopped");
        pace.rests();
        assert!(pace.keeps_up(100_000, at(60.0)), "it had nothing to do, and was quick before");
        for call in 1..20_u32 {
            pace.advanced(10, at(60.0 + f64::from(call)));
        }
        assert!(!pace.keeps_up(100_000, at(80.0)), "it has become slow");
    }
}
