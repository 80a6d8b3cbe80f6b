//! A failover over HTTP: the first choice goes down and comes back, a plugin among the members comes, breaks and goes; no
//! record is lost, none is doubled, and the report says who took how many.

use crate::support::{Api, Folder, PATIENCE, Process, another_version, events, guest, id};
use pressroom::host::Host;
use pressroom::publisher::{PublishError, PublishResult, Publisher};
use pressroom::record::{EventBatch, NetworkBatch};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// A server of the test's own, which fails on command.
#[derive(Clone, Default)]
struct Server {
    mood: Arc<AtomicU8>,
    ids: Arc<Mutex<Vec<String>>>,
}

const WELL: u8 = 0;
const DOWN: u8 = 1;
/// It takes every other row.
const BUSY: u8 = 2;
const SILENT: u8 = 3;

impl Server {
    fn is(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    async fn take(&self, ids: Vec<String>) -> PublishResult {
        let mood = self.mood.load(Ordering::SeqCst);
        match mood {
            DOWN => return Err(PublishError::retry("connection refused")),
            SILENT => std::future::pending().await,
            _ => {}
        }
        let later = |row: usize| mood == BUSY && row % 2 == 1;
        let taken = ids.iter().enumerate().filter(|(row, _)| !later(*row)).map(|(_, id)| id.clone());
        self.ids.lock().unwrap().extend(taken);
        let left_out = (0..ids.len()).filter(|row| later(*row));
        Ok(left_out
            .map(|row| pressroom::publisher::Unpublished {
                row: row as u32,
                fate: pressroom::publisher::Fate::Retry { reason: "too many requests".into(), after: None },
            })
            .collect())
    }
}

struct Remote(Server);

#[async_trait::async_trait]
impl Publisher for Remote {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.0.take(events.iter().map(|event| event.id.to_string()).collect()).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.0.take(operations.iter().map(|operation| operation.id.to_string()).collect()).await
    }
}

/// What the report tells of a member.
async fn member(api: &Api, label: &str) -> Value {
    let status = api.publisher("safe").await;
    let members = status["detail"]["members"].as_array().unwrap_or_else(|| panic!("{status:#}"));
    members.iter().find(|member| member["label"] == label).unwrap().clone()
}

/// Waits until the members stand so, the first choice first.
async fn until_members(api: &Api, states: &[&str]) {
    let stand = |status: &Value| {
        let members = status["detail"]["members"].as_array();
        members.is_some_and(|members| {
            members.iter().map(|member| member["state"].as_str()).eq(states.iter().copied().map(Some))
        })
    };
    api.until("safe", &format!("has members that are {states:?}"), stand).await;
}

/// Fails unless every event of these numbers is in one of the places, once.
fn assert_each_once(places: &[BTreeMap<String, usize>], numbers: std::ops::Range<u64>) {
    let mut all = BTreeMap::<String, usize>::new();
    for (id, times) in places.iter().flatten() {
        *all.entry(id.clone()).or_default() += times;
    }
    let doubled: Vec<_> = all.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert!(all.keys().cloned().eq(numbers.map(|number| id(number).to_string())), "{} are there", all.len());
}

fn counted(ids: &Mutex<Vec<String>>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    ids.lock().unwrap().iter().for_each(|id| *counted.entry(id.clone()).or_default() += 1);
    counted
}

const REMOTE: &str = r#"
[publishers.safe]
type = "composite"
mode = "failover"
members = ["remote", "spare"]
breaker = { failures = 3, initial = "50ms", max = "200ms" }
batch = { max_age = "10ms" }
retry = { initial = "5ms", max = "50ms" }
[publishers.remote]
type = "embedded"
timeout = "300ms"
[publishers.spare]
type = "file"
path = "spare.jsonl"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_spare_takes_over_and_gives_back_whatever_the_first_choice_does() {
    let folder = Folder::new(REMOTE);
    let server = Server::default();
    let remote = server.clone();
    let builder = Host::builder().publisher("remote", move || Remote(remote.clone()));
    let running = folder.start_with(builder).await;
    let api = &running.api;
    let mut posted = 0;
    for (mood, reason) in
        [(DOWN, "connection refused"), (SILENT, "no answer within 300ms"), (BUSY, "too many requests")]
    {
        // It is well, and takes everything.
        let before = member(api, "spare").await["delivered"].as_u64().unwrap();
        api.post(&events(posted..posted + 100)).await;
        posted += 100;
        api.until_delivered("safe", posted).await;
        let spare = member(api, "spare").await;
        assert_eq!(
            (&spare["state"], spare["delivered"].as_u64()),
            (&"standby".into(), Some(before)),
            "{spare:#}"
        );

        // It is not: what it has not taken goes to the spare.
        server.is(mood);
        api.post(&events(posted..posted + 200)).await;
        posted += 200;
        api.until_delivered("safe", posted).await;
        let out = member(api, "remote").await;
        assert!(["open", "probing"].contains(&out["state"].as_str().unwrap()), "{out:#}");
        assert_eq!((&out["reason"], &out["last_error"]), (&reason.into(), &reason.into()), "{out:#}");
        let spare = member(api, "spare").await;
        assert_eq!(spare["state"], "active");
        assert!(spare["delivered"].as_u64().unwrap() > before, "{spare:#}");
        let metrics = running.host.metrics();
        let sample = "pressroom_failover_member_active{member=\"spare\",publisher=\"safe\"} 1";
        assert!(metrics.lines().any(|line| line == sample), "{metrics}");

        // It is again: a probe finds that out, with records.
        server.is(WELL);
        let mut probes = 0;
        while member(api, "remote").await["state"] != "active" {
            probes += 1;
            assert!(probes < 10_000, "it never came back");
            api.post(&events(posted..posted + 1)).await;
            posted += 1;
            api.until_delivered("safe", posted).await;
        }
    }
    let safe = api.publisher("safe").await;
    assert_eq!((&safe["type"], &safe["books"]["accepted"]), (&"composite".into(), &posted.into()));
    assert!(api.publisher("remote").await.is_null(), "a member is no delivery of its own");
    let (remote, spare) = (counted(&server.ids), folder.ids("spare.jsonl"));
    let delivered = |of: &Value| of["delivered"].as_u64().unwrap() as usize;
    assert_eq!(delivered(&member(api, "remote").await), remote.len());
    assert_eq!(delivered(&member(api, "spare").await), spare.len());
    assert_each_once(&[remote, spare], 0..posted);
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
}

