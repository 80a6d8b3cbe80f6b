//! A plugin in C, in a running host.

use crate::support::{Folder, PATIENCE, Process, c_guest, event, events, id, until_or};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn minimal_counts_what_was_posted() {
    let Some(file) = c_guest("plugins/minimal") else { return };
    let folder = Folder::new("");
    folder.drop_in("minimal", &std::fs::read(file).unwrap());
    let section = "[publishers.minimal]\ntype = \"wasm\"\nplugin = \"minimal\"\nflush_interval = \"100ms\"\nconfig = { prefix = \"so far\" }\n";
    let (mut process, api) = Process::host(&folder, section).await;
    api.until_running("minimal").await;
    let mut failed = event(1_000);
    failed["status"] = "failed".into();
    failed["error"] = "größer als erlaubt".into();
    let operation = json!({
        "type": "network", "id": id(1_001), "task_id": "1", "operation": "PUT", "host": "s3.local", "port": 443,
        "start_time": "2026-11-23T11:14:44.25Z", "end_time": "2026-11-23T11:14:44.75Z", "bytes_sent": 1, "bytes_received": 2,
    });
    api.post(&events(0..1_000)).await;
    api.post(&Value::from(vec![failed, operation])).await;
    api.until_delivered("minimal", 1_002).await;
    let wanted = "so far events=1001 failed=1 operations=1";
    let look = || async { process.output().contains(wanted).then_some(()) };
    until_or(wanted, PATIENCE, look, || process.output()).await;
    process.terminate();
    assert!(process.ended().await.success(), "{}", process.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_does_not_fit_refuses_it_with_its_own_words() {
    let Some(file) = c_guest("plugins/minimal") else { return };
    let long = "x".repeat(64);
    let folder = Folder::new(&format!(
        "[publishers.minimal]\ntype = \"wasm\"\nplugin = \"minimal\"\nconfig = {{ prefix = \"{long}\" }}\n"
    ));
    folder.drop_in("minimal", &std::fs::read(file).unwrap());
    let running = folder.start().await;
    let refused = running.api.until("minimal", "is refused", |status| status["reason"].is_string()).await;
    assert!(refused["reason"].as_str().unwrap().contains("is longer than 63 bytes"), "{refused:#}");
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}
