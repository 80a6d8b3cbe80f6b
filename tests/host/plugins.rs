//! Plugins come, change and go while records flow: none is unaccounted for, none is doubled.

use crate::support::{Api, Folder, PATIENCE, another_version, events, guest, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// Posts records, one batch after the other, until it is stopped.
struct Flow {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Flow {
    fn start(api: &Api) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (api, stopped) = (api.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                api.post(&events(next..next + 50)).await;
                next += 50;
            }
            next
        });
        Self { stop, task }
    }

    /// How many were posted, and accepted.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

const ROWS: &str = r#"
[publishers.archive]
type = "file"
path = "archive.jsonl"
[publishers.rows]
type = "wasm"
plugin = "ndjson"
batch = { max_age = "20ms" }
grant.dirs = [{ host = "out", guest = "/out", write = true }]
"#;

async fn is_replaced(api: &Api, label: &str, before: &serde_json::Value) -> serde_json::Value {
    let other = |status: &serde_json::Value| {
        status["detail"]["digest"].is_string() && status["detail"]["digest"] != before["detail"]["digest"]
    };
    api.until(label, "runs another version", other).await
}

/// Waits until a publisher has delivered something since `before`.
async fn goes_on(api: &Api, label: &str) {
    let before = api.publisher(label).await["books"]["delivered"].as_u64();
    api.until(label, "goes on", |status| status["books"]["delivered"].as_u64() > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_appears_changes_breaks_and_vanishes_while_records_flow() {
    let folder = Folder::new(ROWS);
    std::fs::create_dir(folder.path("out")).unwrap();
    let running = folder.start().await;
    let api = &running.api;
    let flow = Flow::start(api);
    let plugin = guest("ndjson");

    // Its section is there, its file is not: it has a cursor and waits.
    let waiting = api.until("rows", "waits", |status| status["state"] == "waiting").await;
    assert!(waiting["reason"].as_str().unwrap().contains("ndjson.wasm"), "{waiting:#}");
    folder.drop_in("ndjson", &plugin);
    let first = api.until_running("rows").await;
    goes_on(api, "rows").await;

    // Other versions take over, one after the other.
    let mut before = first;
    for version in ["two", "three", "four"] {
        folder.drop_in("ndjson", &another_version(&plugin, version));
        before = is_replaced(api, "rows", &before).await;
        goes_on(api, "rows").await;
    }

    // A broken one is reported, and the one before goes on.
    folder.drop_in("ndjson", &plugin[..plugin.len() / 3]);
    let broken = api.until("rows", "says why", |status| status["update_failed"].is_string()).await;
    assert!(broken["update_failed"].as_str().unwrap().contains("ndjson.wasm"), "{broken:#}");
    assert_eq!(broken["detail"]["digest"], before["detail"]["digest"]);
    goes_on(api, "rows").await;

    // The file goes: the publisher waits, and its cursor with it. It comes back: nothing was missed.
    std::fs::remove_file(folder.plugin("ndjson")).unwrap();
    api.until("rows", "waits", |status| status["state"] == "waiting").await;
    goes_on(api, "archive").await;
    folder.drop_in("ndjson", &plugin);
    api.until_running("rows").await;
    goes_on(api, "rows").await;

    let posted = flow.stop().await;
    let rows = api.until_delivered("rows", posted).await;
    assert_eq!(rows["books"]["accepted"], posted, "{rows:#}");
    api.until_delivered("archive", posted).await;
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    folder.assert_holds("archive.jsonl", 0..posted);
    folder.assert_holds("out/records.jsonl", 0..posted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_in_plugin_starts_at_the_end_and_its_account_stays_when_it_goes() {
    let folder = Folder::new("");
    let running = folder.start().await;
    let api = &running.api;
    let flow = Flow::start(api);
    folder.drop_in("rollup", &guest("rollup"));
    api.until_running("rollup").await;
    goes_on(api, "rollup").await;
    std::fs::remove_file(folder.plugin("rollup")).unwrap();
    let gone = || async { api.publisher("rollup").await.is_null().then_some(()) };
    until("the plugin is gone", gone).await;
    let posted = flow.stop().await;
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced(), "{closing:?}");
    let books = closing.publishers.iter().find(|account| &*account.label == "rollup").unwrap().books;
    assert!(books.delivered > 0 && books.backlog == 0, "{books:?}");
    assert!(books.accepted <= posted, "{books:?}, {posted} posted");
    assert_eq!(books.accepted, books.delivered + books.dropped.removed, "{books:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_half_written_runs_once_it_is_whole() {
    use std::io::Write as _;
    let folder = Folder::new("");
    let running = folder.start().await;
    let plugin = guest("rollup");
    let (half, rest) = plugin.split_at(plugin.len() / 2);
    let mut file = std::fs::File::create(folder.plugin("rollup")).unwrap();
    file.write_all(half).unwrap();
    file.sync_all().unwrap();
    // It is left alone for longer than the debounce: the half is refused, and nothing is delivered to it.
    let failed = running.api.until("rollup", "is refused", |status| status["state"] == "failed").await;
    assert_eq!(failed["books"]["accepted"], 0, "{failed:#}");
    file.write_all(rest).unwrap();
    drop(file);
    running.api.until_running("rollup").await;
    running.api.post(&events(0..100)).await;
    running.api.until_delivered("rollup", 100).await;
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}
