//! `pressroom plugin`: for those who write plugins and those who run them, a file here per subcommand.

mod bench;
mod build;
mod check;
mod inspect;
mod language;
mod lock;
mod new;
mod reset;
mod sandbox;

use super::Failure;
use clap::Subcommand;

/// Write, build, check and look after plugins
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin new --lang rust alerts     begin a plugin in a folder of its own
  pressroom plugin build alerts               build the plugin in the folder alerts
  pressroom plugin check alerts.wasm          does it do what the contract asks?
  pressroom plugin bench alerts.wasm          what does it cost?
  pressroom plugin inspect alerts.wasm        what is this file?")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Args),
    Build(build::Args),
    Check(check::Args),
    Inspect(inspect::Args),
    Lock(lock::Args),
    New(new::Args),
    Reset(reset::Args),
}

pub(super) fn plugin(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Bench(args) => bench::bench(&args),
        Command::Build(args) => build::build(&args),
        Command::Check(args) => check::check(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Lock(args) => lock::lock(&args),
        Command::New(args) => new::new(&args),
        Command::Reset(args) => reset::reset(args),
    }
}
