//! What the dashboards are to show: events that completed, failed, were cancelled and tried again, network operations with
//! and without errors, and publishers and plugins that are well and that are not.

use crate::support::{Folder, Running, guest};
use pressroom::host::Host;
use pressroom::publisher::{Fate, PublishError, PublishResult, Publisher, Unpublished};
use pressroom::record::{EventBatch, NetworkBatch, Timestamp};
use serde_json::{Value, json};

/// A publisher of the test's own: it says the same to every batch.
struct Always(fn() -> PublishResult);

#[async_trait::async_trait]
impl Publisher for Always {
    async fn publish_event_metrics(&mut self, _: &EventBatch) -> PublishResult {
        self.0()
    }

    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        self.0()
    }
}

fn held() -> PublishResult {
    Err(PublishError::hold("the credentials have expired"))
}

fn retried() -> PublishResult {
    Err(PublishError::retry("the server is down"))
}

fn first_row_rejected() -> PublishResult {
    Ok(vec![Unpublished { row: 0, fate: Fate::Reject { reason: "no such index".to_owned() } }])
}

/// A host with the publisher `metrics` as configured, beside publishers and plugins that do and do not do their work.
pub(super) async fn host(metrics: &str) -> (Folder, Running) {
    let folder = Folder::new(&format!(
        "[publishers.metrics]\nmax_series = 10\n{metrics}\
         [publishers.broken]\ntype = \"wasm\"\nplugin = \"hostile\"\nconfig = {{ do = \"trap\" }}\n\
         retry = {{ max = \"1s\" }}\n\
         [publishers.pair]\ntype = \"composite\"\nmode = \"failover\"\nmembers = [\"trapping\", \"spare\"]\n\
         [publishers.trapping]\ntype = \"wasm\"\nplugin = \"hostile\"\nconfig = {{ do = \"trap\" }}\n\
         [publishers.spare]\ntype = \"file\"\npath = \"spare.jsonl\"\n"
    ));
    folder.drop_in("hostile", &guest("hostile"));
    folder.drop_in("rollup", &guest("rollup"));
    let builder = Host::builder()
        .publisher("held", || Always(held))
        .publisher("down", || Always(retried))
        .publisher("picky", || Always(first_row_rejected));
    let running = folder.start_with(builder).await;
    (folder, running)
}

/// Of ten records seven are events; of these four completed, one failed, one was cancelled, one is slow.
pub(super) const TEN: u64 = 10;

/// Records of all kinds, `tens` times ten, that ended a moment ago.
pub(super) fn wave(tens: u64) -> Value {
    let now = Timestamp::now().as_nanos();
    (0..tens * TEN).map(|number| record(number, now - number * 1_000_000)).collect()
}

fn record(number: u64, ended: u64) -> Value {
    let (kind, tens) = (number % TEN, number / TEN);
    let (name, millis, status) = match kind {
        0..=3 => ("resize", 20 + 30 * kind, "completed"),
        4 => ("resize", 700, "failed"),
        5 => ("notify", 2, "cancelled"),
        6 => ("archive", 12_000 + 100 * (tens % 7), "completed"),
        7 => ("PUT", 40, ""),
        8 => ("GET", 3_000, ""),
        _ => ("POST", 90, ""),
    };
    let time = |nanos: u64| Timestamp::from_nanos(nanos).to_string();
    let (start, end, task) = (time(ended - millis * 1_000_000), time(ended), format!("task-{tens}"));
    if kind < 7 {
        let mut event = json!({
            "type": "event", "event_name": name, "task_id": task, "pipeline_id": "thumbs", "start_time": start,
            "end_time": end, "status": status, "retry_count": kind % 3, "attributes": { "service.name": "imaging" },
        });
        if status == "failed" {
            event["error"] = ["disk full", "no such file"][usize::from(tens % 3 == 0)].into();
        }
        return event;
    }
    let host = ["s3.local", "api.local", "queue.local"][usize::try_from(kind - 7).unwrap()];
    let mut operation = json!({
        "type": "network", "task_id": task, "operation": name, "host": host, "port": 443, "start_time": start,
        "end_time": end, "bytes_sent": 1_000 * (kind - 6), "bytes_received": 250, "attributes": { "service.name": "imaging" },
    });
    if kind == 8 {
        operation["error"] = ["timed out", "connection refused"][usize::from(tens % 4 == 0)].into();
    }
    operation
}
