//! A worker and a scripted publisher, on paused time.

mod dead_letters;
mod filters;
mod holding;
mod pace;
mod waiting;

use super::*;
use crate::config::units::ByteSize;
use crate::journal::JournalSettings;
use crate::publisher::{Fate, PublishError, PublishResult, Stall, Standing, Unpublished};
use crate::record::{Batch, EventBatch, EventMetrics, NetworkBatch, NetworkMetrics, Status};
use std::collections::VecDeque;
use std::time::Duration;
use uuid::Uuid;

/// What a scripted publisher does when it is called; when nothing is left of the script, it delivers.
enum Answer {
    Give(PublishResult),
    Panic,
    Never,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    /// Names of the events of every call, and when it came.
    calls: Vec<(Vec<String>, Instant)>,
    delivered: Vec<String>,
    built: usize,
    flushed: usize,
    /// How often it had been flushed when it was closed.
    closed: Option<usize>,
    stall: Option<Stall>,
    standing: Standing,
    /// What it answers to flushes; when nothing is left, that all is well.
    flushes: VecDeque<Result<(), PublishError>>,
    /// The next flush panics.
    flush_panics: bool,
    /// What it answers to network operations, each call of which costs what it holds back.
    costly: Option<PublishError>,
}

type Shared = Arc<Mutex<Script>>;

struct Scripted {
    script: Shared,
    open: Result<(), &'static str>,
}

#[async_trait::async_trait]
impl Publisher for Scripted {
    async fn open(&mut self, _: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        self.open.map_err(anyhow::Error::msg)
    }

    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        let names: Vec<String> = events.iter().map(|event| event.event_name.to_string()).collect();
        let answer = {
            let mut script = self.script.lock();
            script.calls.push((names.clone(), Instant::now()));
            script.answers.pop_front()
        };
        let answer = match answer {
            None => Ok(Vec::new()),
            Some(Answer::Give(answer)) => answer,
            Some(Answer::Panic) => panic!("as the script says"),
            Some(Answer::Never) => std::future::pending().await,
        };
        if let Ok(left_out) = &answer {
            let kept = |row: &usize| left_out.iter().all(|left_out| left_out.row as usize != *row);
            let delivered = (0..names.len()).filter(kept).map(|row| names[row].clone());
            self.script.lock().delivered.extend(delivered);
        }
        answer
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        let names = operations.iter().map(|operation| operation.operation.to_string());
        let mut script = self.script.lock();
        if let Some(error) = script.costly.clone() {
            script.standing.lost += 1;
            return Err(error);
        }
        script.delivered.extend(names);
        Ok(Vec::new())
    }

    async fn flush(&mut self) -> Result<(), PublishError> {
        let mut script = self.script.lock();
        script.flushed += 1;
        assert!(!std::mem::take(&mut script.flush_panics), "as the script says");
        script.flushes.pop_front().unwrap_or(Ok(()))
    }

    async fn close(&mut self) -> Result<(), PublishError> {
        let mut script = self.script.lock();
        let flushed = script.flushed;
        assert_eq!(script.closed.replace(flushed), None, "closed once");
        Err(PublishError::retry("nobody listened"))
    }

    fn stall(&self) -> Option<StallSource> {
        let script = self.script.clone();
        Some(Arc::new(move || script.lock().stall.clone()))
    }

    fn standing(&self) -> Standing {
        self.script.lock().standing
    }

    fn reset(&mut self) -> bool {
        std::mem::take(&mut self.script.lock().standing.quarantined)
    }
}

struct Bench {
    journal: Journal,
    script: Shared,
    delivery: Delivery,
    letters: Arc<DeadLetters>,
    dir: tempfile::TempDir,
    plan: Plan,
}

fn plan(script: &Shared, config: DeliveryConfig) -> Plan {
    let script = script.clone();
    let filters = config.only.clone().map(Filter::new).into_iter().collect();
    let factory: Factory = Arc::new(move |_| {
        script.lock().built += 1;
        let publisher = Scripted { script: script.clone(), open: Ok(()) };
        Box::pin(async { Ok(Box::new(publisher) as Box<dyn Publisher>) })
    });
    Plan { kind: "scripted".into(), config, filters, factory, context: Context::detached("a", "") }
}

