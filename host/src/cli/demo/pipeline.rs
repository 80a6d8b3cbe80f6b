//! The demonstration's pipeline: each file is read, hashed, its words are counted, and it is fetched over HTTP.
//!
//! Invariant: it counts what it records by itself, so that what Pressroom says can be compared with what happened.

use super::files::Source;
use crate::recorder::{Event, Recorder};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Files at a time.
const AT_A_TIME: usize = 4;
/// A fetch is tried so many times.
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt; it doubles, and is varied.
const BACKOFF: Duration = Duration::from_millis(10);
/// A large file is hashed over and over: the slow step.
const LARGE: usize = 1 << 20;
const PASSES: usize = 24;

/// What the pipeline recorded, by its own count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// By event name and status.
    pub(super) events: BTreeMap<(&'static str, &'static str), u64>,
    /// Retries by event name.
    pub(super) retries: BTreeMap<&'static str, u64>,
    pub(super) operations: u64,
    pub(super) failed_operations: u64,
    pub(super) bytes_received: u64,
    pub(super) rounds: u64,
}

impl Tally {
    pub(super) fn events_total(&self) -> u64 {
        self.events.values().sum()
    }

    pub(super) fn failed_events(&self) -> u64 {
        self.events.iter().filter(|((_, status), _)| *status == "failed").map(|(_, count)| count).sum()
    }

    pub(super) fn retries_total(&self) -> u64 {
        self.retries.values().sum()
    }
}

/// The pipeline: everything it needs to go through the files once more.
pub(super) struct Pipeline {
    pub(super) recorder: Recorder,
    pub(super) sources: Arc<[Source]>,
    pub(super) site: SocketAddr,
    client: reqwest::Client,
    tally: Mutex<Tally>,
}

/// A pipeline that goes round until it is told to stop.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Lets the round that is under way end.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        Ok(self.task.await?)
    }
}

impl Pipeline {
    pub(super) fn new(recorder: Recorder, sources: Arc<[Source]>, site: SocketAddr) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { recorder, sources, site, client, tally: Mutex::default() })
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Goes through all files, again and again, with a `pause` between.
    pub(super) fn start(self: Arc<Self>, pause: Duration) -> Running {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            while !*stopped.borrow() {
                self.round().await;
                let _ = tokio::time::timeout(pause, stopped.wait_for(|stop| *stop)).await;
            }
        });
        Running { stop, task }
    }

    async fn round(&self) {
        let files = stream::iter(self.sources.iter().enumerate());
        files.for_each_concurrent(AT_A_TIME, |(number, source)| self.process(number, source)).await;
        self.tally.lock().rounds += 1;
    }

    async fn process(&self, number: usize, source: &Source) {
        let read = self.begin("read", source);
        let content = match tokio::fs::read(&source.path).await {
            Ok(content) => {
                read.attribute("bytes", i64::try_from(content.len()).unwrap_or(i64::MAX));
                self.end("read", read, Ok(()));
                Some(Arc::new(content))
            }
            Err(error) => {
                self.end("read", read, Err(error.to_string()));
                None
            }
        };
        let mut digest = None;
        if let Some(content) = content {
            let hash = self.begin("hash", source);
            let hashed = off_the_runtime(&content, hash_of).await;
            self.end("hash", hash, hashed.as_ref().map(drop).map_err(Clone::clone));
            digest = hashed.ok();

            let count = self.begin("count_words", source);
            let counted = off_the_runtime(&content, |content| {
                std::str::from_utf8(content)
                    .map(|text| text.split_whitespace().count())
                    .map_err(|error| error.to_string())
            });
            match counted.await.and_then(|counted| counted) {
                Ok(words) => {
                    count.attribute("words", i64::try_from(words).unwrap_or(i64::MAX));
                    self.end("count_words", count, Ok(()));
                }
                Err(error) => self.end("count_words", count, Err(error)),
            }
        }
        let fetch = self.begin("fetch", source);
        let fetched = self.fetch(number, source, &fetch).await.and_then(|body| match digest {
            Some(digest) if digest != Sha256::digest(&body).as_slice() => {
                Err("what was fetched is not what was read".to_owned())
            }
            _ => Ok(()),
        });
        self.end("fetch", fetch, fetched);
    }

    async fn fetch(&self, number: usize, source: &Source, event: &Event<'_>) -> Result<Vec<u8>, String> {
        let mut wait = BACKOFF;
        for attempt in 1..=ATTEMPTS {
            let error = match self.get(number, source).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            if !error.may_pass {
                return Err(error.text);
            }
            if attempt == ATTEMPTS {
                return Err(format!("gave up after {ATTEMPTS} attempts: {}", error.text));
            }
            event.retry();
            *self.tally.lock().retries.entry("fetch").or_default() += 1;
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
            wait *= 2;
        }
        Err("not tried".to_owned())
    }

    /// One attempt: one network operation.
    async fn get(&self, number: usize, source: &Source) -> Result<Vec<u8>, FetchError> {
        let path = format!("/files/{number}");
        let host = self.site.ip().to_string();
        let operation = self.recorder.network("GET", &host, self.site.port()).task(&source.name);
        let operation = operation.attribute("url.path", path.as_str()).start();
        let outcome = self.exchange(&path).await;
        let mut tally = self.tally.lock();
        tally.operations += 1;
        match &outcome {
            Ok(body) => {
                tally.bytes_received += body.len() as u64;
                operation.finish(0, body.len() as u64);
            }
            Err(error) => {
                tally.failed_operations += 1;
                operation.fail(&error.text, 0, 0);
            }
        }
        outcome
    }

    async fn exchange(&self, path: &str) -> Result<Vec<u8>, FetchError> {
        let broken =
            |error: reqwest::Error| FetchError { text: error.without_url().to_string(), may_pass: true };
        let response = self.client.get(format!("http://{}{path}", self.site)).send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            return Err(FetchError { text: status.to_string(), may_pass: status.is_server_error() });
        }
        Ok(response.bytes().await.map_err(broken)?.to_vec())
    }

    fn begin(&self, name: &str, source: &Source) -> Event<'_> {
        self.recorder.event(name).task(&source.name).pipeline("demo").start()
    }

    fn end(&self, name: &'static str, event: Event<'_>, outcome: Result<(), String>) {
        let status = match outcome {
            Ok(()) => {
                event.complete();
                "completed"
            }
            Err(error) => {
                event.fail(error);
                "failed"
            }
        };
        *self.tally.lock().events.entry((name, status)).or_default() += 1;
    }
}

struct FetchError {
    text: String,
    may_pass: bool,
}

/// Computes away from the runtime's threads.
async fn off_the_runtime<T: Send + 'static>(
    content: &Arc<Vec<u8>>,
    compute: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, String> {
    let content = content.clone();
    tokio::task::spawn_blocking(move || compute(&content)).await.map_err(|error| error.to_string())
}

fn hash_of(content: &[u8]) -> Vec<u8> {
    let digest = Sha256::digest(content).to_vec();
    if content.len() >= LARGE {
        for _ in 1..PASSES {
            // The result is not needed, the time it takes is.
            std::hint::black_box(Sha256::digest(std::hint::black_box(content)));
        }
    }
    digest
}
