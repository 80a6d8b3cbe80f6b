//! Records become documents: with typed fields, under their ids, once, whatever their attributes are.

use super::{assert_holds, count, dead_letters, event_of, host, operation};
use crate::support::servers::{Needs, Search};
use crate::support::{event, events, id};
use pressroom::record::Value as Attribute;
use serde_json::{Value, json};

/// Attributes that a server may stumble over: a name, which becomes the event's, and their keys with JSON. What comes over
/// HTTP is bounded; a program that records in its own process may record anything.
fn forms() -> Vec<(&'static str, Vec<(String, String)>)> {
    let of = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, json)| ((*key).to_owned(), (*json).to_owned())).collect()
    };
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let plain = [("service.name", r#""imaging""#), ("width", "640"), ("ratio", "1.5"), ("cached", "false")];
    let another_type = [("width", r#""wide""#), ("ratio", r#"{"of":2}"#), ("cached", r#"[1,"a",null]"#)];
    let keys = [("a", "1"), ("a.b", "2"), (".", "3"), ("a.", "4"), ("a..b", "5"), (" ", "6"), ("", "7")];
    vec![
        ("plain", of(&plain)),
        ("another type", of(&another_type)),
        ("keys", of(&keys)),
        ("lists", of(&[("tags", r#"["a",{"b":null},{"b":[1,[2]]}]"#)])),
        ("many", (0..1_000).map(|number| (format!("key{number}"), number.to_string())).collect()),
        ("long", of(&[("text", &format!("\"{}\"", "é".repeat(40_000)))])),
        ("a long key", of(&[(&"k".repeat(40_000), "1")])),
        ("deep", of(&[("a", &deep(200))])),
        ("deeper than a server reads", of(&[("a", &deep(2_000))])),
        ("twice the same key", of(&[("a", r#"{"b":1,"b":2}"#)])),
        ("a null byte", of(&[("a\0b", r#""x\u0000y""#)])),
        ("half a surrogate", of(&[("a", r#"[{"b":"\ud800"}]"#)])),
        ("a very long number", of(&[("a", &"1".repeat(2_000))])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn records_become_documents_with_typed_fields_each_once() {
    Search::each(Needs::Nothing, async |server| {
        let (folder, running) = host(server, "").await;
        let mut records: Vec<Value> = (0..3_000).map(event).collect();
        records.extend((3_000..4_000).map(operation));
        records[7]["status"] = "failed".into();
        records[7]["error"] = "no \"space\"\nleft on C:\\".into();
        records[7]["retry_count"] = 3.into();
        running.api.post(&records.clone().into()).await;
        let status = running.api.until_delivered("search", 4_000).await;
        assert_eq!((count(&status, "accepted"), count(&status, "duplicates")), (4_000, 0), "{status:#}");
        let prefix = server.prefix().to_owned();
        let (events, operations) =
            (format!("{prefix}-event-2026.11.23"), format!("{prefix}-network-2026.11.23"));
        assert_holds(server, &events, 0..3_000).await;
        assert_holds(server, &operations, 3_000..4_000).await;

        let all = server.get(&format!("/{events},{operations}/_mapping")).await;
        let field = |index: &str, field: &str| all[index]["mappings"]["properties"][field]["type"].clone();
        for (name, of_events, of_operations) in [
            ("@timestamp", json!("date"), json!("date")),
            ("start_time", json!("date_nanos"), json!("date_nanos")),
            ("duration_seconds", json!("double"), Value::Null),
            ("latency_seconds", Value::Null, json!("double")),
            ("task_id", json!("keyword"), json!("keyword")),
            ("bytes_sent", Value::Null, json!("long")),
        ] {
            assert_eq!((field(&events, name), field(&operations, name)), (of_events, of_operations), "{name}");
        }
        let attributes = if server.kind().is_opensearch() { "flat_object" } else { "flattened" };
        assert_eq!(field(&events, "attributes"), attributes);

        // The document is the record, to which the time and the duration are added.
        let found = server.get(&format!("/{events}/_doc/{}", id(7))).await["_source"].clone();
        let mut expected = records[7].clone();
        expected["@timestamp"] = "2026-11-23T11:14:44.250000000Z".into();
        expected["start_time"] = expected["@timestamp"].clone();
        expected["end_time"] = "2026-11-23T11:14:44.750000000Z".into();
        expected["duration_seconds"] = 0.5.into();
        assert_eq!(found, expected);
        let word = json!({ "query": { "match": { "error.text": "SPACE" } } });
        assert_eq!(server.search(&events, &word).await["hits"]["hits"][0]["_id"], id(7).to_string());
        let sums = json!({ "size": 0, "track_total_hits": true, "aggs": {
            "status": { "terms": { "field": "status" } }, "sum": { "sum": { "field": "duration_seconds" } } } });
        let found = server.search(&events, &sums).await;
        assert_eq!(found["aggregations"]["sum"]["value"], 1_500.0);
        assert_eq!(found["aggregations"]["status"]["buckets"][1], json!({ "key": "failed", "doc_count": 1 }));

        // The same once more: they are there, and stay as they were.
        running.api.post(&records.into()).await;
        let status = running.api.until_delivered("search", 8_000).await;
        assert_eq!((count(&status, "accepted"), count(&status, "duplicates")), (4_000, 4_000));
        assert_holds(server, &format!("{prefix}-*"), 0..4_000).await;
        assert!(dead_letters(&folder).is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_in_the_index_of_its_own_day_to_the_nanosecond() {
    Search::each(Needs::Nothing, async |server| {
        let (_folder, running) = host(server, "").await;
        let days = ["2026-11-22", "2026-11-23", "2026-12-31"];
        let records = (0..300).map(|number| event_of(days[number as usize % 3], number)).collect();
        running.api.post(&records).await;
        running.api.until_delivered("search", 300).await;
        for (at, day) in days.iter().enumerate() {
            let index = format!("{}-event-{}", server.prefix(), day.replace('-', "."));
            let there = server.ids(&index).await;
            let expected =
                (0..300).filter(|number| number % 3 == at as u64).map(|number| id(number).to_string());
            assert!(there.into_keys().eq(expected), "{index}");
            for (time, hits) in [("44.123456789", 100), ("44.123456788", 0)] {
                let exactly =
                    json!({ "query": { "term": { "start_time": format!("{day}T11:14:{time}Z") } } });
                let found = server.search(&index, &exactly).await;
                assert_eq!(found["hits"]["total"]["value"], hits, "{time}, on {:?}", server.kind());
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_refused_for_the_form_of_its_attributes() {
    Search::each(Needs::Nothing, async |server| {
        let (folder, running) = host(server, "").await;
        let (forms, recorder) = (forms(), running.host.recorder());
        for (name, attributes) in &forms {
            let mut event = recorder.event(name).task("42");
            for (key, json) in attributes {
                event = event.attribute(key.as_str(), Attribute::Json(json.as_str().into()));
            }
            event.start().complete();
        }
        let all = forms.len() as u64;
        let status = running.api.until_delivered("search", all).await;
        assert!(dead_letters(&folder).is_empty(), "{:#?}", dead_letters(&folder));
        let indices = format!("{}-event-*", server.prefix());
        assert_eq!(server.count(&indices).await, all);

        // What the server could not take as fields is there as a text, and can be read.
        // OpenSearch takes the null byte in a key, Elasticsearch the long text.
        assert_eq!(count(&status, "attributes_as_text"), 6, "on {:?}", server.kind());
        let found = async |field: &str, value: Value| {
            let found = server.search(&indices, &json!({ "query": { "term": { field: value } } })).await;
            let hits = found["hits"]["hits"].as_array().unwrap().clone();
            assert_eq!(hits.len(), 1, "{field} on {:?}: {found:#}", server.kind());
            hits[0].clone()
        };
        let twice = found("event_name", "twice the same key".into()).await;
        assert_eq!(twice["_source"]["attributes_json"], r#"{"a":{"b":1,"b":2}}"#);
        assert_eq!(twice["_source"]["attributes"], Value::Null);

        // The others can be searched, whatever type an attribute has in which record.
        for (field, value, name) in [
            ("attributes.service.name", "imaging", "plain"),
            ("attributes.width", "640", "plain"),
            ("attributes.width", "wide", "another type"),
            ("attributes.ratio.of", "2", "another type"),
            ("attributes.key999", "999", "many"),
        ] {
            assert_eq!(found(field, value.into()).await["_source"]["event_name"], name, "{field}");
        }
        // And none of them has made a field.
        for (index, mapping) in server.get(&format!("/{indices}/_mapping")).await.as_object().unwrap() {
            let fields = mapping["mappings"]["properties"].as_object().unwrap();
            assert!(
                fields.len() == 15 && fields["attributes"]["properties"].is_null(),
                "{index}: {mapping:#}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_streams_take_records_once_as_well() {
    Search::each(Needs::DataStreams, async |server| {
        let more = format!("data_stream = true\nnamespace = \"{}\"", server.prefix());
        let (_folder, running) = host(server, &more).await;
        let mut records: Vec<Value> = (0..200).map(event).collect();
        records.extend((200..300).map(operation));
        let records = Value::from(records);
        running.api.post(&records).await;
        running.api.until_delivered("search", 300).await;
        running.api.post(&records).await;
        let status = running.api.until_delivered("search", 600).await;
        assert_eq!((count(&status, "accepted"), count(&status, "duplicates")), (300, 300));
        let (events, operations) = (
            format!("logs-{}.execution-default", server.prefix()),
            format!("logs-{}.network-default", server.prefix()),
        );
        assert_holds(server, &events, 0..200).await;
        assert_holds(server, &operations, 200..300).await;
        let streams = server.get(&format!("/_data_stream/logs-{}.*", server.prefix())).await;
        let templates: Vec<_> = streams["data_streams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stream| stream["template"].clone())
            .collect();
        assert_eq!(
            templates,
            [format!("logs-{}.execution", server.prefix()), format!("logs-{}.network", server.prefix())]
        );
        assert_eq!(status["detail"]["notes"], Value::Null, "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_without_compression_arrives_as_well() {
    Search::each(Needs::Nothing, async |server| {
        let (_folder, running) = host(server, "gzip = false\nbulk_bytes = \"64KiB\"\nin_flight = 4").await;
        running.api.post(&events(0..4_000)).await;
        let status = running.api.until_delivered("search", 4_000).await;
        assert!(count(&status, "requests") >= 4_000 * 300 / (64 << 10), "{status:#}");
        assert!(count(&status, "bytes_sent") > 4_000 * 300, "{status:#}");
        assert_holds(server, &format!("{}-event-*", server.prefix()), 0..4_000).await;
    })
    .await;
}
