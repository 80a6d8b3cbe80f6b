//! `pressroom plugin check`: does this file do what the contract asks, before an operator has to find out?
//!
//! Invariant: it runs in the sandbox that a host would run it in, with the bounds of its section, and is judged by
//! what any host sees of it. Without a section nothing is granted: it is then to say so, and not to trap.

pub(super) mod batches;
mod steps;

use super::super::{Failure, block_on, to_stdout, words};
use super::sandbox::Sandbox;
use crate::output::escape;
use crate::wasm::{Description, describe};
use std::path::PathBuf;

/// Try a plugin out as a host would run it
///
/// Looks at its contract and its imports, says what it has to be granted, and then publishes generated batches through
/// it in the sandbox: one row, 1,024 rows, huge texts, other scripts, missing fields, both kinds of record, flushes.
/// It passes if every call comes to an orderly end: published, or answered retry, reject or hold. Without a section of a
/// configuration it has no settings and no grants; with one, what it publishes arrives where the section leads.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin check alerts.wasm
  pressroom plugin check alerts.wasm --config pressroom.toml
  pressroom plugin check alerts.wasm --config pressroom.toml --publisher alerts-eu

Exit codes:
  0  it passes
  1  it does not, or could not be run; the lines say why
  2  what was asked, or the configuration, is wrong")]
pub(super) struct Args {
    /// The component
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) section: super::sandbox::SectionArgs,
}

pub(super) fn check(args: &Args) -> Result<(), Failure> {
    let sandbox = Sandbox::new(&args.file, &args.section)?;
    let found = describe(&args.file).map_err(|cause| Failure::failed(escape::line(&cause.to_string())))?;
    let mut out = summary(args, &found, &sandbox);
    if let Some(problem) = found.problem {
        to_stdout(&out)?;
        return Err(Failure::failed(escape::line(&problem)));
    }
    to_stdout(&out)?;
    out.clear();
    let mut failed = 0;
    let ran = block_on(async {
        let mut subject = sandbox.start().await?;
        let report = |name: &str, verdict: &steps::Verdict| {
            failed += u64::from(!verdict.passes());
            Ok(to_stdout(&format!(
                "{} {name:<39} {}",
                if verdict.passes() { "ok    " } else { "FAILED" },
                escape::line(&verdict.to_string())
            ))?)
        };
        steps::run(&mut subject, report).await?;
        to_stdout(&subject.footprint())?;
        Ok(())
    });
    ran?;
    match failed {
        0 => Ok(to_stdout(&format!("{} passes", escape::path(&args.file)))?),
        failed => Err(Failure::failed(format!(
            "{} does not pass: {} failed",
            escape::path(&args.file),
            words::counted(failed, "step")
        ))),
    }
}

fn summary(args: &Args, found: &Description, sandbox: &Sandbox) -> String {
    let language = escape::line(found.language.as_deref().unwrap_or("an unknown language"));
    let contract = found
        .interface
        .as_deref()
        .map_or_else(String::new, |version| format!(", of the contract pressroom:publisher@{version}"));
    let mut out =
        format!("{}: {} of {language}{contract}\n", escape::path(&args.file), words::bytes(found.bytes));
    match &sandbox.label {
        Some(label) => out.push_str(&format!("as publishers.{label} has it\n")),
        None => out.push_str("without settings and grants\n"),
    }
    for want in found.wants(&sandbox.config.grant) {
        let says = match (want.granted, want.by_habit) {
            (true, _) => "granted by this section".to_owned(),
            (false, false) => {
                format!("not granted; where it is used, {} must name what it may reach", want.grant)
            }
            (false, true) => format!("not granted; needs {} only if it is used", want.grant),
        };
        out.push_str(&format!("imports {}: {says}\n", escape::line(want.import.trim_end_matches('/'))));
    }
    out
}
