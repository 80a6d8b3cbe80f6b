//! Decides from a request's head whether it is answered: by `Host`, `Origin` and token, before its body is read.

use hyper::header::{
    self, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
};
use hyper::{Method, StatusCode, http::request::Parts};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a guard is set up.
#[derive(Clone, Debug, Default)]
pub struct GuardSettings {
    /// What stands before a key in messages: `server.`, or nothing where the section is named otherwise.
    pub prefix: String,
    /// The bearer token that requests must carry.
    pub token: Option<String>,
    /// Further `Host` names that are answered, with or without a port.
    pub hosts: Vec<String>,
    /// Origins whose pages may send records, such as `https://app.example`.
    pub cors_origins: Vec<String>,
}

/// Checks `Host`, `Origin` and the token.
pub struct Guard {
    prefix: String,
    authorization: Option<Vec<u8>>,
    hosts: Vec<String>,
    cors_origins: Vec<String>,
    counts: RefusedCounts,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// It needs no token.
    pub open: bool,
    /// Pages of `cors_origins` may ask for it.
    pub cross_origin: bool,
}

/// A request that may be answered.
#[derive(Debug)]
pub struct Passed {
    /// The origin of the page that it comes from, if that is another one than the host's own.
    origin: Option<HeaderValue>,
    /// It only asks what such a page may send: the headers that it wants to.
    preflight: Option<Option<HeaderValue>>,
}

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong, and which key to set.
    pub message: String,
    /// What it is about.
    pub why: Why,
    origin: Option<HeaderValue>,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A header that is missing, or there twice.
    Head,
    /// The `Host` header, or the target's.
    Host,
    /// The `Origin` header.
    Origin,
    /// The bearer token.
    Token,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Head, Self::Host, Self::Origin, Self::Token];

    /// As it is written in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Token => "token",
        }
    }
}

/// Counts requests that a guard refused. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct RefusedCounts(Arc<[Refusals; 4]>);

#[derive(Debug, Default)]
struct Refusals {
    count: AtomicU64,
    /// When one was last logged, and the count then.
    logged: Mutex<Option<(Instant, u64)>>,
}

/// Refusals for one reason are logged no more often than so.
const LOG_PAUSE: Duration = Duration::from_secs(60);

impl RefusedCounts {
    /// How many were refused for `why`.
    pub fn of(&self, why: Why) -> u64 {
        self.refusals(why).count.load(Ordering::Relaxed)
    }

    fn refusals(&self, why: Why) -> &Refusals {
        let [head, host, origin, token] = &*self.0;
        match why {
            Why::Head => head,
            Why::Host => host,
            Why::Origin => origin,
            Why::Token => token,
        }
    }

    fn note(&self, refused: &Refused, remote: IpAddr) {
        let refusals = self.refusals(refused.why);
        let count = refusals.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = refusals.logged.lock();
        if logged.is_none_or(|(at, _)| at.elapsed() >= LOG_PAUSE) {
            let more = count - 1 - logged.map_or(0, |(_, before)| before);
            *logged = Some((Instant::now(), count));
            let (status, reason) = (refused.status.as_u16(), refused.why.as_str());
            tracing::warn!(%remote, status, reason, unlogged = more, "a request was refused: {}", refused.message);
        }
    }
}

impl Guard {
    /// A guard that counts what it refuses in `counts`.
    pub fn new(settings: GuardSettings, counts: RefusedCounts) -> Self {
        let lower = |text: &String| text.trim_end_matches('.').to_ascii_lowercase();
        Self {
            prefix: settings.prefix,
            authorization: settings.token.map(String::into_bytes),
            hosts: settings.hosts.iter().map(lower).collect(),
            cors_origins: settings.cors_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
            counts,
        }
    }

    /// Whether this request, which came from `remote` to the address `local`, is answered.
    ///
    /// # Errors
    ///
    /// It is not; that is counted, and logged now and then.
    pub fn check(
        &self,
        request: &Parts,
        asked: Asked,
        remote: IpAddr,
        local: IpAddr,
    ) -> Result<Passed, Refused> {
        self.judge(request, asked, local).inspect_err(|refused| self.counts.note(refused, remote))
    }

