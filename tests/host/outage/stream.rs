//! Records that keep coming, 500 a second, whatever happens to where they go.

use crate::support::{Api, Folder, MUCH_PATIENCE, Process, event, until_or};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Records in a request, and how often one is sent.
const BATCH: u64 = 50;
const PACE: Duration = Duration::from_millis(100);

/// A host, and someone who sends records to it, each with its number. All of them must be accepted.
pub struct Stream {
    /// The publisher that is looked at.
    label: &'static str,
    folder: Folder,
    // It ends with the stream.
    _host: Process,
    numbers: Arc<Numbers>,
    sender: JoinHandle<()>,
}

struct Numbers {
    api: Api,
    next: AtomicU64,
    sent: AtomicU64,
    end: AtomicBool,
}

impl Numbers {
    /// Sends the records of the next numbers.
    async fn send(&self, count: u64) {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        self.api.post(&(first..first + count).map(record).collect()).await;
        self.sent.fetch_add(count, Ordering::Relaxed);
    }
}

/// Of five records one is a network operation.
fn record(number: u64) -> Value {
    let mut record = event(number);
    if number % 5 == 4 {
        record["type"] = "network".into();
        record["operation"] = "PUT".into();
        record["host"] = "s3.local".into();
        record["port"] = 443.into();
        let record = record.as_object_mut().unwrap();
        record.retain(|key, _| key != "event_name" && key != "status");
    }
    record
}

impl Stream {
    /// Starts a host with this configuration, in which `label` is to be looked at, and sends.
    pub async fn start(label: &'static str, config: &str) -> Self {
        let folder = Folder::new("");
        let (host, api) = Process::host(&folder, config).await;
        let numbers =
            Numbers { api, next: AtomicU64::new(0), sent: AtomicU64::new(0), end: AtomicBool::new(false) };
        let numbers = Arc::new(numbers);
        let sending = numbers.clone();
        let sender = tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            while !sending.end.load(Ordering::Relaxed) {
                pace.tick().await;
                sending.send(BATCH).await;
            }
        });
        Self { label, folder, _host: host, numbers, sender }
    }

    fn api(&self) -> &Api {
        &self.numbers.api
    }

    /// Sends so many at once, as fast as they are taken.
    async fn burst(&self, count: u64) {
        for _ in 0..count / 1_000 {
            self.numbers.send(1_000).await;
        }
    }

    /// Sends more at once than goes into the requests that are under way, until some wait.
    pub async fn until_busy(&self) {
        while self.status().await["books"]["backlog"].as_u64() < Some(10_000) {
            self.burst(20_000).await;
        }
    }

    /// Waits until the publisher is as `wanted`.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.api().until_within(MUCH_PATIENCE, self.label, what, wanted).await
    }

    /// Waits until at least so many were delivered.
    pub async fn until_delivered(&self, count: u64) -> Value {
        let delivered = |status: &Value| status["books"]["delivered"].as_u64() >= Some(count);
        self.until(&format!("has delivered {count}"), delivered).await
    }

    /// How the publisher stands.
    pub async fn status(&self) -> Value {
        self.api().publisher(self.label).await
    }

    /// Waits until so many more were sent.
    pub async fn until_more(&self, count: u64) {
        let wanted = self.numbers.sent.load(Ordering::Relaxed) + count;
        let look = || {
            assert!(!self.sender.is_finished(), "records were not taken");
            let sent = self.numbers.sent.load(Ordering::Relaxed);
            async move { (sent >= wanted).then_some(()) }
        };
        until_or(&format!("{wanted} are sent"), MUCH_PATIENCE, look, String::new).await;
    }

    /// Sends no more, and says how many were sent.
    pub async fn end(&mut self) -> u64 {
        self.numbers.end.store(true, Ordering::Relaxed);
        (&mut self.sender).await.unwrap();
        self.numbers.sent.load(Ordering::Relaxed)
    }

    /// Where the host runs.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}