const PLUGIN: &str = r#"
[publishers.safe]
type = "composite"
mode = "failover"
members = ["rows", "spare"]
batch = { max_age = "10ms" }
[publishers.rows]
type = "wasm"
plugin = "ndjson"
grant.dirs = [{ host = "out", guest = "/out", write = true }]
[publishers.spare]
type = "file"
path = "spare.jsonl"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_among_the_members_comes_changes_breaks_and_goes() {
    let folder = Folder::new(PLUGIN);
    std::fs::create_dir(folder.path("out")).unwrap();
    let running = folder.start().await;
    let (api, plugin) = (&running.api, guest("ndjson"));
    let mut posted = 0;
    let mut post = async || {
        api.post(&events(posted..posted + 50)).await;
        posted += 50;
        api.until_delivered("safe", posted).await;
    };

    // Its file is not there: the spare does not wait for it.
    until_members(api, &["waiting", "active"]).await;
    post().await;
    let waits = member(api, "rows").await;
    assert!(waits["reason"].as_str().unwrap().contains("ndjson.wasm"), "{waits:#}");

    // It comes, and another version of it.
    folder.drop_in("ndjson", &plugin);
    until_members(api, &["active", "standby"]).await;
    post().await;
    let first = member(api, "rows").await["detail"]["digest"].clone();
    folder.drop_in("ndjson", &another_version(&plugin, "two"));
    let changed =
        |status: &Value| status["detail"]["members"][0]["detail"]["digest"].as_str() != first.as_str();
    api.until("safe", "runs another version", changed).await;
    post().await;
    let report = api.report("plugins").await;
    assert_eq!(report[0]["publishers"][0]["label"], "rows", "{report:#}");
    assert_eq!(report[0]["publishers"][0]["state"], "running", "{report:#}");
    assert!(report[0]["publishers"][0]["detail"]["calls"].as_u64() > Some(0), "{report:#}");

    // A broken one is told, and the one before goes on.
    folder.drop_in("ndjson", &plugin[..plugin.len() / 3]);
    let broken = api.until("safe", "says why", |status| status["update_failed"].is_string()).await;
    assert!(broken["update_failed"].as_str().unwrap().starts_with("member \"rows\": "), "{broken:#}");
    post().await;
    assert_eq!(member(api, "rows").await["delivered"], 150);

    // It goes, and the spare takes over; it comes back, and so do the records.
    std::fs::remove_file(folder.plugin("ndjson")).unwrap();
    until_members(api, &["waiting", "active"]).await;
    post().await;
    folder.drop_in("ndjson", &plugin);
    until_members(api, &["active", "standby"]).await;
    post().await;
    assert_eq!(
        (&member(api, "rows").await["delivered"], &member(api, "spare").await["delivered"]),
        (&200.into(), &100.into())
    );
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    assert_each_once(&[folder.ids("out/records.jsonl"), folder.ids("spare.jsonl")], 0..300);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_what_a_failover_is_made_of() {
    let folder = Folder::new("");
    std::fs::create_dir(folder.path("out")).unwrap();
    let (mut process, api) = Process::host(&folder, PLUGIN).await;
    api.post(&events(0..10)).await;
    api.until_delivered("safe", 10).await;
    let mut check = Process::pressroom(&folder, &["check"]);
    assert!(check.ended().await.success(), "{}", check.output());
    let output = check.output();
    for row in [
        "  safe       composite, failover",
        "    rows     wasm                 will wait: there is no ",
        "    spare    file",
    ] {
        assert!(output.contains(row), "{row:?} is not in\n{output}");
    }
    let mut report = Process::pressroom(&folder, &["report", "publishers", "--url", api.url()]);
    assert!(report.ended().await.success(), "{}", report.output());
    let output = report.output();
    for part in [
        "\n    rows     wasm       waiting ",
        "\n    spare    file       active ",
        "\n  rows: waiting since ",
    ] {
        assert!(output.contains(part), "{part:?} is not in\n{output}");
    }
    process.terminate();
    assert!(process.ended().await.success(), "{}", process.output());
}
