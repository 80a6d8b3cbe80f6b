//! What recording an event costs the thread that records it: start and finish, with three publishers that take
//! everything, beside a span of OpenTelemetry's SDK with a batch processor whose exporter counts.
//!
//! Only the recording is timed, in bursts that fit into either's buffers; between two bursts everything is drained.
//! What is dropped would be cheap, so it is counted, and has to be nothing.
//!
//! OpenTelemetry is given the cheaper lot: its span's name and its one attribute are static texts, which cost it no
//! copy, its export does nothing, and nobody else reads its spans.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod support;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use pressroom::collector::{Collector, CollectorSettings};
use pressroom::config::DeliveryConfig;
use pressroom::delivery::{DeadLetters, Plan};
use pressroom::journal::{Journal, JournalSettings};
use pressroom::publisher::{Context, Factory, PublishResult, Publisher, PublisherType};
use pressroom::publishers::{FilePublisher, PrometheusPublisher};
use pressroom::record::{EventBatch, NetworkBatch};
use pressroom::recorder::Recorder;
use pressroom::registry::{Desired, Registry};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use support::{Goal, Pair, Table, each};

/// Events in a burst, of all threads together: fewer than either's buffer holds.
const BURST: usize = 10_000;
const ROUNDS: usize = 80;
/// Rounds that are not counted: buffers grow to their size in them.
const WARM_UP: usize = 10;

/// Something that records.
trait Subject: Sync {
    /// Starts and finishes so many events.
    fn record(&self, events: usize);
    /// Waits until everything is where it goes, and says how much was dropped of `recorded` in all.
    fn drain(&self, recorded: u64) -> u64;
}

struct Pressroom {
    recorder: Recorder,
    registry: Registry,
}

#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

#[async_trait::async_trait]
impl Publisher for Counting {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.0.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(Vec::new())
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.0.fetch_add(operations.len() as u64, Ordering::Relaxed);
        Ok(Vec::new())
    }
}

impl Pressroom {
    async fn start(dir: &Path) -> Self {
        let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
        let collector = Collector::new(journal.clone(), CollectorSettings::default());
        let recorder = Recorder::new(collector.clone());
        let registry = Registry::new(journal, Arc::new(DeadLetters::new(dir.join("dead-letters.jsonl"))));
        let counting = Counting::default();
        let embedded: Factory = Arc::new(move |_| {
            let publisher = counting.clone();
            Box::pin(async move { Ok(Box::new(publisher) as Box<dyn Publisher>) })
        });
        let desired = vec![
            desired("metrics", dir, native::<PrometheusPublisher>("listen = '127.0.0.1:0'")),
            desired(
                "archive",
                dir,
                native::<FilePublisher>("path = 'events.jsonl'\nmax_size = '64MiB'\nkeep = 1"),
            ),
            desired("mine", dir, embedded),
        ];
        let applied = registry.apply(desired, Duration::ZERO, false).await;
        assert_eq!(applied.started.len(), 3, "{applied:?}");
        tokio::spawn(async move { collector.run().await });
        Self { recorder, registry }
    }
}

fn native<P: PublisherType>(section: &str) -> Factory {
    let config: P::Config = toml::from_str(section).unwrap();
    Arc::new(move |context| {
        let built = P::build(config.clone(), context);
        Box::pin(async move { Ok(Box::new(built?) as Box<dyn Publisher>) })
    })
}

fn desired(label: &str, dir: &Path, factory: Factory) -> Desired {
    Desired {
        label: label.into(),
        fingerprint: label.to_owned(),
        plan: Plan {
            kind: label.into(),
            config: DeliveryConfig::default(),
            filters: Vec::new(),
            factory,
            context: Context::detached(label, dir),
        },
        missing: None,
        configured: true,
        required: true,
        members: Vec::new(),
    }
}

impl Subject for Pressroom {
    fn record(&self, events: usize) {
        for _ in 0..events {
            let event = self.recorder.event("resize").task("42").start();
            event.complete();
        }
    }

