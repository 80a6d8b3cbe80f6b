//! What the host keeps for one instance: the data of its `Store`.

use super::compute::Compute;
use super::grants::{Dirs, Gate};
use super::limits::{Budget, Charge, Memory};
use super::output::Lines;
use super::settings::Answers;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// How many handles (files, streams, batches) an instance may hold: without a bound it opens files until the host
/// has no descriptor left.
pub(super) const MAX_HANDLES: usize = 256;

/// The data of an instance's `Store`.
pub(super) struct State {
    /// Dropped before the table, whose bodies end with it: what is on its way then is known to be cut off.
    gate: Gate,
    pub(super) table: ResourceTable,
    pub(super) memory: Memory,
    pub(super) compute: Compute,
    pub(super) lines: Arc<Lines>,
    pub(super) answers: Arc<Answers>,
    /// What is charged for handles behind which the host keeps buffers, by handle, until they are dropped.
    charges: HashMap<u32, Charge>,
    /// The directories that it is granted.
    pub(super) dirs: Dirs,
    wasi: WasiCtx,
    http: WasiHttpCtx,
}

impl State {
    pub(super) fn new(
        (wasi, dirs): (WasiCtx, Dirs),
        (gate, http): (Gate, WasiHttpCtx),
        memory: Memory,
        lines: Arc<Lines>,
        answers: Arc<Answers>,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            table,
            memory,
            compute: Compute::default(),
            lines,
            answers,
            charges: HashMap::new(),
            dirs,
            wasi,
            gate,
            http,
        }
    }

    /// What is charged with what the host holds for it.
    pub(super) fn budget(&self) -> &Arc<Budget> {
        self.gate.budget()
    }

    pub(super) fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// Charges for a handle until it is dropped.
    pub(super) fn keep_charge(&mut self, handle: u32, charge: Charge) {
        self.charges.insert(handle, charge);
    }

    /// Gives back what was charged for a handle, if anything was.
    pub(super) fn drop_charge(&mut self, handle: u32) {
        self.charges.remove(&handle);
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.gate, table: &mut self.table, ctx: &mut self.http }
    }
}