    fn judge(&self, request: &Parts, asked: Asked, local: IpAddr) -> Result<Passed, Refused> {
        let host = single(&request.headers, &header::HOST)?;
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Err(Refused::new(StatusCode::BAD_REQUEST, Why::Head, "the Host header is missing"));
        };
        // A request line with a whole URL names the host a second time.
        let target = request.uri.authority().map(|authority| authority.as_str());
        for named in [Some(host), target].into_iter().flatten() {
            if !self.is_ours(named, local) {
                let named = named.get(..64).unwrap_or(named);
                let message = format!(
                    "this host does not answer for {named:?}; add it to {}hosts if it should",
                    self.prefix
                );
                return Err(Refused::new(StatusCode::FORBIDDEN, Why::Host, message));
            }
        }
        let mut passed = Passed { origin: None, preflight: None };
        if let Some(origin) = single(&request.headers, &header::ORIGIN)?
            && !self.is_same_origin(origin, host)
        {
            if !asked.cross_origin || !self.cors_origins.contains(&origin.to_ascii_lowercase()) {
                return Err(Refused::new(StatusCode::FORBIDDEN, Why::Origin, self.foreign(origin, asked)));
            }
            passed.origin = HeaderValue::from_str(origin).ok();
            if request.method == Method::OPTIONS
                && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            {
                // A preflight carries no token: it answers what may be sent, and takes nothing.
                passed.preflight = Some(request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned());
                return Ok(passed);
            }
        }
        match &self.authorization {
            Some(token) if !asked.open => {
                let given = single(&request.headers, &header::AUTHORIZATION)?.and_then(bearer);
                if given.is_some_and(|given| same(given.as_bytes(), token)) {
                    return Ok(passed);
                }
                let message = match given {
                    Some(_) => format!("the bearer token is wrong; send the one of {}token", self.prefix),
                    None => {
                        format!("a bearer token is required: authorization: Bearer <{}token>", self.prefix)
                    }
                };
                Err(Refused {
                    origin: passed.origin,
                    ..Refused::new(StatusCode::UNAUTHORIZED, Why::Token, message)
                })
            }
            _ => Ok(passed),
        }
    }

    fn foreign(&self, origin: &str, asked: Asked) -> String {
        let origin = origin.get(..64).unwrap_or(origin);
        let prefix = &self.prefix;
        if asked.cross_origin {
            format!(
                "requests from web pages of {origin:?} are refused; add it to {prefix}cors_origins if it may send"
            )
        } else {
            format!("requests from web pages of another origin, {origin:?}, are refused")
        }
    }

    /// A page that lets its own name resolve to this machine cannot make the browser send an address, or a name that
    /// nobody else can own.
    fn is_ours(&self, authority: &str, local: IpAddr) -> bool {
        let authority = authority.to_ascii_lowercase();
        let name = name_of(&authority);
        if name == "localhost" || self.names(&authority) {
            return true;
        }
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok_and(|address| {
            let address = address.to_canonical();
            address.is_loopback() || address == local.to_canonical()
        })
    }

    /// Whether `server.hosts` has it, with or without its port.
    fn names(&self, authority: &str) -> bool {
        let name = name_of(authority);
        self.hosts.iter().any(|host| host == authority || host == name)
    }

    fn is_same_origin(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let (authority, port) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
            (Some(authority), _) => (authority, ":80"),
            (_, Some(authority)) => (authority, ":443"),
            _ => return false,
        };
        let host = host.to_ascii_lowercase();
        let plain = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_owned();
        plain(authority) == plain(&host) || self.names(authority)
    }
}

impl Refused {
    fn new(status: StatusCode, why: Why, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), why, origin: None }
    }

    /// The page's origin, if the page may read why it was refused.
    pub fn origin(&self) -> Option<&HeaderValue> {
        self.origin.as_ref()
    }
}

impl Passed {
    /// The page's origin, if it is another one than the host's own.
    pub fn origin(&self) -> Option<&HeaderValue> {
        self.origin.as_ref()
    }

    /// What to answer with, if the request only asks what a page may send.
    pub fn preflight(&self) -> Option<HeaderMap> {
        let wanted = self.preflight.as_ref()?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        let usual = HeaderValue::from_static("authorization, content-type, content-encoding");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone().unwrap_or(usual));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        let private = HeaderName::from_static("access-control-allow-private-network");
        headers.insert(private, HeaderValue::from_static("true"));
        Some(headers)
    }
}

/// Lets the pages of `origin` read an answer. `sendBeacon`, which browser SDKs use, wants credentials to be allowed.
pub fn share(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
}

/// The one value of a header. Two of what is checked here may be read differently further on.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    let text = value.map(|value| value.to_str()).transpose();
    match (values.next(), text) {
        (None, Ok(text)) => Ok(text.map(str::trim)),
        _ => {
            let message = format!("send the header {name} once, in ASCII");
            Err(Refused::new(StatusCode::BAD_REQUEST, Why::Head, message))
        }
    }
}

/// `authority` without its port and its last dot.
fn name_of(authority: &str) -> &str {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !inside_brackets(name) => {
            name
        }
        _ => authority,
    };
    name.trim_end_matches('.')
}

/// Whether the colon after `name` is one of an IPv6 address in brackets.
fn inside_brackets(name: &str) -> bool {
    name.starts_with('[') && !name.ends_with(']')
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Takes as long whichever byte differs.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0_u8, |differences, (a, b)| {
        // Opaque to the optimiser, which could otherwise stop at the first difference.
        std::hint::black_box(differences | (a ^ b))
    });
    given.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests;
