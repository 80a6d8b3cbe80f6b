//! A publisher that is down holds back nobody; one that must not lose anything makes senders wait; and what is held is
//! delivered once it is back.

use crate::support::{Folder, PATIENCE, Running, events};
use pressroom::host::Host;
use pressroom::publisher::{PublishError, PublishResult, Publisher};
use pressroom::record::{EventBatch, NetworkBatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A server of the test's own, with a publisher that delivers to it while it is up.
#[derive(Clone, Default)]
struct Server {
    up: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
}

struct Remote(Server);

impl Remote {
    fn deliver(&self, rows: usize) -> PublishResult {
        if !self.0.up.load(Ordering::Relaxed) {
            return Err(PublishError::retry("the server is down"));
        }
        self.0.rows.fetch_add(rows as u64, Ordering::Relaxed);
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl Publisher for Remote {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.deliver(events.len())
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.deliver(operations.len())
    }
}

/// A host whose journal holds a thousand records, with a file and a server that is down.
async fn host(overflow: &str) -> (Folder, Running, Server) {
    let folder = Folder::new(&format!(
        "[journal]\nmax_records = 1000\n[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n\
         [publishers.remote]\ntype = \"embedded\"\noverflow = \"{overflow}\"\nretry = {{ max = \"200ms\" }}\n"
    ));
    let server = Server::default();
    let remote = server.clone();
    let running =
        folder.start_with(Host::builder().publisher("remote", move || Remote(remote.clone()))).await;
    (folder, running, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_publisher_loses_its_oldest_and_holds_back_nobody() {
    let (folder, running, server) = host("drop_oldest").await;
    // As fast as the publisher that is well can follow: the bound counts for it, too.
    for first in (0..5_000).step_by(500) {
        running.api.post(&events(first..first + 500)).await;
        running.api.until_delivered("archive", first + 500).await;
    }
    let down = running.api.publisher("remote").await;
    assert_eq!(down["books"]["accepted"], 5_000, "{down:#}");
    assert_eq!(down["state"], "retrying", "{down:#}");
    assert_eq!(down["last_error"], "the server is down", "{down:#}");
    // What is left is what the journal holds, and the batch that the publisher has in hand.
    let backlog = down["books"]["backlog"].as_u64().unwrap();
    assert!((1_000..=1_500).contains(&backlog), "{down:#}");
    assert_eq!(down["books"]["dropped"]["overflow"], 5_000 - backlog, "{down:#}");
    assert!(down["last_overflow"].is_string(), "its state says so, too: {down:#}");
    let metrics = running.host.metrics();
    for (publisher, dropped) in [("remote", 5_000 - backlog), ("archive", 0)] {
        let labels = format!("outcome=\"dropped_overflow\",publisher=\"{publisher}\"");
        let sample = format!("pressroom_publisher_records_total{{{labels}}} {dropped}");
        assert!(metrics.lines().any(|line| line == sample), "{sample} is not in\n{metrics}");
    }

    server.up.store(true, Ordering::Relaxed);
    let back = running.api.until("remote", "is back", |status| status["books"]["backlog"] == 0).await;
    assert_eq!(back["state"], "running", "{back:#}");
    assert_eq!(back["books"]["delivered"], server.rows.load(Ordering::Relaxed));
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced(), "{closing:?}");
    folder.assert_holds("archive.jsonl", 0..5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_wait_for_a_publisher_that_must_not_lose_anything() {
    let (folder, running, server) = host("block").await;
    let mut accepted = 0;
    let refused = loop {
        let answer = running.api.send(&events(accepted..accepted + 100)).await.unwrap();
        if !answer.status().is_success() {
            break answer;
        }
        accepted += 100;
        assert!(accepted <= 2_000, "the journal's bound does not hold");
    };
    assert!(matches!(refused.status().as_u16(), 429 | 503), "{refused:?}");
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(after >= 1);
    let text = refused.text().await.unwrap();
    assert!(text.contains("nothing was taken") && text.contains("remote"), "{text}");
    assert!(accepted >= 900, "{accepted} were taken");
    let down = running.api.publisher("remote").await;
    assert_eq!(down["books"]["backlog"], accepted, "{down:#}");
    let ready = reqwest::get(format!("{}/readyz", running.api.url())).await.unwrap();
    assert_eq!(ready.status(), 503, "{ready:?}");
    let reasons = ready.text().await.unwrap();
    assert!(reasons.contains("records are refused") && reasons.contains("\"remote\""), "{reasons}");

    server.up.store(true, Ordering::Relaxed);
    let back = running.api.until_delivered("remote", accepted).await;
    assert_eq!(back["books"]["dropped"]["overflow"], 0, "{back:#}");
    assert_eq!(running.api.get("/readyz").await.as_deref(), Some("ready\n"));
    running.api.post(&events(accepted..accepted + 100)).await;
    accepted += 100;
    running.api.until_delivered("remote", accepted).await;
    running.api.until_delivered("archive", accepted).await;
    assert_eq!(server.rows.load(Ordering::Relaxed), accepted);
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    folder.assert_holds("archive.jsonl", 0..accepted);
}
