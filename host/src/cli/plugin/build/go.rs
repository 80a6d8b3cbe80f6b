//! A plugin in Go: Go's own compiler makes a core module of it, for WASI's first version, which is then packed.
//!
//! Invariant: nothing but Go is asked of the author, and nothing is fetched that the plugin's `go.mod` does not name.

use super::super::super::Failure;
use super::{Job, pack};
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// The first version whose modules can export functions as a library does.
const OLDEST: (u32, u32) = (1, 24);
const INSTALL: &str = "install Go 1.24 or newer from https://go.dev/dl";

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    is_new_enough(job)?;
    let core = job.scratch.join("core.wasm");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w", "-o"]).arg(&core).arg(".");
    // What is set for the machine's own programs is not meant for a guest.
    go.env("GOOS", "wasip1").env("GOARCH", "wasm").env("CGO_ENABLED", "0").env_remove("GOWASM");
    job.run(&mut go, INSTALL)?;
    pack::component(job.read(&core)?)
        .map_err(|cause| Failure::failed(format!("{} cannot be packed: {cause:#}", job.name)))
}

fn is_new_enough(job: &Job) -> Result<(), Failure> {
    let asked =
        Command::new("go").args(["env", "GOVERSION"]).current_dir(&job.dir).stdin(Stdio::null()).output();
    let answer = match asked {
        Ok(answer) => String::from_utf8_lossy(&answer.stdout).trim().to_owned(),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            return Err(Failure::failed(format!("`go` is not here: {INSTALL}")));
        }
        Err(cause) => return Err(Failure::failed(format!("go cannot be run: {cause}"))),
    };
    match version(&answer) {
        Some(version) if version < OLDEST => {
            Err(Failure::failed(format!("{answer} is too old for plugins: {INSTALL}")))
        }
        // One that does not say may well do.
        _ => Ok(()),
    }
}

/// `go1.26.8` as (1, 26).
fn version(answer: &str) -> Option<(u32, u32)> {
    let mut numbers = answer.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{OLDEST, version};

    #[test]
    fn a_version_of_go_is_read() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert_eq!(version("go1.25rc1"), Some((1, 25)));
        assert!(version("go1.19.8").unwrap() < OLDEST && version("go2.0").unwrap() > OLDEST);
        assert_eq!(version("devel +abc"), None);
    }
}
