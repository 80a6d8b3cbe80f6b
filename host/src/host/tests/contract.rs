//! What every publisher keeps to, native or plugin, wherever it publishes to, checked through a real delivery and a
//! real journal.
//!
//! It covers delivery, flush, a successor, a call that is given up, shutdown with, without and in the middle of calls, and
//! for those that can be told how to behave ([`outcomes`]) partial outcomes, retry, reject, hold, a slow answer and a flush
//! that fails; and the books throughout.
//!
//! Invariant: it knows no type. Which there are, and how one asks what has reached them, is said in `types.rs`.

mod outcomes;

pub(super) use outcomes::{flush_errors_hold, outcomes_hold};

use crate::config::DeliveryConfig;
use crate::delivery::{DeadLetters, Delivery, Plan, PublisherStatus, State};
use crate::journal::{Books, DropReason, Journal, JournalSettings};
use crate::publisher::{Context, Factory, PublishError, Publisher};
use crate::record::{Batch, EventBatch, EventMetrics, NetworkBatch, NetworkMetrics, Status, Timestamp};
use futures_util::FutureExt;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// No condition is waited for longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Small, so that a few hundred records are many calls.
const ROWS_PER_CALL: usize = 16;

/// A publisher under test.
pub(super) struct Subject {
    pub(super) factory: Factory,
    /// What has reached the place that it publishes to, asked there.
    pub(super) arrived: Box<dyn Fn() -> Arrived>,
}

/// What has reached the place that a publisher publishes to.
pub(super) enum Arrived {
    /// These records, each as often as it has.
    Ids(Vec<Uuid>),
    /// So many.
    #[cfg_attr(not(feature = "prometheus"), allow(dead_code, reason = "all others keep the records"))]
    Counts { events: usize, operations: usize },
    /// It is on its way from the publisher by itself: ask again.
    #[cfg_attr(
        not(feature = "grafana-cloud"),
        allow(dead_code, reason = "all others are done when they say so")
    )]
    Underway,
    /// It keeps nothing: only the books are looked at.
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "all others keep something"))]
    Untold,
}

/// How a publisher behaves that can be told to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    /// Publishes everything.
    Publish,
    /// Rejects the first row of every call.
    RejectRow,
    /// Wants the second row of every call again.
    RetryRow,
    /// Wants the first three calls again.
    RetryFirst,
    /// Wants to be mended.
    Hold,
    /// Rejects every batch.
    RejectAll,
    /// Publishes everything, and takes [`SLOW`] for it.
    Slow,
    /// Publishes everything, and cannot flush.
    FlushError,
}

/// How long a call of one that is slow takes.
pub(super) const SLOW: Duration = Duration::from_millis(300);

impl Subject {
    /// What has arrived, once nothing is on its way any more.
    async fn told(&self) -> Arrived {
        let there = async {
            loop {
                match (self.arrived)() {
                    Arrived::Underway => tokio::time::sleep(Duration::from_millis(1)).await,
                    arrived => return arrived,
                }
            }
        };
        let arrived = tokio::time::timeout(PATIENCE, there).await;
        arrived.unwrap_or_else(|_| panic!("on its way for {PATIENCE:?}"))
    }

    /// The first `count` records have arrived, each once, but for those in `missing`; and no others.
    async fn has_arrived(&self, count: u64, missing: &BTreeSet<Uuid>) {
        let expected = (0..count).filter(|number| !missing.contains(&id(*number)));
        match self.told().await {
            Arrived::Ids(mut ids) => {
                ids.sort_unstable();
                assert_eq!(ids, expected.map(id).collect::<Vec<_>>());
            }
            Arrived::Counts { events, operations } => {
                let (wanted_operations, wanted_events): (Vec<_>, Vec<_>) =
                    expected.partition(|number| is_operation(*number));
                assert_eq!((events, operations), (wanted_events.len(), wanted_operations.len()));
            }
            Arrived::Underway | Arrived::Untold => {}
        }
    }

    /// The first `count` records have arrived, some of them more than once, so `many` times in all.
    async fn has_arrived_at_least(&self, count: u64, many: usize) {
        if let Arrived::Ids(ids) = self.told().await {
            let missing: Vec<u64> = (0..count).filter(|number| !ids.contains(&id(*number))).collect();
            assert_eq!(missing, [0; 0]);
        }
        self.so_many_have_arrived(count, many);
    }

    /// So many records have arrived, and at most so `many` more. What a publisher that keeps state has counted and not
    /// said yet when its time was over is not looked at: nobody says it any more.
    fn so_many_have_arrived(&self, count: u64, many: usize) {
        let arrived = match (self.arrived)() {
            Arrived::Ids(ids) => ids.len(),
            Arrived::Counts { events, operations } => events + operations,
            Arrived::Underway | Arrived::Untold => return,
        };
        let count = count as usize;
        assert!((count..=count + many).contains(&arrived), "{arrived} arrived, of {count} and {many} more");
    }
}

struct Bench {
    dir: tempfile::TempDir,
    subject: Subject,
    journal: Journal,
    plan: Plan,
    delivery: Delivery,
    letters: Arc<DeadLetters>,
    recorded: u64,
}