    fn drain(&self, recorded: u64) -> u64 {
        loop {
            let counts = self.recorder.counts();
            let books = self.registry.status().into_iter().map(|status| status.books);
            let lost = |delivered| recorded - counts.dropped - delivered;
            let (settled, lost) = books.fold((true, counts.dropped), |(settled, most), books| {
                let here = books.accepted + counts.dropped == recorded && books.backlog == 0;
                (settled && here, if here { most.max(counts.dropped + lost(books.delivered)) } else { most })
            });
            if settled {
                return lost;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct OpenTelemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    exported: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingExporter(Arc<AtomicU64>);

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl OpenTelemetry {
    fn start() -> Self {
        let exported = Arc::new(AtomicU64::new(0));
        // As it comes, but for a queue that holds a burst.
        let config = BatchConfigBuilder::default().with_max_queue_size(16_384).build();
        let processor =
            BatchSpanProcessor::builder(CountingExporter(exported.clone())).with_batch_config(config).build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("bench");
        Self { provider, tracer, exported }
    }
}

impl Subject for OpenTelemetry {
    fn record(&self, events: usize) {
        for _ in 0..events {
            let builder =
                self.tracer.span_builder("resize").with_attributes([KeyValue::new("task.id", "42")]);
            let mut span = self.tracer.build(builder);
            span.end();
        }
    }

    fn drain(&self, recorded: u64) -> u64 {
        self.provider.force_flush().unwrap();
        recorded - self.exported.load(Ordering::Relaxed)
    }
}

/// Lets `threads` threads record at once, in turns with either subject.
fn series(threads: usize, subjects: [&dyn Subject; 2], recorded: &mut [u64; 2]) -> (Pair, u64) {
    let (barrier, taken) = (Barrier::new(threads + 1), Mutex::new(Vec::new()));
    let turns = 2 * (ROUNDS + WARM_UP);
    let mut burst_of = [Vec::new(), Vec::new()];
    let mut dropped = 0;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for turn in 0..turns {
                    barrier.wait();
                    let began = Instant::now();
                    subjects[turn % 2].record(BURST / threads);
                    let elapsed = began.elapsed();
                    taken.lock().unwrap().push(each(elapsed, BURST / threads));
                    barrier.wait();
                }
            });
        }
        for turn in 0..turns {
            barrier.wait();
            barrier.wait();
            let of_threads = std::mem::take(&mut *taken.lock().unwrap());
            recorded[turn % 2] += (BURST / threads * threads) as u64;
            let lost = subjects[turn % 2].drain(recorded[turn % 2]);
            assert_eq!(lost, 0, "what is dropped is not recorded");
            dropped += lost;
            if turn >= 2 * WARM_UP {
                burst_of[turn % 2].push(of_threads.iter().sum::<f64>() / threads as f64);
            }
        }
    });
    let [ours, beside] = burst_of;
    (Pair { ours, beside }, dropped)
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let pressroom = runtime.block_on(Pressroom::start(dir.path()));
    let opentelemetry = OpenTelemetry::start();
    let mut recorded = [0, 0];
    let mut table = Table::default();
    for threads in [1, 2] {
        let (pair, dropped) = series(threads, [&pressroom, &opentelemetry], &mut recorded);
        let what = match threads {
            1 => "record an event, start and finish".to_owned(),
            _ => format!("the same on {threads} threads at once"),
        };
        let goal = (threads == 1).then_some(Goal { nanos: Some(100.0), ratio: Some(1.0 / 3.0) });
        table.row(&what, "three publishers", "OpenTelemetry's span, batch processor", &pair, goal);
        eprintln!("  of {recorded:?} dropped: {dropped}");
    }
    table.print();
    let closing = runtime.block_on(pressroom.registry.shutdown(Duration::from_secs(5)));
    assert!(closing.iter().all(|account| account.books.delivered == recorded[0]), "{closing:?}");
}
