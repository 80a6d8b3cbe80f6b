//! `pressroom plugin`: for those who write plugins and those who run them, a file here per subcommand.

mod inspect;
mod reset;

use super::Failure;
use clap::Subcommand;

/// Write, build, check and look after plugins
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Reset(reset::Args),
}

pub(super) fn plugin(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Reset(args) => reset::reset(args),
    }
}
