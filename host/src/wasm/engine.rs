//! The engine that runs plugins, and the clock that interrupts them.
//!
//! Invariant: the clock is a thread of its own, for a guest that spins can hold up the timers of the runtime that runs
//! it. It holds the engine weakly and ends with it.

use std::time::Duration;
use wasmtime::{Config, Engine};

/// How often running guests are interrupted: they yield to the runtime, and their compute is counted, in these.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The native stack that wasm may use; a guest's own stack of data is in its memory.
const WASM_STACK: usize = 1 << 20;
/// The stack that a call runs on: the host's functions that the guest calls need the rest.
const CALL_STACK: usize = 2 << 20;

/// The engine, with its clock started.
pub(super) fn start() -> Result<Engine, wasmtime::Error> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // On, it makes every async call several times dearer; nothing here needs two calls in one store.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(CALL_STACK);
    let engine = Engine::new(&config)?;
    let weak = engine.weak();
    std::thread::Builder::new().name("pressroom-epoch".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(TICK);
            match weak.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    })?;
    Ok(engine)
}
