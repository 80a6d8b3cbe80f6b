//! Records as InfluxDB line protocol.
//!
//! Invariant: a record is one line, whatever it carries, and a line is one that InfluxDB takes: no empty tag, no
//! number that it has no type for, no line break in a text.

use super::json::seconds;
use super::{Attributes, EventMetrics, NetworkMetrics, Timestamp, Value};
use std::time::Duration;

/// Appends an event as a line.
pub(super) fn write_event(event: &EventMetrics, out: &mut Vec<u8>) {
    out.extend_from_slice(b"pressroom_event");
    tag(out, ",event_name=", &event.event_name);
    tag(out, ",pipeline_id=", event.pipeline_id.as_deref().unwrap_or_default());
    tag(out, ",status=", event.status.as_str());
    ids(out, event.id, &event.task_id);
    elapsed(out, ",duration_seconds=", event.duration());
    if let Some(process) = event.process_id {
        integer(out, ",process_id=", i64::from(process));
    }
    integer(out, ",retry_count=", i64::from(event.retry_count));
    rest(out, event.error.as_deref(), &event.attributes, event.start_time);
}

/// Appends a network operation as a line.
pub(super) fn write_operation(operation: &NetworkMetrics, out: &mut Vec<u8>) {
    out.extend_from_slice(b"pressroom_network");
    tag(out, ",host=", &operation.host);
    tag(out, ",operation=", &operation.operation);
    tag(out, ",port=", itoa::Buffer::new().format(operation.port));
    ids(out, operation.id, &operation.task_id);
    elapsed(out, ",latency_seconds=", operation.latency());
    integer(out, ",bytes_sent=", signed(operation.bytes_sent));
    integer(out, ",bytes_received=", signed(operation.bytes_received));
    rest(out, operation.error.as_deref(), &operation.attributes, operation.start_time);
}

fn ids(out: &mut Vec<u8>, id: uuid::Uuid, task_id: &str) {
    let mut buffer = uuid::Uuid::encode_buffer();
    string(out, " id=", id.hyphenated().encode_lower(&mut buffer));
    string(out, ",task_id=", task_id);
}

fn rest(out: &mut Vec<u8>, error: Option<&str>, attributes: &Attributes, start: Timestamp) {
    if let Some(error) = error {
        string(out, ",error=", error);
    }
    for (key, value) in attributes.iter() {
        attribute(out, key, value);
    }
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(signed(start.as_nanos())).as_bytes());
    out.push(b'\n');
}

fn attribute(out: &mut Vec<u8>, key: &str, value: &Value) {
    let start = out.len();
    out.extend_from_slice(b",attr.");
    escape_name(out, key);
    match value {
        Value::Text(text) => string(out, "=", text),
        Value::Json(json) => string(out, "=", json),
        Value::Bool(true) => out.extend_from_slice(b"=true"),
        Value::Bool(false) => out.extend_from_slice(b"=false"),
        Value::Integer(number) => integer(out, "=", *number),
        Value::Float(number) if number.is_finite() => float(out, "=", *number),
        // As a text it would be a field of another type, for which InfluxDB refuses the whole line.
        Value::Float(_) => out.truncate(start),
    }
}

/// Nothing for a value that is empty: the protocol has no empty tag.
fn tag(out: &mut Vec<u8>, key: &str, value: &str) {
    let start = out.len();
    out.extend_from_slice(key.as_bytes());
    let empty = out.len();
    escape_name(out, value);
    if out.len() == empty {
        out.truncate(start);
    }
}

fn elapsed(out: &mut Vec<u8>, key: &str, time: Option<Duration>) {
    if let Some(time) = time {
        float(out, key, seconds(time));
    }
}

fn float(out: &mut Vec<u8>, key: &str, number: f64) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
}

fn integer(out: &mut Vec<u8>, key: &str, number: i64) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.push(b'i');
}

/// The protocol's integers are signed (an unsigned type is not on in every InfluxDB).
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn string(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    escape(out, text, |byte| matches!(byte, b'"' | b'\\'));
    out.push(b'"');
}

/// A tag's value or a field's key. A backslash is itself there, except before what it escapes: one at the end would
/// escape the separator, so it cannot be written.
fn escape_name(out: &mut Vec<u8>, name: &str) {
    escape(out, name.trim_end_matches('\\'), |byte| matches!(byte, b',' | b'=' | b' '));
}

/// Copies `text` with a backslash before what `special` picks, and line breaks as `\n` and `\r`.
fn escape(out: &mut Vec<u8>, text: &str, special: impl Fn(u8) -> bool) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| special(*byte) || matches!(byte, b'\n' | b'\r')) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = from.split_first() else { break };
        out.push(b'\\');
        out.push(match byte {
            b'\n' => b'n',
            b'\r' => b'r',
            other => *other,
        });
        rest = after;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests;
