use super::super::samples::{any_event, any_operation};
use super::super::{EventMetrics, NetworkMetrics, Record, Rows, Status, Timestamp, Value};
use super::decode::{encoded, spans};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use uuid::{Uuid, uuid};

const ID: Uuid = uuid!("019ab0c5-9d2a-7000-8000-000000000001");

fn event(task: &str, attributes: &[(&str, Value)]) -> EventMetrics {
    EventMetrics {
        attributes: attributes.iter().cloned().collect(),
        ..EventMetrics::started(ID, "step", task, Timestamp::from_nanos(1))
    }
}

fn span(event: EventMetrics) -> serde_json::Value {
    let (_, span) = spans(&encoded(&Rows::detached(vec![event]))).remove(0);
    span
}

fn attribute<'a>(span: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    span["attributes"]
        .as_array()?
        .iter()
        .find(|attribute| attribute["key"] == key)
        .map(|found| &found["value"])
}

#[test]
fn rows_that_follow_one_another_share_their_service() {
    let services = [Some("a"), Some("a"), None, None, Some("b"), Some("a")];
    let rows = services.map(|service| match service {
        Some(name) => event("42", &[("service.name", name.into())]),
        None => event("42", &[]),
    });
    let request = encoded(&Rows::detached(rows.to_vec()));
    let groups = request["resourceSpans"].as_array().unwrap();
    let sizes: Vec<usize> =
        groups.iter().map(|group| group["scopeSpans"][0]["spans"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [2, 2, 1, 1]);
    let named: Vec<Option<String>> = spans(&request).into_iter().map(|(service, _)| service).collect();
    assert_eq!(named, services.map(|service| service.map(str::to_owned)));
    assert!(groups[1].get("resource").is_none());
    assert!(spans(&request).iter().all(|(_, span)| attribute(span, "service.name").is_none()));
}

#[test]
fn ids_are_those_of_the_attributes_where_they_are_ids() {
    let trace = "4BF92F3577b34da6a3ce929d0e0e4736";
    let given = span(event(
        "42",
        &[
            ("trace_id", trace.into()),
            ("span_id", "00f067aa0ba902b7".into()),
            ("parent_span_id", "53995c3f42cd8ad8".into()),
        ],
    ));
    assert_eq!(given["traceId"], trace.to_lowercase());
    assert_eq!(given["spanId"], "00f067aa0ba902b7");
    assert_eq!(given["parentSpanId"], "53995c3f42cd8ad8");
    for key in ["trace_id", "span_id", "parent_span_id"] {
        assert_eq!(attribute(&given, key), None, "{key} is a field of the span");
    }

    let derived = span(event("42", &[]));
    let invalid = [
        "",
        "00000000000000000000000000000000",
        "4bf92f3577b34da6a3ce929d0e0e473",
        "4bf92f3577b34da6a3ce929d0e0e47361",
        "+bf92f3577b34da6a3ce929d0e0e4736",
        "ébf92f3577b34da6a3ce929d0e0e47",
    ];
    for text in invalid {
        let span = span(event("42", &[("trace_id", text.into()), ("span_id", 7.into())]));
        assert_eq!(span["traceId"], derived["traceId"], "{text:?}");
        assert_eq!(span["spanId"], derived["spanId"]);
        assert_eq!(attribute(&span, "trace_id"), Some(&json!({ "stringValue": text })), "nothing is lost");
        assert_eq!(attribute(&span, "span_id"), Some(&json!({ "intValue": "7" })));
    }
}

#[test]
fn a_task_is_a_trace() {
    let trace = |task: &str| span(event(task, &[]))["traceId"].as_str().unwrap().to_owned();
    assert_eq!(trace("42"), trace("42"));
    assert_eq!(trace("4bf92f3577b34da6a3ce929d0e0e4736"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(trace("019ab0c5-9d2a-7000-8000-0000000000ff"), "019ab0c59d2a700080000000000000ff");
    assert_ne!(trace("00000000000000000000000000000000"), "00000000000000000000000000000000");
    // Kept for good: other hosts and versions write spans of the same task.
    assert_eq!(trace("42"), "95d0e274c2fc724af8c5996eb5245b69");
    assert_eq!(trace(""), "2bcb9b91f0d6b278a032c815ef5fdad3");
    let starts: BTreeSet<String> =
        (0..2_000).map(|task| trace(&task.to_string())[18..20].to_owned()).collect();
    assert!(starts.len() > 250, "samplers need every part of the id to vary");
}

#[test]
fn an_attribute_does_not_double_what_the_record_says() {
    let mut event = event("42", &[("task.id", "other".into()), ("http.request.resend_count", 9.into())]);
    assert_eq!(
        attribute(&span(event.clone()), "http.request.resend_count"),
        Some(&json!({ "intValue": "9" }))
    );
    event.retry_count = 3;
    let span = span(event);
    assert_eq!(attribute(&span, "task.id"), Some(&json!({ "stringValue": "42" })));
    assert_eq!(attribute(&span, "http.request.resend_count"), Some(&json!({ "intValue": "3" })));
}

#[test]
fn json_becomes_lists_and_maps_as_deep_as_receivers_read() {
    let value = |json: &str| {
        let span = span(event("42", &[("v", Value::Json(json.into()))]));
        attribute(&span, "v").unwrap().clone()
    };
    assert_eq!(
        value(r#"{"a":[1,1.5,true,null,"x"]}"#),
        json!({ "kvlistValue": { "values": [{ "key": "a", "value": { "arrayValue": { "values": [
            { "intValue": "1" }, { "doubleValue": 1.5 }, { "boolValue": true }, {}, { "stringValue": "x" },
        ] } } }] } })
    );
    assert_eq!(value("18446744073709551615"), json!({ "stringValue": "18446744073709551615" }));
    assert_eq!(value("not json"), json!({ "stringValue": "not json" }));
    assert_eq!(value("[]"), json!({ "arrayValue": {} }));
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(value(&deep(16)).get("arrayValue").is_some());
    for levels in [17, 100, 100_000] {
        assert_eq!(value(&deep(levels)), json!({ "stringValue": deep(levels) }));
    }
}

#[test]
fn long_messages_have_lengths_of_several_bytes() {
    for length in [0, 1, 100, 127, 128, 129, 16_383, 16_384, 2_097_152] {
        let text = "x".repeat(length);
        let span = span(event("42", &[("v", text.as_str().into())]));
        assert_eq!(attribute(&span, "v"), Some(&json!({ "stringValue": text })));
    }
}

fn assert_unique_keys(span: &serde_json::Value) {
    let keys: Vec<&str> = span["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["key"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:?}");
}

fn assert_common<R: Record>(span: &serde_json::Value, row: &R, end: Option<Timestamp>) {
    assert_unique_keys(span);
    assert_eq!(span["name"].as_str().unwrap_or_default(), row.name());
    assert_eq!(span["startTimeUnixNano"], row.start_time().as_nanos().to_string());
    assert_eq!(
        span["endTimeUnixNano"].as_str().map(str::to_owned),
        end.map(|end| end.as_nanos().to_string())
    );
    assert_eq!(span["status"]["code"] == 2, row.status() == Status::Failed);
    let task = json!({ "stringValue": row.task_id() });
    assert_eq!(attribute(span, "task.id"), Some(&task));
    assert_eq!(attribute(span, "pressroom.id"), Some(&json!({ "stringValue": row.id().to_string() })));
}

proptest! {
    #[test]
    fn every_event_is_a_span(events in proptest::collection::vec(any_event(), 1..4)) {
        let read = spans(&encoded(&Rows::detached(events.clone())));
        prop_assert_eq!(read.len(), events.len());
        for ((_, read), event) in read.iter().zip(&events) {
            assert_common(read, event, event.end_time);
            prop_assert_eq!(&read["kind"], 1);
            prop_assert_eq!(read, &span(event.clone()), "a span does not depend on its batch");
        }
    }

    #[test]
    fn every_operation_is_a_span(operations in proptest::collection::vec(any_operation(), 1..4)) {
        let read = spans(&encoded(&Rows::<NetworkMetrics>::detached(operations.clone())));
        prop_assert_eq!(read.len(), operations.len());
        for ((_, read), operation) in read.iter().zip(&operations) {
            assert_common(read, operation, operation.end_time);
            prop_assert_eq!(&read["kind"], 3);
            let address = json!({ "stringValue": operation.host.as_str() });
            prop_assert_eq!(attribute(read, "server.address"), Some(&address));
        }
    }
}
