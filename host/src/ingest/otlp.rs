//! OTLP traces, as `POST /v1/traces` takes them: protobuf and JSON, and the answers in the same encoding.
//!
//! Invariant: a span that cannot be read costs itself, an attribute that cannot be read costs itself; both are counted
//! and named in the answer, and so is what was kept in another form than it was sent. Only what holds them (the request, a
//! resource's or a scope's list) refuses a request.

mod address;
mod json;
mod mapping;
mod protobuf;
mod span;

use super::given::{Given, Notes, REPLACED, Read};
use super::{MAX_COPIED, MAX_RECORDS, Unreadable, cut};
use crate::record::{Batch, EventMetrics, NetworkMetrics, Value};
use mapping::Resource;
use prost::Message;
use span::Span;
use std::borrow::Cow;
use std::sync::Arc;

/// What is kept of spans beyond what always is.
#[derive(Clone)]
pub struct Mapping {
    /// Whether an attribute of a resource is kept, by its key.
    pub resource_attribute: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Whether events other than exceptions are kept.
    pub events: bool,
    /// Whether links are kept.
    pub links: bool,
    /// Whether the name and the version of the instrumentation scope are kept.
    pub scope: bool,
    /// Whether the trace state is kept.
    pub trace_state: bool,
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            resource_attribute: Arc::new(|_| false),
            events: false,
            links: false,
            scope: false,
            trace_state: false,
        }
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("events", &self.events)
            .field("links", &self.links)
            .field("scope", &self.scope)
            .field("trace_state", &self.trace_state)
            .finish_non_exhaustive()
    }
}

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

/// What of a request is not in the records as it was sent.
#[derive(Debug, Default)]
pub struct Omitted {
    /// Spans that were refused.
    pub spans: usize,
    /// Attributes that were left out, of spans and resources that were taken.
    pub attributes: usize,
    /// Texts that were cut or had characters replaced, and parts of lists that were left out, of spans that were taken.
    pub altered: usize,
    /// Why, of the first.
    reasons: Notes,
}

impl Omitted {
    fn span(&mut self, reason: impl FnOnce() -> String) {
        self.spans += 1;
        self.reasons.add(reason);
    }

    /// Takes over what there is to tell of something that was taken.
    fn take(&mut self, omitted: Notes, altered: Notes, of: impl Fn() -> String) {
        self.attributes += omitted.count;
        self.altered += altered.count;
        self.reasons.append(omitted, &of);
        self.reasons.append(altered, &of);
    }

    fn message(&self) -> String {
        let count = |number: usize, what: &str, became: &str| match number {
            0 => None,
            1 => Some(format!("1 {what} was {became}")),
            number => Some(format!("{number} {what}s were {became}")),
        };
        let counts: Vec<_> = [
            count(self.spans, "span", "left out"),
            count(self.attributes, "attribute", "left out"),
            count(self.altered, "value", "altered"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let more = if self.reasons.count > self.reasons.reasons.len() { "; …" } else { "" };
        format!("{}: {}{more}", counts.join(", "), self.reasons.reasons.join("; "))
    }
}

enum Record {
    Event(EventMetrics),
    Operation(NetworkMetrics),
}

/// Decodes a request.
struct Reader<'m> {
    mapping: &'m Mapping,
    decoded: Decoded,
    /// Bytes that spans have of their resources.
    copied: usize,
}

impl Reader<'_> {
    /// Whether one more span of `resource` may be looked at.
    fn more(&mut self, resource: &Resource) -> Result<(), Unreadable> {
        self.decoded.seen += 1;
        self.copied = self.copied.saturating_add(resource.bytes());
        if self.decoded.seen > MAX_RECORDS {
            Err(Unreadable::TooMany)
        } else if self.copied > MAX_COPIED {
            Err(Unreadable::Copies)
        } else {
            Ok(())
        }
    }

    /// The resource that has these attributes.
    fn resource(&mut self, given: Given) -> Resource {
        let (resource, omitted, altered) = Resource::new(given);
        self.decoded.omitted.take(omitted, altered, || "resource, ".to_owned());
        resource
    }

    /// The resource, for the spans of one of its scopes.
    fn scope(
        &mut self,
        resource: &Resource,
        name: Read<Cow<'_, str>>,
        version: Read<Cow<'_, str>>,
        replaced: bool,
    ) -> Resource {
        let mut altered = Notes::default();
        if replaced {
            altered.add(|| REPLACED.to_owned());
        }
        let (name, version) = (name.noted("name", &mut altered), version.noted("version", &mut altered));
        self.decoded.omitted.take(Notes::default(), altered, || "scope, ".to_owned());
        resource.in_scope(&name, &version)
    }

    /// A span of `resource` before anything of it is known, with what it has from there.
    fn begin<'a>(&self, resource: &Resource) -> Span<'a> {
        Span { attributes: resource.handed_down(self.decoded.attributes), ..Span::default() }
    }

    fn add(&mut self, span: Result<Span<'_>, String>, resource: &Resource) {
        let decoded = &mut self.decoded;
        let mut span = match span {
            Ok(span) => span,
            Err(reason) => return decoded.omitted.span(|| format!("a span is not readable: {reason}")),
        };
        let name = std::mem::take(&mut span.name);
        let omitted = span.attributes.omitted.take();
        span.attributes.dropped = span.attributes.dropped.saturating_add(omitted.count as u64);
        let mut altered = span.altered.take();
        let taken = match mapping::record(span, &name, resource, &mut altered) {
            Ok(Record::Event(event)) => {
                let attributes = event.attributes.len();
                decoded.batch.events.push(event);
                attributes
            }
            Ok(Record::Operation(operation)) => {
                let attributes = operation.attributes.len();
                decoded.batch.operations.push(operation);
                attributes
            }
            Err(reason) => return decoded.omitted.span(|| format!("span {:?} {reason}", cut(&name, 64))),
        };
        decoded.attributes = taken;
        if omitted.count + altered.count > 0 {
            decoded.omitted.take(omitted, altered, || format!("span {:?}, ", cut(&name, 64)));
        }
    }
}

/// A float as JSON has it: those for which it has no number are texts.
fn float(float: f64) -> Value {
    let value = Value::Float(float);
    if float.is_finite() { value } else { Value::from(&*value.as_text()) }
}

/// Decodes an `ExportTraceServiceRequest`.
///
/// # Errors
///
/// The request as a whole cannot be read, or holds too many spans.
pub fn decode(body: &[u8], encoding: Encoding, mapping: &Mapping) -> Result<Decoded, Unreadable> {
    let mut reader = Reader { mapping, decoded: Decoded::default(), copied: 0 };
    match encoding {
        Encoding::Protobuf => protobuf::request(body, &mut reader)?,
        Encoding::Json => json::request(body, &mut reader)?,
    }
    Ok(reader.decoded)
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

/// The `ExportTraceServiceResponse` to a request of which `omitted` is not in the records as it was sent. Where only parts
/// of spans are meant, it rejects none and has a message: OTLP's way to warn.
pub fn response(encoding: Encoding, omitted: &Omitted) -> Vec<u8> {
    let partial_success = (omitted.reasons.count > 0).then(|| PartialSuccess {
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
