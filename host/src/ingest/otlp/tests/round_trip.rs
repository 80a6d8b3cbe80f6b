//! Whatever an ingest accepts, the host writes as JSON lines and reads back equal.

use super::*;
use crate::ingest::json::{self as records, Layout};
use crate::record::{EventBatch, Format, NetworkBatch};
use std::fmt::Write as _;

/// An `AnyValue`.
#[derive(Clone, Debug)]
enum Any {
    None,
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(Vec<u8>),
    List(Vec<Any>),
    Map(Vec<(String, Any)>),
}

impl Any {
    fn wire(&self) -> Wire {
        let wire = Wire::default();
        match self {
            Self::None => wire,
            Self::Text(text) => wire.bytes(1, text),
            Self::Bool(truth) => wire.number(2, (*truth).into()),
            Self::Int(number) => wire.number(3, number.cast_unsigned()),
            Self::Float(float) => wire.fixed(4, float.to_bits()),
            Self::Bytes(bytes) => wire.bytes(7, bytes),
            Self::List(list) => {
                wire.message(5, list.iter().fold(Wire::default(), |all, item| all.message(1, item.wire())))
            }
            Self::Map(map) => wire.message(
                6,
                map.iter().fold(Wire::default(), |all, (key, value)| {
                    all.message(1, Wire::default().bytes(1, key).message(2, value.wire()))
                }),
            ),
        }
    }

    fn json(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Self::None => json!({}),
            Self::Text(text) => json!({ "stringValue": text }),
            Self::Bool(truth) => json!({ "boolValue": truth }),
            Self::Int(number) => json!({ "intValue": number.to_string() }),
            Self::Float(float) if float.is_finite() => json!({ "doubleValue": float }),
            Self::Float(float) => json!({ "doubleValue": Value::Float(*float).as_text() }),
            Self::Bytes(bytes) => json!({ "bytesValue": protobuf::base64(bytes) }),
            Self::List(list) => {
                json!({ "arrayValue": { "values": list.iter().map(Self::json).collect::<Vec<_>>() } })
            }
            Self::Map(map) => {
                let values: Vec<_> =
                    map.iter().map(|(key, value)| json!({ "key": key, "value": value.json() })).collect();
                json!({ "kvlistValue": { "values": values } })
            }
        }
    }
}

fn any_value() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::None),
        any::<String>().prop_map(Any::Text),
        // Near the bounds, with and without what is escaped.
        (65_530..65_540_usize, "[y\n\"é]").prop_map(|(len, text)| Any::Text(text.repeat(len))),
        any::<bool>().prop_map(Any::Bool),
        any::<i64>().prop_map(Any::Int),
        any::<f64>().prop_map(Any::Float),
        Just(Any::Float(f64::NAN)),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Any::Bytes),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Any::List),
            proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(Any::Map),
        ]
    })
}

/// A span.
#[derive(Clone, Debug)]
struct Sent {
    name: String,
    kind: u64,
    times: (u64, u64),
    attributes: Vec<(String, Any)>,
    status: u64,
    message: String,
    event: Option<(String, Any)>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let key = prop_oneof![
        any::<String>(),
        proptest::sample::select(vec![
            "server.address",
            "url.full",
            "http.request.method",
            "http.response.body.size",
            "server.port",
            "task.id",
            "pipeline.id",
            "process.pid",
            "pressroom.id",
            "pressroom.status",
            "retry.count",
            "trace_id",
            "error.type",
        ])
        .prop_map(str::to_owned),
    ];
    let name = prop_oneof![any::<String>(), (1_020..1_030_usize).prop_map(|len| "é".repeat(len))];
    let time = prop_oneof![any::<u64>(), START - 5..START + 5];
    (
        name.clone(),
        0..6_u64,
        (time.clone(), time),
        proptest::collection::vec((key, any_value()), 0..6),
        0..3_u64,
        name,
        proptest::option::of((any::<String>(), any_value())),
    )
        .prop_map(|(name, kind, times, attributes, status, message, event)| Sent {
            name,
            kind,
            times,
            attributes,
            status,
            message,
            event,
        })
}

impl Sent {
    fn wire(&self) -> Wire {
        let span = span(&self.name, self.kind).fixed(7, self.times.0).fixed(8, self.times.1);
        let span = self.attributes.iter().fold(span, |span, (key, value)| span.attribute(key, value.wire()));
        let span = span.message(15, Wire::default().bytes(2, &self.message).number(3, self.status));
        match &self.event {
            Some((name, value)) => {
                let attribute = Wire::default().bytes(1, "k").message(2, value.wire());
                span.message(11, Wire::default().bytes(2, name).message(3, attribute))
            }
            None => span,
        }
    }

