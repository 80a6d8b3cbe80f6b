//! A thousand reloads while records flow: each record is delivered exactly once, and nothing is left behind.

use crate::support::{Api, Folder, PATIENCE, Process, another_version, events, guest, say};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROWS: &str = r#"
[publishers.rows]
type = "wasm"
plugin = "ndjson"
batch = { max_age = "5ms" }
grant.dirs = [{ host = "out", guest = "/out", write = true }]
"#;

const RELOADS: u32 = 1_000;
/// When memory is looked at first: what grows once has grown by then.
const WARM: u32 = 200;

/// Posts records until it is told to stop, a few at a time: there is a record under way at every moment, and time left for
/// the reloads.
async fn post(api: Api, stop: Arc<AtomicBool>) -> u64 {
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        api.post(&events(next..next + 5)).await;
        next += 5;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    next
}

/// Waits until another version than that with the digest `before` runs, and returns its digest.
async fn replaced(api: &Api, before: &str, process: &Process) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = api.publisher("rows").await;
        match status["detail"]["digest"].as_str() {
            Some(digest) if digest != before => return digest.to_owned(),
            _ => assert!(Instant::now() < deadline, "{status:#}\n{}", process.output()),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_reloads_under_load_lose_nothing_and_leave_nothing_behind() {
    let folder = Folder::new("");
    std::fs::create_dir(folder.path("out")).unwrap();
    let plugin = guest("ndjson");
    let versions = [another_version(&plugin, "one"), another_version(&plugin, "two")];
    folder.drop_in("ndjson", &plugin);
    let (mut process, api) = Process::host(&folder, ROWS).await;
    let mut digest = replaced(&api, "", &process).await;
    let stop = Arc::new(AtomicBool::new(false));
    let flow = tokio::spawn(post(api.clone(), stop.clone()));

    let began = Instant::now();
    let mut warm = 0;
    for (reload, version) in (1..=RELOADS).zip(versions.iter().cycle()) {
        folder.drop_in("ndjson", version);
        digest = replaced(&api, &digest, &process).await;
        if reload == WARM {
            warm = process.memory();
        }
    }
    let (took, end) = (began.elapsed(), process.memory());
    stop.store(true, Ordering::Relaxed);
    let posted = flow.await.unwrap();
    let rows = api.until_delivered("rows", posted).await;
    assert_eq!(rows["books"]["accepted"], posted, "{rows:#}");
    assert_eq!(rows["failed_attempts"], 0, "{rows:#}");
    process.terminate();
    let ended = process.ended().await;
    assert!(ended.success(), "{ended}: {}", process.output());
    folder.assert_holds("out/records.jsonl", 0..posted);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    say(&format!(
        "{RELOADS} reloads in {took:.1?}, {posted} records; resident {:.1} MiB after {WARM}, {:.1} MiB at the end",
        mib(warm),
        mib(end)
    ));
    assert!(end < warm + warm / 8 + (8 << 20), "it grew from {warm} to {end} bytes");
}
