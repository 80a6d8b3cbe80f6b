//! OTLP traces, as `POST /v1/traces` takes them: protobuf and JSON, and the answers in the same encoding.
//!
//! Invariant: a span that cannot be read costs itself, an attribute that cannot be read costs itself; both are counted
//! and named in the answer. Only what holds them (the request, a resource's or a scope's list) refuses a request.

mod given;
mod json;
mod mapping;
mod protobuf;

use super::{MAX_RECORDS, Unreadable, cut};
use crate::record::{Batch, EventMetrics, NetworkMetrics};
use given::Given;
use mapping::Resource;
use prost::Message;
use std::borrow::Cow;

/// How a request is written; its answer is written alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// What a request held.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The records.
    pub batch: Batch,
    /// What was left out.
    pub omitted: Omitted,
    seen: usize,
    /// How many attributes the last record has: the next one is likely to be like it.
    attributes: usize,
}

/// What was left out of a request.
#[derive(Debug, Default)]
pub struct Omitted {
    /// Spans that were refused.
    pub spans: usize,
    /// Attributes that could not be read, of spans that were taken.
    pub attributes: usize,
    /// Why, of the first.
    pub reasons: Vec<String>,
}

/// Reasons that are told.
const MAX_REASONS: usize = 5;

impl Omitted {
    fn span(&mut self, reason: impl FnOnce() -> String) {
        self.spans += 1;
        self.tell(reason);
    }

    fn attribute(&mut self, reason: impl FnOnce() -> String) {
        self.attributes += 1;
        self.tell(reason);
    }

    fn tell(&mut self, reason: impl FnOnce() -> String) {
        if self.reasons.len() < MAX_REASONS {
            self.reasons.push(reason());
        }
    }

    fn message(&self) -> String {
        let count = |number: usize, what: &str| match number {
            0 => None,
            1 => Some(format!("1 {what} was left out")),
            number => Some(format!("{number} {what}s were left out")),
        };
        let counts: Vec<_> =
            [count(self.spans, "span"), count(self.attributes, "attribute")].into_iter().flatten().collect();
        let more = if self.spans + self.attributes > self.reasons.len() { "; …" } else { "" };
        format!("{}: {}{more}", counts.join(", "), self.reasons.join("; "))
    }
}

/// A span as it was sent, in whichever encoding; what can be is borrowed from the request.
#[derive(Debug, Default)]
struct Span<'a> {
    trace_id: Cow<'a, [u8]>,
    span_id: Cow<'a, [u8]>,
    parent_span_id: Cow<'a, [u8]>,
    name: Cow<'a, str>,
    kind: u64,
    start: u64,
    end: u64,
    attributes: Given,
    status: u64,
    message: Cow<'a, str>,
    /// The attributes of the last event that tells an exception.
    exception: Given,
}

enum Record {
    Event(EventMetrics),
    Operation(NetworkMetrics),
}

impl Decoded {
    /// Whether one more span may be looked at.
    fn more(&mut self) -> Result<(), Unreadable> {
        self.seen += 1;
        if self.seen > MAX_RECORDS { Err(Unreadable::TooMany) } else { Ok(()) }
    }

    /// A span of `resource` before anything of it is known, with what it has from there.
    fn begin<'a>(&self, resource: &Resource) -> Span<'a> {
        Span { attributes: resource.handed_down(self.attributes), ..Span::default() }
    }

    fn add(&mut self, span: Result<Span<'_>, String>, resource: &Resource) {
        let mut span = match span {
            Ok(span) => span,
            Err(reason) => return self.omitted.span(|| format!("a span is not readable: {reason}")),
        };
        let name = std::mem::take(&mut span.name);
        let (omitted, unreadable) =
            (span.attributes.omitted, std::mem::take(&mut span.attributes.unreadable));
        let taken = match mapping::record(span, &name, resource) {
            Ok(Record::Event(event)) => {
                let attributes = event.attributes.len();
                self.batch.events.push(event);
                attributes
            }
            Ok(Record::Operation(operation)) => {
                let attributes = operation.attributes.len();
                self.batch.operations.push(operation);
                attributes
            }
            Err(reason) => return self.omitted.span(|| format!("span {:?} {reason}", cut(&name, 64))),
        };
        self.attributes = taken;
        let mut reasons = unreadable.into_iter();
        for _ in 0..omitted {
            let reason = reasons.next().unwrap_or_default();
            self.omitted.attribute(|| format!("span {:?}, {reason}", cut(&name, 64)));
        }
    }
}

/// Decodes an `ExportTraceServiceRequest`.
///
/// # Errors
///
/// The request as a whole cannot be read, or holds too many spans.
pub fn decode(body: &[u8], encoding: Encoding) -> Result<Decoded, Unreadable> {
    let mut decoded = Decoded::default();
    match encoding {
        Encoding::Protobuf => protobuf::request(body, &mut decoded)?,
        Encoding::Json => json::request(body, &mut decoded)?,
    }
    Ok(decoded)
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The `ExportTraceServiceResponse` to a request of which `omitted` was left out.
pub fn response(encoding: Encoding, omitted: &Omitted) -> Vec<u8> {
    let partial_success = (omitted.spans + omitted.attributes > 0).then(|| PartialSuccess {
        rejected_spans: i64::try_from(omitted.spans).unwrap_or(i64::MAX),
        error_message: omitted.message(),
    });
    match (encoding, partial_success) {
        (Encoding::Protobuf, partial_success) => Response { partial_success }.encode_to_vec(),
        (Encoding::Json, None) => b"{}".to_vec(),
        (Encoding::Json, Some(partial)) => serde_json::json!({
            // JSON's mapping of protobuf writes 64-bit numbers as texts.
            "partialSuccess": { "rejectedSpans": partial.rejected_spans.to_string(), "errorMessage": partial.error_message }
        })
        .to_string()
        .into_bytes(),
    }
}

/// The answer to a request of a signal that is not taken: a partial success, whose message says so.
pub fn untaken(encoding: Encoding, message: &str) -> Vec<u8> {
    let partial = PartialSuccess { rejected_spans: 0, error_message: message.to_owned() };
    match encoding {
        Encoding::Protobuf => Response { partial_success: Some(partial) }.encode_to_vec(),
        Encoding::Json => {
            serde_json::json!({ "partialSuccess": { "errorMessage": message } }).to_string().into_bytes()
        }
    }
}

/// The `google.rpc.Status` that answers a request that was not taken; `code` is one of gRPC's.
pub fn refusal(encoding: Encoding, code: i32, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => Status { code, message: message.to_owned() }.encode_to_vec(),
        Encoding::Json => serde_json::json!({ "code": code, "message": message }).to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests;