/// Every third record is an operation.
fn is_operation(number: u64) -> bool {
    number % 3 == 2
}

fn id(number: u64) -> Uuid {
    Uuid::from_u128(number.into())
}

fn records(numbers: Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let start = Timestamp::from_nanos(1_700_000_000_000_000_000 + number);
        let end = Some(start.after(Duration::from_millis(5)));
        if is_operation(number) {
            let mut operation = NetworkMetrics::started(id(number), "task", "PUT", "s3.local", 443, start);
            operation.end_time = end;
            batch.operations.push(operation);
        } else {
            let mut event = EventMetrics::started(id(number), "resize", "task", start);
            (event.end_time, event.status) = (end, Status::Completed);
            batch.events.push(event);
        }
    }
    batch
}

impl Bench {
    async fn new(make: &impl Fn(&Path) -> Subject) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let subject = make(dir.path());
        let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
        let letters = Arc::new(DeadLetters::new(dir.path().join("letters.jsonl")));
        let plan = plan(&subject.factory, dir.path());
        let mut publisher = build(&plan).await;
        publisher.open(None).await.unwrap();
        let delivery =
            Delivery::start("subject".into(), &journal, Ok(publisher), plan.clone(), letters.clone());
        Self { dir, subject, journal, plan, delivery, letters, recorded: 0 }
    }

    /// Appends batches of so many records, and seals them.
    fn record(&mut self, sizes: &[u64]) {
        for size in sizes {
            let mut batch = records(self.recorded..self.recorded + size);
            self.recorded += size;
            self.journal.append(&mut batch).unwrap();
        }
        self.journal.seal();
    }

    /// Waits until it stands as wanted; the books close at every moment on the way.
    async fn until(&self, wanted: impl Fn(&PublisherStatus) -> bool) -> PublisherStatus {
        let wait = async {
            loop {
                let status = self.delivery.status();
                assert!(status.books.balance(), "{status:?}");
                if wanted(&status) {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {:?}", self.delivery.status()))
    }

    async fn settled(&self) -> PublisherStatus {
        self.until(|status| status.books.backlog == 0).await
    }

    async fn replace(&self, plan: &Plan) {
        self.replace_by(build(plan).await, plan).await;
    }

    async fn replace_by(&self, publisher: Box<dyn Publisher>, plan: &Plan) {
        self.delivery.replace(publisher, plan.clone()).await.unwrap();
    }

    async fn drain(&self, deadline: Instant) -> Books {
        let books = self.delivery.drain(deadline, DropReason::Shutdown).await;
        assert!(books.balance() && books.backlog == 0, "{books:?}");
        assert_eq!((books, books.accepted), (self.delivery.status().books, self.recorded));
        books
    }

    /// The first `count` records have arrived, each once, but for those in `missing`; and no others.
    async fn has_arrived(&self, count: u64, missing: &BTreeSet<Uuid>) {
        self.subject.has_arrived(count, missing).await;
    }

    async fn everything_has_arrived(&self) {
        self.has_arrived(self.recorded, &BTreeSet::new()).await;
        assert!(!self.letters.path().exists(), "nothing was set aside");
    }

    /// The records that were set aside, each once.
    fn set_aside(&self) -> BTreeSet<Uuid> {
        let text = std::fs::read_to_string(self.letters.path()).unwrap();
        let ids: Vec<Uuid> = text.lines().map(|line| id_in(line, "/record/id")).collect();
        let distinct: BTreeSet<Uuid> = ids.iter().copied().collect();
        assert_eq!(ids.len(), distinct.len(), "none is set aside twice");
        distinct
    }
}

fn plan(factory: &Factory, dir: &Path) -> Plan {
    let mut config = DeliveryConfig::default();
    config.batch.max_records = ROWS_PER_CALL;
    config.batch.max_age = Duration::from_millis(1);
    config.retry.initial = Duration::from_millis(1);
    config.retry.max = Duration::from_millis(5);
    // So short that flushes come between, and while, batches are published.
    config.flush_interval = Duration::from_millis(2);
    let context = Context::detached("subject", dir);
    Plan { kind: "subject".into(), config, filters: Vec::new(), factory: factory.clone(), context }
}

async fn build(plan: &Plan) -> Box<dyn Publisher> {
    (plan.factory)(plan.context.clone()).await.unwrap()
}

/// The id at a place in a line of JSON.
pub(super) fn id_in(line: &str, pointer: &str) -> Uuid {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value.pointer(pointer).and_then(|id| id.as_str()).unwrap().parse().unwrap()
}

/// What every publisher keeps to.
pub(super) async fn holds(make: impl Fn(&Path) -> Subject) {
    delivers_each_record_once(&make).await;
    a_successor_loses_and_doubles_nothing(&make).await;
    a_flush_is_welcome_at_any_time(&make).await;
    a_call_that_is_given_up_loses_nothing(&make).await;
    a_shutdown_delivers_what_is_left(&make).await;
    a_shutdown_without_time_drops_the_rest(&make).await;
    a_shutdown_in_the_middle_of_calls_counts_what_it_saw(&make).await;
}

async fn delivers_each_record_once(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    for sizes in [&[1][..], &[40, 7, 100], &[16, 1, 2, 33]] {
        bench.record(sizes);
        let status = bench.settled().await;
        assert_eq!(status.books.delivered, bench.recorded);
        bench.everything_has_arrived().await;
    }
    let status = bench.delivery.status();
    assert!(status.attempts >= bench.recorded / ROWS_PER_CALL as u64, "{status:?}");
    // An error of a flush would stand there too.
    assert_eq!((status.failed_attempts, status.misreported_rows, status.last_error), (0, 0, None));
}

async fn a_successor_loses_and_doubles_nothing(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    for _ in 0..3 {
        // Before the first call, ...
        let successor = build(&bench.plan).await;
        bench.record(&[40, 3, 17]);
        assert!(bench.delivery.status().books.backlog > 0);
        bench.replace_by(successor, &bench.plan).await;
        // ... and between two, or in the middle of one.
        let successor = build(&bench.plan).await;
        let before = bench.delivery.status().books.delivered;
        bench.record(&[64, 64]);
        bench.until(|status| status.books.delivered > before).await;
        bench.replace_by(successor, &bench.plan).await;
    }
    let status = bench.settled().await;
    assert_eq!((status.books.delivered, status.last_error), (bench.recorded, None));
    bench.everything_has_arrived().await;
}

/// Publishes both kinds of these records, past delivery, until they have been taken.
async fn publish(publisher: &mut dyn Publisher, numbers: Range<u64>) {
    let Batch { events, operations } = records(numbers);
    let (events, operations) = (EventBatch::detached(events), NetworkBatch::detached(operations));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match publisher.publish_event_metrics(&events).await {
            Ok(left_out) => break assert_eq!(left_out, []),
            // One that lost something may want a rest.
            Err(PublishError::Retry { after, .. }) if Instant::now() < deadline => {
                tokio::time::sleep(after.unwrap_or_default()).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(publisher.publish_network_metrics(&operations).await, Ok(vec![]));
}

async fn a_flush_is_welcome_at_any_time(make: &impl Fn(&Path) -> Subject) {
    let dir = tempfile::tempdir().unwrap();
    let subject = make(dir.path());
    let mut publisher = build(&plan(&subject.factory, dir.path())).await;
    publisher.open(None).await.unwrap();
    publisher.flush().await.unwrap();
    for first in [0, 30] {
        publish(&mut *publisher, first..first + 30).await;
        publisher.flush().await.unwrap();
        subject.has_arrived(first + 30, &BTreeSet::new()).await;
    }
    publisher.flush().await.unwrap();
    publisher.close().await.unwrap();
    drop(publisher);
    subject.has_arrived(60, &BTreeSet::new()).await;
}

async fn a_call_that_is_given_up_loses_nothing(make: &impl Fn(&Path) -> Subject) {
    let dir = tempfile::tempdir().unwrap();
    let subject = make(dir.path());
    let mut publisher = build(&plan(&subject.factory, dir.path())).await;
    publisher.open(None).await.unwrap();
    publish(&mut *publisher, 0..30).await;
    let Batch { events, .. } = records(30..60);
    let events = EventBatch::detached(events);
    // It was polled once, and is dropped where it waits. One that does not wait has taken them, and is not asked again.
    match publisher.publish_event_metrics(&events).now_or_never() {
        Some(answer) => {
            assert_eq!(answer, Ok(vec![]));
            let operations = NetworkBatch::detached(records(30..60).operations);
            publisher.publish_network_metrics(&operations).await.unwrap();
        }
        None => publish(&mut *publisher, 30..60).await,
    }
    publisher.flush().await.unwrap();
    subject.has_arrived_at_least(60, events.len()).await;
}

async fn a_shutdown_in_the_middle_of_calls_counts_what_it_saw(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[100, 100]);
    bench.until(|status| status.books.delivered > 0).await;
    let books = bench.drain(Instant::now()).await;
    assert_eq!(books.delivered + books.dropped.shutdown, 200, "{books:?}");
    // What was under way may have arrived, and nobody was told.
    bench.subject.so_many_have_arrived(books.delivered, ROWS_PER_CALL);
}

async fn a_shutdown_delivers_what_is_left(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[50]);
    bench.until(|status| status.books.delivered > 0).await;
    bench.record(&[100, 1]);
    let books = bench.drain(Instant::now() + PATIENCE).await;
    assert_eq!((books.delivered, books.dropped.total()), (bench.recorded, 0));
    bench.everything_has_arrived().await;
}

async fn a_shutdown_without_time_drops_the_rest(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[50]);
    bench.settled().await;
    // What was delivered is there by now, even where it goes on from the publisher by itself.
    bench.everything_has_arrived().await;
    let delivered = bench.recorded;
    bench.record(&[100]);
    let books = bench.drain(Instant::now()).await;
    assert_eq!((books.delivered, books.dropped.shutdown), (delivered, 100));
    bench.has_arrived(delivered, &BTreeSet::new()).await;
}
