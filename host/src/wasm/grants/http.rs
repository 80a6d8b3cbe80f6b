//! `wasi:http`: the gate that every request of a guest passes.
//!
//! Invariant: nothing is sent that no rule allows, at each hop anew; a refusal is an error that the guest can read, is
//! counted, and is said with the rule that would have allowed it.

use super::super::limits::{Budget, Charge};
use super::super::output::{Lines, Severity};
use super::super::settings::Limits;
use super::super::state::MAX_HANDLES;
use super::addresses::Prohibited;
use super::body::{Held, Incoming, Outgoing, drain};
use super::client;
use super::counts::{Counts, Slots};
use super::echo::{Echo, Guarded};
use super::inject::{Clash, Injection};
use super::requests::MAX_METHOD;
use super::rules::{Rule, Target};
use http::header::{ACCEPT_ENCODING, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks};

/// What a connection's buffers take, beside the chunks under way: charged while a request is. The one for reading grows
/// up to 408 KiB.
const BUFFERS: usize = 420 << 10;
/// The most that one write of a guest to a body hands over: most batches in one or two.
const CHUNK: usize = 1 << 20;
/// The headers of a request or an answer, as a guest may hold them; less where there is little memory.
const MAX_HEADERS: usize = 16 << 10;
const LEAST_HEADERS: usize = 2 << 10;
/// How many texts of that length are behind a handle at most: the headers of a request, and its address.
const TEXTS: usize = 2;

/// What of HTTP a plugin is granted, for all its instances.
pub(in super::super) struct Http {
    pub(super) rules: Vec<Rule>,
    pub(super) injections: Vec<Arc<Injection>>,
    /// What no answer may hold, from wherever: a server may store what it was sent, and hand it out elsewhere.
    pub(super) guarded: Guarded,
    pub(super) client: Result<reqwest::Client, String>,
    pub(super) limits: Limits,
    pub(super) lines: Arc<Lines>,
    pub(super) counts: Arc<Counts>,
}

/// Why a request is not made.
struct Denial {
    text: String,
    error: Error,
}

impl Denial {
    fn new(what: &str, cause: &str) -> Self {
        Self { text: format!("denied {what}: {cause}"), error: Error::HttpRequestDenied }
    }
}

impl Http {
    /// Whether a request may be made, and the credentials that it is given.
    fn check(&self, request: &Request<WasiBody>) -> Result<(Target, Vec<Arc<Injection>>), Denial> {
        let method = request.method();
        let named = method.as_str().get(..MAX_METHOD).unwrap_or(method.as_str());
        let shown = shown(request);
        let target = Target::parse(&request.uri().to_string())
            .map_err(|cause| Denial::new(&format!("{named} {shown}"), &format!("the address {cause}")))?;
        let what = format!("{named} {target}");
        if !self.rules.iter().any(|rule| rule.allows(method, &target)) {
            return Err(Denial::new(&what, &format!("add http = [\"{what}\"]")));
        }
        let injections: Vec<_> =
            self.injections.iter().filter(|injection| injection.applies(&target)).cloned().collect();
        for injection in &injections {
            for name in request.headers().keys() {
                let cause = match injection.clash(name) {
                    None => continue,
                    Some(Clash::Set) => {
                        format!("the plugin sets the header {name} itself, which grant.inject sets")
                    }
                    Some(Clash::Signed) => format!(
                        "the plugin sets the header {name}, which sigv4 would sign: add allow = [\"{name}\"] to the \
                         entry of grant.inject"
                    ),
                };
                return Err(Denial::new(&what, &cause));
            }
        }
        Ok((target, injections))
    }

    fn deny(&self, denial: Denial) -> Error {
        self.counts.denied(self.lines.shown(&denial.text));
        self.lines.say(Severity::Warn, &denial.text);
        denial.error
    }

    fn deny_address(&self, what: &str, prohibited: &Prohibited) -> Error {
        self.deny(Denial {
            text: format!("denied {what}: {prohibited}"),
            error: Error::DestinationIpProhibited,
        })
    }
}

/// A request's address without its query, which may hold a secret of the guest's, and without a user.
fn shown(request: &Request<WasiBody>) -> String {
    let uri = request.uri();
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}

