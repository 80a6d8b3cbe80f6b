//! What holds a guest within its bounds: memory. (Compute is in `compute`.)
//!
//! Invariant: every byte of memories and tables of an instance is counted before it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// How many core instances, memories and tables one instance may be made of: a Python guest is 40 core instances.
const MAX_INSTANCES: usize = 256;
const MAX_MEMORIES: usize = 32;
const MAX_TABLES: usize = 256;

/// What an instance holds, readable from outside while it runs.
#[derive(Debug, Default)]
pub(super) struct MemoryGauge {
    pub(super) now: AtomicU64,
    pub(super) peak: AtomicU64,
    /// What was asked for when the limit said no, in this call; 0 for nothing.
    pub(super) refused: AtomicU64,
}

/// Bounds memories and tables together.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    held: u64,
    last_growth: u64,
    gauge: Arc<MemoryGauge>,
}

impl Memory {
    pub(super) fn new(limit: u64, gauge: Arc<MemoryGauge>) -> Self {
        gauge.now.store(0, Ordering::Relaxed);
        gauge.refused.store(0, Ordering::Relaxed);
        Self { limit, held: 0, last_growth: 0, gauge }
    }

    fn grow(&mut self, growth: usize) -> bool {
        let growth = u64::try_from(growth).unwrap_or(u64::MAX);
        let wanted = self.held.saturating_add(growth);
        if wanted > self.limit {
            self.gauge.refused.store(wanted, Ordering::Relaxed);
            return false;
        }
        self.last_growth = growth;
        self.set(wanted);
        true
    }

    fn set(&mut self, held: u64) {
        self.held = held;
        self.gauge.now.store(held, Ordering::Relaxed);
        self.gauge.peak.fetch_max(held, Ordering::Relaxed);
    }

    /// What this instance holds.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    fn give_back(&mut self) {
        let given_back = std::mem::take(&mut self.last_growth);
        self.set(self.held.saturating_sub(given_back));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.gauge.now.store(0, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current).saturating_mul(size_of::<usize>());
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(growth))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }
}
