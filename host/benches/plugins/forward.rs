//! Forwarding, the whole job: render a batch of 1,024 events as JSON lines and POST them to loopback. Natively one
//! `reqwest` client does.

use super::sink::Sink;
use super::support::records::event;
use super::support::{Goal, Pair, Table, each};
use pressroom::publisher::{Context, PublishError, PublishResult, Publisher};
use pressroom::record::{EventBatch, EventMetrics, Format, NetworkBatch};
use pressroom::wasm::{PluginHost, WasmConfig};
use std::path::Path;
use std::time::{Duration, Instant};

const ROWS: u32 = 1_024;
const ROUNDS: usize = 200;
/// Rounds that are not counted.
const WARM_UP: usize = 20;

/// The forwarder as a native publisher.
struct Native {
    client: reqwest::Client,
    url: String,
}

#[async_trait::async_trait]
impl Publisher for Native {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        let body = events.encode(Format::JsonLines);
        let request = self.client.post(&self.url).header("content-type", "application/x-ndjson").body(body);
        let answer = request.send().await.map_err(|cause| PublishError::retry(cause.to_string()))?;
        assert_eq!(answer.status(), 204);
        Ok(Vec::new())
    }

    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        Ok(Vec::new())
    }
}

/// The section of a forwarder that POSTs to `url`.
pub fn section(url: &str) -> String {
    format!("config = {{ url = \"{url}\" }}\ngrant = {{ http = [\"POST {url}\"] }}\n")
}

/// Adds a row for the forwarder in `file`.
pub async fn measure(
    host: &PluginHost,
    file: &Path,
    language: &str,
    most: Option<f64>,
    sink: &Sink,
    table: &mut Table,
) {
    let (path, native_path) = (format!("by-{language}"), format!("beside-{language}"));
    let config: WasmConfig = toml::from_str(&section(&sink.url(&path))).unwrap();
    let mut plugin = host.factory(config, file.to_owned())(Context::detached(language, ".")).await.unwrap();
    let mut native = Native { client: reqwest::Client::new(), url: sink.url(&native_path) };
    let events: Vec<_> = (0..ROWS).map(event).collect();
    // Until its optimised code has taken over.
    let patience = Instant::now() + Duration::from_secs(120);
    let status = plugin.status().unwrap();
    while status()["tier"] != "optimised" {
        assert!(Instant::now() < patience, "it is not optimised: {}", status());
        timed(&mut *plugin, &events).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    timed(&mut native, &events).await;
    let before = [&path, &native_path].map(|path| sink.seen(path).bytes);
    let mut pair = Pair::default();
    for round in 0..ROUNDS + WARM_UP {
        let (ours, beside) = if round % 2 == 0 {
            let ours = timed(&mut *plugin, &events).await;
            (ours, timed(&mut native, &events).await)
        } else {
            let beside = timed(&mut native, &events).await;
            (timed(&mut *plugin, &events).await, beside)
        };
        if round >= WARM_UP {
            pair.ours.push(ours);
            pair.beside.push(beside);
        }
    }
    let sent =
        [(&path, before[0]), (&native_path, before[1])].map(|(path, before)| sink.seen(path).bytes - before);
    assert!(sent[0] > 0 && sent[0] == sent[1], "both have sent the same");
    let goal = most.map(|most| Goal { nanos: None, ratio: Some(most) });
    table.row(
        "`encode`: render JSON lines and POST them",
        &format!("a plugin in {language}"),
        "`reqwest` natively",
        &pair,
        goal,
    );
}

async fn timed(publisher: &mut dyn Publisher, events: &[EventMetrics]) -> f64 {
    let batch = EventBatch::detached(events.to_vec());
    let began = Instant::now();
    let outcome = publisher.publish_event_metrics(&batch).await;
    let elapsed = began.elapsed();
    assert_eq!(outcome, Ok(Vec::new()));
    each(elapsed, events.len())
}
