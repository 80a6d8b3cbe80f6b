//! The `pressroom` command: run a host, check a configuration, ask a running host, install dashboards, see a
//! demonstration.
//!
//! Invariant: the only room that prints and that decides what the process ends with: 0 when it did what was asked, 1
//! when that failed, 2 when what was asked, or the configuration, is wrong.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod check;
#[cfg(feature = "wasm")]
mod compile;
mod dashboards;
mod demo;
mod log;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
#[cfg(feature = "wasm")]
mod plugin;
mod report;
mod run;
mod words;

use crate::host::{Host, HostBuilder};
use crate::output::escape;
use clap::{Parser, Subcommand};
use std::future::Future;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

/// The configuration, unless another is named.
const DEFAULT_CONFIG: &str = "pressroom.toml";

#[derive(Debug, Parser)]
#[command(
    name = "pressroom",
    version,
    about = "Records what pipelines do, answers questions about it, and publishes it",
    long_about = "Records what pipelines do (their events and their network operations), answers questions about \
                  it, and publishes it: natively, and through WebAssembly plugins that are dropped into a directory \
                  and run in a sandbox.",
    after_help = "Examples:
  pressroom demo                              see all of it at work; needs no server and no configuration
  pressroom check --config pressroom.toml     is the configuration right?
  pressroom run --config pressroom.toml       run the host until ctrl-c
  pressroom report failed-events              ask the running host
  pressroom dashboards install grafana        see it in Grafana

Exit codes:
  0  it did what was asked
  1  that failed; the last line says why
  2  what was asked, or the configuration, is wrong; the lines say where"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Report(report::Args),
    Dashboards(dashboards::Args),
    #[cfg(feature = "wasm")]
    Plugin(plugin::Args),
    Demo(demo::Args),
    #[cfg(feature = "wasm")]
    #[command(name = "compile-plugin", hide = true)]
    CompilePlugin(compile::Args),
}

/// Why a command did not do what was asked, and what the process ends with.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// It was attempted.
    fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// What was asked, or the configuration, is wrong.
    fn wrong(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

/// Does what the command line asks.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and end with 0, everything else is a usage error: 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        Command::Run(args) => log::start("info").and_then(|()| block_on(run::run(args))),
        Command::Check(args) => check::check(&args),
        Command::Report(args) => block_on(report::report(args)),
        #[cfg(feature = "wasm")]
        Command::Plugin(args) => plugin::plugin(args),
        Command::Dashboards(args) => block_on(dashboards::dashboards(args)),
        #[cfg(feature = "wasm")]
        Command::CompilePlugin(args) => compile::compile(&args),
        Command::Demo(args) => log::start("warn").and_then(|()| block_on(demo::demo(args))),
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                let _ = to_stderr(&format!("error: {}", failure.message));
            }
            ExitCode::from(failure.code)
        }
    };
    log::flush();
    code
}

/// A host that compiles plugins in a process of its own.
fn host() -> HostBuilder {
    let builder = Host::builder();
    #[cfg(feature = "wasm")]
    let builder = compile::by_this_binary(builder);
    builder
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // What still blocks a thread must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Prints lines on standard output. A reader that has seen enough (`| head`) is no error.
fn to_stdout(text: &str) -> std::io::Result<()> {
    write_to(&mut std::io::stdout().lock(), escape::lines(text).as_bytes())
}

/// As [`to_stdout`], for JSON: it stays JSON and means the same.
fn json_to_stdout(text: impl Into<Vec<u8>>) -> std::io::Result<()> {
    write_to(&mut std::io::stdout().lock(), &escape::json(text.into()))
}

/// As [`to_stdout`], on standard error, behind the log where there is one.
fn to_stderr(text: &str) -> std::io::Result<()> {
    log::last_words(&escape::lines(text))
}

fn write_to(out: &mut impl Write, text: &[u8]) -> std::io::Result<()> {
    let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
    let written = out.write_all(text).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_explains_itself() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Examples:"), "{} has no examples", command.get_name());
            assert!(command.get_about().is_some(), "{} says not what it does", command.get_name());
        }
    }

    #[test]
    fn wrong_usage_ends_with_2_and_help_with_0() {
        for (line, code) in [
            ("pressroom", 2),
            ("pressroom publish", 2),
            ("pressroom report", 2),
            ("pressroom report failures", 2),
            ("pressroom report slow-events --threshold soon", 2),
            ("pressroom run --config", 2),
            ("pressroom --help", 0),
            ("pressroom --version", 0),
            ("pressroom run --help", 0),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), code, "{line}");
        }
    }

    #[test]
    fn the_configuration_has_a_default_name() {
        let Command::Run(args) = Cli::try_parse_from(["pressroom", "run"]).unwrap().command else {
            panic!("not run");
        };
        assert_eq!(args.config, std::path::Path::new(DEFAULT_CONFIG));
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_error() {
        struct Full(ErrorKind);
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert!(write_to(&mut Full(ErrorKind::BrokenPipe), b"text").is_ok());
        assert!(write_to(&mut Full(ErrorKind::StorageFull), b"text").is_err());
        let mut out = Vec::new();
        write_to(&mut out, b"one").unwrap();
        write_to(&mut out, b"two\n").unwrap();
        assert_eq!(out, b"one\ntwo\n");
    }
}
