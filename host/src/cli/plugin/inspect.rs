//! `pressroom plugin inspect`: what is this file?

use super::super::{Failure, to_stdout};
use std::path::PathBuf;

/// Say what a file is, without compiling it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The component
    file: PathBuf,
}

pub(super) fn inspect(args: &Args) -> Result<(), Failure> {
    crate::wasm::inspect(&args.file).map_err(|cause| Failure::failed(cause.to_string()))?;
    to_stdout(&format!("{} is a plugin\n", args.file.display()))?;
    Ok(())
}
