//! `pressroom plugin inspect`: what is this file?

use super::super::{Failure, json_to_stdout, to_stdout, words};
use crate::output::escape;
use crate::wasm::{Description, describe};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Say what a file is, without compiling it
///
/// Digest, size, language, the version of the contract, what it imports and exports, the tools that made it, and its
/// custom sections. A file that this host would not load is described as far as it goes, with the reason.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin inspect plugins/alerts.wasm
  pressroom plugin inspect --json plugins/alerts.wasm

Exit codes:
  0  it is a plugin that this host loads
  1  it is not; the last line says why")]
pub(super) struct Args {
    /// The component
    file: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(args: &Args) -> Result<(), Failure> {
    let found = describe(&args.file).map_err(|cause| Failure::failed(escape::line(&cause.to_string())))?;
    if args.json {
        let text = serde_json::to_vec_pretty(&found)
            .map_err(|cause| Failure::failed(escape::line(&cause.to_string())))?;
        json_to_stdout(text)?;
    } else {
        to_stdout(&text(&found))?;
    }
    found.problem.map_or(Ok(()), |problem| Err(Failure::failed(escape::line(&problem))))
}

fn text(found: &Description) -> String {
    let unknown = || "not told".to_owned();
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<11} {}", escape::line(value));
    };
    line("digest", &found.digest);
    line("size", &words::bytes(found.bytes));
    line(
        "contract",
        &found
            .interface
            .as_ref()
            .map_or_else(|| "none".to_owned(), |version| format!("pressroom:publisher@{version}")),
    );
    line("language", &found.language.clone().unwrap_or_else(unknown));
    for (name, list) in
        [("made by", &found.producers), ("exports", &found.exports), ("imports", &found.imports)]
    {
        let mut first = name;
        for value in list {
            line(first, value);
            first = "";
        }
    }
    let sections = found.sections.iter().map(|(name, bytes)| format!("{name} ({})", words::bytes(*bytes)));
    line("sections", &sections.collect::<Vec<_>>().join(", "));
    out
}
