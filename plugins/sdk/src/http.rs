//! Requests to other machines: a small client that waits for its answer.
//!
//! A plugin reaches what the operator's `grant.http` names, and nothing else. Credentials that the operator injects
//! (`grant.inject`) are added by the host: a plugin neither sees them nor sets those headers. No redirect is followed.
//!
//! ```no_run
//! use pressroom_plugin::{Format, PublishResult, EventBatch, http};
//!
//! fn forward(events: &EventBatch) -> PublishResult {
//!     let lines = events.encode(Format::JsonLines)?;
//!     http::post("https://example.com/ingest", &[("content-type", "application/x-ndjson")], &lines)?.accepted()?;
//!     Ok(vec![])
//! }
//! ```
//!
//! `?` on an [`Error`] makes a [`PublishError`] of it: what was denied is a hold, anything else a retry.
//! [`Response::accepted`] does so for an answer.

use crate::PublishError;
use std::fmt;
use std::time::Duration;

/// The largest answer that is read, unless a [`Request`] says otherwise.
pub const MAX_ANSWER: usize = 4 << 20;

/// Sends `body` and waits for the answer.
///
/// # Errors
///
/// There was no answer. An answer that says no is none: see [`Response::accepted`].
pub fn post(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, Error> {
    let mut request = Request::new("POST", url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send(body)
}

/// Asks for `url` and waits for the answer.
///
/// # Errors
///
/// There was no answer.
pub fn get(url: &str) -> Result<Response, Error> {
    Request::new("GET", url).send(&[])
}

/// A request, with what [`post`] and [`get`] leave out.
#[derive(Clone, Debug)]
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // Nothing is sent outside of a host.
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    timeout: Option<Duration>,
    max_answer: usize,
}

impl Request {
    /// A request with any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            timeout: None,
            max_answer: MAX_ANSWER,
        }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into().into_bytes()));
        self
    }

    /// How long to wait for a connection, for the answer's first byte, and between bytes; the host lets nobody wait
    /// longer than `limits.call_timeout`.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The largest answer that is read, in bytes; a larger one is an error.
    #[must_use]
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// Sends it with `body` and waits for the answer.
    ///
    /// # Errors
    ///
    /// There was no answer.
    pub fn send(self, body: &[u8]) -> Result<Response, Error> {
        #[cfg(target_arch = "wasm32")]
        return wasi::send(self, body);
        #[cfg(not(target_arch = "wasm32"))]
        {
            let _ = body;
            Err(Error { kind: ErrorKind::Failed, text: "there is no network outside of a host".to_owned() })
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status, such as 200.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (in lower case), if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text, as far as it is text.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Itself, if its status is of the kind 2xx.
    ///
    /// # Errors
    ///
    /// What the status means for a batch: 408, 425, 429 and 5xx a retry (after `Retry-After`, if that is a number of
    /// seconds), 401, 403 and 404 a hold, any other a reject. The reason shows the beginning of the body.
    pub fn accepted(self) -> Result<Self, PublishError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let shown: String = self.text().trim().chars().take(200).collect();
        let reason = format!("the server answered {}: {shown}", self.status);
        Err(match self.status {
            408 | 425 | 429 | 500.. => {
                let after = self.header("retry-after").and_then(|value| value.trim().parse().ok());
                PublishError::Retry { reason, after: after.map(Duration::from_secs) }
            }
            401 | 403 | 404 => PublishError::hold(reason),
            _ => PublishError::reject(reason),
        })
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorKind {
    Denied,
    Failed,
}

impl Error {
    /// Whether the host did not let the request out: its operator has to grant it. The host's log says what to add.
    pub fn is_denied(&self) -> bool {
        self.kind == ErrorKind::Denied
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl From<Error> for PublishError {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Denied => Self::hold(error.text),
            ErrorKind::Failed => Self::retry(error.text),
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod wasi {
    use super::{Error, ErrorKind, Request, Response};
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{
        ErrorCode, Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    };
    use wasip2::io::streams::{OutputStream, StreamError};

    fn failed(text: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Failed, text: text.into() }
    }

    fn error(url: &str, code: &ErrorCode) -> Error {
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error {
                kind: ErrorKind::Denied,
                text: format!(
                    "{url} is not granted ({code:?}); the host's log says what to add to the grant"
                ),
            },
            ErrorCode::InternalError(Some(text)) => failed(format!("{url}: {text}")),
            other => failed(format!("{url}: {other:?}")),
        }
    }

    pub(super) fn send(request: Request, body: &[u8]) -> Result<Response, Error> {
        let options = RequestOptions::new();
        if let Some(timeout) = request.timeout {
            let nanos = Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
            let set = options
                .set_connect_timeout(nanos)
                .and_then(|()| options.set_first_byte_timeout(nanos))
                .and_then(|()| options.set_between_bytes_timeout(nanos));
            set.map_err(|()| failed("the host knows no timeouts"))?;
        }
        let url = request.url.clone();
        let max_answer = request.max_answer;
        let outgoing = outgoing(request, body.len())?;
        let sink = outgoing.body().map_err(|()| failed("the request has no body"))?;
        let answer = handle(outgoing, Some(options)).map_err(|code| error(&url, &code))?;
        // A server may answer before it has read everything: then the answer says why.
        if write(&sink, body).is_ok() {
            let _ = OutgoingBody::finish(sink, None);
        } else {
            drop(sink);
        }
        answer.subscribe().block();
        let response = answer
            .get()
            .ok_or_else(|| failed("the answer is not there"))?
            .map_err(|()| failed("the answer was taken before"))?
            .map_err(|code| error(&url, &code))?;
        let status = response.status();
        let headers = response.headers().entries();
        let incoming = response.consume().map_err(|()| failed("the answer has no body"))?;
        let body = read(&incoming, max_answer).map_err(|cause| failed(format!("{url}: {cause}")))?;
        Ok(Response { status, headers, body })
    }

    fn outgoing(request: Request, length: usize) -> Result<OutgoingRequest, Error> {
        let bad = |what: &str| failed(format!("{what} of the request to {} cannot be sent", request.url));
        let (scheme, rest) = request.url.split_once("://").ok_or_else(|| bad("the address"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let fields = Fields::new();
        for (name, value) in &request.headers {
            fields.append(name, value).map_err(|_| bad(&format!("the header {name}")))?;
        }
        if length > 0 || request.method == "POST" || request.method == "PUT" {
            fields
                .set("content-length", &[length.to_string().into_bytes()])
                .map_err(|_| bad("the length"))?;
        }
        let outgoing = OutgoingRequest::new(fields);
        let method = match request.method.as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "PATCH" => Method::Patch,
            "OPTIONS" => Method::Options,
            other => Method::Other(other.to_owned()),
        };
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => Scheme::Other(other.to_owned()),
        };
        outgoing.set_method(&method).map_err(|()| bad("the method"))?;
        outgoing.set_scheme(Some(&scheme)).map_err(|()| bad("the scheme"))?;
        outgoing.set_authority(Some(authority)).map_err(|()| bad("the host"))?;
        outgoing.set_path_with_query(Some(&path)).map_err(|()| bad("the path"))?;
        Ok(outgoing)
    }

    fn write(sink: &OutgoingBody, mut body: &[u8]) -> Result<(), StreamError> {
        let stream: OutputStream = sink.write().map_err(|()| StreamError::Closed)?;
        let writable = stream.subscribe();
        while !body.is_empty() {
            writable.block();
            let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
            let (now, later) = body.split_at(room.min(body.len()));
            stream.write(now)?;
            body = later;
        }
        Ok(())
    }

    fn read(incoming: &IncomingBody, most: usize) -> Result<Vec<u8>, String> {
        let stream = incoming.stream().map_err(|()| "the answer was taken before".to_owned())?;
        let mut body = Vec::new();
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(chunk) => body.extend(chunk),
                Err(StreamError::Closed) => return Ok(body),
                Err(StreamError::LastOperationFailed(cause)) => {
                    let code = wasip2::http::types::http_error_code(&cause);
                    return Err(match code {
                        Some(ErrorCode::InternalError(Some(text))) => text,
                        Some(code) => format!("the answer broke off: {code:?}"),
                        None => format!("the answer broke off: {}", cause.to_debug_string()),
                    });
                }
            }
            if body.len() > most {
                return Err(format!("the answer is larger than {most} bytes"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Response, get};
    use crate::PublishError;
    use std::time::Duration;

    #[test]
    fn an_answer_says_what_becomes_of_a_batch() {
        let answer = |status, retry_after: &str| Response {
            status,
            headers: vec![("retry-after".to_owned(), retry_after.as_bytes().to_vec())],
            body: b" busy \n".to_vec(),
        };
        assert_eq!(answer(204, "").accepted().map(|answer| answer.status), Ok(204));
        let told = |status| answer(status, "7").accepted().err();
        let reason = |status| format!("the server answered {status}: busy");
        for status in [408, 429, 500, 503] {
            let after = Some(Duration::from_secs(7));
            assert_eq!(told(status), Some(PublishError::Retry { reason: reason(status), after }));
        }
        assert_eq!(answer(503, "soon").accepted().err(), Some(PublishError::retry(reason(503))));
        for status in [401, 403, 404] {
            assert_eq!(told(status), Some(PublishError::hold(reason(status))));
        }
        for status in [301, 400, 422] {
            assert_eq!(told(status), Some(PublishError::reject(reason(status))));
        }
    }

    #[test]
    fn outside_of_a_host_there_is_no_network() {
        let Err(error) = get("http://127.0.0.1/") else { panic!("nothing is there") };
        assert!(!error.is_denied());
        assert_eq!(PublishError::from(error), PublishError::retry("there is no network outside of a host"));
    }
}
