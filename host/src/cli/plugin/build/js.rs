//! A plugin in JavaScript: componentize-js, by its API, puts the engine and the sources into one component.
//!
//! Invariant: which release of it is the plugin's to say, in its package.json.

use super::super::super::Failure;
use super::Job;
use std::path::Path;
use std::process::Command;

const NODE: &str = "install Node.js 20 or newer, with npm, from https://nodejs.org";
const TOOL: &str = "@bytecodealliance/componentize-js";
const BUILD: &str = include_str!("build.mjs");

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    if !job.dir.join("node_modules").join(TOOL).is_dir() {
        install(job)?;
    }
    let (script, out) = (job.scratch.join("build.mjs"), job.scratch.join("component.wasm"));
    std::fs::write(&script, BUILD)?;
    job.run(Command::new("node").arg(&script).arg(entry(&job.dir)?).arg(&out), NODE)?;
    job.read(&out)
}

/// Brings what package.json names.
fn install(job: &Job) -> Result<(), Failure> {
    let manifest = std::fs::read_to_string(job.dir.join("package.json")).unwrap_or_default();
    if !manifest.contains(TOOL) {
        return Err(Failure::wrong(format!(
            "{}: its package.json does not name {TOOL}: `npm install --save-dev {TOOL}@0.23.0`",
            job.name
        )));
    }
    let how = if job.dir.join("package-lock.json").is_file() { "ci" } else { "install" };
    job.run(Command::new("npm").args([how, "--no-audit", "--no-fund"]), NODE)
}

/// The module that exports the plugin: what package.json calls `main`, or `plugin.js`.
fn entry(dir: &Path) -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        main: Option<String>,
    }
    let manifest = std::fs::read(dir.join("package.json"))?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|cause| Failure::wrong(format!("{}: {cause}", dir.join("package.json").display())))?;
    Ok(manifest.main.unwrap_or_else(|| "plugin.js".to_owned()))
}
