//! A plugin in Rust: cargo builds components itself.

use super::super::super::Failure;
use super::Job;
use crate::output::escape;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TARGET: &str = "wasm32-wasip2";
const CARGO: &str = "install Rust from https://rustup.rs";

#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// The package's name.
pub(super) fn name(dir: &Path) -> Result<String, Failure> {
    let file = dir.join("Cargo.toml");
    let text = std::fs::read_to_string(&file)
        .map_err(|cause| Failure::wrong(format!("cannot read {}: {cause}", escape::path(&file))))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|cause| {
        Failure::wrong(format!("{} is no package: {}", escape::path(&file), cause.message()))
    })?;
    Ok(manifest.package.name)
}

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    has_target(job)?;
    // What is set for the machine's own programs is not meant for a guest.
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--lib", "--target", TARGET]);
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    job.run(&mut cargo, CARGO)?;
    let file = format!("{}.wasm", job.name.replace('-', "_"));
    job.read(&target_dir(job)?.join(TARGET).join("release").join(file))
}

/// Asks the toolchain that this folder uses for its target, whose absence cargo explains at length.
fn has_target(job: &Job) -> Result<(), Failure> {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(&job.dir)
        .stderr(Stdio::null())
        .output();
    match asked {
        Ok(asked) if Path::new(String::from_utf8_lossy(&asked.stdout).trim()).is_dir() => Ok(()),
        Ok(_) => {
            Err(Failure::failed(format!("Rust's target {TARGET} is not here: `rustup target add {TARGET}`")))
        }
        Err(_) => Err(Failure::failed(format!("`rustc` is not here: {CARGO}"))),
    }
}

/// Where cargo puts what it builds: the workspace's, or wherever a setting says.
fn target_dir(job: &Job) -> Result<PathBuf, Failure> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let asked = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(&job.dir)
        .output()?;
    let metadata: Metadata = serde_json::from_slice(&asked.stdout).map_err(|_| {
        Failure::failed(format!("cargo metadata: {}", String::from_utf8_lossy(&asked.stderr).trim()))
    })?;
    Ok(metadata.target_directory)
}