/// Waits between attempts are so long that a state in between is seen.
fn config() -> DeliveryConfig {
    let mut config =
        DeliveryConfig { flush_interval: Duration::from_secs(1 << 30), ..DeliveryConfig::default() };
    config.retry.initial = Duration::from_secs(100);
    config.retry.max = Duration::from_secs(100);
    config
}

impl Bench {
    fn new(config: DeliveryConfig, answers: impl IntoIterator<Item = Answer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let letters = Arc::new(DeadLetters::new(dir.path().join("letters.jsonl")));
        Self::with_letters(config, answers, dir, letters)
    }

    fn with_letters(
        config: DeliveryConfig,
        answers: impl IntoIterator<Item = Answer>,
        dir: tempfile::TempDir,
        letters: Arc<DeadLetters>,
    ) -> Self {
        let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
        let answers = answers.into_iter().collect();
        let script = Arc::new(Mutex::new(Script { answers, ..Script::default() }));
        let plan = plan(&script, config);
        let publisher = Box::new(Scripted { script: script.clone(), open: Ok(()) });
        let delivery = Delivery::start("a".into(), &journal, Ok(publisher), plan.clone(), letters.clone());
        Self { journal, script, delivery, letters, dir, plan }
    }

    fn record(&self, names: &[&str]) {
        let mut batch: Batch = names.iter().map(|name| event(name)).collect();
        self.journal.append(&mut batch).unwrap();
        self.journal.seal();
    }

