//! Records as JSON: one form of a record for ingest, files, plugins and reports, and a batch as an array per field.
//!
//! Invariant: what is written is valid JSON without a line break in it, whatever a record carries; members are added,
//! never renamed (`wit/0.1/formats.md`).

use super::{Attributes, EventMetrics, Kind, NetworkMetrics};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::time::Duration;

impl Serialize for EventMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("EventMetrics", 12)?;
        out.serialize_field("type", Kind::Event.as_str())?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("event_name", self.event_name.as_str())?;
        out.serialize_field("task_id", self.task_id.as_str())?;
        if let Some(pipeline) = &self.pipeline_id {
            out.serialize_field("pipeline_id", pipeline.as_str())?;
        }
        if let Some(process) = self.process_id {
            out.serialize_field("process_id", &process)?;
        }
        out.serialize_field("start_time", &self.start_time)?;
        if let Some(end) = self.end_time {
            out.serialize_field("end_time", &end)?;
        }
        out.serialize_field("status", self.status.as_str())?;
        if let Some(error) = &self.error {
            out.serialize_field("error", error.as_str())?;
        }
        out.serialize_field("retry_count", &self.retry_count)?;
        if !self.attributes.is_empty() {
            out.serialize_field("attributes", &self.attributes)?;
        }
        out.end()
    }
}

impl Serialize for NetworkMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("NetworkMetrics", 12)?;
        out.serialize_field("type", Kind::Network.as_str())?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("task_id", self.task_id.as_str())?;
        out.serialize_field("operation", self.operation.as_str())?;
        out.serialize_field("host", self.host.as_str())?;
        out.serialize_field("port", &self.port)?;
        out.serialize_field("start_time", &self.start_time)?;
        if let Some(end) = self.end_time {
            out.serialize_field("end_time", &end)?;
        }
        out.serialize_field("bytes_sent", &self.bytes_sent)?;
        out.serialize_field("bytes_received", &self.bytes_received)?;
        if let Some(error) = &self.error {
            out.serialize_field("error", error.as_str())?;
        }
        if !self.attributes.is_empty() {
            out.serialize_field("attributes", &self.attributes)?;
        }
        out.end()
    }
}

/// Appends an event as a line: what [`Serialize`] writes, without the cost of escaping the names of its members
/// and of their indirection.
pub(super) fn write_event_line(event: &EventMetrics, out: &mut Vec<u8>) {
    member(out, "{\"type\":\"event\",\"id\":", &event.id);
    member(out, ",\"event_name\":", event.event_name.as_str());
    member(out, ",\"task_id\":", event.task_id.as_str());
    if let Some(pipeline) = &event.pipeline_id {
        member(out, ",\"pipeline_id\":", pipeline.as_str());
    }
    if let Some(process) = &event.process_id {
        member(out, ",\"process_id\":", process);
    }
    member(out, ",\"start_time\":", &event.start_time);
    if let Some(end) = &event.end_time {
        member(out, ",\"end_time\":", end);
    }
    member(out, ",\"status\":", event.status.as_str());
    if let Some(error) = &event.error {
        member(out, ",\"error\":", error.as_str());
    }
    member(out, ",\"retry_count\":", &event.retry_count);
    finish_line(out, &event.attributes);
}

/// Appends a network operation as a line; as [`write_event_line`].
pub(super) fn write_operation_line(operation: &NetworkMetrics, out: &mut Vec<u8>) {
    member(out, "{\"type\":\"network\",\"id\":", &operation.id);
    member(out, ",\"task_id\":", operation.task_id.as_str());
    member(out, ",\"operation\":", operation.operation.as_str());
    member(out, ",\"host\":", operation.host.as_str());
    member(out, ",\"port\":", &operation.port);
    member(out, ",\"start_time\":", &operation.start_time);
    if let Some(end) = &operation.end_time {
        member(out, ",\"end_time\":", end);
    }
    member(out, ",\"bytes_sent\":", &operation.bytes_sent);
    member(out, ",\"bytes_received\":", &operation.bytes_received);
    if let Some(error) = &operation.error {
        member(out, ",\"error\":", error.as_str());
    }
    finish_line(out, &operation.attributes);
}

fn finish_line(out: &mut Vec<u8>, attributes: &Attributes) {
    if !attributes.is_empty() {
        member(out, ",\"attributes\":", attributes);
    }
    out.extend_from_slice(b"}\n");
}

fn member<T: Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    out.extend_from_slice(name.as_bytes());
    write(out, value);
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    // Writing to a Vec and serializing these types cannot fail; a hole would spoil the rest.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Appends events as one JSON object of arrays, one per field.
pub(super) fn write_event_columns<'a>(
    rows: impl Iterator<Item = &'a EventMetrics> + Clone,
    out: &mut Vec<u8>,
) {
    let mut columns = Columns { rows, out };
    columns.write("{\"id\":", |row| row.id);
    columns.write(",\"event_name\":", |row| row.event_name.as_str());
    columns.write(",\"task_id\":", |row| row.task_id.as_str());
    columns.write(",\"pipeline_id\":", |row| row.pipeline_id.as_deref());
    columns.write(",\"process_id\":", |row| row.process_id);
    columns.write(",\"start_time\":", |row| row.start_time);
    columns.write(",\"end_time\":", |row| row.end_time);
    columns.write(",\"duration_seconds\":", |row| row.duration().map(seconds));
    columns.write(",\"status\":", |row| row.status.as_str());
    columns.write(",\"error\":", |row| row.error.as_deref());
    columns.write(",\"retry_count\":", |row| row.retry_count);
    columns.write(",\"attributes\":", |row| &row.attributes);
    out.push(b'}');
}

/// Appends network operations as one JSON object of arrays, one per field.
pub(super) fn write_operation_columns<'a>(
    rows: impl Iterator<Item = &'a NetworkMetrics> + Clone,
    out: &mut Vec<u8>,
) {
    let mut columns = Columns { rows, out };
    columns.write("{\"id\":", |row| row.id);
    columns.write(",\"task_id\":", |row| row.task_id.as_str());
    columns.write(",\"operation\":", |row| row.operation.as_str());
    columns.write(",\"host\":", |row| row.host.as_str());
    columns.write(",\"port\":", |row| row.port);
    columns.write(",\"start_time\":", |row| row.start_time);
    columns.write(",\"end_time\":", |row| row.end_time);
    columns.write(",\"latency_seconds\":", |row| row.latency().map(seconds));
    columns.write(",\"bytes_sent\":", |row| row.bytes_sent);
    columns.write(",\"bytes_received\":", |row| row.bytes_received);
    columns.write(",\"error\":", |row| row.error.as_deref());
    columns.write(",\"attributes\":", |row| &row.attributes);
    out.push(b'}');
}

/// A duration as formats write it: to the nearest number that a float has.
#[allow(clippy::cast_precision_loss)] // That is what is meant.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e9
}

struct Columns<'o, I> {
    rows: I,
    out: &'o mut Vec<u8>,
}

impl<'a, R: 'a, I: Iterator<Item = &'a R> + Clone> Columns<'_, I> {
    fn write<T: Serialize>(&mut self, member: &str, value: impl Fn(&'a R) -> T) {
        self.out.extend_from_slice(member.as_bytes());
        let mut separator = b'[';
        for row in self.rows.clone() {
            self.out.push(separator);
            separator = b',';
            write(self.out, &value(row));
        }
        if separator == b'[' {
            self.out.push(separator);
        }
        self.out.push(b']');
    }
}
