//! The recorders' clock: wall time at the price of the monotonic clock, and durations that no clock change bends.

use crate::record::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Wall time is the monotonic clock plus an offset that the collector renews about every second.
pub(crate) struct Clock {
    base: Instant,
    offset: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), offset: AtomicU64::new(Timestamp::now().as_nanos()) }
    }

    /// Nanoseconds since the clock was made; they never go back.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.since_base(Instant::now())
    }

    /// What the wall clock says when this clock says `nanos`.
    #[inline]
    pub(crate) fn wall(&self, nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos.wrapping_add(self.offset.load(Ordering::Relaxed)))
    }

    /// Follows the system's clock, which may have been set or slewed.
    pub(super) fn renew(&self) {
        let (wall, now) = (Timestamp::now().as_nanos(), self.now());
        self.offset.store(wall.wrapping_sub(now), Ordering::Relaxed);
    }

    #[inline]
    fn since_base(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.base);
        // u64 nanoseconds last for 584 years of uptime; spelled so that the compiler needs no 128 bits.
        since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos()))
    }
}
