//! Installing the dashboard and its data views in a running Kibana.
//!
//! Invariant: objects are imported under their own fixed ids; others of these ids are replaced only with `--overwrite`.

use super::remote::{Answer, Credentials, Remote, secret};
use crate::cli::{Failure, to_stdout, words};
use crate::config::Secret;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::Write;

pub(super) const MADE_FOR: &str = "Kibana 8.9 and later";
const OLDEST: (u64, u64) = (8, 9);

const EVENTS: &str = "pressroom-events";
const NETWORK: &str = "pressroom-network";
const DASHBOARD: &str = "pressroom";
const CREDENTIALS: &str =
    "--api-key or --user and --password, or KIBANA_API_KEY or KIBANA_USER and KIBANA_PASSWORD";

/// Which indices the data views of the dashboard are over.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Indices {
    /// Kibana: the indices of events, if they are not those that a publisher `elasticsearch` has by default
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub(super) events_index: Option<String>,
    /// Kibana: the indices of network operations
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub(super) network_index: Option<String>,
}

impl Indices {
    pub(super) fn are_defaults(&self) -> bool {
        self.events_index.is_none() && self.network_index.is_none()
    }
}

/// As Kibana names indices: patterns with `*`, and several of them with commas between.
fn pattern(text: &str) -> Result<String, String> {
    let wrong = |c: char| c.is_whitespace() || c.is_control() || c.is_uppercase() || "\\/?\"<>|#".contains(c);
    match text.is_empty() || text.contains(wrong) {
        true => Err("write names of indices, with * and commas: acme-event-*".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// The saved objects, as NDJSON.
pub(super) fn objects(indices: &Indices) -> Cow<'static, str> {
    if indices.are_defaults() {
        return Cow::Borrowed(super::KIBANA);
    }
    let mut out = String::with_capacity(super::KIBANA.len());
    for line in super::KIBANA.lines() {
        let mut object: Value = serde_json::from_str(line).unwrap_or_default();
        let title = match object.get("id").and_then(Value::as_str) {
            Some(EVENTS) => &indices.events_index,
            Some(NETWORK) => &indices.network_index,
            _ => &None,
        };
        match (title, object.pointer_mut("/attributes/title")) {
            (Some(title), Some(place)) => {
                *place = title.as_str().into();
                // Writing to a string does not fail.
                let _ = writeln!(out, "{object}");
            }
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    Cow::Owned(out)
}

/// Install the dashboard and its data views in a running Kibana
///
/// Imports the saved objects through Kibana's HTTP API: two data views and a dashboard.
///
/// Credentials are better given by environment variables: a command line can be read by others. They need the privileges
/// "Dashboard: all", "Data View Management: all" and "Saved Objects Management: all" in the space.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  KIBANA_API_KEY=… pressroom dashboards install kibana --url https://kibana.example.com
  KIBANA_USER=elastic KIBANA_PASSWORD=… pressroom dashboards install kibana --space ops --overwrite
  pressroom dashboards install kibana --events-index 'acme-event-*' --network-index 'acme-network-*'

OpenSearch Dashboards cannot show it: it has no Lens.

Exit codes:
  0  it is installed; its address is printed
  1  Kibana could not be asked, or refused all or some of it; the last lines say why
  2  what was asked is wrong")]
pub(super) struct Args {
    /// Where Kibana is, with the path that it is served under
    #[arg(long, env = "KIBANA_URL", hide_env_values = true, value_name = "URL", default_value = "http://localhost:5601", value_parser = secret)]
    pub(super) url: Secret,
    /// An API key, encoded as Kibana shows it when it is made
    #[arg(long, env = "KIBANA_API_KEY", hide_env_values = true, value_parser = secret)]
    pub(super) api_key: Option<Secret>,
    /// A user, where there is no API key
    #[arg(long, env = "KIBANA_USER", hide_env_values = true)]
    pub(super) user: Option<String>,
    /// The user's password
    #[arg(long, env = "KIBANA_PASSWORD", hide_env_values = true, value_parser = secret)]
    pub(super) password: Option<Secret>,
    /// The identifier of the space that it is installed in [default: the default space]
    #[arg(long, value_name = "ID", value_parser = space)]
    pub(super) space: Option<String>,
    /// Replace the objects that are there already
    #[arg(long)]
    pub(super) overwrite: bool,
    #[command(flatten)]
    pub(super) indices: Indices,
}

fn space(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    match !text.is_empty() && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("the identifier, not the name: lower-case letters, digits, _ and -".to_owned()),
    }
}

pub(super) async fn install(args: Args) -> Result<(), Failure> {
    let Args { url, api_key, user, password, space, overwrite, indices } = args;
    let credentials = match (api_key, user) {
        (Some(key), _) => Credentials::ApiKey(key),
        (None, Some(user)) => Credentials::Basic { user, password },
        (None, None) => Credentials::Url,
    };
    let kibana = Remote::new("Kibana", CREDENTIALS, &url, credentials)?;
    is_new_enough(&kibana).await?;
    let space = space.map_or_else(String::new, |space| format!("/s/{space}"));
    let objects = objects(&indices);
    let (content_type, body) = form(&objects);
    let import = format!("{space}/api/saved_objects/_import");
    let headers = [("kbn-xsrf", "true"), ("content-type", content_type.as_str())];
    let answer = kibana.post(&format!("{import}?overwrite={overwrite}"), &headers, body).await?;
    let imported = answer.json.as_ref().and_then(|json| json.get("success")?.as_bool());
    match imported.filter(|_| answer.status.is_success()) {
        Some(true) => {
            let dashboard = id_of_the_dashboard(&answer).unwrap_or_else(|| DASHBOARD.to_owned());
            let mut page = kibana.page(&format!("{space}/app/dashboards"));
            page.set_fragment(Some(&format!("/view/{dashboard}")));
            Ok(to_stdout(&format!("installed: {page}"))?)
        }
        Some(false) => Err(Failure::failed(problems(&kibana, &answer, objects.lines().count()))),
        None => Err(kibana.refusal(&import, &answer)),
    }
}

/// A form with one file, as `curl --form file=@pressroom.ndjson` sends it.
fn form(file: &str) -> (String, String) {
    const BOUNDARY: &str = "pressroom-9b2f64f0b1c94b6e8d37";
    let body = format!(
        "--{BOUNDARY}\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"pressroom.ndjson\"\r\n\
         content-type: application/ndjson\r\n\
         \r\n\
         {file}\r\n\
         --{BOUNDARY}--\r\n"
    );
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// A Kibana that is too old refuses newer objects with nothing but "internal server error", so it is asked first. One that
/// does not say how old it is will be seen.
async fn is_new_enough(kibana: &Remote) -> Result<(), Failure> {
    let answer = kibana.get("/api/status").await?;
    let Some(version) = answer.text("/version/number") else { return Ok(()) };
    let mut numbers = version.split('.').map_while(|number| number.parse::<u64>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return Ok(()) };
    if (major, minor) >= OLDEST {
        return Ok(());
    }
    let version = kibana.clean(version);
    Err(Failure::failed(if major < 4 {
        // Kibana began to tell its version later than that.
        format!("this is OpenSearch Dashboards {version}, which has no Lens and cannot show the dashboard")
    } else {
        format!("this is Kibana {version}, and the dashboard is made for {MADE_FOR}")
    }))
}

/// Kibana gives an object another id where another space has one of its own.
fn id_of_the_dashboard(answer: &Answer) -> Option<String> {
    let imported = answer.json.as_ref()?.get("successResults")?.as_array()?;
    let dashboard =
        imported.iter().find(|object| object.get("type").is_some_and(|kind| kind == "dashboard"))?;
    let id = dashboard.get("destinationId").or_else(|| dashboard.get("id"))?.as_str()?;
    Some(words::cut(id, 100))
}

/// What was not imported, and why.
fn problems(kibana: &Remote, answer: &Answer, sent: usize) -> String {
    let errors =
        answer.json.as_ref().and_then(|json| json.get("errors")?.as_array()).map_or(&[][..], Vec::as_slice);
    let mut out = format!("Kibana did not import {} of {sent} objects:", errors.len());
    for one in errors {
        let text = |pointer: &str| one.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let why = match text("/error/type") {
            "conflict" | "ambiguous_conflict" => "is there already; --overwrite replaces it".to_owned(),
            "unsupported_type" => "is of a type that it does not know".to_owned(),
            "missing_references" => "refers to objects that are not there".to_owned(),
            kind => match text("/error/message") {
                "" => format!("failed: {}", kibana.clean(kind)),
                said => kibana.clean(said),
            },
        };
        let _ = write!(out, "\n  {} \"{}\": {why}", kibana.clean(text("/type")), kibana.clean(text("/id")));
    }
    out
}
