//! What is kept because the settings ask for it, and whom a client called.

use super::*;
use crate::record::Attributes;

fn everything() -> Mapping {
    Mapping {
        resource_attribute: Arc::new(|_| true),
        events: true,
        links: true,
        scope: true,
        trace_state: true,
    }
}

fn text(value: &str) -> Wire {
    Wire::default().bytes(1, value)
}

fn attribute(key: &str, value: &str) -> Wire {
    Wire::default().bytes(1, key).message(2, text(value))
}

/// One span with all that a span may have, in protobuf and in JSON.
fn rich() -> [(Encoding, Vec<u8>); 2] {
    let event = Wire::default().fixed(1, START).bytes(2, "cache miss").message(3, attribute("key", "a"));
    let exception = Wire::default().bytes(2, "exception").message(3, attribute("exception.type", "E"));
    let link = Wire::default()
        .bytes(1, [3; 16])
        .bytes(2, [4; 8])
        .bytes(3, "a=b")
        .message(4, attribute("why", "retry"));
    let span = span("n", 1)
        .bytes(3, "vendor=1")
        .message(11, event)
        .message(11, exception)
        .number(12, 2)
        .message(13, link)
        .number(14, 1);
    let resource =
        Wire::default().message(1, attribute("region", "eu")).message(1, attribute("service.name", "shop"));
    // The scope comes after its spans.
    let scope =
        Wire::default().message(2, span).message(1, Wire::default().bytes(1, "tracer").bytes(2, "1.2"));
    let protobuf = Wire::default().message(1, Wire::default().message(1, resource).message(2, scope)).0;
    let attribute =
        |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"01010101010101010101010101010101","spanId":"0202020202020202",
        "name":"n","kind":1,"startTimeUnixNano":"{START}","endTimeUnixNano":"{}","traceState":"vendor=1","droppedEventsCount":2,
        "events":[{{"timeUnixNano":"{START}","name":"cache miss","attributes":[{}]}},{{"name":"exception","attributes":[{}]}}],
        "links":[{{"traceId":"03030303030303030303030303030303","spanId":"0404040404040404","traceState":"a=b","attributes":[{}]}}],
        "droppedLinksCount":1}}],"scope":{{"name":"tracer","version":"1.2"}}}}],"resource":{{"attributes":[{},{}]}}}}]}}"#,
        START + 5,
        attribute("key", "a"),
        attribute("exception.type", "E"),
        attribute("why", "retry"),
        attribute("region", "eu"),
        attribute("service.name", "shop"),
    );
    [(Encoding::Protobuf, protobuf), (Encoding::Json, json.into_bytes())]
}

fn shown(attributes: &Attributes) -> Vec<String> {
    attributes.iter().map(|(key, value)| format!("{key}={}", value.as_text())).collect()
}

#[test]
fn events_links_scope_trace_state_and_the_resource_are_kept_if_a_setting_asks() {
    for (encoding, body) in rich() {
        let decoded = super::super::decode(&body, encoding, &everything()).unwrap();
        assert_eq!(decoded.omitted.reasons.count, 0, "{:?}", decoded.omitted);
        assert_eq!(
            shown(&only_event(&decoded).attributes),
            [
                "region=eu",
                "service.name=shop",
                "otel.scope.name=tracer",
                "otel.scope.version=1.2",
                "exception.type=E",
                r#"span.events=[{"name":"cache miss","time":"2023-11-14T22:13:20.000000001Z","attributes":{"key":"a"}}]"#,
                "otel.dropped_events_count=2",
                r#"span.links=[{"trace_id":"03030303030303030303030303030303","span_id":"0404040404040404","trace_state":"a=b","attributes":{"why":"retry"}}]"#,
                "otel.dropped_links_count=1",
                "trace_id=01010101010101010101010101010101",
                "trace_state=vendor=1",
                "span_id=0202020202020202",
            ]
        );
        let by_default = decode(&body, encoding).unwrap();
        assert_eq!(
            shown(&only_event(&by_default).attributes),
            [
                "service.name=shop",
                "exception.type=E",
                "trace_id=01010101010101010101010101010101",
                "span_id=0202020202020202",
            ]
        );
    }
}

#[test]
fn events_that_have_no_room_are_counted_and_told() {
    let event = Wire::default().bytes(2, "e").message(3, attribute("k", &"x".repeat(40_000)));
    let body = request([span("n", 1).message(11, event.clone()).message(11, event)]);
    let decoded = super::super::decode(&body, Encoding::Protobuf, &everything()).unwrap();
    let attributes = &only_event(&decoded).attributes;
    assert!(attributes.get("span.events").unwrap().as_text().len() > 40_000);
    assert_eq!(attributes.get("otel.dropped_events_count"), Some(&Value::Integer(1)));
    assert!(
        decoded.omitted.message().contains("span.events: 1 did not fit"),
        "{}",
        decoded.omitted.message()
    );
}

#[test]
fn a_client_span_with_its_url_alone_tells_host_and_port() {
    for (attributes, host, port) in [
        (vec![("url.full", "https://api.local/users")], "api.local", 443),
        (vec![("http.url", "http://u:p@api.local:8080/users?q")], "api.local", 8080),
        (vec![("server.address", "api.local"), ("url.full", "https://api.local/")], "api.local", 443),
        // The address of a proxy has another port than the URL.
        (vec![("server.address", "proxy"), ("url.full", "https://api.local/")], "proxy", 0),
    ] {
        let sent = attributes.iter().fold(span("GET", 3), |span, (key, value)| span.text(key, value));
        let decoded = protobuf([sent]);
        let operation = &decoded.batch.operations[0];
        assert_eq!((&*operation.host, operation.port), (host, port), "{attributes:?}");
        let (key, url) = attributes.last().unwrap();
        assert_eq!(operation.attributes.get(key).unwrap().as_text(), *url, "it tells more than whom");
    }
    let relative = protobuf([span("GET", 3).text("url.full", "/users")]);
    assert_eq!(only_event(&relative).attributes.get("url.full").unwrap().as_text(), "/users");
}
