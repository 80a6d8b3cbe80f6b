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

/// The counters of one plugin under one label.
pub(super) struct Status {
    pub(super) origin: Origin,
    pub(super) memory_limit: u64,
    pub(super) memory: Arc<MemoryGauge>,
    pub(super) lines: Arc<Lines>,
    network: Arc<Counts>,
    pub(super) instances: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) retired: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) start_micros: AtomicU64,
    /// Of the instance that lives, or lived last.
    pub(super) tier: Mutex<Tier>,
    last_error: Mutex<Option<String>>,
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
            failures: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            start_micros: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// An instance was lost for `reason`.
    pub(super) fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock() = Some(reason.to_owned());
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut report = json!({
            "file": self.origin.file,
            "digest": self.origin.digest,
            "interface": self.origin.version,
            "bytes": self.origin.bytes,
            "start_ms": millis(Duration::from_micros(count(&self.start_micros))),
            "instances_started": count(&self.instances),
            "instances_retired": count(&self.retired),
            "traps": count(&self.failures),
            "calls": count(&self.calls),
            "last_error": *self.last_error.lock(),
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
