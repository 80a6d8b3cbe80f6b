//! Installing the dashboard in a running Grafana.
//!
//! Invariant: one dashboard is saved, under its own uid; another one is replaced only with `--overwrite`.

use super::remote::{Answer, Credentials, Remote, secret};
use crate::cli::{Failure, to_stderr, to_stdout};
use crate::config::Secret;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

pub(super) const MADE_FOR: &str = "Grafana 12 and later";
/// It brought the last schema of such dashboards, 42.
const MAJOR: u64 = 12;

const SAVE: &str = "/api/dashboards/db";
const CREDENTIALS: &str =
    "--token or --user and --password, or GRAFANA_TOKEN or GRAFANA_USER and GRAFANA_PASSWORD";

/// Install the dashboard in a running Grafana
///
/// Saves the dashboard through Grafana's HTTP API. It chooses its data source itself: a variable at its top offers every
/// Prometheus that Grafana knows.
///
/// Credentials are better given by environment variables: a command line can be read by others. A service account's token
/// needs the permissions dashboards:create and dashboards:write (the role Editor has them).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  GRAFANA_TOKEN=… pressroom dashboards install grafana --url https://grafana.example.com
  GRAFANA_USER=admin GRAFANA_PASSWORD=… pressroom dashboards install grafana --folder ops --overwrite

Exit codes:
  0  it is installed; its address is printed
  1  Grafana could not be asked, or refused; the last line says why
  2  what was asked is wrong")]
pub(super) struct Args {
    /// Where Grafana is, with the path that it is served under
    #[arg(long, env = "GRAFANA_URL", hide_env_values = true, value_name = "URL", default_value = "http://localhost:3000", value_parser = secret)]
    pub(super) url: Secret,
    /// A service account's token
    #[arg(long, env = "GRAFANA_TOKEN", hide_env_values = true, value_parser = secret)]
    pub(super) token: Option<Secret>,
    /// A user, where there is no token
    #[arg(long, env = "GRAFANA_USER", hide_env_values = true)]
    pub(super) user: Option<String>,
    /// The user's password
    #[arg(long, env = "GRAFANA_PASSWORD", hide_env_values = true, value_parser = secret)]
    pub(super) password: Option<Secret>,
    /// The uid of the folder that it is saved in (the last part of the folder's address) [default: none, the top]
    #[arg(long, value_name = "UID")]
    pub(super) folder: Option<String>,
    /// Replace the dashboard if it is there already
    #[arg(long)]
    pub(super) overwrite: bool,
}

/// What Grafana is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Save<'a> {
    dashboard: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder_uid: Option<&'a str>,
    message: &'static str,
    overwrite: bool,
}

pub(super) async fn install(args: Args) -> Result<(), Failure> {
    let Args { url, token, user, password, folder, overwrite } = args;
    let credentials = match (token, user) {
        (Some(token), _) => Credentials::Bearer(token),
        (None, Some(user)) => Credentials::Basic { user, password },
        (None, None) => Credentials::Url,
    };
    let grafana = Remote::new("Grafana", CREDENTIALS, &url, credentials)?;
    let dashboard = serde_json::from_str::<&RawValue>(super::GRAFANA).map_err(anyhow::Error::from)?;
    let save = Save {
        dashboard,
        folder_uid: folder.as_deref(),
        message: concat!("installed by pressroom ", env!("CARGO_PKG_VERSION")),
        overwrite,
    };
    let body = serde_json::to_string(&save).map_err(anyhow::Error::from)?;
    let json = [("content-type", "application/json"), ("accept", "application/json")];
    let answer = grafana.post(SAVE, &json, body).await?;
    if answer.status != StatusCode::OK || answer.text("/status") != Some("success") {
        return Err(refused(&grafana, &answer, folder.as_deref()));
    }
    warn_if_old(&grafana).await?;
    // Where it is served under a path, Grafana's answer has that path too.
    let page = answer.text("/url").and_then(|path| grafana.page("/").join(path).ok());
    let page = page.unwrap_or_else(|| grafana.page("/dashboards"));
    Ok(to_stdout(&format!("installed: {page}"))?)
}

fn refused(grafana: &Remote, answer: &Answer, folder: Option<&str>) -> Failure {
    let said = answer.text("/message").map(|text| grafana.clean(text)).unwrap_or_default();
    match (answer.status, answer.text("/status"), folder) {
        (StatusCode::PRECONDITION_FAILED, Some("plugin-dashboard"), _) => {
            Failure::failed(format!("Grafana has this dashboard from a plugin: {said}"))
        }
        // By its uid (version-mismatch), or another one of its title in this folder (name-exists).
        (StatusCode::PRECONDITION_FAILED, ..) => {
            Failure::failed(format!("Grafana has this dashboard already: --overwrite replaces it ({said})"))
        }
        (status, _, Some(folder)) if status.is_client_error() && said.to_lowercase().contains("folder") => {
            Failure::failed(format!("Grafana has no folder of the uid \"{folder}\", or not for you ({said})"))
        }
        _ => grafana.refusal(SAVE, answer),
    }
}

/// An older Grafana takes the dashboard, and shows what it knows of it.
async fn warn_if_old(grafana: &Remote) -> Result<(), Failure> {
    let Ok(answer) = grafana.get("/api/health").await else { return Ok(()) };
    let Some(version) = answer.text("/version") else { return Ok(()) };
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    if major.is_some_and(|major| major < MAJOR) {
        let version = grafana.clean(version);
        to_stderr(&format!(
            "warning: this is Grafana {version}, and the dashboard is made for {MADE_FOR}: parts may be missing"
        ))?;
    }
    Ok(())
}
