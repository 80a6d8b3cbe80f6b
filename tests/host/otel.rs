//! A client that nobody here wrote: OpenTelemetry's Python SDK sends spans over OTLP/HTTP, and every one is in the
//! file, in the series and in the reports, with equal counts.

use crate::support::{Api, Folder, Process, free_port, python, root, skipped, until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn every_span_of_opentelemetrys_sdk_arrives_everywhere() {
    let Some(python) = python() else {
        return skipped("OpenTelemetry's SDK for Python is not installed");
    };
    let scrape = free_port();
    let folder = Folder::new("");
    let config = format!(
        "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n\
         [publishers.metrics]\ntype = \"prometheus\"\nlisten = \"127.0.0.1:{scrape}\"\n"
    );
    let (mut process, api) = Process::host(&folder, &config).await;
    let sent = send(&python, api.url()).await;
    let spans = sent["spans"].as_u64().unwrap();
    assert_eq!(
        (&sent["exported"], &sent["failed"]),
        (&sent["spans"], &Value::from(0)),
        "the SDK's own account"
    );
    assert!(spans >= 4_000);
    api.until_delivered("archive", spans).await;
    api.until_delivered("metrics", spans).await;

    in_the_reports(&api, &sent).await;
    in_the_series(scrape, &sent).await;
    process.terminate();
    let ended = process.ended().await;
    assert!(ended.success(), "{ended}: {}", process.output());
    in_the_file(&folder, &sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_an_sdk_that_sends_all_signals_learns_once_what_to_set() {
    let Some(python) = python() else {
        return skipped("OpenTelemetry's SDK for Python is not installed");
    };
    let folder = Folder::new("");
    let (mut process, api) = Process::host(&folder, "").await;
    let mut client = Command::new(&python);
    client.arg(root().join("tests/clients/otel_signals.py")).arg(api.url());
    let mut client = Process::start(&mut client);
    let ended = client.ended().await;
    let output = client.output();
    assert!(ended.success(), "{ended}: {output}");
    let told: Vec<&str> = output.lines().filter(|line| line.contains("Failed to export")).collect();
    assert_eq!(told.len(), 2, "one line for each signal: {output}");
    for key in ["OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none"] {
        assert!(told.iter().any(|line| line.contains(key)), "{key}: {output}");
    }
    process.terminate();
    assert!(process.ended().await.success(), "{}", process.output());
}

async fn send(python: &Path, url: &str) -> Value {
    let mut client = Command::new(python);
    client.arg(root().join("tests/clients/otel_spans.py")).arg(url);
    let mut client = Process::start(&mut client);
    let ended = client.ended().await;
    let output = client.output();
    assert!(ended.success(), "{ended}: {output}");
    let printed = output.lines().rfind(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(printed).unwrap()
}

/// Counts by name, as the client printed them.
fn counts(of: &Value) -> BTreeMap<String, u64> {
    let pairs = of.as_object().unwrap().iter();
    pairs.map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
}

fn in_the_file(folder: &Folder, sent: &Value) {
    let ids = folder.ids("archive.jsonl");
    assert_eq!(ids.len() as u64, sent["spans"], "a span, a record");
    assert!(ids.values().all(|times| *times == 1), "a record stands there twice");
    let text = std::fs::read_to_string(folder.path("archive.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let span_ids: BTreeSet<&str> =
        records.iter().map(|record| record["attributes"]["span_id"].as_str().unwrap()).collect();
    let sent_ids: BTreeSet<&str> =
        sent["span_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(span_ids, sent_ids);
    let count = |kind: &str, key: &str, wanted: &dyn Fn(&Value) -> bool| {
        let mut found = BTreeMap::new();
        for record in records.iter().filter(|record| record["type"] == kind && wanted(record)) {
            *found.entry(record[key].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        found
    };
    assert_eq!(count("event", "event_name", &|_| true), counts(&sent["events"]));
    let failed = |record: &Value| record["status"] == "failed";
    assert_eq!(count("event", "event_name", &failed), counts(&sent["failed_events"]));
    assert_eq!(count("network", "operation", &|_| true), counts(&sent["operations"]));
    let failed = |record: &Value| record["error"] == "timeout";
    assert_eq!(count("network", "operation", &failed), counts(&sent["failed_operations"]));
    let sum = |key: &str| records.iter().filter_map(|record| record[key].as_u64()).sum::<u64>();
    assert_eq!(sum("retry_count"), sent["retries"]);
    assert_eq!(sum("bytes_sent"), sent["bytes_sent"]);
    assert_eq!(sum("bytes_received"), sent["bytes_received"]);
    for record in &records {
        assert_eq!(record["attributes"]["service.name"], "otel-python", "{record}");
    }
    let failed =
        records.iter().find(|record| record["type"] == "event" && record["status"] == "failed").unwrap();
    assert!(failed["error"].as_str().unwrap().contains("is full"), "{failed}");
    assert_eq!(failed["attributes"]["exception.type"], "OSError", "{failed}");
    assert!(failed["attributes"]["exception.stacktrace"].as_str().unwrap().contains("Traceback"), "{failed}");
    assert_eq!((&failed["pipeline_id"], &failed["process_id"]), (&"thumbs".into(), &4711.into()), "{failed}");
    assert!(failed["task_id"].as_str().unwrap().starts_with("task-"), "{failed}");
}

async fn in_the_series(port: u16, sent: &Value) {
    let scraped = Api::new(format!("http://127.0.0.1:{port}"));
    let text = until("the scrape answers", || scraped.get("/metrics")).await;
    // The sum of a metric's samples that have this label.
    let sum = |metric: &str, label: &str| -> u64 {
        let samples =
            text.lines().filter(|line| line.starts_with(&format!("{metric}{{")) && line.contains(label));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    };
    for (name, count) in counts(&sent["events"]) {
        let label = format!("event_name=\"{name}\"");
        assert_eq!(sum("event_duration_seconds_count", &label), count, "{name}");
    }
    let all = |counts: BTreeMap<String, u64>| counts.values().sum::<u64>();
    let failed = sum("event_duration_seconds_count", "status=\"failed\"");
    assert_eq!(failed, all(counts(&sent["failed_events"])));
    assert_eq!(sum("event_retries_total", "service=\"otel-python\""), sent["retries"]);
    for (operation, count) in counts(&sent["operations"]) {
        let label = format!("operation=\"{operation}\"");
        assert_eq!(sum("network_latency_seconds_count", &label), count, "{operation}");
    }
    for (operation, count) in counts(&sent["failed_operations"]) {
        assert_eq!(sum("network_errors_total", &format!("operation=\"{operation}\"")), count, "{operation}");
    }
    assert_eq!(sum("network_bytes_total", "direction=\"sent\""), sent["bytes_sent"]);
    assert_eq!(sum("network_bytes_total", "direction=\"received\""), sent["bytes_received"]);
}

async fn in_the_reports(api: &Api, sent: &Value) {
    let all = |counts: BTreeMap<String, u64>| counts.values().sum::<u64>();
    let metrics = api.report("metrics?limit=100").await;
    let by_name = |rows: &Value, key: &str| -> BTreeMap<String, u64> {
        let rows = rows["rows"].as_array().unwrap().iter();
        rows.map(|row| (row[key].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap())).collect()
    };
    assert_eq!(by_name(&metrics["events"], "event_name"), counts(&sent["events"]), "{metrics:#}");
    assert_eq!(by_name(&metrics["operations"], "operation"), counts(&sent["operations"]));
    let failed = api.report("failed-events").await;
    assert_eq!(failed["failed_since_start"], all(counts(&sent["failed_events"])));
    assert_eq!(failed["events"]["total"], failed["failed_since_start"], "all of them are still known");
    let failed = api.report("failed-network-operations").await;
    assert_eq!(failed["failed_since_start"], all(counts(&sent["failed_operations"])));
    let retries = api.report("retry-stats").await;
    assert_eq!(retries["retries"], sent["retries"]);
    assert_eq!(retries["events_with_retries"], sent["events_with_retries"]);
}
