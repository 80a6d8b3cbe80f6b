//! A Grafana or a Kibana, as far as installing a dashboard needs one.
//!
//! Invariants: no redirect is followed, so that credentials go nowhere but to the address that was given; no message shows
//! a credential; and of an answer no more is read than an answer of theirs can be long.

use crate::cli::{Failure, words};
use crate::config::Secret;
use reqwest::header::{AUTHORIZATION, HeaderValue, InvalidHeaderValue, LOCATION};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::Value;
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

/// An answer that is longer is not read to its end.
const MAX_ANSWER: usize = 1 << 20;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// Nobody, or who is named in the URL: the HTTP client takes that out by itself.
    Url,
    Bearer(Secret),
    ApiKey(Secret),
    Basic {
        user: String,
        password: Option<Secret>,
    },
}

impl Credentials {
    fn given_to(&self, request: RequestBuilder) -> Result<RequestBuilder, InvalidHeaderValue> {
        Ok(match self {
            Self::Url => request,
            Self::Bearer(token) => request.bearer_auth(token.expose()),
            Self::ApiKey(key) => {
                let mut header = HeaderValue::try_from(format!("ApiKey {}", key.expose()))?;
                header.set_sensitive(true);
                request.header(AUTHORIZATION, header)
            }
            Self::Basic { user, password } => request.basic_auth(user, password.as_ref().map(Secret::expose)),
        })
    }

    fn secret(&self) -> Option<&str> {
        match self {
            Self::Url => None,
            Self::Bearer(secret) | Self::ApiKey(secret) => Some(secret.expose()),
            Self::Basic { password, .. } => password.as_ref().map(Secret::expose),
        }
    }
}

/// One of the two, at its address.
pub(super) struct Remote {
    /// `Grafana` or `Kibana`.
    name: &'static str,
    /// How credentials are given to it.
    how: &'static str,
    url: Url,
    /// The same without who asks.
    shown: Url,
    credentials: Credentials,
    client: reqwest::Client,
}

/// What it answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) json: Option<Value>,
    location: Option<String>,
}

impl Answer {
    /// A text of the answer, if it is JSON and has one there.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.json.as_ref()?.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
    }
}

impl Remote {
    pub(super) fn new(
        name: &'static str,
        how: &'static str,
        url: &Secret,
        credentials: Credentials,
    ) -> Result<Self, Failure> {
        let mut url = address(url)?;
        url.set_query(None);
        url.set_fragment(None);
        let mut shown = url.clone();
        // These fail for a URL without a host, which `address` lets none through.
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        if !matches!(credentials, Credentials::Url) {
            url = shown.clone();
        }
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("pressroom/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none());
        if url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host)) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(anyhow::Error::from)?;
        Ok(Self { name, how, url, shown, credentials, client })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(self.client.get(below(&self.url, path))).await
    }

    /// `path` may have a query.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, Failure> {
        let request = self.client.post(below(&self.url, path)).body(body);
        self.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    /// Where a person finds `path`.
    pub(super) fn page(&self, path: &str) -> Url {
        below(&self.shown, path)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, Failure> {
        let request = self.credentials.given_to(request);
        let request =
            request.map_err(|_| Failure::wrong("the credentials hold characters that HTTP cannot send"))?;
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                break;
            }
        }
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: response.status(), json: serde_json::from_slice(&body).ok(), location })
    }

    /// Why it did not do what was asked, for an answer that is the same for every question.
    pub(super) fn refusal(&self, path: &str, answer: &Answer) -> Failure {
        let Self { name, how, shown: url, .. } = self;
        let said = answer.text("/message").map(|text| self.clean(text));
        let because = said.as_ref().map_or_else(String::new, |said| format!(" ({said})"));
        let anonymous = matches!(self.credentials, Credentials::Url) && self.url == self.shown;
        Failure::failed(match (answer.status, said) {
            (status, _) if status.is_redirection() => {
                let to =
                    answer.location.as_deref().map_or_else(|| "elsewhere".to_owned(), |to| self.clean(to));
                format!(
                    "{url} leads to {to}: give the address of {name} itself with --url, with https and the path it is served under"
                )
            }
            (StatusCode::UNAUTHORIZED, _) if anonymous => {
                format!("{name} at {url} wants to know who asks: give {how}{because}")
            }
            (StatusCode::UNAUTHORIZED, _) => {
                format!("{name} at {url} does not take these credentials: give {how}{because}")
            }
            (StatusCode::FORBIDDEN, _) => {
                format!("{name} at {url} does not let these credentials do that{because}")
            }
            (StatusCode::NOT_FOUND, _) => format!(
                "there is no {path} at {url}{because}: is it the address of {name}, with the path it is served under?"
            ),
            (status, Some(said)) => format!("{name} at {url} refused with {status}: {said}"),
            (status, None) => format!("what listens at {url} answered {status} and is hardly {name}"),
        })
    }

    /// A text of the other side as it may be shown.
    pub(super) fn clean(&self, text: &str) -> String {
        let text = match self.credentials.secret() {
            Some(secret) => text.replace(secret, "[redacted]"),
            None => text.to_owned(),
        };
        words::cut(&text, 500)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let (name, url, cause) = (self.name, &self.shown, root_cause(error));
        if error.is_builder() {
            return Failure::wrong(format!("a request to {url} cannot be made of what was given: {cause}"));
        }
        Failure::failed(if error.is_timeout() {
            format!("{name} at {url} does not answer: {cause}")
        } else if cause.contains("certificate") {
            format!(
                "{url} has a certificate that is not trusted here ({cause}): name its authority's file in SSL_CERT_FILE"
            )
        } else if error.is_connect() {
            format!("no {name} answers at {url}: {cause}; --url names another address")
        } else {
            format!("what listens at {url} does not answer as {name} does: {cause}")
        })
    }
}

/// `path`, which may have a query, below the path that `url` has.
fn below(url: &Url, path: &str) -> Url {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut below = url.clone();
    below.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    below.set_query(query);
    below
}

/// The last error of the chain: the others repeat the address.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Reads `--url`. There may be a password in it, so that what is wrong with it is said without quoting it, which the
/// parser of the command line would do.
fn address(text: &Secret) -> Result<Url, Failure> {
    let wrong =
        |why: String| Failure::wrong(format!("--url: {why}; write https://ADDRESS or http://ADDRESS:PORT"));
    let url = Url::parse(text.expose()).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong("it is no address of HTTP".to_owned())),
    }
}

/// Reads a credential, or an address that may have one in it. A file's or a command's last newline is none of it.
pub(super) fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.trim_end()))
}
