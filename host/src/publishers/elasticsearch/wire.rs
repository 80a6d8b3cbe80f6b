//! Questions to the cluster over HTTP: credentials, the next host when one does not answer, and bounded answers.
//!
//! The crate's own transport reads an answer only as a whole, however long it is, follows redirects, and does not say
//! which host failed; so what is sent is sent here, through the same `reqwest`. Addresses of its calls, certificates,
//! Cloud ids and the form of errors are the crate's.
//!
//! Invariants: an answer counts only when it is whole, or when its caller is told that it is not; a question that no
//! host answers, and only that, is an error; nothing that is said of an answer has a secret in it.

use super::counts::Counts;
use super::hosts::Hosts;
use super::settings::Auth;
use super::trouble::Trouble;
use crate::config::Secrets;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use elasticsearch::http::Url;
use elasticsearch::http::headers::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    RETRY_AFTER,
};
use elasticsearch::http::response::{Cause, Error as ServerError, Exception};
use reqwest::{Method, StatusCode};
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a question may take that is not a bulk request: those are as patient as delivery is.
pub(super) const SHORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a host that was down may take to show that it lives.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Whatever answers this lives. `GET /` is not there everywhere.
const PROBE: &str = "/_cluster/health?local=true&filter_path=status";
/// What of a server's text is passed on, in characters.
const LONGEST_TEXT: usize = 500;

/// The way to the cluster.
pub(super) struct Wire {
    label: Arc<str>,
    client: reqwest::Client,
    authorization: Option<HeaderValue>,
    pub(super) hosts: Hosts,
    pub(super) counts: Arc<Counts>,
    /// Answers may come compressed as well.
    compressed: bool,
    /// What came through `${…}`, and the credentials, which need not have.
    secrets: Secrets,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: &'a str,
    pub(super) body: Option<Content>,
    /// A bulk request is counted, and given as much time as its caller has.
    pub(super) bulk: bool,
    /// So much of an answer is read.
    pub(super) limit: usize,
}

/// What is sent along.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) gzip: bool,
}

/// What a host answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
    /// The body went on beyond the limit.
    pub(super) cut: bool,
}

/// Why a host gave no answer that counts.
struct Silence {
    reason: String,
    retry_after: Option<Duration>,
    /// It is not trusted: somebody has to mend that.
    untrusted: bool,
}

/// What a client is built from; the same makes the same, so that a successor may go on with the connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust(pub(super) Option<Vec<u8>>);

impl Trust {
    /// A client that trusts these certificates, or, without any, the system's and Mozilla's.
    ///
    /// # Errors
    ///
    /// They are no certificates.
    pub(super) fn client(&self) -> anyhow::Result<reqwest::Client> {
        Ok(self.builder()?.build()?)
    }

    pub(super) fn builder(&self) -> anyhow::Result<reqwest::ClientBuilder> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pressroom/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(60));
        if let Some(pem) = &self.0 {
            builder = builder.tls_built_in_root_certs(false);
            for certificate in elasticsearch::cert::Certificate::from_pem(pem)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        Ok(builder)
    }
}

impl Wire {
    pub(super) fn new(
        label: Arc<str>,
        client: reqwest::Client,
        auth: &Auth,
        urls: Vec<Url>,
        compressed: bool,
        secrets: Secrets,
    ) -> anyhow::Result<Self> {
        let own = match auth {
            Auth::None => None,
            Auth::Basic { password: secret, .. }
            | Auth::ApiKey { key: secret, .. }
            | Auth::EncodedApiKey(secret)
            | Auth::Bearer(secret) => Some(secret.expose().to_owned()),
        };
        let encoded = |user: &str, secret: &str| BASE64_STANDARD.encode(format!("{user}:{secret}"));
        let header = match auth {
            Auth::None => None,
            Auth::Basic { username, password } => {
                Some(format!("Basic {}", encoded(username, password.expose())))
            }
            Auth::ApiKey { id, key } => Some(format!("ApiKey {}", encoded(id, key.expose()))),
            Auth::EncodedApiKey(key) => Some(format!("ApiKey {}", key.expose())),
            Auth::Bearer(token) => Some(format!("Bearer {}", token.expose())),
        };
        let authorization = header.map(|text| HeaderValue::from_str(&text)).transpose()?.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        let secrets = secrets.with(own);
        let (hosts, counts) = (Hosts::new(urls), Arc::default());
        Ok(Self { label, client, authorization, hosts, counts, compressed, secrets })
    }

