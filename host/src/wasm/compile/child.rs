//! What the child process does: bounds itself, reads a component, compiles it, writes the code.
//!
//! Invariant: it is bounded before it has read a byte, and writes to nothing but its output.

use crate::wasm::engine::{self, Tier};
use std::io::{Read, Write};

/// Compiles, in a process of its own, for the host that started it: the component `from` for `tier` (`baseline` or
/// `optimised`), the code `to`. The process may have `memory` bytes of addresses and `seconds` of compute, all threads
/// together; passing either ends it. It never gets either back. `yielding`: others go first.
///
/// # Errors
///
/// The process cannot be bounded, or the component cannot be read or compiled; the text goes to the host.
#[doc(hidden)]
pub fn compile_for_host(
    tier: &str,
    memory: u64,
    seconds: u64,
    yielding: bool,
    from: &mut dyn Read,
    to: &mut dyn Write,
) -> Result<(), String> {
    let tier = Tier::named(tier).ok_or_else(|| format!("there is no tier \"{tier}\""))?;
    bound(memory, seconds, yielding)?;
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).map_err(|cause| format!("the component cannot be read: {cause}"))?;
    let failed = |cause: wasmtime::Error| format!("{cause:#}");
    let code = engine::engine(tier).map_err(failed)?.precompile_component(&bytes).map_err(failed)?;
    to.write_all(&code)
        .and_then(|()| to.flush())
        .map_err(|cause| format!("the code cannot be written: {cause}"))
}

#[cfg(unix)]
fn bound(memory: u64, seconds: u64, yielding: bool) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    // Should memory be short, this process goes before any other.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    if yielding {
        let _ = nice(10);
    }
    for (what, resource, most) in [
        ("its memory", Resource::As, memory),
        ("its compute", Resource::Cpu, seconds),
        ("the files that it writes", Resource::Fsize, 0),
        ("its core dumps", Resource::Core, 0),
    ] {
        // Beyond the first of its bounds of compute it is told so, beyond the second it is killed.
        let last = if matches!(resource, Resource::Cpu) { most.saturating_add(5) } else { most };
        let bounded = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(last) });
        // Some systems know no bound of addresses; the others hold there.
        if cfg!(target_os = "linux") || most == 0 {
            bounded.map_err(|cause| format!("the compiler cannot bound {what}: {cause}"))?;
        }
    }
    Ok(())
}

/// Elsewhere the host's clock alone bounds it.
#[cfg(not(unix))]
fn bound(_memory: u64, _seconds: u64, _yielding: bool) -> Result<(), String> {
    Ok(())
}
