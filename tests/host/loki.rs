//! A real Loki: what failed is there as lines, once, to be found by label, by id and by what it says.

use crate::support::servers::Loki;
use crate::support::{Folder, PATIENCE, event, id, until_or};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

fn section(loki: &Loki, more: &str) -> String {
    format!(
        "[publishers.lines]\ntype = \"loki\"\nurl = \"{}/loki/api/v1/push\"\ninstance = \"here\"\n\
         external_labels = {{ cluster = \"eu\" }}\nbatch = {{ max_records = 100 }}\n{more}",
        loki.url()
    )
}

/// A time in RFC 3339, so many seconds ago.
fn ago(seconds: u64) -> String {
    let at = std::time::SystemTime::now() - Duration::from_secs(seconds);
    pressroom::record::Timestamp::from(at).to_string()
}

/// An event that failed so many seconds ago.
fn failed(number: u64, seconds_ago: u64) -> Value {
    let mut event = event(number);
    event["start_time"] = ago(seconds_ago + 1).into();
    event["end_time"] = ago(seconds_ago).into();
    event["status"] = "failed".into();
    event["error"] = "disk full".into();
    event["pipeline_id"] = "thumbs".into();
    event["attributes"] = json!({ "service.name": "shop", "trace_id": format!("{number:032x}") });
    event
}