/// The gate of one instance.
pub(in super::super) struct Gate {
    http: Arc<Http>,
    budget: Arc<Budget>,
    slots: Slots,
    /// For the headers and paths behind each handle that it may have, from when it first touches any.
    texts: Option<Charge>,
    /// Whether the instance is no more.
    gone: Arc<AtomicBool>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
    }
}

impl Gate {
    pub(super) fn new(http: Arc<Http>, budget: Arc<Budget>) -> Self {
        let slots = Slots::new(http.counts.clone(), http.limits.connections);
        Self { http, budget, slots, texts: None, gone: Arc::default() }
    }

    pub(in super::super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The most that one set of headers takes, such that [`TEXTS`] of that length behind each of its handles take a quarter
    /// of its memory.
    pub(super) fn max_headers(&self) -> usize {
        let part = self.http.limits.memory.bytes() / 4 / (MAX_HANDLES * TEXTS) as u64;
        usize::try_from(part).unwrap_or(MAX_HEADERS).clamp(LEAST_HEADERS, MAX_HEADERS)
    }

    /// Whether there is memory left for the texts of requests and answers: they cannot be charged one by one.
    pub(super) fn affords_texts(&mut self) -> bool {
        if self.texts.is_none() {
            self.texts = self.budget.charge(self.max_headers() * TEXTS * MAX_HANDLES);
        }
        self.texts.is_some()
    }

    /// What a request takes while it is under way.
    fn admit(&self, headers: &HeaderMap) -> Result<Held, Error> {
        let refused = |bound: String, error| {
            let text = format!("a request was refused: {bound}");
            self.http.deny(Denial { text, error })
        };
        let under_way = self.slots.take().ok_or_else(|| {
            let most = self.http.limits.connections;
            refused(format!("limits.connections = {most} are under way"), Error::ConnectionLimitReached)
        })?;
        let charge = self.budget.charge(BUFFERS + size(headers)).ok_or_else(|| {
            let bound = "it does not fit into what is left of limits.memory".to_owned();
            refused(bound.clone(), Error::InternalError(Some(format!("the request was refused: {bound}"))))
        })?;
        Ok(Arc::new((under_way, charge)))
    }
}

fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum()
}

/// What is answered to a request: its answer, and what is still to do for it, which is nothing.
type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Gate {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        !self.affords_texts() || DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let http = self.http.clone();
        http.counts.request();
        let checked = http.check(&request).map_err(|denial| http.deny(denial));
        let admitted = checked.and_then(|checked| Ok((checked, self.admit(request.headers())?)));
        let ((target, injections), held) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                drain(request.into_body());
                return Box::new(std::future::ready(Err(error)));
            }
        };
        let waits = Waits::new(options, http.limits.call_timeout);
        let exchange = Exchange {
            http,
            target,
            injections,
            waits,
            budget: self.budget.clone(),
            max_headers: self.max_headers(),
            gone: self.gone.clone(),
        };
        Box::new(async move {
            let response = exchange.send(request, held).await?;
            Ok((response, Box::new(std::future::ready(Ok(()))) as Box<_>))
        })
    }
}

/// How long a guest may wait for what; never longer than its call may take.
#[derive(Clone, Copy, Debug)]
struct Waits {
    answer: Duration,
    between_bytes: Duration,
}

impl Waits {
    fn new(options: Option<RequestOptions>, most: Duration) -> Self {
        let options = options.unwrap_or_default();
        let clamp = |wanted: Option<Duration>| wanted.unwrap_or(most).min(most);
        // The client bounds connecting by the longest; together with the wait for the first byte it is one wait.
        let answer =
            clamp(options.connect_timeout).saturating_add(clamp(options.first_byte_timeout)).min(most);
        Self { answer, between_bytes: clamp(options.between_bytes_timeout) }
    }
}

/// A request that is allowed, on its way.
struct Exchange {
    http: Arc<Http>,
    target: Target,
    injections: Vec<Arc<Injection>>,
    waits: Waits,
    budget: Arc<Budget>,
    max_headers: usize,
    gone: Arc<AtomicBool>,
}

