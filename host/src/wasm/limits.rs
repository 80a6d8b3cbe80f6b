//! What holds a guest within its bounds: memory. (Compute is in `compute`.)
//!
//! Invariant: every byte that an instance makes the host hold is counted before it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// How many core instances, memories and tables one instance may be made of: a Python guest is 40 core instances.
const MAX_INSTANCES: usize = 256;
const MAX_MEMORIES: usize = 32;
const MAX_TABLES: usize = 256;

/// What the instances of a plugin hold, readable from outside while they run.
#[derive(Debug, Default)]
pub(super) struct MemoryGauge {
    /// All instances together, now.
    pub(super) now: AtomicU64,
    /// The most that any one instance held.
    pub(super) peak: AtomicU64,
    /// What was asked for when the limit said no, in this call; 0 for nothing.
    pub(super) refused: AtomicU64,
}

/// How much one instance may make the host hold, and does: its memories and tables, and whatever else of the host is
/// charged to it. It outlives the instance until the last charge is given back.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    held: AtomicU64,
    gauge: Arc<MemoryGauge>,
}

impl Budget {
    pub(super) fn new(limit: u64, gauge: Arc<MemoryGauge>) -> Arc<Self> {
        gauge.refused.store(0, Ordering::Relaxed);
        Arc::new(Self { limit, held: AtomicU64::new(0), gauge })
    }

    /// Counts `bytes` until the charge is dropped; `None` if they are more than is left.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.take(bytes).then(|| Charge { budget: self.clone(), bytes })
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|wanted| *wanted <= self.limit)
        });
        match taken {
            Ok(held) => {
                self.gauge.now.fetch_add(bytes, Ordering::Relaxed);
                self.gauge.peak.fetch_max(held + bytes, Ordering::Relaxed);
                true
            }
            Err(held) => {
                self.gauge.refused.store(held.saturating_add(bytes), Ordering::Relaxed);
                false
            }
        }
    }

    fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.now.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes of the host that are held for an instance; dropped when they are not any more.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    /// Gives back what is beyond `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let kept = self.bytes.min(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.budget.give_back(self.bytes - kept);
        self.bytes = kept;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Bounds memories and tables together.
#[derive(Debug)]
pub(super) struct Memory {
    budget: Arc<Budget>,
    held: u64,
}

impl Memory {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: 0 }
    }

    fn grow(&mut self, growth: usize) -> bool {
        let growth = u64::try_from(growth).unwrap_or(u64::MAX);
        let taken = self.budget.take(growth);
        if taken {
            self.held += growth;
        }
        taken
    }

    /// What this instance holds.
    pub(super) fn held(&self) -> u64 {
        self.held
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

/// Nothing is given back where a growth is told to have failed: wasmtime tells that of growths that it never asked for,
/// too, so a guest could have what it holds forgotten. What the system would not give stays charged instead.
impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(desired.saturating_sub(current)))
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

#[cfg(test)]
mod tests {
    use super::{Budget, Memory, MemoryGauge};
    use std::sync::Arc;
    use wasmtime::{Engine, Instance, Module, Store};

    #[test]
    fn a_growth_that_is_never_asked_for_gives_nothing_back() {
        let engine = Engine::default();
        let greedy = r#"(module
            (memory 0)
            (table 1 funcref)
            (func (export "eat") (result i32)
                (drop (table.grow (ref.null func) (i32.const -1)))
                (memory.grow (i32.const 16))))"#;
        let module = Module::new(&engine, wat::parse_str(greedy).unwrap()).unwrap();
        let budget = Budget::new(16 << 20, Arc::new(MemoryGauge::default()));
        let mut store = Store::new(&engine, Memory::new(budget.clone()));
        store.limiter(|memory| memory);
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let eat = instance.get_typed_func::<(), i32>(&mut store, "eat").unwrap();
        let eaten = (0..64).take_while(|_| eat.call(&mut store, ()).unwrap() >= 0).count();
        assert_eq!(eaten, 15, "MiB beside the table's eight bytes");
        let held = store.data().held();
        assert!(held >= 15 << 20 && budget.charge(1 << 20).is_none(), "{held}");
    }
}
