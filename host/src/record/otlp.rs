//! Records as OTLP spans: an `ExportTraceServiceRequest` in protobuf.
//!
//! Invariant: the same record becomes the same span, byte for byte, whatever batch it travels in; an attribute key
//! occurs once in a span, and what has no place as a field of the span is an attribute under its name in
//! OpenTelemetry's semantic conventions, so that an ingest that follows them reads the record back.

mod wire;

use super::{Attributes, EventMetrics, NetworkMetrics, Record, Status, Timestamp, Value};
use std::iter::Peekable;
use uuid::Uuid;
use wire::{key_value, message, text, uint};

const INTERNAL: u64 = 1;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

const TRACE_ID: &str = "trace_id";
const SPAN_ID: &str = "span_id";
const PARENT_SPAN_ID: &str = "parent_span_id";
const SERVICE_NAME: &str = "service.name";
const EXCEPTION: [&str; 3] = ["exception.type", "exception.message", "exception.stacktrace"];

/// The request: rows that follow one another and have the same `service.name` share a `ResourceSpans`.
pub(super) fn render<'a, R: Record>(rows: impl Iterator<Item = &'a R>) -> bytes::Bytes {
    let mut rows = rows.peekable();
    let mut out = Vec::new();
    while let Some(first) = rows.next() {
        message(&mut out, 1, |out| resource_spans(first, &mut rows, out));
    }
    out.into()
}

fn resource_spans<'a, R: Record>(
    first: &'a R,
    rows: &mut Peekable<impl Iterator<Item = &'a R>>,
    out: &mut Vec<u8>,
) {
    let service = first.attributes().get(SERVICE_NAME);
    if let Some(name) = service {
        message(out, 1, |out| message(out, 1, |out| key_value(out, SERVICE_NAME, name)));
    }
    message(out, 2, |out| {
        message(out, 1, |out| text(out, 1, "pressroom"));
        message(out, 2, |out| first.write_span(out));
        while let Some(row) = rows.next_if(|row| row.attributes().get(SERVICE_NAME) == service) {
            message(out, 2, |out| row.write_span(out));
        }
    });
}

/// Appends an event as a `Span`.
pub(super) fn write_event(event: &EventMetrics, out: &mut Vec<u8>) {
    let mut span = Span::start(event, INTERNAL, event.end_time, out);
    if let Some(pipeline) = &event.pipeline_id {
        span.text("pipeline.id", pipeline);
    }
    if let Some(process) = event.process_id {
        span.integer("process.pid", process.into());
    }
    if event.retry_count > 0 {
        span.integer("http.request.resend_count", event.retry_count.into());
    }
    if matches!(event.status, Status::Pending | Status::Cancelled) {
        span.text("pressroom.status", event.status.as_str());
    }
    span.finish(event);
}

/// Appends a network operation as a `Span`.
pub(super) fn write_operation(operation: &NetworkMetrics, out: &mut Vec<u8>) {
    let mut span = Span::start(operation, CLIENT, operation.end_time, out);
    span.text("server.address", &operation.host);
    if operation.port > 0 {
        span.integer("server.port", operation.port.into());
    }
    span.integer("http.request.body.size", operation.bytes_sent);
    span.integer("http.response.body.size", operation.bytes_received);
    span.finish(operation);
}

/// A span that is being written. Fields of the record are written first; an attribute that one of them has taken
/// the key of is left out.
struct Span<'o> {
    out: &'o mut Vec<u8>,
    end: Option<Timestamp>,
    taken: Vec<&'static str>,
}

