//! A plugin in Go.

use super::super::super::Failure;
use super::Job;

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    Err(Failure::failed(format!("{}: plugins in Go are not built by this version", job.name)))
}
