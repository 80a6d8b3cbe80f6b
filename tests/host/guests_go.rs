//! Plugins in Go: `loki` against a server of the test's own, and against a real Loki in a run of everything; and one that
//! makes Go's collector work as hard as it can while the host hands over.

use crate::support::servers::{Loki, everything};
use crate::support::{Folder, NO_PATIENCE, PATIENCE, Receiver, event, go_guest, id, until};
use pressroom::publisher::{Context, Publisher};
use pressroom::record::{EventBatch, EventMetrics, Status, Timestamp};
use pressroom::wasm::{HostSettings, PluginHost, WasmConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A host with the plugin `loki`, which pushes to `url`.
fn folder(url: &str, plugin: &[u8]) -> Folder {
    let folder = Folder::new(&format!(
        "[publishers.lines]\ntype = \"wasm\"\nplugin = \"loki\"\nretry = {{ max = \"200ms\" }}\n\
         config = {{ url = \"{url}\", labels = {{ cluster = \"eu\" }} }}\n\
         grant = {{ http = [\"POST {url}\"] }}\nbatch = {{ max_records = 100, max_age = \"50ms\" }}\n"
    ));
    folder.drop_in("loki", plugin);
    folder
}

/// Events of a minute ago, every tenth failed, and a network operation that failed.
fn records(count: u64) -> Value {
    let ago = |seconds| Timestamp::from(SystemTime::now() - Duration::from_secs(seconds)).to_string();
    let make = |number| {
        let mut event = event(number);
        event["start_time"] = ago(61).into();
        event["end_time"] = ago(60).into();
        if number % 10 == 0 {
            event["status"] = "failed".into();
            event["error"] = "größer als \"erlaubt\" <&>".into();
        }
        event
    };
    let mut records: Vec<Value> = (0..count).map(make).collect();
    records.push(json!({
        "type": "network", "id": id(count), "task_id": "1", "operation": "PUT", "host": "s3.local", "port": 443,
        "start_time": ago(61), "end_time": ago(60), "bytes_sent": 1, "bytes_received": 2, "error": "reset",
    }));
    records.into()
}

/// Counts lines by the labels `kind` and `level`, and checks that each is a record, there once.
fn count(streams: &[Value]) -> BTreeMap<String, u64> {
    let (mut counts, mut ids) = (BTreeMap::new(), BTreeMap::<String, u32>::new());
    for stream in streams {
        let labels = &stream["stream"];
        assert_eq!((&labels["job"], &labels["cluster"]), (&json!("pressroom"), &json!("eu")), "{labels}");
        let key = format!("{} {}", labels["kind"].as_str().unwrap(), labels["level"].as_str().unwrap());
        for value in stream["values"].as_array().unwrap() {
            let line: Value = serde_json::from_str(value[1].as_str().unwrap()).unwrap();
            *ids.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
            *counts.entry(key.clone()).or_default() += 1;
        }
    }
    assert!(ids.values().all(|times| *times == 1), "a line is there twice");
    counts
}

fn wanted() -> BTreeMap<String, u64> {
    [("event info", 270), ("event error", 30), ("network error", 1)]
        .map(|(key, count)| (key.to_owned(), count))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_is_pushed_every_record_once_though_it_is_busy_at_first() {
    let Some(plugin) = go_guest("plugins/loki") else { return };
    let server = Receiver::start(&[(503, "busy"), (429, "slow down")], (204, "")).await;
    let url = format!("{}/loki/api/v1/push", server.url());
    let folder = folder(&url, &std::fs::read(plugin).unwrap());
    let running = folder.start().await;
    running.api.post(&records(300)).await;
    running.api.until_delivered("lines", 301).await;
    let pushed = server.taken().into_iter().flat_map(|body| {
        let push: Value = serde_json::from_str(&body).unwrap();
        push["streams"].as_array().unwrap().clone()
    });
    assert_eq!(count(&pushed.collect::<Vec<_>>()), wanted());
    for request in server.received() {
        assert_eq!(request.what, "POST /loki/api/v1/push");
        assert_eq!(request.headers["content-type"], "application/json");
    }
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_loki_refuses_is_a_dead_letter_with_its_words_and_what_is_not_granted_holds() {
    let Some(plugin) = go_guest("plugins/loki") else { return };
    let plugin = std::fs::read(plugin).unwrap();
    let server = Receiver::start(&[], (400, "entry too far behind")).await;
    let refused = folder(&format!("{}/loki/api/v1/push", server.url()), &plugin);
    let running = refused.start().await;
    running.api.post(&json!([event(1)])).await;
    let status = running.api.until("lines", "gives up", |status| status["books"]["dead_lettered"] == 1).await;
    assert!(status.to_string().contains("the server answered 400: entry too far behind"), "{status:#}");
    assert!(running.host.shutdown(PATIENCE).await.balanced());

    let section = "[publishers.lines]\ntype = \"wasm\"\nplugin = \"loki\"\n";
    let denied = Folder::new(section);
    denied.drop_in("loki", &plugin);
    let running = denied.start().await;
    running.api.post(&json!([event(1)])).await;
    let status = running.api.until("lines", "holds", |status| !status["last_error"].is_null()).await;
    assert!(status["last_error"].as_str().unwrap().contains("is not granted"), "{status:#}");
    assert_eq!(status["books"]["backlog"], 1, "{status:#}");
    assert!(running.host.shutdown(NO_PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_loki_has_every_line_once() {
    let Some(loki) = Loki::start().await else { return };
    let Some(plugin) = go_guest("plugins/loki") else { return };
    let folder = folder(&format!("{}/loki/api/v1/push", loki.url()), &std::fs::read(plugin).unwrap());
    let running = folder.start().await;
    running.api.post(&records(300)).await;
    running.api.until_delivered("lines", 301).await;
    let look = || async {
        let found = loki.query_since("1h", "{job=\"pressroom\"}").await?;
        (count(&found) == wanted()).then_some(())
    };
    until("Loki has them", look).await;
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

/// A batch of the host's largest default size, with three attributes an event.
fn batch() -> EventBatch {
    let event = |number: u64| {
        let start = Timestamp::from_nanos(1_763_900_000_000_000_000 + number * 1_234_567);
        let mut event = EventMetrics::started(id(number), "resize", format!("task-{number:06}"), start);
        event.end_time = Some(Timestamp::from_nanos(start.as_nanos() + 1_000_003));
        event.pipeline_id = Some("thumbs".into());
        event.status = if number.is_multiple_of(50) { Status::Failed } else { Status::Completed };
        event.error = number.is_multiple_of(50).then(|| "no space left on device".into());
        event.attributes.insert("service.name", "thumbnailer");
        event.attributes.insert("region", "eu-central-1");
        event.attributes.insert("object.key", format!("photos/2026/11/{number}.jpg"));
        event
    };
    EventBatch::detached((0..1_024).map(event).collect())
}

/// Not how long it takes, or how much, is looked at, but whether one instance traps.
const PATIENT: &str = "limits = { memory = \"512MiB\", call_timeout = \"60s\", cpu_per_call = \"60s\" }\n";

async fn tortured(section: &str, batches: u32) {
    let Some(file) = go_guest("tests/guests/torture") else { return };
    let dir = tempfile::tempdir().unwrap();
    let host = PluginHost::new(HostSettings::default()).unwrap();
    let config: WasmConfig = toml::from_str(section).unwrap();
    let mut plugin: Box<dyn Publisher> =
        host.factory(config, file)(Context::detached("torture", dir.path())).await.unwrap();
    let batch = batch();
    for number in 0..batches {
        let published = plugin.publish_event_metrics(&batch).await;
        assert_eq!(published.unwrap_or_else(|error| panic!("batch {number}: {error:?}")).len(), 0);
    }
    // Refused if the collector hardly ran: then nothing was shown.
    let flushed = plugin.flush().await;
    assert!(flushed.is_ok(), "{flushed:?}");
}

/// The bindings as wit-bindgen makes them trap after some 15 batches.
#[tokio::test(flavor = "multi_thread")]
async fn gos_collector_works_while_the_host_hands_over() {
    tortured(PATIENT, if everything() { 20_000 } else { 150 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gos_collector_works_between_requests() {
    let server = Receiver::start(&[], (200, "thank you")).await;
    let url = format!("{}/take", server.url());
    let batches = if everything() { 5_000 } else { 60 };
    tortured(
        &format!("{PATIENT}config = {{ url = \"{url}\" }}\ngrant = {{ http = [\"POST {url}\"] }}\n"),
        batches,
    )
    .await;
    let received = server.received();
    if let Some(first) = received.first() {
        assert_eq!(received.len(), batches as usize);
        assert_eq!(first.body.lines().count(), 1_024);
        assert!(received.iter().all(|request| request.body == first.body));
    }
}
