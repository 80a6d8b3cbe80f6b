use super::*;
use crate::record::Status as Outcome;
use proptest::prelude::*;
use prost::encoding::{WireType, encode_key, encode_varint};

/// A message in protobuf, written by hand so that it can be wrong.
#[derive(Clone, Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn bytes(mut self, tag: u32, bytes: impl AsRef<[u8]>) -> Self {
        encode_key(tag, WireType::LengthDelimited, &mut self.0);
        encode_varint(bytes.as_ref().len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }
    fn message(self, tag: u32, message: Wire) -> Self {
        self.bytes(tag, message.0)
    }
    fn number(mut self, tag: u32, number: u64) -> Self {
        encode_key(tag, WireType::Varint, &mut self.0);
        encode_varint(number, &mut self.0);
        self
    }
    fn fixed(mut self, tag: u32, number: u64) -> Self {
        encode_key(tag, WireType::SixtyFourBit, &mut self.0);
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }
    fn attribute(self, key: &str, value: Wire) -> Self {
        self.message(9, Wire::default().bytes(1, key).message(2, value))
    }
    fn text(self, key: &str, value: &str) -> Self {
        self.attribute(key, Wire::default().bytes(1, value))
    }
    fn integer(self, key: &str, value: i64) -> Self {
        self.attribute(key, Wire::default().number(3, value.cast_unsigned()))
    }
}

const START: u64 = 1_700_000_000_000_000_001;

mod kept;
mod linear;
mod round_trip;
mod told;

fn span(name: &str, kind: u64) -> Wire {
    Wire::default()
        .bytes(1, [1; 16])
        .bytes(2, [2; 8])
        .bytes(5, name)
        .number(6, kind)
        .fixed(7, START)
        .fixed(8, START + 5)
}

fn request(spans: impl IntoIterator<Item = Wire>) -> Vec<u8> {
    let service = Wire::default().bytes(1, "service.name").message(2, Wire::default().bytes(1, "shop"));
    let pid = Wire::default().bytes(1, "process.pid").message(2, Wire::default().number(3, 77));
    let sdk = Wire::default().bytes(1, "telemetry.sdk.name").message(2, Wire::default().bytes(1, "x"));
    let resource = Wire::default().message(1, service).message(1, pid).message(1, sdk);
    let scope = spans.into_iter().fold(Wire::default(), |scope, span| scope.message(2, span));
    // The resource comes last: the order of fields means nothing.
    Wire::default().message(1, Wire::default().message(2, scope).message(1, resource)).0
}

/// Decodes with the settings that a host has by default.
fn decode(body: &[u8], encoding: Encoding) -> Result<Decoded, Unreadable> {
    super::decode(body, encoding, &Mapping::default())
}

fn protobuf(spans: impl IntoIterator<Item = Wire>) -> Decoded {
    decode(&request(spans), Encoding::Protobuf).unwrap()
}

fn json(body: &str) -> Decoded {
    decode(body.as_bytes(), Encoding::Json).unwrap()
}

fn json_span(more: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0101010101010101010101010101010A","spanId":"0202020202020202","name":"n","startTimeUnixNano":"{START}","endTimeUnixNano":{}{more}}}]}}]}}]}}"#,
        START + 5
    )
}

fn only_event(decoded: &Decoded) -> &EventMetrics {
    assert_eq!(decoded.omitted.spans, 0, "{:?}", decoded.omitted);
    assert_eq!((decoded.batch.events.len(), decoded.batch.operations.len()), (1, 0));
    &decoded.batch.events[0]
}

