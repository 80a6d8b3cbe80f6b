//! `pressroom dashboards`: the dashboards for Grafana and Kibana that come with this program.
//!
//! Invariants: what is printed, written and installed are the files of the repository's `dashboards/` as they were when
//! this program was built; nothing that is there already is replaced unless that was asked for.

mod grafana;
mod kibana;
mod remote;
#[cfg(test)]
mod tests;

use super::words::{self, Column};
use super::{Failure, json_to_stdout, to_stdout};
use crate::output::escape;
use clap::{Subcommand, ValueEnum};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

const GRAFANA: &str = include_str!("../../../dashboards/grafana/pressroom.json");
const KIBANA: &str = include_str!("../../../dashboards/kibana/pressroom.ndjson");

/// Print, write or install the dashboards for Grafana and Kibana
///
/// The dashboard for Grafana shows what a Prometheus has scraped from a publisher `prometheus`, or what a publisher
/// `grafana-cloud` has pushed; the one for Kibana shows the indices of a publisher `elasticsearch`. Both are in this
/// program, and both can be changed where they are shown once they are installed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom dashboards list
  pressroom dashboards print grafana > pressroom.json       to import it by hand, or to compare
  pressroom dashboards write /etc/pressroom/dashboards      for Grafana's provisioning, or your own repository
  GRAFANA_TOKEN=… pressroom dashboards install grafana --url https://grafana.example.com
  KIBANA_API_KEY=… pressroom dashboards install kibana --url https://kibana.example.com --overwrite

Exit codes:
  0  it was printed, written, installed
  1  that failed; the last line says why
  2  what was asked is wrong")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the dashboards
    #[command(after_help = "Examples:\n  pressroom dashboards list")]
    List,
    /// Print one of them as the file that Grafana or Kibana imports
    #[command(after_help = "Examples:
  pressroom dashboards print grafana > pressroom.json
  pressroom dashboards print kibana --events-index 'acme-event-*' --network-index 'acme-network-*'")]
    Print {
        /// Whose dashboard
        #[arg(value_enum)]
        dashboard: Dashboard,
        #[command(flatten)]
        indices: kibana::Indices,
    },
    /// Write both into a directory, as grafana/pressroom.json and kibana/pressroom.ndjson
    #[command(after_help = "Examples:
  pressroom dashboards write dashboards
  pressroom dashboards write dashboards --overwrite")]
    Write {
        /// The directory; what is missing of it is made
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Replace files that are there and are different
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        indices: kibana::Indices,
    },
    /// Install one of them through the HTTP API of a running Grafana or Kibana
    #[command(after_help = "Examples:
  GRAFANA_TOKEN=… pressroom dashboards install grafana --url https://grafana.example.com
  pressroom dashboards install kibana --url http://localhost:5601")]
    Install {
        #[command(subcommand)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
enum Target {
    Grafana(grafana::Args),
    Kibana(kibana::Args),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dashboard {
    /// Grafana's, a dashboard in JSON
    Grafana,
    /// Kibana's, saved objects in NDJSON
    Kibana,
}

impl Dashboard {
    const ALL: [Self; 2] = [Self::Grafana, Self::Kibana];

    fn file(self) -> &'static str {
        match self {
            Self::Grafana => "grafana/pressroom.json",
            Self::Kibana => "kibana/pressroom.ndjson",
        }
    }

    fn text(self, indices: &kibana::Indices) -> Cow<'static, str> {
        match self {
            Self::Grafana => Cow::Borrowed(GRAFANA),
            Self::Kibana => kibana::objects(indices),
        }
    }
}

pub(super) async fn dashboards(args: Args) -> Result<(), Failure> {
    match args.action {
        Action::List => Ok(to_stdout(&list())?),
        Action::Print { dashboard, indices } => {
            if dashboard == Dashboard::Grafana && !indices.are_defaults() {
                return Err(Failure::wrong("Grafana's dashboard reads no indices; leave the option out"));
            }
            Ok(json_to_stdout(dashboard.text(&indices).into_owned())?)
        }
        Action::Write { dir, overwrite, indices } => {
            let files = Dashboard::ALL.map(|one| (dir.join(one.file()), one.text(&indices)));
            Ok(to_stdout(&write(&files, overwrite)?)?)
        }
        Action::Install { target: Target::Grafana(args) } => grafana::install(args).await,
        Action::Install { target: Target::Kibana(args) } => kibana::install(args).await,
    }
}

fn list() -> String {
    let columns =
        [Column::Text("dashboard"), Column::Text("file"), Column::Text("for"), Column::Text("shows")];
    let row = |one: Dashboard, made_for: &str, shows: &str| {
        let name = one.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        vec![name, one.file().to_owned(), made_for.to_owned(), shows.to_owned()]
    };
    let rows = [
        row(
            Dashboard::Grafana,
            grafana::MADE_FOR,
            "the series of a publisher `prometheus` or `grafana-cloud`, and the host's own",
        ),
        row(Dashboard::Kibana, kibana::MADE_FOR, "the indices of a publisher `elasticsearch`"),
    ];
    words::table(&columns, rows, "none")
}

/// Writes all of the files or, where one would replace another, none. Says which.
fn write(files: &[(PathBuf, Cow<'_, str>)], overwrite: bool) -> Result<String, Failure> {
    let differs = |(path, text): &&(PathBuf, Cow<'_, str>)| {
        std::fs::read(path).is_ok_and(|there| there != text.as_bytes())
    };
    if !overwrite && let Some((path, _)) = files.iter().find(differs) {
        let path = escape::path(path);
        return Err(Failure::failed(format!("{path} is there and is different; --overwrite replaces it")));
    }
    let mut written = String::new();
    for (path, text) in files {
        let said = |error: std::io::Error| Failure::failed(format!("{}: {error}", escape::path(path)));
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).map_err(said)?;
        std::fs::write(path, text.as_bytes()).map_err(said)?;
        written.push_str(&format!("{}\n", escape::path(path)));
    }
    Ok(written)
}
