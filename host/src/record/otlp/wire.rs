//! As much of protobuf's wire format as OTLP's spans need, and their `AnyValue`.

use crate::record::Value;

/// Lists and maps deeper than this travel as JSON text. Decoders bound the depth of a message (protobuf and prost at
/// 100, and a level here is three of theirs), and refuse all of a request for one value that is too deep.
const MAX_DEPTH: usize = 16;

/// A field that is a message, written by `body`.
pub(super) fn message(out: &mut Vec<u8>, field: u64, body: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, 2);
    let length_at = out.len();
    out.push(0);
    body(out);
    // Most messages are short: a byte is kept for the length, and the body moves only where that is not enough.
    let length = out.len() - length_at - 1;
    let (encoded, size) = encode_varint(length as u64);
    if size > 1 {
        let end = out.len();
        out.extend(encoded.iter().skip(1).take(size - 1));
        out.copy_within(length_at + 1..end, length_at + size);
    }
    for (slot, byte) in out.iter_mut().skip(length_at).zip(encoded.iter().take(size)) {
        *slot = *byte;
    }
}

/// A text; nothing for the empty one, which is what an absent text means.
pub(super) fn text(out: &mut Vec<u8>, field: u64, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

pub(super) fn bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    tag(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn uint(out: &mut Vec<u8>, field: u64, number: u64) {
    tag(out, field, 0);
    varint(out, number);
}

pub(super) fn fixed64(out: &mut Vec<u8>, field: u64, number: u64) {
    tag(out, field, 1);
    out.extend_from_slice(&number.to_le_bytes());
}

/// The body of a `KeyValue`.
pub(super) fn key_value(out: &mut Vec<u8>, key: &str, value: &Value) {
    text(out, 1, key);
    message(out, 2, |out| any_value(out, value));
}

/// The body of an `AnyValue`. Its members are a choice, in which an empty text is written as well.
fn any_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(text) => bytes(out, 1, text.as_bytes()),
        Value::Bool(value) => uint(out, 2, u64::from(*value)),
        Value::Integer(number) => uint(out, 3, number.cast_unsigned()),
        Value::Float(number) => fixed64(out, 4, number.to_bits()),
        Value::Json(json) => match serde_json::from_str(json) {
            Ok(value) if depth(&value) <= MAX_DEPTH => any_json(out, &value),
            _ => bytes(out, 1, json.as_bytes()),
        },
    }
}

fn any_json(out: &mut Vec<u8>, value: &serde_json::Value) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::Array(values) => message(out, 5, |out| {
            for value in values {
                message(out, 1, |out| any_json(out, value));
            }
        }),
        serde_json::Value::Object(members) => message(out, 6, |out| {
            for (key, value) in members {
                message(out, 1, |out| {
                    text(out, 1, key);
                    message(out, 2, |out| any_json(out, value));
                });
            }
        }),
        scalar => match Value::from(scalar.clone()) {
            // A whole number beyond 64 bits: as text it keeps its digits.
            Value::Json(digits) => bytes(out, 1, digits.as_bytes()),
            value => any_value(out, &value),
        },
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, number: u64) {
    if let Some(byte) = u8::try_from(number).ok().filter(|byte| *byte < 0x80) {
        return out.push(byte);
    }
    let (encoded, size) = encode_varint(number);
    out.extend(encoded.iter().take(size));
}

fn encode_varint(mut number: u64) -> ([u8; 10], usize) {
    let mut encoded = [0; 10];
    let mut size = 0;
    for slot in &mut encoded {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        size += 1;
        if number == 0 {
            *slot = low & 0x7f;
            break;
        }
        *slot = low | 0x80;
    }
    (encoded, size)
}
