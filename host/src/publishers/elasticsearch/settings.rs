//! The settings of an `elasticsearch` publisher: its keys, and what must hold between them.
//!
//! Invariant: what [`ElasticsearchConfig::problems`] lets through can be turned into addresses, a header and names of
//! indices without another error; only files are read later.

use crate::config::Secret;
use crate::config::units::ByteSize;
use elasticsearch::http::Url;
use elasticsearch::http::transport::CloudId;
use serde::Deserialize;
use std::path::PathBuf;

/// What becomes of a record of another day than today whose index refuses it: closed, blocked for writes, missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// It waits until the index takes it, or for `retry.hold_max_age`.
    #[default]
    Hold,
    /// It becomes a dead letter.
    DeadLetter,
    /// It goes to the index of today.
    Today,
}

/// Settings of an `elasticsearch` publisher, for Elasticsearch and OpenSearch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ElasticsearchConfig {
    /// Where the servers answer: `https://es1.example.com:9200`. All must be of one cluster.
    pub hosts: Vec<String>,
    /// The id of a deployment in Elastic Cloud, in the place of `hosts`.
    pub cloud_id: Option<String>,
    /// Basic authentication.
    pub username: Option<String>,
    /// Goes with `username`.
    pub password: Option<Secret>,
    /// An API key, encoded as Kibana shows it; with `api_key_id`, its secret part alone.
    pub api_key: Option<Secret>,
    /// The id of the API key, where `api_key` is not encoded.
    pub api_key_id: Option<String>,
    /// An access token.
    pub bearer_token: Option<Secret>,
    /// Certificates, PEM, of the authorities to trust instead of the system's; a relative path starts at the
    /// configuration's directory.
    pub ca_file: Option<PathBuf>,
    /// Indices are `{index_prefix}-event-YYYY.MM.DD` and `{index_prefix}-network-YYYY.MM.DD`. Default: `pressroom`.
    pub index_prefix: Option<String>,
    /// Writes to the data streams `logs-{namespace}.execution-default` and `logs-{namespace}.network-default` instead.
    pub data_stream: bool,
    /// Part of the data streams' names. Default: `pressroom`.
    pub namespace: Option<String>,
    /// Installs and updates the index templates. Without them the server guesses the fields' types.
    pub install_template: bool,
    /// The index lifecycle policy that new indices get, where the server knows such.
    pub lifecycle: Option<String>,
    /// What becomes of a record of another day than today whose index refuses it.
    pub late: Late,
    /// Compresses requests.
    pub gzip: bool,
    /// How large a bulk request gets at most, before it is compressed.
    pub bulk_bytes: ByteSize,
    /// How many bulk requests are under way at once.
    pub in_flight: usize,
}

impl Default for ElasticsearchConfig {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            cloud_id: None,
            username: None,
            password: None,
            api_key: None,
            api_key_id: None,
            bearer_token: None,
            ca_file: None,
            index_prefix: None,
            data_stream: false,
            namespace: None,
            install_template: true,
            lifecycle: None,
            late: Late::Hold,
            gzip: true,
            bulk_bytes: ByteSize::mib(2),
            in_flight: 2,
        }
    }
}

/// What the names start with if nothing is said.
const DEFAULT_NAME: &str = "pressroom";

/// The longest name that a server takes for an index, in bytes.
const MAX_INDEX: usize = 255;

/// How the publisher says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    None,
    Basic { username: String, password: Secret },
    ApiKey { id: String, key: Secret },
    EncodedApiKey(Secret),
    Bearer(Secret),
}

type Problem = (String, String);