impl Exchange {
    async fn send(self, request: Request<WasiBody>, held: Held) -> Result<Response<WasiBody>, Error> {
        let what = format!("{} {}", request.method(), self.target);
        let result = match tokio::time::timeout(self.waits.answer, self.answer(request, &what, &held)).await {
            Ok(result) => result,
            Err(_) => Err(Error::ConnectionReadTimeout),
        };
        let (response, guarded) = result.inspect_err(|_| self.http.counts.failed())?;
        let (parts, body) = http::Response::from(response).into_parts();
        if size(&parts.headers) > self.max_headers {
            self.http.counts.failed();
            return Err(Error::HttpResponseHeaderSectionSize(u32::try_from(self.max_headers).ok()));
        }
        if guarded.headers(&parts.headers).is_err() {
            self.http.counts.failed();
            return Err(client::echoed());
        }
        let echo = (!guarded.is_empty()).then(|| Echo::new(guarded));
        let limits = &self.http.limits;
        let body = Incoming::new(body, &self.budget, limits, self.waits.between_bytes, echo, held);
        Ok(Response::from_parts(parts, WasiBody::new(body)))
    }

    async fn answer(
        &self,
        request: Request<WasiBody>,
        what: &str,
        held: &Held,
    ) -> Result<(reqwest::Response, Guarded), Error> {
        let client = self.http.client.as_ref().map_err(|cause| Error::InternalError(Some(cause.clone())))?;
        let (request, guarded) = self.request(request, held).await?;
        let response = client.execute(request).await;
        response.map(|response| (response, guarded)).map_err(|error| match client::prohibited(&error) {
            Some(prohibited) => self.http.deny_address(what, &prohibited),
            None => {
                self.http.lines.say(Severity::Debug, &format!("{what} failed: {}", client::words(&error)));
                client::error(&error)
            }
        })
    }

    /// The request as the client takes it, with what is injected, and what its answer may not hold.
    async fn request(
        &self,
        request: Request<WasiBody>,
        held: &Held,
    ) -> Result<(reqwest::Request, Guarded), Error> {
        let (parts, body) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let mut made = reqwest::Request::new(parts.method, url);
        *made.headers_mut() = parts.headers;
        made.headers_mut().remove(HOST);
        if !self.http.guarded.is_empty() {
            made.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let body = Outgoing::new(body, &self.budget, &self.http.limits, &self.gone, held);
        let signatures = if self.injections.iter().any(|injection| injection.signs_body()) {
            let whole = body.collect().await.map_err(super::body::Cut::error)?;
            let signatures = self.inject(&mut made, whole.as_ref())?;
            *made.body_mut() = whole.into_body();
            signatures
        } else {
            let signatures = self.inject(&mut made, &[])?;
            *made.body_mut() = self.streamed(body, made.method()).await?;
            signatures
        };
        Ok((made, self.http.guarded.clone().with(signatures)))
    }

    fn inject(&self, request: &mut reqwest::Request, body: &[u8]) -> Result<Vec<String>, Error> {
        let mut signatures = Vec::new();
        for injection in &self.injections {
            let signature = injection.apply(request, body);
            signatures.extend(signature.map_err(|cause| Error::InternalError(Some(cause)))?);
        }
        Ok(signatures)
    }

    async fn streamed(&self, body: Outgoing, method: &Method) -> Result<Option<reqwest::Body>, Error> {
        if body.is_empty() {
            return Ok(None);
        }
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
            // Libraries open a body for these as well, and write nothing: then none is announced.
            let whole = body.collect().await.map_err(super::body::Cut::error)?;
            return Ok(whole.into_body());
        }
        Ok(Some(reqwest::Body::wrap_stream(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::Waits;
    use std::time::Duration;
    use wasmtime_wasi_http::RequestOptions;

    #[test]
    fn a_guest_waits_no_longer_than_its_call() {
        let most = Duration::from_secs(10);
        let seconds = |wanted: u64| Some(Duration::from_secs(wanted));
        let all = |wanted| RequestOptions {
            connect_timeout: seconds(wanted),
            first_byte_timeout: seconds(wanted),
            between_bytes_timeout: seconds(wanted),
        };
        for options in [None, Some(all(600)), Some(all(u64::MAX))] {
            let waits = Waits::new(options, most);
            assert_eq!((waits.answer, waits.between_bytes), (most, most));
        }
        let waits = Waits::new(Some(all(2)), most);
        assert_eq!((waits.answer, waits.between_bytes), (most.mul_f32(0.4), Duration::from_secs(2)));
    }
}
