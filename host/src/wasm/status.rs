//! What reports show of a plugin.
//!
//! Invariant: counters and texts of the host's own and bounded words of the guest's; never its settings.

use super::engine::Tier;
use super::grants::Counts;
use super::limits::MemoryGauge;
use super::output::Lines;
use super::programs::{Program, millis};
use parking_lot::Mutex;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is known of a plugin's file once it is compiled.
pub(super) struct Origin {
    pub(super) file: PathBuf,
    pub(super) digest: String,
    pub(super) version: &'static str,
    pub(super) bytes: usize,
    pub(super) program: Arc<Program>,
}

/// How a plugin stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stands {
    #[default]
    Running,
    /// Its instances died in vain: the next one comes when the wait is over.
    BackingOff,
    /// It is not asked until its file or section changes, or somebody resets it.
    Quarantined,
}

/// What changes together.
#[derive(Default)]
struct Condition {
    stands: Stands,
    strikes: u32,
    last_error: Option<String>,
}

/// The counters of one plugin under one label.
pub(super) struct Status {
    pub(super) origin: Origin,
    pub(super) memory_limit: u64,
    pub(super) memory: Arc<MemoryGauge>,
    pub(super) lines: Arc<Lines>,
    network: Arc<Counts>,
    pub(super) instances: AtomicU64,
    /// Instances that are alive.
    pub(super) live: AtomicU64,
    /// Instances that died of what they did, or could not be started.
    traps: AtomicU64,
    /// Instances that were discarded because the host waited for too long in one of their calls.
    timeouts: AtomicU64,
    /// Instances that were discarded because nobody waited for the end of a call.
    given_up: AtomicU64,
    pub(super) retired: AtomicU64,
    /// Records that became dead letters because instances die of them.
    pub(super) poisoned: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) start_micros: AtomicU64,
    /// Of the instance that lives, or lived last.
    pub(super) tier: Mutex<Tier>,
    cpu_peak_micros: AtomicU64,
    wall_peak_micros: AtomicU64,
    /// From the loss of an instance to its successor, the last time.
    successor_micros: AtomicU64,
    condition: Mutex<Condition>,
}

impl Status {
    pub(super) fn new(
        origin: Origin,
        memory_limit: u64,
        memory: Arc<MemoryGauge>,
        lines: Arc<Lines>,
        network: Arc<Counts>,
    ) -> Self {
        let tier = Mutex::new(origin.program.code().tier);
        Self {
            origin,
            tier,
            memory_limit,
            memory,
            lines,
            network,
            instances: AtomicU64::new(0),
            live: AtomicU64::new(0),
            traps: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            poisoned: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            start_micros: AtomicU64::new(0),
            cpu_peak_micros: AtomicU64::new(0),
            wall_peak_micros: AtomicU64::new(0),
            successor_micros: AtomicU64::new(0),
            condition: Mutex::default(),
        }
    }

    /// An instance died, or could not be started, for `reason`.
    pub(super) fn died(&self, reason: &str) {
        self.lost(&self.traps, reason);
    }

    /// An instance was discarded: the host had waited for too long.
    pub(super) fn timed_out(&self, reason: &str) {
        self.lost(&self.timeouts, reason);
    }

    /// An instance was discarded: nobody waited for the end of its call.
    pub(super) fn given_up(&self, reason: &str) {
        self.lost(&self.given_up, reason);
    }

    fn lost(&self, counter: &AtomicU64, reason: &str) {
        counter.fetch_add(1, Ordering::Relaxed);
        self.condition.lock().last_error = Some(reason.to_owned());
    }

    /// Notes how the plugin stands.
    pub(super) fn stands(&self, stands: Stands, strikes: u32) {
        let mut condition = self.condition.lock();
        (condition.stands, condition.strikes) = (stands, strikes);
    }

    /// A call has computed for so long.
    pub(super) fn used(&self, compute: Duration) {
        self.cpu_peak_micros.fetch_max(micros(compute), Ordering::Relaxed);
    }

    /// A call took so long, waits included.
    pub(super) fn took(&self, wall: Duration) {
        self.wall_peak_micros.fetch_max(micros(wall), Ordering::Relaxed);
    }

    /// A lost instance has a successor after so long.
    pub(super) fn succeeded(&self, after: Duration) {
        self.successor_micros.store(micros(after), Ordering::Relaxed);
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter: &AtomicU64| millis(Duration::from_micros(count(counter)));
        let (stands, strikes, last_error) = {
            let condition = self.condition.lock();
            (condition.stands, condition.strikes, condition.last_error.clone())
        };
        let mut report = json!({
            "file": self.origin.file,
            "digest": self.origin.digest,
            "interface": self.origin.version,
            "bytes": self.origin.bytes,
            "state": match stands {
                Stands::Running => "running",
                Stands::BackingOff => "backing-off",
                Stands::Quarantined => "quarantined",
            },
            "strikes": strikes,
            "start_ms": time(&self.start_micros),
            "instances": count(&self.live),
            "instances_started": count(&self.instances),
            "instances_retired": count(&self.retired),
            "traps": count(&self.traps),
            "timeouts": count(&self.timeouts),
            "calls_given_up": count(&self.given_up),
            "poisoned_records": count(&self.poisoned),
            "calls": count(&self.calls),
            "cpu_peak_ms": time(&self.cpu_peak_micros),
            "wall_peak_ms": time(&self.wall_peak_micros),
            "successor_ms": time(&self.successor_micros),
            "last_error": last_error,
            "memory_bytes": count(&self.memory.now),
            "memory_peak_bytes": count(&self.memory.peak),
            "memory_limit_bytes": self.memory_limit,
            "log_lines_dropped": self.lines.dropped(),
            "log": self.lines.recent(),
        });
        self.network.add_to(&mut report);
        self.origin.program.describe(*self.tier.lock(), &mut report);
        report
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
