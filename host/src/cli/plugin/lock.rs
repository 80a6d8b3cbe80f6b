//! `pressroom plugin lock`: write down what every plugin is and may do.

use super::super::{DEFAULT_CONFIG, Failure, to_stdout};
use crate::host::LockError;
use crate::output::escape;
use crate::wasm::Lock;
use std::path::PathBuf;

/// Write down what every plugin is and may do
///
/// Writes pressroom.lock beside the configuration: for each label that runs a plugin its file's digest and what its
/// section grants. With `plugins.locked = true` the host then refuses a file with another digest, a section that grants
/// more, and a label that is not there. What is new since the last lock is printed: running this approves of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin lock
  pressroom plugin lock --config /etc/pressroom/pressroom.toml

Exit codes:
  0  the lock is written
  1  a plugin that the configuration names is not there, or the lock cannot be written
  2  the configuration is wrong; every problem is listed")]
pub(super) struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) fn lock(args: &Args) -> Result<(), Failure> {
    super::super::run::exists(&args.config)?;
    let (path, lock) = crate::host::lock(&args.config).map_err(|error| match error {
        LockError::Config(error) => Failure::wrong(error.to_string()),
        error => Failure::failed(error.to_string()),
    })?;
    let before = Lock::read(&path).unwrap_or_default();
    let beside = path.with_extension("lock.new");
    std::fs::write(&beside, lock.to_toml())
        .and_then(|()| std::fs::rename(&beside, &path))
        .map_err(|cause| Failure::failed(format!("{} cannot be written: {cause}", escape::path(&path))))?;
    let mut told = format!(
        "{}: {}\n",
        escape::path(&path),
        super::super::words::counted(lock.labels().count() as u64, "plugin")
    );
    for line in lock.news(&before) {
        told.push_str(&format!("  {}\n", escape::line(&line)));
    }
    let gone = before.labels().filter(|label| lock.labels().all(|other| other != *label));
    gone.for_each(|label| told.push_str(&format!("  {}: no longer in it\n", escape::line(label))));
    to_stdout(&told)?;
    Ok(())
}
