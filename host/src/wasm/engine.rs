//! The engines that run plugins, one per tier, and the clock that interrupts them.
//!
//! Invariant: the clock is a thread of its own, for a guest that spins can hold up the timers of the runtime that runs
//! it. It holds the engines weakly and ends with the last. How an engine is set is said in one place, for the process
//! that compiles and the one that runs what was compiled.

use super::bindings;
use super::state::State;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, EngineWeak, Strategy};

/// How often running guests are interrupted: they yield to the runtime, and their compute is counted, in these.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The native stack that wasm may use; a guest's own stack of data is in its memory.
const WASM_STACK: usize = 1 << 20;
/// The stack that a call runs on: the host's functions that the guest calls need the rest.
const CALL_STACK: usize = 2 << 20;

/// How well a plugin is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tier {
    /// By Winch: at once, and code that is good for forwarding.
    Baseline,
    /// By Cranelift: some five times as long, and code that is nearly native.
    Optimised,
}

impl Tier {
    /// As reports, entries of the cache and the command name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimised => "optimised",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Baseline, Self::Optimised].into_iter().find(|tier| tier.as_str() == name)
    }

    /// Whether this machine has it: Winch is of the first tier on x86-64 alone.
    pub(super) fn is_here(self) -> bool {
        self == Self::Optimised || cfg!(target_arch = "x86_64")
    }
}

/// The engine of a tier, with what plugins may import.
pub(super) struct Machine {
    pub(super) tier: Tier,
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    /// What compiled code depends on beside the file: the version of the compiler and how it is set.
    pub(super) settings: u64,
}

impl Machine {
    pub(super) fn new(tier: Tier) -> wasmtime::Result<Self> {
        let engine = engine(tier)?;
        let linker = bindings::linker(&engine)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { tier, settings: hasher.finish(), engine, linker })
    }
}

/// The engine of `tier`, without a clock.
pub(super) fn engine(tier: Tier) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .strategy(match tier {
            Tier::Baseline => Strategy::Winch,
            Tier::Optimised => Strategy::Cranelift,
        })
        .wasm_component_model(true)
        // No toolchain of plugins makes them, and what is larger than any limit need not be possible.
        .wasm_memory64(false)
        // On, it makes every async call several times dearer; nothing here needs two calls in one store.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(CALL_STACK);
    Engine::new(&config)
}

/// Starts the clock of these engines.
pub(super) fn tick<'a>(engines: impl Iterator<Item = &'a Engine>) -> std::io::Result<()> {
    let engines: Vec<EngineWeak> = engines.map(Engine::weak).collect();
    let clock = std::thread::Builder::new().name("pressroom-epoch".to_owned());
    clock.spawn(move || {
        loop {
            std::thread::sleep(TICK);
            let mut alive = engines.iter().filter_map(EngineWeak::upgrade).peekable();
            if alive.peek().is_none() {
                return;
            }
            alive.for_each(|engine| engine.increment_epoch());
        }
    })?;
    Ok(())
}
