//! What is kept in another form than it was sent is told, in both encodings.

use super::*;

/// What the answer says in either encoding: spans that are rejected, and the message.
fn answers(omitted: &Omitted) -> (i64, String) {
    let partial = Response::decode(&*response(Encoding::Protobuf, omitted)).unwrap().partial_success.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&response(Encoding::Json, omitted)).unwrap();
    assert_eq!(json["partialSuccess"]["rejectedSpans"], partial.rejected_spans.to_string());
    assert_eq!(json["partialSuccess"]["errorMessage"], partial.error_message);
    (partial.rejected_spans, partial.error_message)
}

#[test]
fn cuts_and_replaced_characters_of_accepted_spans_are_told_and_counted() {
    let failed = |message: &str| Wire::default().bytes(2, message).number(3, 2);
    let long = "y".repeat(70_000);
    for (sent, in_json, told) in [
        (
            span("n", 1).text("k", &long),
            json_span(&format!(r#","attributes":[{{"key":"k","value":{{"stringValue":"{long}"}}}}]"#)),
            "1 value was altered: span \"n\", attribute \"k\": cut at 65536 bytes",
        ),
        (
            span("n", 1).message(15, failed(&long)),
            json_span(&format!(r#","status":{{"code":2,"message":"{long}"}}"#)),
            "1 value was altered: span \"n\", status message: cut at 65536 bytes",
        ),
        (
            span("n", 1).attribute("k", Wire::default().bytes(1, b"x\xff")),
            json_span(r#","attributes":[{"key":"k","value":{"stringValue":"x\udc00"}}]"#),
            "1 value was altered: span \"n\", attribute \"k\": characters that are not UTF-8 are replaced by U+FFFD",
        ),
        (
            span("n", 1).attribute(
                "k",
                Wire::default().message(5, Wire::default().message(1, Wire::default().bytes(1, b"x\xff"))),
            ),
            json_span(
                r#","attributes":[{"key":"k","value":{"arrayValue":{"values":[{"stringValue":"x\udc00"}]}}}]"#,
            ),
            "1 value was altered: span \"n\", attribute \"k\": characters that are not UTF-8 are replaced by U+FFFD",
        ),
        (
            span("n", 1).bytes(5, b"n\xff"),
            json_span("").replace(r#""name":"n""#, r#""name":"n\udc00""#),
            "1 value was altered: span \"n\u{fffd}\", name: characters that are not UTF-8 are replaced by U+FFFD",
        ),
        (
            span(&"n".repeat(1_025), 1),
            json_span("").replace(r#""name":"n""#, &format!(r#""name":"{}""#, "n".repeat(1_025))),
            &format!("1 value was altered: span {:?}, the name: cut at 1024 bytes", "n".repeat(64)),
        ),
    ] {
        for decoded in [protobuf([sent]), json(&in_json)] {
            assert_eq!((decoded.batch.len(), decoded.omitted.altered), (1, 1), "{told}");
            assert_eq!(answers(&decoded.omitted), (0, told.to_owned()));
        }
    }
}

#[test]
fn a_body_that_is_not_utf8_is_told_with_the_span_it_is_in() {
    let mut body = json_span(
        r#","attributes":[{"key":"k","value":{"stringValue":"x?"}},{"key":"l","value":{"stringValue":"y"}}]"#,
    )
    .into_bytes();
    let at = body.iter().position(|byte| *byte == b'?').unwrap();
    body[at] = 0xff;
    let decoded = decode(&body, Encoding::Json).unwrap();
    let (_, told) = answers(&decoded.omitted);
    assert!(told.starts_with("1 value was altered: span \"n\", attribute \"k\": characters"), "{told}");
}

#[test]
fn a_text_is_cut_between_characters_and_not_taken_for_garbage() {
    let decoded = protobuf([span("n", 1).text("k", &format!("y{}", "é".repeat(40_000)))]);
    let kept = only_event(&decoded).attributes.get("k").unwrap().as_text().into_owned();
    assert_eq!((kept.len(), kept.contains('\u{fffd}')), (65_535, false));
    let bytes = protobuf([span("n", 1).attribute("k", Wire::default().bytes(7, [7; 60_000]))]);
    assert_eq!(only_event(&bytes).attributes.get("k").unwrap().as_text().len(), crate::ingest::MAX_VALUE);
    assert_eq!(bytes.omitted.altered, 1);
}

#[test]
fn what_of_a_resource_is_not_kept_is_told_if_it_was_wanted() {
    let attribute =
        |key: &str, value: &str| Wire::default().bytes(1, key).message(2, Wire::default().bytes(1, value));
    let resource = Wire::default()
        .message(1, attribute("service.name", &"s".repeat(70_000)))
        .message(1, attribute("service.version", "1"))
        .message(1, attribute("unwanted", &"u".repeat(70_000)));
    let scope = Wire::default().message(2, span("n", 1));
    let body = Wire::default().message(1, Wire::default().message(1, resource).message(2, scope)).0;
    let decoded = decode(&body, Encoding::Protobuf).unwrap();
    assert_eq!(only_event(&decoded).attributes.get("service.version").unwrap().as_text(), "1");
    let (rejected, told) = answers(&decoded.omitted);
    assert_eq!((rejected, decoded.omitted.attributes), (0, 1));
    assert!(
        told.contains("resource, attribute \"service.name\": a resource has at most 128 attributes"),
        "{told}"
    );
    assert!(!told.contains("unwanted"), "{told}");
}

#[test]
fn a_time_that_is_off_by_a_power_of_a_thousand_is_refused_with_its_unit() {
    for (time, unit) in [
        (1_796_060_000, "seconds"),
        (1_796_060_000_000, "milliseconds"),
        (1_796_060_000_000_000, "microseconds"),
    ] {
        for (tag, what) in [(7, "start"), (8, "end")] {
            let decoded = protobuf([span("n", 1).fixed(tag, time), span("good", 1)]);
            assert_eq!((decoded.batch.len(), decoded.omitted.spans), (1, 1));
            let told = format!(
                "1 span was left out: span \"n\" has the {what} time {time} looks like {unit}; expected nanoseconds since 1970"
            );
            assert_eq!(answers(&decoded.omitted), (1, told));
        }
    }
}