impl ElasticsearchConfig {
    pub(super) fn prefix(&self) -> &str {
        self.index_prefix.as_deref().unwrap_or(DEFAULT_NAME)
    }

    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(DEFAULT_NAME)
    }

    /// Everything that is wrong with them, as (key, message).
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: &str| problems.push((key.to_owned(), message.to_owned()));
        match (&self.cloud_id, self.hosts.is_empty()) {
            (None, true) => problem("hosts", "is missing: name the servers, or give a cloud_id"),
            (Some(_), false) => {
                problem("cloud_id", "is given beside hosts: one of them says where to publish")
            }
            (Some(id), true) => {
                if let Err(error) = CloudId::parse(id) {
                    problem("cloud_id", &format!("cannot be read: {error}"));
                }
            }
            (None, false) => {}
        }
        for (at, host) in self.hosts.iter().enumerate() {
            match host_url(host) {
                // The address itself may hold the password: it is named by its place.
                Err(message) => problem(&format!("hosts.{at}"), &message),
                Ok(url)
                    if self
                        .hosts
                        .iter()
                        .take(at)
                        .filter_map(|host| host_url(host).ok())
                        .any(|u| u == url) =>
                {
                    problem(&format!("hosts.{at}"), "is in the list already");
                }
                Ok(_) => {}
            }
        }
        if let Err((key, message)) = self.auth() {
            problem(key, &message);
        }
        let plain = |host: &String| host_url(host).is_ok_and(|url| url.scheme() == "http");
        if self.ca_file.is_some() && !self.hosts.is_empty() && self.hosts.iter().all(plain) {
            problem("ca_file", "is for https://, and every host is http://");
        }
        self.name_problems(&mut problem);
        if !(64 << 10..=64 << 20).contains(&self.bulk_bytes.bytes()) {
            problem("bulk_bytes", "must be from 64KiB to 64MiB; 1 to 5 MiB serve best");
        }
        if !(1..=32).contains(&self.in_flight) {
            problem("in_flight", "must be from 1 to 32");
        }
        problems
    }

    fn name_problems(&self, problem: &mut impl FnMut(&str, &str)) {
        if self.data_stream {
            if self.index_prefix.is_some() {
                problem("index_prefix", "says nothing with data_stream = true: use namespace");
            }
            if self.late != Late::Hold {
                problem(
                    "late",
                    "says nothing with data_stream = true: a data stream takes records of every day",
                );
            }
            if let Err(message) = name(self.namespace(), 100 - ".execution".len(), &['-']) {
                problem("namespace", &message);
            }
        } else {
            if self.namespace.is_some() {
                problem("namespace", "is for data streams: set data_stream = true, or use index_prefix");
            }
            let longest = MAX_INDEX - "-network-2026.11.23".len();
            if let Err(message) = name(self.prefix(), longest, &[]) {
                problem("index_prefix", &message);
            }
        }
        if self.lifecycle.as_ref().is_some_and(String::is_empty) {
            problem("lifecycle", "is empty: name a policy or leave it out");
        }
        if self.lifecycle.is_some() && !self.install_template {
            problem(
                "lifecycle",
                "is set by the template: with install_template = false it belongs into yours",
            );
        }
    }

    /// How to say who it is; or, and why, the key that does not go with the others.
    pub(super) fn auth(&self) -> Result<Auth, (&'static str, String)> {
        let given = [
            ("username", self.username.is_some() || self.password.is_some()),
            ("api_key", self.api_key.is_some() || self.api_key_id.is_some()),
            ("bearer_token", self.bearer_token.is_some()),
        ];
        let mut given = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            return Err((
                second,
                format!("is given beside {first}: a server is told one of them, remove the other"),
            ));
        }
        let header_text = |key, secret: &Secret| {
            let text = secret.expose();
            if text.is_empty() || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err((key, "must be of printable ASCII characters, and not empty".to_owned()));
            }
            Ok(secret.clone())
        };
        let missing = |key, other| Err((key, format!("is missing, and {other} is given: they go together")));
        match (&self.username, &self.password, &self.api_key, &self.api_key_id, &self.bearer_token) {
            (Some(username), Some(password), ..) => {
                if username.contains(':') {
                    return Err(("username", "must not have a colon in it".to_owned()));
                }
                Ok(Auth::Basic { username: username.clone(), password: password.clone() })
            }
            (Some(_), None, ..) => missing("password", "username"),
            (None, Some(_), ..) => missing("username", "password"),
            (.., Some(key), Some(id), _) => {
                if id.is_empty() || id.contains(':') {
                    return Err(("api_key_id", "must not be empty, nor have a colon in it".to_owned()));
                }
                Ok(Auth::ApiKey { id: id.clone(), key: header_text("api_key", key)? })
            }
            (.., Some(key), None, _) => {
                if key.expose().contains(':') {
                    let message = "is not encoded: give its id as api_key_id, or the encoded form of both";
                    return Err(("api_key", message.to_owned()));
                }
                Ok(Auth::EncodedApiKey(header_text("api_key", key)?))
            }
            (.., None, Some(_), _) => missing("api_key", "api_key_id"),
            (.., Some(token)) => Ok(Auth::Bearer(header_text("bearer_token", token)?)),
            _ => Ok(Auth::None),
        }
    }

    /// Where the servers answer.
    ///
    /// # Errors
    ///
    /// What [`ElasticsearchConfig::problems`] tells as well.
    pub(super) fn urls(&self) -> anyhow::Result<Vec<Url>> {
        if let Some(id) = &self.cloud_id {
            return Ok(vec![CloudId::parse(id)?.url]);
        }
        self.hosts.iter().map(|host| host_url(host).map_err(anyhow::Error::msg)).collect()
    }
}

/// The address of a server, its path ending with a slash so that paths can be joined to it.
fn host_url(host: &str) -> Result<Url, String> {
    let mut url = Url::parse(host)
        .map_err(|error| format!("is no address such as \"https://localhost:9200\": {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "has credentials in it, which end up in logs: give them as username and password";
        return Err(message.to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its path: no ? and no #".to_owned());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// Checks what a server would refuse in the name of an index.
fn name(name: &str, longest: usize, forbidden: &[char]) -> Result<(), String> {
    let never = ['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':'];
    if name.is_empty() {
        return Err("is empty: name something or leave it out".to_owned());
    }
    if name.len() > longest {
        return Err(format!("is longer than the {longest} bytes that a server takes"));
    }
    if let Some(first) = name.chars().next().filter(|first| ['-', '_', '+', '.'].contains(first)) {
        return Err(format!("must not begin with {first:?}"));
    }
    if let Some(found) = name.chars().find(|c| never.contains(c) || forbidden.contains(c) || c.is_control()) {
        return Err(format!("must not have {found:?} in it"));
    }
    if name.chars().any(|c| c.to_lowercase().ne(std::iter::once(c))) {
        return Err("must be in lower case".to_owned());
    }
    Ok(())
}