    fn json(&self) -> serde_json::Value {
        let attribute = |key: &str, value: &Any| serde_json::json!({ "key": key, "value": value.json() });
        let events: Vec<_> = self
            .event
            .iter()
            .map(|(name, value)| serde_json::json!({ "name": name, "attributes": [attribute("k", value)] }))
            .collect();
        serde_json::json!({
            "traceId": "01".repeat(16), "spanId": "02".repeat(8), "name": self.name, "kind": self.kind,
            "startTimeUnixNano": self.times.0.to_string(), "endTimeUnixNano": self.times.1.to_string(),
            "attributes": self.attributes.iter().map(|(key, value)| attribute(key, value)).collect::<Vec<_>>(),
            "status": { "code": self.status, "message": self.message }, "events": events,
        })
    }
}

/// As the `file` publisher writes it, and `/v1/records` reads it.
fn written_and_read(batch: &Batch) -> Batch {
    let mut lines = EventBatch::detached(batch.events.clone()).encode(Format::JsonLines).to_vec();
    lines.extend(NetworkBatch::detached(batch.operations.clone()).encode(Format::JsonLines));
    if lines.is_empty() {
        return Batch::default();
    }
    let back = records::decode(&lines, Layout::Lines).unwrap();
    assert_eq!(back.refused.count, 0, "{:?}", back.refused.problems);
    assert_eq!(back.altered.count, 0, "{:?}", back.altered.problems);
    back.batch
}

fn mapping() -> Mapping {
    Mapping { events: true, ..Mapping::default() }
}

proptest! {
    #[test]
    fn what_otlp_accepts_is_written_and_read_back_equal(spans in proptest::collection::vec(sent(), 1..3)) {
        let in_protobuf = request(spans.iter().map(Sent::wire));
        let in_json = serde_json::json!({
            "resourceSpans": [{ "scopeSpans": [{ "spans": spans.iter().map(Sent::json).collect::<Vec<_>>() }] }]
        });
        for (body, encoding) in
            [(in_protobuf, Encoding::Protobuf), (serde_json::to_vec(&in_json).unwrap(), Encoding::Json)]
        {
            let accepted = super::super::decode(&body, encoding, &mapping()).unwrap();
            prop_assert_eq!(&written_and_read(&accepted.batch), &accepted.batch);
        }
    }

    #[test]
    fn what_of_a_damaged_request_is_accepted_is_read_back_equal(
        span in sent(), at in 0..2_000_usize, byte in any::<u8>()
    ) {
        let mut body = request([span.wire()]);
        if let Some(slot) = body.get_mut(at) {
            *slot = byte;
        }
        if let Ok(accepted) = super::super::decode(&body, Encoding::Protobuf, &mapping()) {
            prop_assert_eq!(&written_and_read(&accepted.batch), &accepted.batch);
        }
    }

    #[test]
    fn numbers_in_otlp_json_are_read_back_equal(
        digits in "-?[1-9][0-9]{0,330}", fraction in "(\\.[0-9]{1,4})?", exponent in "([eE][+-]?[0-9]{1,3})?"
    ) {
        let number = format!("{digits}{fraction}{exponent}");
        let mut attributes = String::new();
        for (place, value) in [
            format!(r#"{{"intValue":{number}}}"#),
            format!(r#"{{"intValue":"{number}"}}"#),
            format!(r#"{{"doubleValue":{number}}}"#),
            format!(r#"{{"arrayValue":{{"values":[{{"intValue":{number}}},{{"doubleValue":"{number}"}}]}}}}"#),
        ]
        .iter()
        .enumerate()
        {
            write!(attributes, r#"{}{{"key":"k{place}","value":{value}}}"#, if place > 0 { "," } else { "" }).unwrap();
        }
        let accepted = json(&json_span(&format!(r#","attributes":[{attributes}]"#)));
        prop_assert_eq!(accepted.batch.len(), 1);
        prop_assert_eq!(&written_and_read(&accepted.batch), &accepted.batch);
    }
}

#[test]
fn a_span_with_all_the_attributes_it_may_have_is_read_back() {
    for own in [256, 480, 600] {
        let full = (0..own).fold(span("full", 3), |span, n| span.integer(&format!("k{n}"), n));
        let full = full.bytes(4, [3; 8]).text("url.full", "http://h/").number(10, 3);
        let accepted = protobuf([full]);
        assert_eq!(accepted.batch.len(), 1);
        assert_eq!(accepted.omitted.attributes > 0, own > 450, "{own}");
        assert_eq!(written_and_read(&accepted.batch), accepted.batch);
    }
}

#[test]
fn a_span_whose_end_lies_before_its_start_is_read_back() {
    let accepted = protobuf([span("early", 1).fixed(8, START - 1_000)]);
    assert_eq!(written_and_read(&accepted.batch), accepted.batch);
}

#[test]
fn a_value_as_deep_as_can_be_is_read_back() {
    let deep = (0..64).fold(Wire::default().number(3, 1), |value, _| {
        Wire::default().message(5, Wire::default().message(1, value))
    });
    let accepted = protobuf([span("deep", 1).attribute("d", deep)]);
    assert_eq!(accepted.omitted.attributes, 0);
    assert_eq!(written_and_read(&accepted.batch), accepted.batch);
}
