//! `pressroom compile-plugin`: what the host starts to have a plugin compiled, and nobody else needs.

use super::Failure;
use crate::host::HostBuilder;
use std::path::PathBuf;

/// Compile a plugin for the host that started this
///
/// Reads a component from standard input and writes machine code for this host to standard output, within the bounds
/// given. `pressroom run` starts it for each plugin that it has no code of; it is of no use by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom compile-plugin baseline 2147483648 61 <plugin.wasm | wc --bytes")]
pub(super) struct Args {
    /// baseline or optimised
    tier: String,
    /// The addresses that this process may have, in bytes
    memory: u64,
    /// The compute that it may have, in seconds, all threads together
    seconds: u64,
    /// Let others go first
    #[arg(long)]
    yielding: bool,
}

pub(super) fn compile(args: &Args) -> Result<(), Failure> {
    let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
    let Args { tier, memory, seconds, yielding } = args;
    crate::wasm::compile_for_host(tier, *memory, *seconds, *yielding, &mut from, &mut to)
        .map_err(Failure::failed)
}

/// Has the host compile plugins by this very binary.
pub(super) fn by_this_binary(builder: HostBuilder) -> HostBuilder {
    match this_binary() {
        Some(binary) => builder.compiler(binary),
        None => builder,
    }
}

/// This very binary, even if another has taken its place on the disk since.
pub(super) fn this_binary() -> Option<PathBuf> {
    let itself = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && itself.exists() {
        return Some(itself);
    }
    std::env::current_exe()
        .inspect_err(|cause| {
            tracing::warn!(%cause, "plugins are compiled in this process, within no bounds");
        })
        .ok()
}
