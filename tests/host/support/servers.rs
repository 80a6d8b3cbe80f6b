//! Real servers, started where a test wants one: on loopback, with their data in a temporary folder, and gone with the
//! test, or with the program that runs the tests.
//!
//! `tests/run` brings them; `tests/run --all` brings the older ones too, and lets the tests run on them. What is missing
//! makes a test say SKIPPED.

mod loki;
mod metrics;
mod search;
mod tls;

pub use loki::Loki;
pub use metrics::Metrics;
pub use search::{Needs, Search};

use super::{Process, skipped};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a server may take to start: a JVM needs half a minute where it has the machine to itself.
const STARTING: Duration = super::MUCH_PATIENCE;

/// Whether this is a run of everything: on the older servers too, with outages as long as real ones.
pub fn everything() -> bool {
    std::env::var("PRESSROOM_TESTS").is_ok_and(|which| which == "all")
}

/// The folder of a server, or of what else `tests/run` has installed.
pub fn installed(name: &str) -> Option<PathBuf> {
    let beside_the_binary = || {
        let binary = Path::new(env!("CARGO_BIN_EXE_pressroom"));
        Some(binary.parent()?.parent()?.join("servers"))
    };
    let servers = std::env::var_os("PRESSROOM_SERVERS").map(PathBuf::from).or_else(beside_the_binary)?;
    Some(servers.join(name)).filter(|folder| folder.join("version").is_file())
}

/// As [`skipped`], for what only a run of everything has.
fn left_out(what: &str) {
    if everything() {
        skipped(what);
    }
}

/// A server that can be stopped and started again, as it was.
struct Server {
    command: Command,
    process: Process,
}

impl Server {
    fn start(command: Command) -> Self {
        let process = Process::server(&command);
        Self { command, process }
    }

    /// Stops it as an operator does.
    async fn stop(&mut self) {
        self.process.terminate();
        self.process.ended().await;
    }

    /// Starts it again after [`Server::stop`] or [`Process::kill`].
    fn start_again(&mut self) {
        assert!(!self.process.runs(), "it still runs");
        self.process = Process::server(&self.command);
    }
}

/// Nobody waits for the log of a test that passes; of one that fails, its end is said.
#[allow(clippy::print_stderr)] // for the harness, which shows it where the test fails
impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.process.output();
            let lines: Vec<_> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
            eprintln!("the server's last words:\n{last}");
        }
    }
}
