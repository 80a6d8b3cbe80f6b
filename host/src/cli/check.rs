//! `pressroom check`: is the configuration right?
//!
//! Invariant: nothing is started, opened for writing or changed.

use super::words::{self, Column};
use super::{DEFAULT_CONFIG, Failure, to_stdout};
use crate::host::{Checked, CheckedPublisher};
use crate::output::escape;
use std::path::PathBuf;

/// Check a configuration without running it
///
/// Reads the configuration as `run` would, every publisher's own settings included, and the plugin directory, and
/// says everything that is wrong: a line per problem, `FILE:LINE:COLUMN: KEY: MESSAGE`. It also tries, as the user who runs
/// it, whether the files that will be read and written can be: certificates, dead letters, outputs, granted directories,
/// the cache of compiled plugins. Nothing is started, so what only the start can tell (a port that is taken) is not told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom check
  pressroom check --config /etc/pressroom/pressroom.toml

Exit codes:
  0  the configuration is right; its publishers and plugins are listed
  1  it is, but a plugin in the directory cannot be loaded, or a file cannot be read or written
  2  it is not; every problem is listed")]
pub(super) struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
}

pub(super) fn check(args: &Args) -> Result<(), Failure> {
    super::run::exists(&args.config)?;
    let checked = match crate::host::check(&args.config) {
        Ok(checked) => checked,
        Err(error) => {
            to_stdout(&error.to_string())?;
            let problems = words::counted(error.problems().len() as u64, "problem");
            return Err(Failure::wrong(format!("{problems} in {}", escape::path(&args.config))));
        }
    };
    to_stdout(&summary(args, &checked))?;
    let broken = checked.plugins.iter().filter(|plugin| plugin.problem.is_some()).count();
    let unusable = checked.files.iter().filter(|file| !file.optional).count();
    let mut wrong = Vec::new();
    if broken > 0 {
        wrong.push(format!("{} cannot be loaded", words::counted(broken as u64, "plugin")));
    }
    if unusable > 0 {
        wrong.push(format!("{} cannot be read or written", words::counted(unusable as u64, "file")));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::failed(wrong.join(", "))) }
}

fn summary(args: &Args, checked: &Checked) -> String {
    let mut out = format!("{} is right\n", escape::path(&args.config));
    let columns = [Column::Text("publisher"), Column::Text("type"), Column::Text("")];
    let mut rows = Vec::new();
    let members = checked.publishers.iter().filter_map(|publisher| publisher.composite.as_ref());
    let members: Vec<&String> = members.flat_map(|composite| &composite.members).collect();
    for publisher in checked.publishers.iter().filter(|publisher| !members.contains(&&publisher.label)) {
        add_rows(publisher, checked, 0, &mut rows);
    }
    out.push_str(&words::table(&columns, rows, "no publishers: records are kept for reports only"));
    let dir = escape::path(&checked.plugins_dir);
    match checked.plugins.as_slice() {
        [] => out.push_str(&format!("no plugins in {dir}\n")),
        plugins => {
            out.push_str(&format!("plugins in {dir}:\n"));
            for plugin in plugins {
                let problem = escape::line(plugin.problem.as_deref().unwrap_or("right"));
                out.push_str(&format!("  {}: {problem}\n", escape::line(&plugin.name)));
            }
        }
    }
    for file in &checked.files {
        let weight = if file.optional { "warning: " } else { "" };
        out.push_str(&format!("{weight}{}: {}\n", file.key, file.problem));
    }
    out
}

/// A publisher's row, and beneath it those of its members.
fn add_rows(publisher: &CheckedPublisher, checked: &Checked, depth: usize, rows: &mut Vec<Vec<String>>) {
    let waits = publisher.waits.as_ref().map(|reason| format!("will wait: {reason}"));
    let kind = match &publisher.composite {
        Some(composite) => format!("{}, {}", publisher.kind, composite.mode),
        None => publisher.kind.clone(),
    };
    let label = format!("{}{}", "  ".repeat(depth), publisher.label);
    rows.push(vec![label, kind, waits.unwrap_or_default()]);
    for label in publisher.composite.iter().flat_map(|composite| &composite.members) {
        let members = checked.publishers.iter().filter(|member| member.label == *label);
        members.for_each(|member| add_rows(member, checked, depth + 1, rows));
    }
}
