//! Answers: refusals in the form that their client reads, and what is written off the runtime's threads.

use crate::ingest::body::{CODINGS, Refusal};
use crate::ingest::otlp::{self, Encoding};
use crate::listen::{Unwritten, Written};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// A refusal as JSON. [`in_form_of`] gives it another form where the client reads one.
pub(super) fn answer(refusal: &Refusal) -> Response {
    let mut response = with_body(refusal, "application/json", json(refusal));
    response.extensions_mut().insert(refusal.clone());
    response
}

fn json(refusal: &Refusal) -> Vec<u8> {
    serde_json::json!({ "error": refusal.message }).to_string().into_bytes()
}

/// A refusal with a body of another form.
fn with_body(refusal: &Refusal, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = (refusal.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
    let headers = response.headers_mut();
    if let Some(after) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if refusal.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(CODINGS));
    }
    response
}

/// The form of refusals that a client of OTLP reads: a `google.rpc.Status` in the encoding of its request.
pub(super) fn form(path: &str, content_type: &str) -> Option<Encoding> {
    let is_otlp = ["/v1/traces", "/v1/logs", "/v1/metrics"].into_iter().any(|endpoint| {
        path.strip_prefix(endpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    is_otlp.then(|| encoding(content_type).map_or(Encoding::Json, |(encoding, _)| encoding))
}

/// The encoding of a body of OTLP, and the media type that says so.
pub(super) fn encoding(content_type: &str) -> Option<(Encoding, &'static str)> {
    match content_type {
        "application/x-protobuf" | "application/protobuf" => Some((Encoding::Protobuf, PROTOBUF)),
        "application/json" => Some((Encoding::Json, "application/json")),
        _ => None,
    }
}

const PROTOBUF: &str = "application/x-protobuf";

fn media_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => PROTOBUF,
        Encoding::Json => "application/json",
    }
}

/// A response in the form that its client reads: a refusal as a `Status`, if that is an OTLP client.
pub(super) fn in_form_of(form: Option<Encoding>, mut response: Response) -> Response {
    let refusal = response.extensions_mut().remove::<Refusal>();
    let (Some(encoding), Some(refusal)) = (form, refusal) else { return response };
    let body = otlp::refusal(encoding, code(refusal.status), &refusal.message);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(encoding)));
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
    response
}

/// gRPC's code for an answer that did not take a request.
fn code(status: StatusCode) -> i32 {
    match status {
        StatusCode::REQUEST_TIMEOUT => 4,
        StatusCode::NOT_FOUND => 5,
        StatusCode::FORBIDDEN => 7,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            12
        }
        StatusCode::INTERNAL_SERVER_ERROR => 13,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::UNAUTHORIZED => 16,
        _ => 3,
    }
}

/// What is said to a head that could not be read.
pub(super) fn malformed(status: StatusCode, head: &[u8]) -> (&'static str, Vec<u8>) {
    let message = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "the head is larger than 32 KiB, or has more than 64 headers"
        }
        StatusCode::URI_TOO_LONG => "the path is too long",
        StatusCode::NOT_IMPLEMENTED => TRANSFER_ENCODING,
        _ => "the head of the request is not HTTP/1.1",
    };
    let refusal = Refusal::new(status, message);
    let head = String::from_utf8_lossy(head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let content_type = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type").then(|| media_type_of(value))
    });
    match form(&super::front::plain_path(path), &content_type.unwrap_or_default()) {
        Some(encoding) => (media_type(encoding), otlp::refusal(encoding, code(status), message)),
        None => ("application/json", json(&refusal)),
    }
}

/// What is said to a body that is encoded for its transfer otherwise than in chunks.
pub(super) const TRANSFER_ENCODING: &str =
    "of transfer encodings only chunked is supported; use content-encoding";

/// The media type of a request, without its parameters.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type_of(value.unwrap_or_default())
}

fn media_type_of(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// An answer that was written off the runtime's threads.
pub(super) fn written(content_type: &'static str, written: Result<Written, Unwritten>) -> Response {
    match written {
        Ok(Written { body, gzip }) => {
            let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
            if gzip {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Err(busy @ Unwritten::Busy) => {
            let refusal =
                Refusal::for_now(StatusCode::SERVICE_UNAVAILABLE, busy.to_string(), Duration::from_secs(1));
            answer(&refusal)
        }
        Err(Unwritten::Failed(error)) => {
            tracing::error!(%error, "an answer could not be written");
            let message = "the answer could not be written; see the log";
            answer(&Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    }
}

/// What every answer says to browsers: guess no type, embed it nowhere, keep no copy.
const HARDENING: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

pub(super) fn harden(response: &mut Response) {
    for (name, value) in HARDENING {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
}
