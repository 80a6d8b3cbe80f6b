//! SIGTERM under load: what was acknowledged is in the file, and the last words are the account.
//!
//! SIGKILL is not tested: the journal is memory, and what it held is lost with the process, by design. A journal on
//! disk will be held to more.

use crate::support::{Folder, Process, events, id, until};
use pressroom::host::Host;
use pressroom::publisher::{PublishResult, Publisher};
use pressroom::record::{EventBatch, NetworkBatch};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_file_after_sigterm_under_load() {
    let folder = Folder::new("");
    let config = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";
    let (mut process, api) = Process::host(&folder, config).await;
    let sent = Arc::new(AtomicU64::new(0));
    let senders: Vec<_> = (0..4_u64)
        .map(|sender| {
            let (api, sent) = (api.clone(), sent.clone());
            tokio::spawn(async move {
                // Until the host no longer answers. What it did not acknowledge may be there or not.
                let mut acknowledged = Vec::new();
                let mut next = sender << 32;
                loop {
                    let batch = next..next + 100;
                    match api.send(&events(batch.clone())).await {
                        Ok(answer) if answer.status().is_success() => acknowledged.extend(batch),
                        _ => return acknowledged,
                    }
                    next += 100;
                    sent.fetch_add(100, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("they send", || async { (sent.load(Ordering::Relaxed) >= 5_000).then_some(()) }).await;
    process.terminate();
    let ended = process.ended().await;
    let output = process.output();
    assert!(ended.success(), "{ended}: {output}");
    let ids = folder.ids("archive.jsonl");
    assert!(ids.values().all(|times| *times == 1), "a record stands there twice");
    let mut acknowledged = BTreeSet::new();
    for sender in senders {
        acknowledged.extend(sender.await.unwrap());
    }
    assert!(acknowledged.len() >= 5_000);
    let lost = acknowledged.iter().filter(|number| !ids.contains_key(&id(**number).to_string())).count();
    assert_eq!(lost, 0, "of {}: {output}", acknowledged.len());
    // The account: the publisher, and how many it delivered.
    let digits = output.replace(',', "");
    let account =
        digits.lines().find(|line| line.contains("archive") && line.contains(&ids.len().to_string()));
    assert!(account.is_some_and(|line| line.contains("balance")), "no account of {} in {output}", ids.len());
}

/// A message for each of these tasks.
fn messages(step: &str, tasks: Range<u64>) -> impl Iterator<Item = Value> {
    tasks.map(move |task| json!({"type": step, "event_name": "step", "task_id": task.to_string()}))
}

/// How many events of each status are in a file, each task once.
fn statuses(folder: &Folder, file: &str) -> BTreeMap<String, u64> {
    let (mut tasks, mut statuses) = (BTreeSet::new(), BTreeMap::new());
    for line in folder.text(file).lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(tasks.insert(event["task_id"].as_str().unwrap().to_owned()), "{event} is there twice");
        *statuses.entry(event["status"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_were_answered_with_200_are_in_the_file_beside_a_dead_publisher_that_blocks() {
    let folder = Folder::new("");
    let config = "[journal]\nmax_records = 1000\n[shutdown]\ntimeout = \"2s\"\n\
         [publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n\
         [publishers.dead]\ntype = \"elasticsearch\"\nhosts = [\"http://127.0.0.1:1\"]\noverflow = \"block\"\n";
    let (mut process, api) = Process::host(&folder, config).await;
    // Some that are open at the end; then 20,000 messages.
    api.post(&messages("start", 0..50).collect()).await;
    let (mut accepted, mut refused) = (0, 0);
    for first in (50..10_050).step_by(100) {
        let tasks = first..first + 100;
        let pairs = messages("start", tasks.clone()).zip(messages("end", tasks));
        let answer = api.send(&pairs.flat_map(|(start, end)| [start, end]).collect()).await.unwrap();
        match answer.status().as_u16() {
            200 => {
                let answer: Value = answer.json().await.unwrap();
                assert_eq!(answer["accepted"], 200, "{answer}");
                accepted += 100;
            }
            status => {
                assert!(matches!(status, 429 | 503), "{answer:?}");
                assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
        }
    }
    assert!((500..=1_000).contains(&accepted), "{accepted}");
    process.terminate();
    let ended = process.ended().await;
    let output = process.output();
    assert_eq!(ended.code(), Some(1), "the dead publisher lost them: {output}");
    assert!(output.contains("and are lost"), "{output}");
    let expected = [("cancelled".to_owned(), 50), ("completed".to_owned(), accepted)];
    assert_eq!(statuses(&folder, "archive.jsonl"), expected.into(), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn seventy_thousand_open_events_are_in_the_file_after_sigterm() {
    let folder = Folder::new("");
    let config =
        "[shutdown]\ntimeout = \"60s\"\n[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";
    let (mut process, api) = Process::host(&folder, config).await;
    for first in (0..70_000).step_by(5_000) {
        api.post(&messages("start", first..first + 5_000).collect()).await;
    }
    process.terminate();
    let ended = process.ended().await;
    let output = process.output();
    assert!(ended.success(), "{ended}: {output}");
    assert_eq!(statuses(&folder, "archive.jsonl"), [("cancelled".to_owned(), 70_000)].into(), "{output}");
}

/// Delivers nothing until it is told to.
struct Waiting(watch::Receiver<bool>);

#[async_trait::async_trait]
impl Publisher for Waiting {
    async fn publish_event_metrics(&mut self, _events: &EventBatch) -> PublishResult {
        self.0.wait_for(|go| *go).await.unwrap();
        Ok(Vec::new())
    }

    async fn publish_network_metrics(&mut self, _operations: &NetworkBatch) -> PublishResult {
        Ok(Vec::new())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_cut_first_and_publishers_have_the_larger_part_of_the_time() {
    let folder = Folder::new("[publishers.remote]\ntype = \"embedded\"\n");
    let (go, gone) = watch::channel(false);
    let builder = Host::builder().publisher("remote", move || Waiting(gone.clone()));
    let running = folder.start_with(builder).await;
    running.api.post(&events(0..2_000)).await;
    let mut upload = tokio::net::TcpStream::connect(running.host.server_addr().unwrap()).await.unwrap();
    let head = "POST /v1/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
    upload.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    upload.read_exact(&mut asked).await.unwrap();
    // It drips until it is cut; only then the publisher delivers.
    let dripping = tokio::spawn(async move {
        let mut answer = [0; 1024];
        loop {
            let read = tokio::time::timeout(Duration::from_millis(100), upload.read(&mut answer)).await;
            let cut = !matches!(read, Err(_) | Ok(Ok(1..)));
            if cut || upload.write_all(b" ").await.is_err() {
                go.send_replace(true);
                return;
            }
        }
    });
    // As long as the server waits for requests in flight where it has the time.
    let closing = running.host.shutdown(Duration::from_secs(5)).await;
    dripping.await.unwrap();
    assert_eq!((closing.dropped(), closing.never_accepted), (0, 0), "{closing:?}");
    assert_eq!(closing.publishers[0].books.delivered, 2_000, "{closing:?}");
}

/// Makes a pipe, and opens it for writing once somebody reads from it. Dropping the answer ends what is read.
#[cfg(unix)]
async fn pipe(path: std::path::PathBuf) -> impl FnOnce() -> std::fs::File {
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    move || std::fs::OpenOptions::new().write(true).open(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_start_that_waits_for_a_file_that_never_comes() {
    let folder = Folder::new("");
    let open = pipe(folder.path("secret")).await;
    folder.write_config(
        "[server]\nlisten = \"127.0.0.1:0\"\n[shutdown]\ntimeout = \"1s\"\n\
         [publishers.archive]\ntype = \"file\"\npath = \"${file:secret}\"\n",
    );
    let mut process = Process::pressroom(&folder, &["run"]);
    // It reads the secret now, and nothing is ever written.
    let _writer = tokio::task::spawn_blocking(open).await.unwrap();
    process.terminate();
    let ended = process.ended().await;
    let output = process.output();
    assert!(ended.success() && output.contains("SIGTERM: ended during the start"), "{ended}: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_delays_neither_the_start_nor_the_end() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = Folder::new("");
    let config = format!(
        "[shutdown]\ntimeout = \"1s\"\n[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n\
         [publishers.silent]\ntype = \"elasticsearch\"\nhosts = [\"http://{}\"]\ntimeout = \"1h\"\n",
        silent.local_addr().unwrap()
    );
    let (mut process, api) = Process::host(&folder, &config).await;
    let (_connection, _) = silent.accept().await.unwrap();
    api.post(&events(0..100)).await;
    api.until_delivered("archive", 100).await;
    process.terminate();
    let ended = process.ended().await;
    let output = process.output();
    // What the silent one was to have is lost, and the end says so.
    assert_eq!(ended.code(), Some(1), "{output}");
    assert!(
        output.contains("100 records could not be published before shutdown.timeout was over"),
        "{output}"
    );
}
