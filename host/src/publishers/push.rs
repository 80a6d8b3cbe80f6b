//! What the publishers that push to Grafana Cloud, or to what speaks as it does, have in common: where to, with which
//! credentials, and what an answer means.
//!
//! Invariant: a URL is given, never made up and never followed elsewhere; credentials are in the request's header and
//! nowhere else; what a server says is cut, and stands on one line, before anybody reads it.

#[cfg(test)]
pub(crate) mod receiver;
#[cfg(test)]
mod tests;

use crate::config::{Secret, Secrets};
use anyhow::Context as _;
use reqwest::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};
use serde::de::{Deserializer, Error, Visitor};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One word about who sends, as HTTP wants it.
const USER_AGENT: &str = concat!("pressroom/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer, so much is read; of a long one, so much is shown.
const MAX_ANSWER: usize = 64 * 1024;
const MAX_SHOWN: usize = 500;
/// The header by which Loki and Mimir tell tenants apart.
const TENANT: &str = "x-scope-orgid";

/// The keys by which a section says where it pushes to.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) url: String,
    pub(super) user: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) org_slug: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
}

impl Destination {
    /// Every problem, as (key, message). `path` is what the URL of such a receiver ends in as a rule.
    pub(super) fn problems(&self, path: &str) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: String| problems.push((key.to_owned(), message));
        match Url::parse(&self.url) {
            Err(error) => {
                problem("url", format!("is no URL ({error}): give all of it, such as https://HOST{path}"));
            }
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                problem("url", "must begin with https:// or http://".to_owned());
            }
            Ok(url) => {
                if !url.username().is_empty() || url.password().is_some() {
                    problem("url", "must not carry credentials: say them in user and api_key".to_owned());
                }
                if url.path() == "/" {
                    problem("url", format!("has no path: give all of it, such as https://HOST{path}"));
                }
            }
        }
        match (&self.user, &self.api_key) {
            (None, Some(_)) => problem(
                "api_key",
                "needs user beside it: the instance id that stands with the URL in Grafana Cloud, or a user's name"
                    .to_owned(),
            ),
            (Some(_), None) => problem(
                "user",
                "needs api_key beside it: a token of an access policy in Grafana Cloud, or a user's password"
                    .to_owned(),
            ),
            _ => {}
        }
        if self.user.as_ref().is_some_and(|user| user.contains(':')) {
            problem("user", "must not have a \":\" in it: HTTP cannot say that".to_owned());
        }
        if self.org_slug.as_ref().is_some_and(|slug| !is_slug(slug)) {
            problem("org_slug", "is the last part of https://grafana.com/orgs/SLUG".to_owned());
        }
        if let Some(tenant) = &self.tenant
            && (tenant.is_empty() || HeaderValue::from_str(tenant).is_err())
        {
            problem("tenant", "cannot be said in a header".to_owned());
        }
        problems
    }
}

fn is_slug(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Reads a text that may be written as a number: an instance id.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Id;
    impl Visitor<'_> for Id {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a number such as 123456")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Option<String>, E> {
            Ok(Some(text.to_owned()))
        }
        fn visit_i64<E: Error>(self, number: i64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }
        fn visit_u64<E: Error>(self, number: u64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }
    }
    deserializer.deserialize_any(Id)
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// All of it was taken.
    Taken,
    /// Nobody answered: it may work later. What was sent may have been taken all the same.
    Silent { reason: String },
    /// The server took nothing, for now: it may work later.
    Later {
        reason: String,
        /// How long the server wants to be left alone.
        after: Option<Duration>,
    },
    /// Somebody must mend something first: credentials, or the URL.
    Mend { reason: String },
    /// The request is larger than the server takes, or a proxy in front of it.
    TooLarge { reason: String },
    /// The server looked at what was sent and does not want it, or not all of it.
    Unwanted { reason: String },
    /// The server does not want it, and it would be no different with anything else: nothing of it was taken.
    Misdirected { reason: String },
}

/// A client of one place.
pub(super) struct Place {
    client: Client,
    destination: Destination,
    /// What came through `${…}`, and the key, which need not have.
    secrets: Secrets,
}