#[test]
fn a_span_becomes_an_event() {
    let exception = Wire::default().bytes(2, "exception").message(
        3,
        Wire::default().bytes(1, "exception.message").message(2, Wire::default().bytes(1, "disk full")),
    );
    let decoded = protobuf([span("resize", 2)
        .bytes(4, [3; 8])
        .text("task.id", "42")
        .text("pipeline.id", "thumbs")
        .integer("http.request.resend_count", 3)
        .text("region", "eu")
        .message(11, exception)
        .message(15, Wire::default().number(3, 2))]);
    let event = only_event(&decoded);
    assert_eq!(
        (&*event.event_name, &*event.task_id, event.pipeline_id.as_deref()),
        ("resize", "42", Some("thumbs"))
    );
    assert_eq!((event.status, event.error.as_deref()), (Outcome::Failed, Some("disk full")));
    assert_eq!((event.retry_count, event.process_id), (3, Some(77)));
    assert_eq!(event.duration(), Some(std::time::Duration::from_nanos(5)));
    let attributes: Vec<_> =
        event.attributes.iter().map(|(key, value)| format!("{key}={}", value.as_text())).collect();
    assert_eq!(
        attributes,
        [
            "service.name=shop",
            "region=eu",
            "span.kind=server",
            "exception.message=disk full",
            "trace_id=01010101010101010101010101010101",
            "span_id=0202020202020202",
            "parent_span_id=0303030303030303",
        ]
    );
}

#[test]
fn a_client_span_with_an_address_becomes_a_network_operation() {
    let decoded = protobuf([span("GET /users", 3)
        .text("http.request.method", "GET")
        .text("server.address", "api.local")
        .integer("server.port", 8443)
        .integer("http.request.body.size", 10)
        .integer("http.response.body.size", 20)
        .integer("http.request.resend_count", 1)
        .text("error.type", "503")
        .message(15, Wire::default().number(3, 2))]);
    let operation = &decoded.batch.operations[0];
    assert_eq!((&*operation.operation, &*operation.host, operation.port), ("GET", "api.local", 8443));
    assert_eq!((operation.bytes_sent, operation.bytes_received), (10, 20));
    assert_eq!(operation.error.as_deref(), Some("503"));
    assert_eq!(operation.task_id, "01010101010101010101010101010101");
    for (key, value) in
        [("span.name", "GET /users"), ("http.request.resend_count", "1"), ("process.pid", "77")]
    {
        assert_eq!(operation.attributes.get(key).unwrap().as_text(), value);
    }
    for taken in ["server.address", "server.port", "http.request.body.size"] {
        assert_eq!(operation.attributes.get(taken), None);
    }
    // What does not fit the field stays where it can be seen; a client span without an address is an event.
    let odd = protobuf([
        span("x", 3)
            .text("net.peer.name", "h")
            .integer("server.port", 70_000)
            .integer("http.request.body.size", -1),
        span("x", 3).text("server.address", ""),
    ]);
    assert_eq!((odd.batch.operations[0].port, odd.batch.operations[0].bytes_sent), (0, 0));
    assert_eq!(odd.batch.operations[0].attributes.get("server.port"), Some(&Value::Integer(70_000)));
    assert_eq!(odd.batch.events[0].attributes.get("span.kind").unwrap().as_text(), "client");
}

#[test]
fn errors_are_told_by_the_first_that_knows() {
    let failed = |span: Wire, message: &str| {
        let decoded = protobuf([span.message(15, Wire::default().bytes(2, message).number(3, 2))]);
        only_event(&decoded).error.clone().unwrap()
    };
    assert_eq!(failed(span("x", 1).text("error.type", "timeout"), "said"), "said");
    assert_eq!(failed(span("x", 1).text("error.type", "timeout"), ""), "timeout");
    assert_eq!(failed(span("x", 1), ""), "error");
    let unset = protobuf([span("x", 1).text("error.type", "timeout"), span("", 1)]);
    assert_eq!(unset.batch.events[0].status, Outcome::Completed);
    assert_eq!(unset.batch.events[1].event_name, "unknown");
}

#[test]
fn the_same_span_is_the_same_record() {
    let (one, again) = (protobuf([span("a", 1)]), protobuf([span("b", 1)]));
    let id = only_event(&one).id;
    assert_eq!(id, only_event(&again).id);
    assert_eq!(id.get_version_num(), 8);
    assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
    // Fixed: a second try may reach another version of the host.
    assert_eq!(id.to_string(), "018bcfe5-6800-8000-976e-9d1de5d3a95b");
    assert_ne!(id, only_event(&protobuf([span("a", 1).bytes(2, [9; 8])])).id);
    assert!(id < only_event(&protobuf([span("a", 1).fixed(7, START + 1_000_000)])).id);
    let other_way = json(&json_span("")).batch.events[0].id;
    assert_ne!(id, other_way, "another trace");
    let same = json_span("").replace("0101010A", "01010101");
    assert_eq!(id, json(&same).batch.events[0].id, "whatever the encoding");
}

