//! Records as JSON: one form of a record for ingest, files, plugins and reports, and a batch as an array per field.
//!
//! Invariant: what is written is valid JSON without a line break in it, whatever a record carries; members are added,
//! never renamed (`wit/0.1/formats.md`).

use super::{Attributes, EventMetrics, Kind, NetworkMetrics, Timestamp, Value};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::time::Duration;
use uuid::Uuid;

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

/// Appends an event as a line: what [`Serialize`] writes, without the cost of serde's indirection. Every record that is
/// published as JSON comes through here, once.
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
    let mut separator = ",\"attributes\":{";
    for (key, value) in attributes.iter() {
        out.extend_from_slice(separator.as_bytes());
        key.write_json(out);
        out.push(b':');
        value.write_json(out);
        separator = ",";
    }
    out.extend_from_slice(if attributes.is_empty() { b"}\n" } else { b"}}\n" });
}

fn member<T: WriteJson + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    out.extend_from_slice(name.as_bytes());
    value.write_json(out);
}

/// Appends itself as JSON: to the byte what its [`Serialize`] writes.
trait WriteJson {
    fn write_json(&self, out: &mut Vec<u8>);
}

impl WriteJson for str {
    fn write_json(&self, out: &mut Vec<u8>) {
        if !is_plain(self.as_bytes()) {
            return write(out, self);
        }
        out.reserve(self.len() + 2);
        out.push(b'"');
        out.extend_from_slice(self.as_bytes());
        out.push(b'"');
    }
}

impl WriteJson for Timestamp {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(&self.render());
        out.push(b'"');
    }
}

impl WriteJson for Uuid {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        let mut text = Uuid::encode_buffer();
        out.extend_from_slice(self.hyphenated().encode_lower(&mut text).as_bytes());
        out.push(b'"');
    }
}

macro_rules! write_integers {
    ($($integer:ty),*) => {$(
        impl WriteJson for $integer {
            fn write_json(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}
write_integers!(u16, u32, u64, i64);

impl WriteJson for Value {
    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => text.as_str().write_json(out),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Integer(integer) => integer.write_json(out),
            Self::Float(_) | Self::Json(_) => write(out, self),
        }
    }
}

/// Whether a text is written in JSON as it stands: no quote, no backslash, no control character. Eight bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    // The last eight, some of them for the second time; where there are fewer, with something plain beside them.
    let last = bytes.last_chunk().copied().unwrap_or_else(|| {
        let mut last = [b' '; 8];
        last.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
        last
    });
    words.iter().fold(specials(last), |special, word| special | specials(*word)) == 0
}

/// Not zero if one of the bytes is special. A byte below `n` borrows from the one above it, which may so be taken for
/// special as well; never is a word without any.
fn specials(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(word);
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (ONES << 7)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agree<T: WriteJson + Serialize + ?Sized>(value: &T) {
        let mut written = Vec::new();
        value.write_json(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(value).unwrap());
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_serde_writes(
            text in any::<String>(),
            plain in "[ -~é\u{7f}\u{2028}]{0,40}",
            bytes in any::<u128>(),
            number in any::<i64>(),
            nanos in any::<u64>(),
        ) {
            agree(text.as_str());
            agree(plain.as_str());
            agree(&Uuid::from_u128(bytes));
            agree(&Timestamp::from_nanos(nanos));
            agree(&number.cast_unsigned());
            for value in [Value::Integer(number), Value::from(text.clone()), Value::Bool(number > 0)] {
                agree(&value);
            }
        }

        #[test]
        fn a_text_is_plain_if_no_byte_of_it_is_escaped(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let escaped = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
            prop_assert_eq!(is_plain(&bytes), !bytes.iter().any(escaped));
        }
    }
}
