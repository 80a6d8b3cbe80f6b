//! `pressroom report`: a question to a running host, and its answer.
//!
//! Invariant: what is shown says how far it goes; `--json` passes the host's answer through, and escapes only what would
//! act on a terminal.

mod tables;
#[cfg(test)]
mod tests;

pub(super) use tables::{
    Publisher, failed_events, failed_operations, publishers, retry_stats, slow_events, slow_operations,
};

use super::{Failure, json_to_stdout, to_stdout, words};
use clap::ValueEnum;
use reqwest::{Method, StatusCode, Url};
use std::time::Duration;

/// Rows of each table, unless it is said otherwise: about a screen.
const ROWS: usize = 20;

/// Ask a running host
///
/// Asks a running host over its HTTP and shows the answer as tables. Times are UTC. What a host has forgotten is not in
/// its lists (their last line says how far they go); counts and quantiles are over its whole life.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom report metrics                         everything, by name
  pressroom report failed-events --limit 100
  pressroom report slow-events --threshold 2s
  pressroom report publishers --url http://10.0.0.7:4680 --token \"$TOKEN\"
  pressroom report retry-stats --json | jq .retries

Exit codes:
  0  the answer was shown
  1  the host could not be asked, or refused
  2  the question is wrong")]
pub(super) struct Args {
    /// The question
    #[arg(value_enum)]
    question: Question,
    /// Where the host listens: server.listen of its configuration
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4680", value_parser = address)]
    url: Url,
    /// The host's server.token, if it has one
    #[arg(long, env = "PRESSROOM_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What is slow, for the slow-… questions: 2s, 500ms [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = threshold)]
    threshold: Option<String>,
    /// How many rows of each table [default: 20; with --json 1000]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The answer as JSON, as the host gave it
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// Everything: totals, statistics by name, what is pending, the newest records
    Metrics,
    /// Events that failed, the newest first
    FailedEvents,
    /// Events that took a threshold or longer, the slowest first
    SlowEvents,
    /// How often events were tried again, and what became of them
    RetryStats,
    /// Network operations that failed, the newest first
    FailedNetworkOperations,
    /// Network operations that took a threshold or longer, the slowest first
    SlowNetworkOperations,
    /// The publishers: how they stand, and what became of their records
    Publishers,
    /// The files of the plugin directory, and what became of them
    Plugins,
}

impl Question {
    fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::FailedEvents => "failed-events",
            Self::SlowEvents => "slow-events",
            Self::RetryStats => "retry-stats",
            Self::FailedNetworkOperations => "failed-network-operations",
            Self::SlowNetworkOperations => "slow-network-operations",
            Self::Publishers => "publishers",
            Self::Plugins => "plugins",
        }
    }

    fn has_threshold(self) -> bool {
        matches!(self, Self::SlowEvents | Self::SlowNetworkOperations)
    }

    /// The two are lists of the host's own parts, and short.
    fn has_limit(self) -> bool {
        !matches!(self, Self::Publishers | Self::Plugins)
    }
}

pub(super) fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write http://ADDRESS:PORT"))?;
    match url.scheme() {
        "http" if url.has_host() => Ok(url),
        "https" => Err("a host speaks plain http; use the address it listens on, or a tunnel".to_owned()),
        _ => Err("write http://ADDRESS:PORT".to_owned()),
    }
}

