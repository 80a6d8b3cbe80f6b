//! A plugin in Python: componentize-py puts the interpreter and the sources into one component.

use super::super::super::Failure;
use super::Job;
use std::process::Command;

/// The version that this host's examples and tests are built with.
const COMPONENTIZE_PY: &str =
    "`pip install componentize-py==0.25.1` (Python 3.10 or newer), and have its folder on the PATH";

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    let out = job.scratch.join("component.wasm");
    let mut tool = Command::new("componentize-py");
    tool.args(["-d", "wit", "-w", "plugin", "componentize", "app", "-o"]).arg(&out);
    job.run(&mut tool, COMPONENTIZE_PY)?;
    job.read(&out)
}