impl<'o> Span<'o> {
    fn start<R: Record>(record: &R, kind: u64, end: Option<Timestamp>, out: &'o mut Vec<u8>) -> Self {
        let attributes = record.attributes();
        let mut taken = Vec::with_capacity(16);
        taken.push(SERVICE_NAME);
        let trace = given(attributes, TRACE_ID, &mut taken).unwrap_or_else(|| trace_id(record.task_id()));
        let span = given(attributes, SPAN_ID, &mut taken).unwrap_or_else(|| span_id(record.id()));
        wire::bytes(out, 1, &trace);
        wire::bytes(out, 2, &span);
        if let Some(parent) = given::<8>(attributes, PARENT_SPAN_ID, &mut taken) {
            wire::bytes(out, 4, &parent);
        }
        text(out, 5, record.name());
        uint(out, 6, kind);
        wire::fixed64(out, 7, record.start_time().as_nanos());
        if let Some(end) = end {
            wire::fixed64(out, 8, end.as_nanos());
        }
        let mut this = Self { out, end, taken };
        let mut buffer = Uuid::encode_buffer();
        this.text("pressroom.id", record.id().hyphenated().encode_lower(&mut buffer));
        this.text("task.id", record.task_id());
        this
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.taken.push(key);
        message(self.out, 9, |out| {
            text(out, 1, key);
            message(out, 2, |out| wire::bytes(out, 1, value.as_bytes()));
        });
    }

    fn integer(&mut self, key: &'static str, value: u64) {
        self.taken.push(key);
        // OTLP's integers are signed.
        let value = Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        message(self.out, 9, |out| key_value(out, key, &value));
    }

    fn finish<R: Record>(self, record: &R) {
        let Self { out, end, taken } = self;
        let attributes = record.attributes();
        for (key, value) in attributes.iter() {
            if !taken.contains(&key) && !EXCEPTION.contains(&key) {
                message(out, 9, |out| key_value(out, key, value));
            }
        }
        exception(attributes, end.unwrap_or(record.start_time()), out);
        if record.status() == Status::Failed {
            message(out, 15, |out| {
                text(out, 2, record.error().unwrap_or_default());
                uint(out, 3, ERROR);
            });
        }
    }
}

/// The conventions have exceptions as an event of the span.
fn exception(attributes: &Attributes, at: Timestamp, out: &mut Vec<u8>) {
    if EXCEPTION.iter().all(|key| attributes.get(key).is_none()) {
        return;
    }
    message(out, 11, |out| {
        wire::fixed64(out, 1, at.as_nanos());
        text(out, 2, "exception");
        for key in EXCEPTION {
            if let Some(value) = attributes.get(key) {
                message(out, 3, |out| key_value(out, key, value));
            }
        }
    });
}

/// The id that the attribute `key` gives, where it is one; then it is taken.
fn given<const N: usize>(
    attributes: &Attributes,
    key: &'static str,
    taken: &mut Vec<&'static str>,
) -> Option<[u8; N]> {
    let id = hex_id(attributes.get(key)?)?;
    taken.push(key);
    Some(id)
}

/// `N` bytes in hexadecimal, not all of them zero: what OTLP takes as an id.
fn hex_id<const N: usize>(value: &Value) -> Option<[u8; N]> {
    let Value::Text(text) = value else { return None };
    let mut id = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (slot, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let mut digits = pair.iter().map(|digit| char::from(*digit).to_digit(16));
        let (high, low) = (digits.next()??, digits.next()??);
        *slot = u8::try_from(high << 4 | low).ok()?;
    }
    id.iter().any(|byte| *byte != 0).then_some(id)
}

/// The trace of a task: the task's id itself where it is one (32 hexadecimal digits, or a UUID), else a hash of it
/// (FNV-1a, its halves mixed because samplers look at a part of the id). It must never change: spans of a task
/// come from several hosts and versions.
fn trace_id(task_id: &str) -> [u8; 16] {
    match Uuid::try_parse(task_id) {
        Ok(id) if !id.is_nil() => return id.into_bytes(),
        _ => {}
    }
    let hash = task_id.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    let (high, low) = halves(hash);
    let low = mix(low ^ mix(high));
    let high = mix(high ^ low);
    ((u128::from(high) << 64) | u128::from(low)).max(1).to_be_bytes()
}

/// The span of a record, from all of its id.
fn span_id(id: Uuid) -> [u8; 8] {
    let (high, low) = halves(id.as_u128());
    mix(low ^ mix(high)).max(1).to_be_bytes()
}

#[allow(clippy::cast_possible_truncation)] // Halves are what is meant.
fn halves(number: u128) -> (u64, u64) {
    ((number >> 64) as u64, number as u64)
}

/// The finalizer of MurmurHash3: every bit of the outcome depends on every bit of `x`.
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
pub(super) mod decode;
#[cfg(test)]
mod tests;
