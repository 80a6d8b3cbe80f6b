//! A plugin in C.

use super::super::super::Failure;
use super::Job;

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    Err(Failure::failed(format!("{}: plugins in C are not built by this version", job.name)))
}