#[test]
fn what_this_host_sends_comes_back_as_it_was() {
    let mut event = EventMetrics::started(
        "018bcfe5-687b-7000-8000-000000000001".parse().unwrap(),
        "resize",
        "42",
        crate::record::Timestamp::from_nanos(START),
    );
    event.end_time = Some(crate::record::Timestamp::from_nanos(START + 9));
    event.status = Outcome::Cancelled;
    event.retry_count = 2;
    event.process_id = Some(1);
    event.pipeline_id = Some("p".into());
    event.attributes.insert("list", Value::Json("[1,{\"a\":[null,true,1.5]}]".into()));
    let sent =
        crate::record::EventBatch::detached(vec![event.clone()]).encode(crate::record::Format::OtlpProtobuf);
    let decoded = decode(&sent, Encoding::Protobuf).unwrap();
    let mut back = only_event(&decoded).clone();
    assert!(back.attributes.remove("trace_id").is_some() && back.attributes.remove("span_id").is_some());
    assert_eq!(back, event);
}

#[test]
fn a_bad_span_or_attribute_costs_itself_alone() {
    let overlong = Wire(vec![0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    let decoded = protobuf([
        span("good", 1),
        span("odd", 1).attribute("big", overlong).text("kept", "yes").message(9, Wire(vec![0x0a, 0x50])),
        span("running", 1).fixed(8, 0),
        span("orphan", 1).bytes(1, [0; 16]),
        span("short", 1).bytes(2, [1; 7]),
        span("long", 1).text("task.id", &"x".repeat(1025)),
        Wire(vec![0x0a, 0x10, 0x01]),
        span("last", 1).bytes(5, b"caf\xe9"),
    ]);
    let names: Vec<_> = decoded.batch.events.iter().map(|event| event.event_name.as_str()).collect();
    assert_eq!(names, ["good", "odd", "caf\u{fffd}"]);
    assert_eq!((decoded.omitted.spans, decoded.omitted.attributes), (5, 2));
    let odd = &decoded.batch.events[1];
    assert_eq!(odd.attributes.get("kept").unwrap().as_text(), "yes");
    assert_eq!(odd.attributes.get(mapping::DROPPED), Some(&Value::Integer(2)));
    let message = decoded.omitted.message();
    assert!(
        message.starts_with(
            "5 spans were left out, 2 attributes were left out, 1 value was altered: span \"odd\", attribute \"big\": "
        ),
        "{message}"
    );
    assert!(message.contains("span \"running\" has not ended; only finished spans are taken"), "{message}");
    let answer = Response::decode(&*response(Encoding::Protobuf, &decoded.omitted)).unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_spans, 5);
    let answer: serde_json::Value =
        serde_json::from_slice(&response(Encoding::Json, &decoded.omitted)).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "5");
    assert_eq!(response(Encoding::Protobuf, &Omitted::default()), b"");
    assert_eq!(response(Encoding::Json, &Omitted::default()), b"{}");
}