fn threshold(text: &str) -> Result<String, String> {
    let is_number = text.parse::<f64>().is_ok_and(|seconds| Duration::try_from_secs_f64(seconds).is_ok());
    if is_number || humantime::parse_duration(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("write a duration such as 2s or 500ms".to_owned())
}

pub(super) async fn report(args: Args) -> Result<(), Failure> {
    let url = question_url(&args)?;
    let body = ask(&url, args.token.as_deref()).await?;
    if args.json {
        json_to_stdout(body)?;
        return Ok(());
    }
    let shown = show(args.question, &body, args.limit.unwrap_or(ROWS)).map_err(|error| {
        Failure::failed(format!("the host at {} answers in another way than this command knows ({error}); is one of the two older? --json shows its answer as it is", origin(&url)))
    })?;
    to_stdout(&shown)?;
    Ok(())
}

fn question_url(args: &Args) -> Result<Url, Failure> {
    let name = args.question.name();
    if args.threshold.is_some() && !args.question.has_threshold() {
        return Err(Failure::wrong(format!(
            "{name} has no --threshold; slow-events and slow-network-operations have"
        )));
    }
    let mut url = args.url.clone();
    url.set_path(&format!("{}/v1/report/{name}", args.url.path().trim_end_matches('/')));
    let limit = args.limit.or((!args.json).then_some(ROWS)).filter(|_| args.question.has_limit());
    if let Some(limit) = limit {
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
    }
    if let Some(threshold) = &args.threshold {
        url.query_pairs_mut().append_pair("threshold", threshold);
    }
    Ok(url)
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

async fn ask(url: &Url, token: Option<&str>) -> Result<String, Failure> {
    send(Method::GET, url, token).await
}

/// Sends a request without a body to the host, and gives its answer.
pub(super) async fn send(method: Method, url: &Url, token: Option<&str>) -> Result<String, Failure> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none());
    let loopback = ["localhost", "127.0.0.1", "[::1]"];
    if url.host_str().is_some_and(|host| loopback.contains(&host)) {
        client = client.no_proxy();
    }
    let client = client.build().map_err(anyhow::Error::from)?;
    let mut request = client.request(method, url.clone());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let origin = origin(url);
    let response = request.send().await.map_err(|error| unreachable(&origin, &error))?;
    let status = response.status();
    let body = response.text().await.map_err(|error| {
        Failure::failed(format!("the host at {origin} broke off its answer: {}", root_cause(&error)))
    })?;
    if status.is_success() {
        return Ok(body);
    }
    Err(Failure::failed(refusal(&origin, url.path(), status, token.is_some(), &body)))
}

fn unreachable(origin: &str, error: &reqwest::Error) -> Failure {
    let cause = root_cause(error);
    Failure::failed(if error.is_timeout() {
        format!("the host at {origin} does not answer: {cause}")
    } else if error.is_connect() {
        format!(
            "no host answers at {origin}: {cause}; is it running (`pressroom run`), and is this its server.listen? --url names another"
        )
    } else {
        format!("what listens at {origin} does not answer as a host does: {cause}")
    })
}

/// The last error of the chain: the others repeat the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn refusal(origin: &str, path: &str, status: StatusCode, with_token: bool, body: &str) -> String {
    let json = serde_json::from_str::<serde_json::Value>(body).ok();
    let said = json.as_ref().and_then(|json| json.get("error")?.as_str()).map(|text| words::cut(text, 300));
    match (status, said) {
        (StatusCode::UNAUTHORIZED, _) if with_token => {
            format!(
                "the host at {origin} does not take this token: give its server.token with --token or PRESSROOM_TOKEN"
            )
        }
        (StatusCode::UNAUTHORIZED, _) => {
            format!("the host at {origin} wants its server.token: give it with --token or PRESSROOM_TOKEN")
        }
        (StatusCode::NOT_FOUND, _) => format!(
            "there is no {path} at {origin}: the host is older than this command, or something else listens there"
        ),
        (_, Some(said)) => format!("the host at {origin} refused: {said}"),
        (status, None) => format!("what listens at {origin} answered {status} and is hardly a host"),
    }
}

fn show(question: Question, body: &str, rows: usize) -> serde_json::Result<String> {
    use serde_json::from_str;
    Ok(match question {
        Question::Metrics => tables::metrics(&from_str(body)?),
        Question::FailedEvents => tables::failed_events(&from_str(body)?),
        Question::SlowEvents => tables::slow_events(&from_str(body)?),
        Question::RetryStats => tables::retry_stats(&from_str(body)?),
        Question::FailedNetworkOperations => tables::failed_operations(&from_str(body)?),
        Question::SlowNetworkOperations => tables::slow_operations(&from_str(body)?),
        Question::Publishers => tables::publishers(&from_str::<Vec<_>>(body)?, rows),
        Question::Plugins => tables::plugins(&from_str::<Vec<_>>(body)?, rows),
    })
}