impl Place {
    /// A client that sends requests with these headers to `destination`, and waits `timeout` for an answer.
    ///
    /// # Errors
    ///
    /// The CA's file cannot be read, or is none.
    pub(super) fn new(
        destination: Destination,
        base_dir: &Path,
        mut headers: HeaderMap,
        timeout: Duration,
        secrets: &Secrets,
    ) -> anyhow::Result<Self> {
        if let Some(tenant) = &destination.tenant {
            headers.insert(TENANT, HeaderValue::from_str(tenant).context("tenant")?);
        }
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout);
        if let Some(file) = &destination.ca_file {
            for certificate in certificates(&base_dir.join(file))? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let secrets = secrets.with(destination.api_key.iter().map(|key| key.expose().to_owned()));
        Ok(Self { client: builder.build().context("cannot make an HTTP client")?, destination, secrets })
    }

    /// Sends one request.
    pub(super) async fn send(&self, body: Vec<u8>) -> Answer {
        let mut request = self.client.post(&self.destination.url).body(body);
        if let (Some(user), Some(key)) = (&self.destination.user, &self.destination.api_key) {
            request = request.basic_auth(user, Some(key.expose()));
        }
        match request.send().await {
            Ok(response) => self.judge(response).await,
            Err(error) => {
                let error = anyhow::Error::from(error.without_url());
                Answer::Silent { reason: self.told(&format!("{error:#}")) }
            }
        }
    }

    async fn judge(&self, response: Response) -> Answer {
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(retry_after);
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
        let text = self.read(response).await;
        if status.is_success() {
            return Answer::Taken;
        }
        let mut reason = format!("HTTP {status}");
        if !text.is_empty() {
            reason = format!("{reason}: {text}");
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Answer::Mend { reason: self.told(&format!("{} ({reason})", self.credentials_wrong())) }
            }
            _ if status.is_redirection() => {
                let to = location.unwrap_or_else(|| "it does not say where".to_owned());
                let reason = format!(
                    "HTTP {status}, to {}: give the URL itself in `url`",
                    one_line(&self.secrets.redact(&to))
                );
                Answer::Mend { reason: self.told(&reason) }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Answer::Later { reason: self.told(&reason), after }
            }
            StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge { reason: self.told(&reason) },
            _ if status.is_server_error() => Answer::Later { reason: self.told(&reason), after },
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
                Answer::Unwanted { reason: self.told(&reason) }
            }
            _ => Answer::Misdirected { reason: self.told(&format!("{reason}; is `url` the right one?")) },
        }
    }

    fn credentials_wrong(&self) -> String {
        let Destination { user, org_slug, .. } = &self.destination;
        match (user, org_slug) {
            (None, _) => "it wants credentials: set `user` and `api_key`".to_owned(),
            (Some(_), None) => "`user` or `api_key` is wrong, or may not write".to_owned(),
            (Some(_), Some(slug)) => format!(
                "`user` or `api_key` is wrong, or may not write; both come from https://grafana.com/orgs/{slug}"
            ),
        }
    }

    /// The reason, with the place and without secrets, should a server repeat them.
    fn told(&self, reason: &str) -> String {
        self.secrets.redact(&format!("{}: {reason}", self.destination.url)).into_owned()
    }

    /// The beginning of an answer, without secrets. All of one that is not too long is read, so that the connection can be
    /// used again.
    async fn read(&self, mut response: Response) -> String {
        let mut bytes = Vec::new();
        let mut whole = false;
        while !whole && bytes.len() < MAX_ANSWER {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                _ => whole = true,
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        // A secret that is cut is not found any more.
        if whole { one_line(&self.secrets.redact(&text)) } else { one_line(&self.secrets.redact_cut(&text)) }
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let pem =
        crate::paths::read(file).with_context(|| format!("cannot read `ca_file`, {}", file.display()))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).with_context(|| format!("{} is not PEM", file.display()))?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in {}", file.display());
    Ok(certificates)
}

/// A stranger's text that can stand in a log: on one line, without control characters, and not too long.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// What `Retry-After` says: seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    // A date that has passed asks for nothing.
    Some(SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default())
}

/// What this machine is called.
pub(super) fn hostname() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name =
        kernel.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "localhost".to_owned())
}

/// What is wrong with a label that an operator gives to everything, if anything. `taken` are the names that are in
/// use already.
pub(super) fn label_problem(name: &str, value: &str, taken: &[&str]) -> Option<String> {
    let mut letters = name.chars();
    let legal = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        Some("a label's name is letters, digits and \"_\", and begins with no digit".to_owned())
    } else if name.starts_with("__") {
        Some("Grafana's databases keep names that begin with __ for themselves".to_owned())
    } else if taken.contains(&name) {
        Some("there is such a label already".to_owned())
    } else if value.is_empty() {
        Some("an empty label is no label: remove it".to_owned())
    } else {
        None
    }
}