    /// Lets time pass until the books are as wanted; they close at every moment on the way.
    async fn until(&self, wanted: impl Fn(&Books) -> bool) -> Books {
        for _ in 0..1_000_000 {
            let books = self.delivery.status().books;
            assert!(books.balance(), "{books:?}");
            if wanted(&books) {
                return books;
            }
            // Paused time: nothing is waited for but the other tasks.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?}", self.delivery.status());
    }

    async fn settled(&self) -> Books {
        self.until(|books| books.backlog == 0 && books.accepted > 0).await
    }

    fn calls(&self) -> Vec<Vec<String>> {
        self.script.lock().calls.iter().map(|(names, _)| names.clone()).collect()
    }

    fn waits(&self) -> Vec<Duration> {
        let script = self.script.lock();
        script.calls.windows(2).map(|pair| pair[1].1 - pair[0].1).collect()
    }

    fn letters(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.letters.path()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn event(name: &str) -> EventMetrics {
    let mut event = EventMetrics::started(Uuid::nil(), name, "t", Timestamp::from_nanos(1));
    event.end_time = Some(Timestamp::from_nanos(1_000_000_001));
    event.status = Status::Completed;
    event
}

fn retry() -> Answer {
    Answer::Give(Err(PublishError::retry("not now")))
}

fn row(row: u32, fate: Fate) -> Unpublished {
    Unpublished { row, fate }
}

fn reject(reason: &str) -> Fate {
    Fate::Reject { reason: reason.into() }
}

fn later() -> Fate {
    Fate::Retry { reason: "later".into(), after: None }
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_by_count_at_once_and_by_age_else() {
    let mut config = config();
    config.batch.max_records = 3;
    config.batch.max_age = Duration::from_secs(60);
    let bench = Bench::new(config, []);
    let began = Instant::now();
    bench.record(&["1", "2", "3", "4"]);
    bench.until(|books| books.delivered == 3).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    bench.settled().await;
    assert!(began.elapsed() >= Duration::from_secs(60));
    assert_eq!(bench.calls(), [vec!["1", "2", "3"], vec!["4"]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_by_its_bytes() {
    let mut config = config();
    config.batch.max_bytes = ByteSize(2 * size_of::<EventMetrics>() as u64);
    let bench = Bench::new(config, []);
    bench.record(&["1", "2", "3", "4"]);
    bench.settled().await;
    assert_eq!(bench.calls().iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_may_work_later_is_tried_again_in_order_and_advice_is_heeded() {
    let advice = PublishError::Retry { reason: "busy".into(), after: Some(Duration::from_secs(40)) };
    let bench = Bench::new(config(), [retry(), Answer::Give(Err(advice))]);
    bench.record(&["1", "2"]);
    bench.until(|_| bench.delivery.status().state == State::Retrying).await;
    bench.record(&["3"]);
    let books = bench.settled().await;
    assert_eq!((books.delivered, bench.script.lock().delivered.join("")), (3, "123".into()));
    assert!(bench.waits()[0] <= Duration::from_secs(101) && bench.waits()[1] >= Duration::from_secs(40));
    let status = bench.delivery.status();
    assert_eq!((status.state, status.reason, status.attempts), (State::Running, None, 4));
    assert_eq!((status.failed_attempts, status.last_error.as_deref()), (2, Some("busy")));
}

#[tokio::test(start_paused = true)]
async fn rows_have_fates_of_their_own_and_lies_are_counted() {
    let answer = vec![row(0, reject("bad")), row(2, later()), row(2, reject("twice")), row(9, later())];
    let bench = Bench::new(config(), [Answer::Give(Ok(answer))]);
    bench.record(&["1", "2", "3"]);
    let books = bench.settled().await;
    assert_eq!((books.delivered, books.dead_lettered), (2, 1));
    assert_eq!(bench.calls(), [vec!["1", "2", "3"], vec!["3"]]);
    assert_eq!(bench.delivery.status().misreported_rows, 2);
    let letters = bench.letters();
    assert_eq!(
        (letters.len(), &letters[0]["reason"], &letters[0]["publisher"]),
        (1, &"bad".into(), &"a".into())
    );
    assert_eq!(letters[0]["record"]["event_name"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_batch_is_set_aside_whole() {
    let bench = Bench::new(config(), [Answer::Give(Err(PublishError::reject("no such index")))]);
    bench.record(&["1", "2"]);
    assert_eq!(bench.settled().await.dead_lettered, 2);
    assert_eq!(bench.letters().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_set_aside_and_time_on_hold_does_not_count() {
    let mut config = config();
    config.retry.max_age = Duration::from_secs(60);
    let hold = || Answer::Give(Err(PublishError::hold("mend me")));
    let answers = (0..100).map(|_| hold()).chain((0..10_000).map(|_| retry()));
    let bench = Bench::new(config, answers);
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Held).await;
    bench.until(|_| bench.script.lock().calls.len() > 100).await;
    assert!(bench.letters().is_empty(), "held for {:?}", bench.waits().iter().sum::<Duration>());
    assert_eq!(bench.settled().await.dead_lettered, 1);
    assert!(bench.letters()[0]["reason"].as_str().unwrap().contains("not published within 1m: not now"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_given_up_and_one_that_panics_costs_its_publisher() {
    let mut config = config();
    config.timeout = Duration::from_secs(3);
    let bench = Bench::new(config, [Answer::Never, Answer::Panic]);
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Retrying).await;
    let status = bench.delivery.status();
    assert_eq!(status.reason.as_deref(), Some("no answer within 3s"));
    assert!(status.attempt_seconds >= 3.0 && status.backlog_age_seconds > 0.0, "{status:?}");
    assert_eq!(bench.settled().await.delivered, 1);
    assert_eq!(bench.delivery.status().backlog_age_seconds, 0.0);
    assert!(bench.waits()[0] >= Duration::from_secs(3));
    assert_eq!(bench.delivery.status().last_error.unwrap(), "the publisher panicked: as the script says");
    assert_eq!(bench.script.lock().built, 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_delivers_what_is_left_the_tail_included_and_nothing_later() {
    let bench = Bench::new(config(), [retry()]);
    bench.record(&["1"]);
    bench.journal.append(&mut [event("2")].into_iter().collect()).unwrap();
    let drain = bench.delivery.drain(Instant::now() + Duration::from_secs(10), DropReason::Removed);
    let later = async {
        tokio::task::yield_now().await;
        bench.record(&["3"]);
    };
    let (books, ()) = tokio::join!(drain, later);
    assert_eq!((books.accepted, books.delivered, books.dropped.total()), (2, 2, 0));
    assert!(books.balance());
    assert_eq!(bench.script.lock().flushed, 1);
    assert_eq!(bench.delivery.status().books, books);
    assert_eq!(bench.script.lock().closed, Some(1), "the last that it hears");
    let last_error = bench.delivery.status().last_error;
    assert_eq!(last_error.as_deref(), Some("could not close: nobody listened"));
    assert_eq!(bench.delivery.drain(Instant::now(), DropReason::Shutdown).await, books);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_rest_is_dropped_even_in_the_middle_of_a_call() {
    let answers: [(_, fn() -> Answer); 2] =
        [(DropReason::Removed, || Answer::Never), (DropReason::Shutdown, retry)];
    for (reason, answer) in answers {
        let mut config = config();
        config.retry.initial = Duration::from_secs(3_600);
        config.retry.max = Duration::from_secs(3_600);
        config.batch.max_records = 2;
        let bench = Bench::new(config, (0..10).map(|_| answer()));
        bench.record(&["1", "2", "3"]);
        bench.until(|_| !bench.script.lock().calls.is_empty()).await;
        let began = Instant::now();
        let books = bench.delivery.drain(began + Duration::from_millis(1), reason).await;
        assert!(began.elapsed() < Duration::from_secs(1));
        assert!(books.balance());
        assert_eq!((books.accepted, books.dropped.total()), (3, 3));
        let removed = if reason == DropReason::Removed { 3 } else { 0 };
        assert_eq!(books.dropped.removed, removed);
        assert_eq!(bench.script.lock().closed, None, "there is no time for it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_takes_over_at_once_and_a_failed_one_leaves_the_old() {
    let advice = PublishError::Retry { reason: "busy".into(), after: Some(Duration::from_secs(3_000)) };
    let bench = Bench::new(config(), [Answer::Give(Err(advice))]);
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Retrying).await;
    let broken = Scripted { script: Shared::default(), open: Err("the port is taken") };
    let failed = bench.delivery.replace(Box::new(broken), bench.plan.clone()).await;
    assert_eq!(failed, Err("the port is taken".into()));
    assert_eq!(bench.delivery.status().state, State::Retrying);

    let began = Instant::now();
    let new = Shared::default();
    let publisher = Scripted { script: new.clone(), open: Ok(()) };
    bench.delivery.replace(Box::new(publisher), plan(&new, config())).await.unwrap();
    assert_eq!(bench.settled().await.delivered, 1);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(new.lock().delivered, ["1"]);
    assert_eq!(bench.script.lock().flushed, 2, "the old one is flushed before it goes");
    assert_eq!(bench.script.lock().closed, None, "and goes on in its successor");
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_everything_and_gets_stuck_with_it_does_not_look_well() {
    let bench = Bench::new(config(), []);
    bench.record(&["1"]);
    bench.settled().await;
    assert_eq!(bench.delivery.status().state, State::Running);
    for (error, state) in [
        (PublishError::hold("a wrong password"), State::Held),
        (PublishError::retry("away"), State::Retrying),
    ] {
        let since = Timestamp::from_nanos(7);
        bench.script.lock().stall = Some(Stall { error: error.clone(), since });
        let status = bench.delivery.status();
        assert_eq!((status.state, status.since, status.books.delivered), (state, since, 1));
        assert_eq!((&status.reason, &status.last_error), (&Some(error.to_string()), &status.reason));
    }
    bench.script.lock().stall = None;
    let status = bench.delivery.status();
    assert_eq!((status.state, status.reason, status.last_error), (State::Running, None, None));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_suspended_keeps_its_place() {
    let bench = Bench::new(config(), []);
    bench.delivery.suspend(Absent::Waiting("its file has gone".into())).await;
    bench.record(&["1", "2"]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let status = bench.delivery.status();
    assert_eq!((status.state, status.books.backlog), (State::Waiting, 2));
    assert_eq!(status.reason.as_deref(), Some("its file has gone"));
    let publisher = Scripted { script: bench.script.clone(), open: Ok(()) };
    bench.delivery.replace(Box::new(publisher), bench.plan.clone()).await.unwrap();
    assert_eq!(bench.settled().await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_for_a_publisher_does_not_wait_for_company_as_well() {
    let mut config = config();
    config.batch.max_age = Duration::from_secs(3_600);
    let bench = Bench::new(config, []);
    bench.delivery.suspend(Absent::Waiting("its file is not there yet".into())).await;
    bench.record(&["1", "2"]);
    let publisher = Scripted { script: bench.script.clone(), open: Ok(()) };
    bench.delivery.replace(Box::new(publisher), bench.plan.clone()).await.unwrap();
    let began = Instant::now();
    assert_eq!(bench.settled().await.delivered, 2);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    // What comes now waits as always.
    bench.record(&["3"]);
    assert_eq!(bench.settled().await.delivered, 3);
    assert!(began.elapsed() >= Duration::from_secs(3_600), "{:?}", began.elapsed());
}
