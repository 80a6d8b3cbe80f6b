//! demo
use super::Failure;
/// See it all at work
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) async fn demo(_args: Args) -> Result<(), Failure> {
    Ok(())
}