    /// Goes on with what a predecessor has: its counts, what it knows of hosts, and its connections if it trusts the
    /// same certificates.
    pub(super) fn take_over(&mut self, before: &Self, same_trust: bool) {
        self.counts = before.counts.clone();
        self.hosts.take_over(&before.hosts);
        if same_trust {
            self.client = before.client.clone();
        }
    }

    #[cfg(test)]
    pub(super) fn set_client(&mut self, client: reqwest::Client) {
        self.client = client;
    }

    /// Asks one host after the other until one answers.
    ///
    /// # Errors
    ///
    /// None does.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Trouble> {
        if let Some(host) = self.hosts.due(PROBE_TIMEOUT) {
            self.probe(host).await;
        }
        let mut silences = Vec::new();
        for host in self.hosts.in_turn() {
            match self.ask_host(host, question).await {
                Ok(answer) => {
                    self.lives(host);
                    return Ok(answer);
                }
                Err(silence) => {
                    self.does_not_answer(host, &silence.reason);
                    silences.push(silence);
                }
            }
        }
        Err(self.nobody_answers(&silences))
    }

    async fn ask_host(&self, host: usize, question: &Question<'_>) -> Result<Answer, Silence> {
        // Whoever gives up waiting does so here. Of a host that is slow with anything but records that says nothing.
        let telling = question.bulk || question.path == PROBE;
        let mut waiting = Waiting { wire: self, host: telling.then_some(host) };
        let answer = self.send(host, question).await;
        waiting.host = None;
        let answer = answer?;
        match answer.status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                let reason = format!("answers {}", self.refusal(&answer));
                Err(Silence { reason, retry_after: answer.retry_after, untrusted: false })
            }
            _ => Ok(answer),
        }
    }

    async fn send(&self, host: usize, question: &Question<'_>) -> Result<Answer, Silence> {
        let path = question.path.trim_start_matches('/');
        let url = self.hosts.url(host).and_then(|url| url.join(path).ok());
        let Some(url) = url else {
            return Err(Silence {
                reason: "has no such address".to_owned(),
                retry_after: None,
                untrusted: false,
            });
        };
        let mut request = self.client.request(question.method.clone(), url).headers(self.headers());
        if !question.bulk {
            request = request.timeout(SHORT_TIMEOUT);
        }
        if let Some(content) = &question.body {
            request = request.header(CONTENT_TYPE, "application/json").body(content.bytes.clone());
            if content.gzip {
                request = request.header(CONTENT_ENCODING, "gzip");
            }
            if question.bulk {
                self.counts.sent(content.bytes.len());
            }
        }
        let mut response = request.send().await.map_err(|error| self.silence(error))?;
        let (status, retry_after) = (response.status(), retry_after(response.headers(), SystemTime::now()));
        let (mut body, mut cut) = (Vec::new(), false);
        while let Some(chunk) = response.chunk().await.map_err(|error| self.silence(error))? {
            let room = question.limit.saturating_sub(body.len());
            cut = chunk.len() > room;
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if cut {
                break;
            }
        }
        Ok(Answer { status, retry_after, body, cut })
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if !self.compressed {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers
    }

    /// Asks a host that was down whether it lives.
    async fn probe(&self, host: usize) {
        let question =
            Question { method: Method::GET, path: PROBE, body: None, bulk: false, limit: 16 << 10 };
        match tokio::time::timeout(PROBE_TIMEOUT, self.ask_host(host, &question)).await {
            Ok(Ok(_)) => self.lives(host),
            Ok(Err(silence)) => self.does_not_answer(host, &silence.reason),
            // The host has been noted as down when the waiting ended.
            Err(_) => {}
        }
    }

    fn lives(&self, host: usize) {
        if self.hosts.up(host) {
            tracing::info!(publisher = %self.label, host = %self.name_of(host), "the host answers again");
        }
    }

    fn does_not_answer(&self, host: usize, reason: &str) {
        if self.hosts.down(host, reason) {
            tracing::warn!(publisher = %self.label, host = %self.name_of(host), "the host does not answer: {reason}");
        }
    }

    pub(super) fn warn(&self, text: &str) {
        tracing::warn!(publisher = %self.label, "{text}");
    }

    fn name_of(&self, host: usize) -> String {
        self.hosts.url(host).map(|url| self.tell(url.as_str())).unwrap_or_default()
    }

    fn nobody_answers(&self, silences: &[Silence]) -> Trouble {
        let reasons: Vec<&str> = silences.iter().map(|silence| silence.reason.as_str()).collect();
        let mut distinct = reasons.clone();
        distinct.dedup();
        let reason = match (silences.len(), distinct.as_slice()) {
            (1, [reason]) => format!("the server does not answer: {reason}"),
            (count, reasons) => format!("none of the {count} hosts answers: {}", reasons.join("; ")),
        };
        let reason = self.tell(&reason);
        if !silences.is_empty() && silences.iter().all(|silence| silence.untrusted) {
            return Trouble::hold(format!("{reason}; mend ca_file, or the server's certificate"));
        }
        Trouble::Retry { reason, after: silences.iter().filter_map(|silence| silence.retry_after).max() }
    }

    fn silence(&self, error: reqwest::Error) -> Silence {
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !reason.ends_with(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            source = cause.source();
        }
        let untrusted = reason.contains("invalid peer certificate");
        Silence { reason: self.tell(&reason), retry_after: None, untrusted }
    }

    /// What a refusal says: the status and, in the server's words, why.
    pub(super) fn refusal(&self, answer: &Answer) -> String {
        let status = answer.status;
        let said = match serde_json::from_slice::<Exception>(&answer.body) {
            Ok(exception) => describe(exception.error()),
            Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
        };
        let said = if answer.cut { self.secrets.redact_cut(&said) } else { said };
        let said = self.tell(&said);
        if said.is_empty() { status.to_string() } else { format!("{status}: {said}") }
    }

    /// A server's text as it may be told: bounded, on one line, without secrets.
    pub(super) fn tell(&self, text: &str) -> String {
        let told = self.secrets.redact(text);
        let mut told: String = told
            .trim()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(LONGEST_TEXT + 1)
            .collect();
        if told.chars().count() > LONGEST_TEXT {
            told.pop();
            told.push('…');
        }
        told
    }
}