#[test]
fn values_keep_their_types_in_both_encodings() {
    let list = Wire::default().message(
        5,
        Wire::default()
            .message(1, Wire::default().number(3, 1))
            .message(1, Wire::default().fixed(4, f64::NAN.to_bits()))
            .message(1, Wire::default())
            .message(
                1,
                Wire::default().message(
                    6,
                    Wire::default().message(
                        1,
                        Wire::default().bytes(1, "k\"").message(2, Wire::default().bytes(7, "foo")),
                    ),
                ),
            ),
    );
    let decoded = protobuf([span("x", 1)
        .attribute("list", list)
        .attribute("float", Wire::default().fixed(4, 1.5_f64.to_bits()))
        .attribute("bool", Wire::default().number(2, 1))
        .attribute("none", Wire::default())]);
    let attributes = &only_event(&decoded).attributes;
    assert_eq!(attributes.get("list"), Some(&Value::Json(r#"[1,"NaN",null,{"k\"":"Zm9v"}]"#.into())));
    assert_eq!(attributes.get("float"), Some(&Value::Float(1.5)));
    assert_eq!(attributes.get("bool"), Some(&Value::Bool(true)));
    assert_eq!(attributes.get("none"), None);

    let decoded = json(&json_span(
        r#","attributes":[
        {"key":"a","value":{"intValue":"-5"}}, {"key":"b","value":{"intValue":7}},
        {"key":"c","value":{"intValue":18446744073709552000}}, {"key":"d","value":{"intValue":1e+21}},
        {"key":"e","value":{"intValue":"99999999999999999999"}}, {"key":"f","value":{"doubleValue":"Infinity"}},
        {"key":"g","value":{"arrayValue":{"values":[{"intValue":1e21},{"stringValue":"x\ud83d"},{}]}}},
        {"key":"h","value":{"kvlistValue":{"values":[{"key":"k","value":{"boolValue":true}}]}}},
        {"key":"i","value":{"intValue":"0x10"}}, {"key":"j","value":{"boolValue":"perhaps"}}, 5,
        {"key":"k","value":null}, {"key":"l","value":{"bytesValue":"Zm9v"}}, {"key":"m","value":{"doubleValue":3}}
        ]"#,
    ));
    let attributes = &only_event(&decoded).attributes;
    let whole = |text: &str| Value::Json(text.into());
    for (key, value) in [
        ("a", Value::Integer(-5)),
        ("b", Value::Integer(7)),
        ("c", whole("18446744073709552000")),
        ("d", whole("1000000000000000000000")),
        ("e", whole("99999999999999999999")),
        ("f", Value::from("Infinity")),
        ("g", whole("[1000000000000000000000,\"x\u{fffd}\",null]")),
        ("h", whole(r#"{"k":true}"#)),
        ("l", Value::from("Zm9v")),
        ("m", Value::Float(3.0)),
        (mapping::DROPPED, Value::Integer(3)),
    ] {
        assert_eq!(attributes.get(key), Some(&value), "{key}");
    }
    assert_eq!(decoded.omitted.attributes, 3, "{:?}", decoded.omitted);
}

#[test]
fn json_is_read_as_leniently_as_it_is_written() {
    let decoded = json(&json_span(
        r#","kind":"SPAN_KIND_CLIENT","status":{"code":"STATUS_CODE_ERROR","message":"no"},"parentSpanId":"","flags":1,
        "events":[{"name":"exception","attributes":[{"key":"exception.type","value":{"stringValue":"E"}}]}, 5],
        "attributes":[{"key":"server.address","value":{"stringValue":"h"}},{"key":"server.port","value":{"intValue":"80"}}]"#,
    ));
    let operation = &decoded.batch.operations[0];
    assert_eq!((operation.port, operation.error.as_deref()), (80, Some("no")));
    assert_eq!(operation.attributes.get("exception.type").unwrap().as_text(), "E");
    assert_eq!(json("{}").batch.len() + json(r#"{"resourceSpans":null}"#).batch.len(), 0);

    let spans = r#"{"resourceSpans":[{"resource":17,"scopeSpans":[{"spans":[5, {"traceId":"zz"}, {}]}]}]}"#;
    let decoded = json(spans);
    assert_eq!(decoded.omitted.spans, 3);
    for (body, message) in [
        ("[]", "expected an object"),
        ("{\n \"resourceSpans\": [,]}", "not JSON: line 2, column 20"),
        (r#"{"resourceSpans":{}}"#, "resourceSpans: expected a list, found {}"),
        (r#"{"resourceSpans":[{"scopeSpans":[3]}]}"#, "scopeSpans: expected an object, found 3"),
    ] {
        let error = decode(body.as_bytes(), Encoding::Json).unwrap_err().to_string();
        assert!(error.contains(message), "{body}: {error}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = (0..70).fold(Wire::default().number(3, 1), |value, _| {
        Wire::default().message(5, Wire::default().message(1, value))
    });
    let many = (0..500).fold(span("many", 1), |span, n| span.integer(&format!("k{n}"), n));
    let large = span("large", 1).text("t", &"é".repeat(40_000)).text(&"k".repeat(257), "v");
    let decoded = protobuf([span("deep", 1).attribute("d", deep), many, large]);
    assert_eq!(decoded.batch.len(), 3);
    // One of the resource is among the 480.
    assert_eq!(decoded.omitted.attributes, 1 + 21 + 1);
    assert!(decoded.omitted.message().contains("attribute \"d\": nested deeper than 64"));
    assert_eq!(
        decoded.batch.events[2].attributes.get("t").unwrap().as_text().len(),
        crate::ingest::MAX_VALUE
    );

    let deep = format!(
        r#","attributes":[{{"key":"d","value":{}{{}}{}}}]"#,
        r#"{"arrayValue":{"values":["#.repeat(2000),
        "]}}".repeat(2000)
    );
    let decoded = json(&json_span(&deep));
    assert_eq!((decoded.batch.len(), decoded.omitted.attributes), (1, 1));
    let spans = std::iter::repeat_n(Wire::default(), crate::ingest::MAX_RECORDS + 1);
    assert_eq!(decode(&request(spans), Encoding::Protobuf).unwrap_err(), Unreadable::TooMany);
}

#[test]
fn garbage_is_refused_with_what_it_is_not() {
    for body in [&b"\xff\xff\xff"[..], b"hello world", b"{\"resourceSpans\":[]}", b"\x0a\x7f\x00"] {
        let error = decode(body, Encoding::Protobuf).unwrap_err().to_string();
        assert!(error.starts_with("not an OTLP ExportTraceServiceRequest in protobuf: "), "{error}");
    }
    let status = Status::decode(&*refusal(Encoding::Protobuf, 3, "why")).unwrap();
    assert_eq!((status.code, status.message.as_str()), (3, "why"));
    assert_eq!(refusal(Encoding::Json, 3, "why"), br#"{"code":3,"message":"why"}"#);
}

proptest! {
    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&body, Encoding::Protobuf);
        let _ = decode(&body, Encoding::Json);
    }

    #[test]
    fn a_damaged_request_never_panics_and_its_spans_are_counted(at in 0..400_usize, byte in any::<u8>()) {
        let mut body = request([span("a", 1).text("k", "v").integer("n", 5), span("b", 3).text("server.address", "h")]);
        if let Some(slot) = body.get_mut(at) {
            *slot = byte;
        }
        if let Ok(decoded) = decode(&body, Encoding::Protobuf) {
            prop_assert_eq!(decoded.batch.len() + decoded.omitted.spans, decoded.seen);
        }
    }

    #[test]
    fn damaged_json_never_panics(at in 0..400_usize, byte in any::<u8>()) {
        let mut body = json_span(r#","attributes":[{"key":"d","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}]"#).into_bytes();
        if let Some(slot) = body.get_mut(at) {
            *slot = byte;
        }
        let _ = decode(&body, Encoding::Json);
    }
}

#[test]
fn a_resource_hands_down_no_more_than_every_span_can_bear() {
    let large = "x".repeat(5_000);
    let resource = (0..10).fold(Wire::default(), |resource, number| {
        let key = format!("service.part{number}");
        resource.message(1, Wire::default().bytes(1, key).message(2, Wire::default().bytes(1, &large)))
    });
    let scope = Wire::default().message(2, span("a", 1)).message(2, span("b", 1));
    let request = Wire::default().message(1, Wire::default().message(1, resource).message(2, scope)).0;
    let decoded = decode(&request, Encoding::Protobuf).unwrap();
    assert_eq!(decoded.batch.events.len(), 2);
    for event in &decoded.batch.events {
        let handed_down = event.attributes.iter().filter(|(key, _)| key.starts_with("service.")).count();
        assert_eq!(handed_down, 3, "what fits into 16 KiB");
    }
}

#[test]
fn a_small_request_does_not_become_a_large_one_by_copies_of_its_resource() {
    let large =
        Wire::default().bytes(1, "service.name").message(2, Wire::default().bytes(1, "s".repeat(16_000)));
    let scope = (0..10_000).fold(Wire::default(), |scope, _| scope.message(2, Wire::default()));
    let resource = Wire::default().message(1, large);
    let body = Wire::default().message(1, Wire::default().message(1, resource).message(2, scope)).0;
    assert!(body.len() < 50_000);
    assert_eq!(decode(&body, Encoding::Protobuf).unwrap_err(), Unreadable::Copies);
}
