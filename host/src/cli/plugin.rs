//! `pressroom plugin`: for those who write plugins and those who run them, a file here per subcommand.

mod build;
mod inspect;
mod language;

use super::Failure;
use clap::Subcommand;

/// Write, build, check and look after plugins
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin build alerts               build the plugin in the folder alerts
  pressroom plugin inspect alerts.wasm        what is this file?")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Args),
    Inspect(inspect::Args),
}

pub(super) fn plugin(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Build(args) => build::build(&args),
        Command::Inspect(args) => inspect::inspect(&args),
    }
}