/// How often each record's line is there, of what a query selects.
async fn lines(loki: &Loki, query: &str) -> Option<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for stream in loki.query(query).await? {
        for entry in stream["values"].as_array().unwrap() {
            let line: Value = serde_json::from_str(entry[1].as_str().unwrap()).unwrap();
            *found.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    Some(found)
}

/// Waits until exactly these are there, each once.
async fn until_there(loki: &Loki, query: &str, numbers: impl IntoIterator<Item = u64>) {
    let wanted: BTreeMap<_, _> = numbers.into_iter().map(|number| (id(number).to_string(), 1)).collect();
    let last = Mutex::new(None);
    let look = || async {
        let found = lines(loki, query).await;
        let there = (found.as_ref() == Some(&wanted)).then_some(());
        *last.lock().unwrap() = found;
        there
    };
    let more = || {
        let last = last.lock().unwrap();
        let found = last.as_ref().map(|found| (found.len(), found.values().sum::<usize>()));
        format!("wanted {}, found (distinct, all): {found:?}", wanted.len())
    };
    until_or(&format!("{query} gives those lines"), PATIENCE, look, more).await;
}

const ALL: &str = "{job=\"pressroom\"}";

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_there_once_to_be_found_by_label_id_and_text() {
    let Some(loki) = Loki::start().await else { return };
    let folder = Folder::new(&section(&loki, ""));
    let running = folder.start().await;
    let api = &running.api;
    let mut records: Vec<Value> = (0..250).map(|number| failed(number, 60)).collect();
    // What went well is not for it; an operation that failed is.
    records.extend((250..300).map(event));
    let operation = json!({
        "type": "network", "id": id(300), "task_id": "task-300", "operation": "PUT", "host": "s3.local", "port": 443,
        "start_time": ago(61), "end_time": ago(60), "bytes_sent": 1, "bytes_received": 2, "error": "reset",
    });
    records.push(operation);
    api.post(&records.into()).await;
    let status = api.until_delivered("lines", 251).await;
    assert_eq!((&status["books"]["filtered"], &status["failed_attempts"]), (&50.into(), &0.into()));
    until_there(&loki, ALL, (0..250).chain([300])).await;

    for (query, numbers) in [
        ("{kind=\"network\", level=\"error\", instance=\"here\", cluster=\"eu\"}", vec![300]),
        ("{service=\"shop\", kind=\"event\"} | task_id = `task-7`", vec![7]),
        (
            "{service=\"shop\"} | pipeline_id = `thumbs` | trace_id = `0000000000000000000000000000000b`",
            vec![11],
        ),
        ("{job=\"pressroom\"} | json | error = `reset`", vec![300]),
        ("{job=\"pressroom\"} |= `\"task_id\":\"task-42\"`", vec![42]),
    ] {
        until_there(&loki, query, numbers).await;
    }
    let streams = loki.query(&format!("{ALL} | id = `{}`", id(7))).await.unwrap();
    let labels = streams[0]["stream"].as_object().unwrap();
    let few = ["job", "instance", "cluster", "kind", "level", "service"];
    assert!(few.iter().all(|label| labels.contains_key(*label)), "{labels:?}");
    // The time of a line is when its record ended.
    let at: u64 = streams[0]["values"][0][0].as_str().unwrap().parse().unwrap();
    let line: Value = serde_json::from_str(streams[0]["values"][0][1].as_str().unwrap()).unwrap();
    let end: pressroom::record::Timestamp = line["end_time"].as_str().unwrap().parse().unwrap();
    assert_eq!(at, end.as_nanos());
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_set_aside_alone_and_all_that_is_not_is_there_once() {
    let Some(loki) = Loki::start().await else { return };
    let folder = Folder::new(&section(&loki, ""));
    let running = folder.start().await;
    let api = &running.api;
    // Loki wants nothing that is more than a week old, nor more than an hour behind the newest line of its stream.
    let (day, week) = (86_400, 604_800);
    let ages = |number: u64| match number {
        13 | 77 => week + day,
        number => 7_000 - number * 10,
    };
    api.post(&(0..100).map(|number| failed(number, ages(number))).collect()).await;
    let is_settled = |status: &Value| status["books"]["backlog"] == 0 && status["books"]["accepted"] == 100;
    let status = api.until("lines", "is done", is_settled).await;
    assert_eq!((&status["books"]["delivered"], &status["books"]["dead_lettered"]), (&98.into(), &2.into()));
    until_there(&loki, ALL, (0..100).filter(|number| ![13, 77].contains(number))).await;
    let letters = std::fs::read_to_string(folder.path("dead-letters.jsonl")).unwrap();
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> =
        letters.iter().map(|letter| letter["record"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [id(13).to_string(), id(77).to_string()]);
    assert!(letters[0]["reason"].as_str().unwrap().contains("timestamp too old"), "{}", letters[0]);

    // What is far behind goes alone as well: the stream has newer lines by now. Beside it in the same batch is another
    // stream, whose lines are all welcome.
    api.post(&json!([failed(100, 1), failed(101, 0)])).await;
    api.until_delivered("lines", 100).await;
    let mixed = |number: u64| {
        let mut event = failed(number, if number.is_multiple_of(2) { 3_000 } else { 4_200 });
        if number >= 220 {
            event["attributes"]["service.name"] = "zoo".into();
        }
        event
    };
    api.post(&(200..240).map(mixed).collect()).await;
    let is_settled = |status: &Value| status["books"]["backlog"] == 0 && status["books"]["accepted"] == 142;
    let status = api.until("lines", "is done", is_settled).await;
    let (delivered, dead_lettered) = (98 + 2 + 30, 2 + 10);
    assert_eq!(status["books"]["delivered"], delivered, "{status:#}");
    assert_eq!(status["books"]["dead_lettered"], dead_lettered);
    let refused = |number: &u64| {
        [13, 77].contains(number) || ((200..220).contains(number) && !number.is_multiple_of(2))
    };
    until_there(&loki, ALL, (0..102).chain(200..240).filter(|number| !refused(number))).await;
    let _ = running.host.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_comes_back_in_the_middle_and_every_line_is_there_once() {
    let Some(mut loki) = Loki::start().await else { return };
    // Everything, not only what failed.
    let folder = Folder::new(&section(&loki, "only = {}\nretry = { max = \"1s\" }\n"));
    let running = folder.start().await;
    let api = &running.api;
    let posting = async {
        for first in (0..2_000).step_by(50) {
            api.post(&(first..first + 50).map(|number| failed(number, 60)).collect()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        loki.stop().await;
        let state = |status: &Value| status["state"] == "retrying";
        api.until("lines", "is retrying", state).await;
        loki.start_again().await;
    };
    tokio::join!(posting, stopping);
    let status = api.until_delivered("lines", 2_000).await;
    assert_eq!(status["books"]["dead_lettered"], 0);
    until_there(&loki, ALL, 0..2_000).await;
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
}
