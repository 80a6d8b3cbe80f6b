//! Reads OTLP back, by a table of its own, into the form that OTLP/JSON has: the other end of the wire, for tests.

use crate::record::{Format, Record, Rows};
use serde_json::{Map, Value, json};

#[derive(Clone, Copy)]
enum Kind {
    Message(&'static str),
    Text,
    Hex,
    Enum,
    Int64,
    Fixed64,
    Double,
    Bool,
}

/// Field `number` of `message` in OTLP's protocol files: its name in JSON, its kind, whether it repeats.
fn field(message: &str, number: u64) -> (&'static str, Kind, bool) {
    match (message, number) {
        ("Request", 1) => ("resourceSpans", Kind::Message("ResourceSpans"), true),
        ("ResourceSpans", 1) => ("resource", Kind::Message("Resource"), false),
        ("ResourceSpans", 2) => ("scopeSpans", Kind::Message("ScopeSpans"), true),
        ("Resource", 1) => ("attributes", Kind::Message("KeyValue"), true),
        ("ScopeSpans", 1) => ("scope", Kind::Message("Scope"), false),
        ("ScopeSpans", 2) => ("spans", Kind::Message("Span"), true),
        ("Scope", 1) => ("name", Kind::Text, false),
        ("Span", 1) => ("traceId", Kind::Hex, false),
        ("Span", 2) => ("spanId", Kind::Hex, false),
        ("Span", 4) => ("parentSpanId", Kind::Hex, false),
        ("Span", 5) => ("name", Kind::Text, false),
        ("Span", 6) => ("kind", Kind::Enum, false),
        ("Span", 7) => ("startTimeUnixNano", Kind::Fixed64, false),
        ("Span", 8) => ("endTimeUnixNano", Kind::Fixed64, false),
        ("Span", 9) => ("attributes", Kind::Message("KeyValue"), true),
        ("Span", 11) => ("events", Kind::Message("Event"), true),
        ("Span", 15) => ("status", Kind::Message("Status"), false),
        ("Event", 1) => ("timeUnixNano", Kind::Fixed64, false),
        ("Event", 2) => ("name", Kind::Text, false),
        ("Event", 3) => ("attributes", Kind::Message("KeyValue"), true),
        ("Status", 2) => ("message", Kind::Text, false),
        ("Status", 3) => ("code", Kind::Enum, false),
        ("KeyValue", 1) => ("key", Kind::Text, false),
        ("KeyValue", 2) => ("value", Kind::Message("AnyValue"), false),
        ("AnyValue", 1) => ("stringValue", Kind::Text, false),
        ("AnyValue", 2) => ("boolValue", Kind::Bool, false),
        ("AnyValue", 3) => ("intValue", Kind::Int64, false),
        ("AnyValue", 4) => ("doubleValue", Kind::Double, false),
        ("AnyValue", 5) => ("arrayValue", Kind::Message("ArrayValue"), false),
        ("AnyValue", 6) => ("kvlistValue", Kind::Message("KeyValueList"), false),
        ("ArrayValue", 1) => ("values", Kind::Message("AnyValue"), true),
        ("KeyValueList", 1) => ("values", Kind::Message("KeyValue"), true),
        _ => panic!("{message} has no field {number}"),
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = rest[0];
        *rest = &rest[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    unreachable!()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn message(name: &str, mut rest: &[u8]) -> Value {
    let mut object = Map::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let (member, kind, repeats) = field(name, tag >> 3);
        let wire_type = tag & 7;
        let value = match kind {
            Kind::Enum | Kind::Int64 | Kind::Bool => {
                assert_eq!(wire_type, 0);
                let number = varint(&mut rest);
                match kind {
                    Kind::Int64 => json!(number.cast_signed().to_string()),
                    Kind::Bool => json!(number == 1),
                    _ => json!(number),
                }
            }
            Kind::Fixed64 | Kind::Double => {
                assert_eq!(wire_type, 1);
                let bits = u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap());
                match kind {
                    Kind::Double if f64::from_bits(bits).is_finite() => json!(f64::from_bits(bits)),
                    Kind::Double => json!(f64::from_bits(bits).to_string()),
                    _ => json!(bits.to_string()),
                }
            }
            Kind::Message(_) | Kind::Text | Kind::Hex => {
                assert_eq!(wire_type, 2);
                let length = varint(&mut rest);
                let bytes = take(&mut rest, length.try_into().unwrap());
                match kind {
                    Kind::Message(name) => message(name, bytes),
                    Kind::Text => json!(std::str::from_utf8(bytes).unwrap()),
                    _ => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
                }
            }
        };
        if repeats {
            object.entry(member).or_insert_with(|| json!([])).as_array_mut().unwrap().push(value);
        } else {
            assert!(object.insert(member.to_owned(), value).is_none(), "{name}.{member} twice");
        }
    }
    Value::Object(object)
}

/// `rows` as OTLP, read back.
pub(in crate::record) fn encoded<R: Record>(rows: &Rows<R>) -> Value {
    message("Request", &rows.encode(Format::OtlpProtobuf))
}

/// Every span of a request, with the service it belongs to.
pub(super) fn spans(request: &Value) -> Vec<(Option<String>, Value)> {
    let mut spans = Vec::new();
    for group in request["resourceSpans"].as_array().into_iter().flatten() {
        let service = group["resource"]["attributes"][0]["value"]["stringValue"].as_str().map(str::to_owned);
        for scope in group["scopeSpans"].as_array().unwrap() {
            assert_eq!(scope["scope"]["name"], "pressroom");
            spans.extend(
                scope["spans"].as_array().unwrap().iter().map(|span| (service.clone(), span.clone())),
            );
        }
    }
    spans
}