/// A host is being waited for. If nobody waits any more before it has answered, it did not answer in time.
struct Waiting<'a> {
    wire: &'a Wire,
    host: Option<usize>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(host) = self.host {
            self.wire.does_not_answer(host, "no answer in time");
        }
    }
}

/// An error of the server in a line: its type, its reason, and what it was caused by.
pub(super) fn describe(error: &ServerError) -> String {
    let mut text = String::new();
    push(&mut text, error.ty(), error.reason());
    let mut cause = error.caused_by();
    // Causes repeat themselves, and one another; the first few tell what there is to tell.
    for _ in 0..3 {
        let Some(found) = cause else { break };
        let (ty, reason) = (Cause::ty(found), found.reason());
        if reason.is_none_or(|reason| !text.contains(reason)) {
            push(&mut text, ty, reason);
        }
        cause = found.caused_by();
    }
    text
}

fn push(text: &mut String, ty: Option<&str>, reason: Option<&str>) {
    for part in [ty, reason].into_iter().flatten() {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(part);
    }
}

/// The header `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    SystemTime::from(at).duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_comes_in_seconds_or_as_a_date() {
        let at = |text: &str, now: u64| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(now))
        };
        assert_eq!(at("7", 0), Some(Duration::from_secs(7)));
        assert_eq!(at("Wed, 21 Oct 2015 07:28:00 GMT", 1_445_412_470), Some(Duration::from_secs(10)));
        assert_eq!(at("Wed, 21 Oct 2015 07:28:00 GMT", 1_445_412_490), None, "it has passed");
        assert_eq!((at("soon", 0), at("-1", 0), at("1.5", 0)), (None, None, None));
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_without_repetition() {
        let error: Exception = serde_json::from_str(
            r#"{"error":{"type":"a","reason":"x","caused_by":{"type":"b","reason":"x","caused_by":{"type":"c","reason":"y"}}}}"#,
        )
        .unwrap();
        assert_eq!(describe(error.error()), "a: x: c: y");
        let text: Exception = serde_json::from_str(r#"{"error":"no handler found","status":400}"#).unwrap();
        assert_eq!(describe(text.error()), "no handler found");
    }

    #[test]
    fn what_is_told_has_no_secret_no_line_break_and_an_end() {
        let auth = Auth::Bearer(crate::config::Secret::new("hunter2"));
        let wire =
            Wire::new("x".into(), Trust(None).client().unwrap(), &auth, Vec::new(), true, Secrets::default())
                .unwrap();
        assert_eq!(wire.tell("no hunter2\nhere"), "no [redacted] here");
        let long = wire.tell(&"é".repeat(2_000));
        assert_eq!((long.chars().count(), long.chars().last()), (LONGEST_TEXT + 1, Some('…')));
    }
}
