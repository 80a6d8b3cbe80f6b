//! What a call may compute: counted while the guest runs, and not while it waits.
//!
//! Invariant: a call is charged for the time in which its thread runs it, host functions that work for it included, and
//! at most a tick for each tick that finds it running: neither what it waits for in the host nor what others took
//! from its thread is its compute.

use super::engine::TICK;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wasmtime::{StoreContextMut, UpdateDeadline};

/// The compute of the call under way.
#[derive(Debug)]
pub(super) struct Compute {
    bound: Duration,
    charged: Duration,
    /// What the meter had told when it was last asked.
    seen: Duration,
    meter: Arc<Meter>,
}

/// The call computed for longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("ran past its compute bound")]
pub(super) struct ComputeExceeded;

impl Default for Compute {
    fn default() -> Self {
        let meter = Meter { start: Instant::now(), ran: AtomicU64::new(0), since: AtomicU64::new(0) };
        Self { bound: Duration::ZERO, charged: Duration::ZERO, seen: Duration::ZERO, meter: Arc::new(meter) }
    }
}

impl Compute {
    /// A new call begins, which may use `bound`.
    pub(super) fn begin(&mut self, bound: Duration) {
        (self.bound, self.charged, self.seen) = (bound, Duration::ZERO, self.meter.ran());
    }

    /// What runs the call under way, to be awaited through [`metered`].
    pub(super) fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    /// What the call has used.
    pub(super) fn used(&self) -> Duration {
        self.charged + self.since_charged(self.meter.ran())
    }

    /// Charges what has run since the last time. False if that is more than the call may use.
    fn charge(&mut self) -> bool {
        let ran = self.meter.ran();
        self.charged += self.since_charged(ran);
        self.seen = ran;
        self.charged < self.bound
    }

    /// The clock cannot tell a guest that runs from one whose thread the machine gave to others: hence a tick at most.
    fn since_charged(&self, ran: Duration) -> Duration {
        ran.saturating_sub(self.seen).min(TICK)
    }
}

/// How long a call has been running, as opposed to waiting.
#[derive(Debug)]
pub(super) struct Meter {
    start: Instant,
    /// Nanoseconds that it has run, the stretch under way left out.
    ran: AtomicU64,
    /// When the stretch under way began, in nanoseconds since `start`, and one; 0 while it waits.
    since: AtomicU64,
}

impl Meter {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn under_way(&self) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => (self.now() + 1).saturating_sub(since),
        }
    }

    fn ran(&self) -> Duration {
        Duration::from_nanos(self.ran.load(Ordering::Relaxed) + self.under_way())
    }
}

/// Awaits `call`, and has `meter` tell running from waiting: it runs while it is polled.
pub(super) async fn metered<T>(meter: Arc<Meter>, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    std::future::poll_fn(|context| {
        meter.since.store(meter.now() + 1, Ordering::Relaxed);
        let polled = call.as_mut().poll(context);
        meter.ran.fetch_add(meter.under_way(), Ordering::Relaxed);
        meter.since.store(0, Ordering::Relaxed);
        polled
    })
    .await
}

/// What becomes of a guest that is found running at a tick: it makes way for others, and goes on while it may.
pub(super) fn at_tick(
    mut store: StoreContextMut<'_, super::state::State>,
) -> wasmtime::Result<UpdateDeadline> {
    if store.data_mut().compute.charge() {
        // Tokio's own yield lets the runtime look at its timers and sockets before it comes back.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    } else {
        Err(wasmtime::Error::new(ComputeExceeded))
    }
}

#[cfg(test)]
mod tests {
    use super::{Compute, TICK, metered};
    use std::time::Duration;

    #[tokio::test]
    async fn what_waits_is_not_charged_and_what_runs_is_by_the_tick() {
        let mut compute = Compute::default();
        compute.begin(2 * TICK);
        metered(compute.meter(), tokio::time::sleep(5 * TICK)).await;
        assert!(compute.used() < TICK / 2, "{:?}", compute.used());
        metered(compute.meter(), async { std::thread::sleep(5 * TICK) }).await;
        assert!(compute.charge(), "one tick of two");
        metered(compute.meter(), async { std::thread::sleep(5 * TICK) }).await;
        assert!(!compute.charge(), "{:?}", compute.used());
        compute.begin(TICK);
        assert_eq!(compute.used(), Duration::ZERO);
        assert!(compute.charge());
    }
}
