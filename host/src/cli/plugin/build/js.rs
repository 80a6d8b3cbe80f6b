//! A plugin in JavaScript: componentize-js, by its API, puts the engine and the sources into one component.

use super::super::super::Failure;
use super::Job;

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    Err(Failure::failed(format!("{}: plugins in JavaScript are not built by this version", job.name)))
}
