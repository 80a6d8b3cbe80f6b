//! Pushes one by one, on a clock of the test's own.

use super::*;
use crate::config::Secret;
use crate::publishers::grafana_cloud::tests::store::{Store, Treatment, is_stale};
use crate::publishers::grafana_cloud::wire;
use crate::publishers::push::Destination;
use crate::publishers::push::receiver::Reply;
use crate::publishers::series::SeriesSettings;
use crate::record::{EventBatch, EventMetrics, Status as Ended, Timestamp};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use uuid::Uuid;

const COUNT: &str = "event_duration_seconds_count";

struct Bench {
    store: Store,
    work: Loop,
    clock: Arc<AtomicI64>,
    orders: watch::Sender<Order>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|| "# TYPE up gauge\nup 1\n# TYPE old_total counter\nold_total 70\n".to_owned())
    }

    fn with(host_metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let store = Store::new();
        let destination = Destination {
            url: store.url(),
            user: Some("1".to_owned()),
            api_key: Some(Secret::new("hush")),
            org_slug: None,
            tenant: None,
            ca_file: None,
        };
        let place = Place::new(
            destination,
            Path::new(""),
            wire::headers(),
            Duration::from_secs(20),
            &Secrets::default(),
        )
        .unwrap();
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
        let (orders, received) = watch::channel(Order::Push);
        let ticking = clock.clone();
        let push = Push {
            label: "cloud".into(),
            secrets: Secrets::default(),
            place,
            series: Arc::new(Series::new(SeriesSettings::default(), None).unwrap()),
            host_metrics: Arc::new(host_metrics),
            common: Arc::new([("job".into(), "pressroom".into())]),
            interval: Duration::from_secs(15),
            clock: Arc::new(move || ticking.load(Ordering::SeqCst)),
            status: Arc::default(),
            limit: Arc::new(Limit::new(wire::MAX_BYTES)),
        };
        let ledger = Ledger::new(clock.load(Ordering::SeqCst));
        let work = Loop { push, ledger, orders: received, failures: 0, described: None };
        Self { store, work, clock, orders }
    }

    fn fold(&self, names: &[&str]) {
        let event = |name: &&str| {
            let start = Timestamp::from_nanos(1);
            let mut event = EventMetrics::started(Uuid::nil(), *name, "task", start);
            (event.end_time, event.status) = (Some(start.after(Duration::from_millis(20))), Ended::Completed);
            event
        };
        self.work.push.series.fold_events(&EventBatch::detached(names.iter().map(event).collect()));
    }

    /// Lets time pass.
    fn tick(&self, millis: i64) {
        self.clock.fetch_add(millis, Ordering::SeqCst);
    }

    /// Pushes after an interval.
    async fn push(&mut self) -> &'static str {
        self.tick(15_000);
        let outcome = self.work.push(false).await;
        said(&outcome)
    }

    fn counted(&self) -> f64 {
        self.store.increase(COUNT, &[])
    }
}

fn said(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Later { .. } => "later",
        Outcome::Mend(_) => "mend",
        Outcome::Discarded(_) => "discarded",
        Outcome::Early => "early",
        Outcome::Smaller => "smaller",
        Outcome::Cut => "cut",
    }
}

#[tokio::test]
async fn a_series_begins_with_a_zero_behind_the_push_before_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.push().await, "done");
    bench.fold(&["resize", "resize"]);
    assert_eq!(bench.push().await, "done");
    bench.fold(&["resize"]);
    assert_eq!(bench.push().await, "done");
    let start = 1_700_000_000_000;
    let expected = [(start + 15_002, 0.0), (start + 30_000, 2.0), (start + 45_000, 3.0)];
    assert_eq!(bench.store.samples(COUNT, &[("event_name", "resize"), ("job", "pressroom")]), [expected]);
    for (le, times) in [("0.01", 0.0), ("0.025", 3.0), ("+Inf", 3.0)] {
        let buckets = bench.store.increase("event_duration_seconds_bucket", &[("le", le)]);
        assert_eq!(buckets, times, "{le}");
    }
    // What was counted before anybody looked, and what only says how it stands, has no zero.
    let host: Vec<_> = bench.store.samples("old_total", &[]).concat();
    assert_eq!(host.first(), Some(&(start + 15_000, 70.0)));
    assert_eq!(bench.store.samples("up", &[]).concat().first(), Some(&(start + 15_000, 1.0)));
    // Its own count of what went beyond the cap began with it.
    assert_eq!(bench.store.samples("pressroom_series_overflow_total", &[]).len(), 5);
    assert_eq!(bench.store.samples("pressroom_series_overflow_total", &[])[0][0], (start + 2, 0.0));
}

#[tokio::test]
async fn a_host_metric_that_comes_later_begins_with_a_zero_if_it_only_grows() {
    let text = Arc::new(parking_lot::Mutex::new(String::new()));
    let shown = text.clone();
    let mut bench = Bench::with(move || shown.lock().clone());
    bench.push().await;
    *text.lock() = "# TYPE a_total counter\na_total 3\n# TYPE g gauge\ng 5\nunknown 7\n".into();
    bench.push().await;
    let values = |name: &str| -> Vec<f64> {
        bench.store.samples(name, &[]).concat().into_iter().map(|(_, value)| value).collect()
    };
    assert_eq!((values("a_total"), values("g"), values("unknown")), (vec![0.0, 3.0], vec![5.0], vec![7.0]));
}

#[tokio::test]
async fn what_is_tried_again_counts_nothing_twice_whatever_was_taken() {
    let away = || Reply::say(503, "away");
    let fates = [
        Treatment::TakeAndSay(away()),
        Treatment::Refuse(away()),
        Treatment::TakeAndSay(Reply::Tear),
        Treatment::Refuse(Reply::say(429, "slower")),
        Treatment::Take,
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let mut bench = Bench::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (mut folded, mut failed) = (0, 0);
    for round in 0..150 {
        let script = std::iter::repeat_with(|| random.choice(fates.iter()).unwrap().clone()).take(3);
        bench.store.treat(script.collect::<Vec<_>>());
        let new: Vec<_> = (0..random.usize(0..3)).map(|_| names[random.usize(0..=round / 20)]).collect();
        bench.fold(&new);
        folded += new.len();
        let outcome = bench.push().await;
        failed += usize::from(outcome == "later");
        assert!(matches!(outcome, "done" | "later"), "{outcome}");
        assert!(bench.counted() <= folded as f64);
    }
    assert!(failed > 50, "{failed}");
    bench.store.treat([Treatment::Take]);
    assert_eq!(bench.push().await, "done");
    assert_eq!(bench.counted(), folded as f64);
    assert_eq!(bench.store.samples(COUNT, &[]).len(), names.len());
}

#[tokio::test]
async fn no_time_comes_twice_and_none_goes_back() {
    let mut bench = Bench::new();
    bench.fold(&["a"]);
    assert_eq!(bench.push().await, "done");
    let before = bench.store.requests().len();
    for back in [0, 1, 1, -3_600_000] {
        bench.tick(back);
        let outcome = bench.work.push(false).await;
        assert!(matches!(outcome, Outcome::Early), "{back}");
    }
    assert_eq!(bench.store.requests().len(), before, "nothing was sent");
    // Its state says so, and till when nothing is sent.
    let next = bench.work.note(Outcome::Early, Instant::now());
    assert!(next > Instant::now() + Duration::from_secs(14));
    let stall = bench.work.push.status.stall().unwrap();
    assert!(stall.error.to_string().starts_with("the clock is 1h 1ms behind"), "{stall:?}");
    bench.fold(&["a"]);
    bench.tick(3_600_001);
    assert!(matches!(bench.work.push(false).await, Outcome::Done(_)));
    assert_eq!(bench.counted(), 2.0);
    // Last words do not wait for a clock.
    bench.tick(-5_000);
    bench.fold(&["a"]);
    bench.work.close().await.unwrap();
    assert_eq!((bench.counted(), bench.store.alive()), (3.0, 0));
}

#[tokio::test]
async fn what_is_not_wanted_is_lost_alone() {
    let mut bench = Bench::new();
    bench.fold(&["a"]);
    // The zeros are not wanted: the values go without.
    bench.store.treat([Treatment::Refuse(Reply::say(400, "out of order")), Treatment::Take]);
    assert_eq!(bench.push().await, "discarded");
    assert_eq!(bench.store.samples(COUNT, &[]).concat().len(), 1);
    // Nobody is there: nothing more is sent of that push, and the zeros are not given up.
    bench.fold(&["b"]);
    let before = bench.store.requests().len();
    bench.store.treat([Treatment::Refuse(Reply::say(404, "no such path"))]);
    assert_eq!(bench.push().await, "discarded");
    assert_eq!(bench.store.requests().len(), before + 1);
    bench.store.treat([Treatment::Take]);
    assert_eq!(bench.push().await, "done");
    assert_eq!(bench.store.increase(COUNT, &[("event_name", "b")]), 1.0);
    bench.store.treat([Treatment::Refuse(Reply::say(401, "who"))]);
    assert_eq!(bench.push().await, "mend");
}

#[tokio::test]
async fn a_series_that_is_let_go_is_over_and_begins_anew_when_it_is_back() {
    tokio::time::pause();
    let mut bench = Bench::new();
    bench.work.push.series.set_idle_expiry(Some(Duration::from_secs(60)));
    // Paused time would run through a request's timeout while the receiver's thread answers.
    let push = async |bench: &mut Bench| {
        tokio::time::resume();
        let outcome = bench.push().await;
        tokio::time::pause();
        outcome
    };
    bench.fold(&["a", "a"]);
    push(&mut bench).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    // It is not told at once: somebody is away.
    bench.store.treat([Treatment::Refuse(Reply::say(503, ""))]);
    assert_eq!(push(&mut bench).await, "later");
    bench.store.treat([Treatment::Take]);
    assert_eq!(push(&mut bench).await, "done");
    let last = |bench: &Bench| bench.store.samples(COUNT, &[])[0].last().unwrap().1;
    assert!(is_stale(last(&bench)));
    let requests = bench.store.requests().len();
    assert_eq!(push(&mut bench).await, "done");
    assert_eq!(bench.store.requests().len(), requests + 1, "it is said once");
    bench.fold(&["a"]);
    push(&mut bench).await;
    let values: Vec<_> = bench.store.samples(COUNT, &[])[0].iter().map(|(_, value)| *value).collect();
    assert_eq!((&values[..2], &values[3..]), (&[0.0, 2.0][..], &[0.0, 1.0][..]));
    assert_eq!(bench.counted(), 3.0);
}

#[tokio::test]
async fn last_words_are_tried_again_and_end_every_series() {
    let mut bench = Bench::new();
    bench.fold(&["a", "b"]);
    bench.push().await;
    bench.fold(&["a", "c"]);
    bench.tick(3);
    bench.store.treat([
        Treatment::Refuse(Reply::say(503, "")),
        Treatment::Take,
        Treatment::TakeAndSay(Reply::Tear),
        Treatment::Take,
    ]);
    bench.work.close().await.unwrap();
    assert_eq!((bench.counted(), bench.store.alive()), (4.0, 0));
    // Where nobody lets it in, it says so and is not stubborn.
    let mut bench = Bench::new();
    bench.store.treat([Treatment::Refuse(Reply::say(401, ""))]);
    let error = bench.work.close().await.unwrap_err();
    assert!(matches!(error, PublishError::Hold { .. }), "{error:?}");
    assert_eq!(bench.store.requests().len(), 1);
}

#[tokio::test]
async fn many_series_go_in_many_requests_and_no_histogram_is_divided() {
    let mut bench = Bench::with(String::new);
    let names: Vec<String> = (0..700).map(|number| format!("step-{number}")).collect();
    bench.fold(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(bench.push().await, "done");
    // Seventeen of each histogram, a counter each, and five of overflow; zeros, then values, then descriptions.
    let requests = bench.store.requests();
    let all = 700 * 18 + 5;
    assert_eq!(requests.iter().sum::<usize>(), 2 * all);
    assert!(requests.iter().all(|series| *series <= 2_000), "{requests:?}");
    assert_eq!(requests.len(), 15);
    assert_eq!(requests[0] % 17, 0, "{requests:?}");
    assert_eq!(bench.counted(), 700.0);
    // Those that were taken before one was not are not sent older values afterwards.
    bench.fold(&["step-0", "step-699"]);
    bench.store.treat([Treatment::Take, Treatment::Take, Treatment::Refuse(Reply::say(500, ""))]);
    assert_eq!(bench.push().await, "later");
    bench.store.treat([Treatment::Take]);
    assert_eq!(bench.push().await, "done");
    assert_eq!(bench.counted(), 702.0);
}

#[tokio::test]
async fn families_are_described_now_and_then() {
    let mut bench = Bench::new();
    bench.push().await;
    let described = bench.store.metadata();
    let of = |name: &str| described.iter().find(|family| family.family == name).cloned().unwrap();
    assert_eq!((of("old_total").kind, of("up").kind), (1, 2));
    assert_eq!(of("pressroom_series_overflow_total").kind, 1);
    assert!(of("pressroom_series_overflow_total").help.contains("max_series"));
    let requests = bench.store.requests();
    bench.push().await;
    assert_eq!(bench.store.requests().len(), requests.len() + 1, "once is enough");
}

#[tokio::test]
async fn waits_grow_up_to_a_bound_and_advice_is_heeded() {
    let mut bench = Bench::new();
    for failures in 0..40_u32 {
        let ceiling =
            FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST_WAIT);
        assert!(bench.work.backoff(None) <= ceiling);
    }
    assert!(bench.work.backoff(Some(Duration::from_secs(77))) >= Duration::from_secs(77));
    assert_eq!(bench.work.backoff(Some(Duration::MAX)), LONGEST_ADVICE);
    let now = Instant::now();
    assert!(bench.work.note(Outcome::Mend("a wrong password".into()), now) >= now + HOLD);
    let stall = bench.work.push.status.stall().unwrap();
    assert_eq!(stall.error, PublishError::hold("a wrong password"));
    bench.work.note(Outcome::Done(1), now);
    assert_eq!((bench.work.push.status.stall(), bench.work.failures), (None, 0));
    drop(bench.orders);
}

#[tokio::test]
async fn a_clock_that_was_a_day_ahead_forbids_nothing_if_nothing_was_accepted() {
    const DAY: i64 = 86_400_000;
    for (status, ahead) in [(400, "discarded"), (500, "later"), (401, "mend"), (429, "later")] {
        let mut bench = Bench::new();
        bench.fold(&["resize"]);
        assert_eq!(bench.push().await, "done");
        bench.tick(DAY);
        bench.store.treat([Treatment::Refuse(Reply::say(status, "too far in the future"))]);
        assert_eq!((bench.push().await, bench.push().await), (ahead, ahead));
        bench.store.treat([]);
        bench.tick(-DAY);
        bench.fold(&["resize"]);
        assert_eq!(bench.push().await, "done", "{status}");
        assert_eq!(bench.counted(), 2.0);
        // What it took forbids what is older.
        bench.tick(-2 * 15_000 - 60_000);
        assert_eq!(bench.push().await, "early");
    }
    // So does what it may have taken.
    let mut bench = Bench::new();
    bench.tick(DAY);
    bench.store.treat([Treatment::Refuse(Reply::Tear)]);
    assert_eq!(bench.push().await, "later");
    bench.store.treat([]);
    bench.tick(-DAY);
    assert_eq!(bench.push().await, "early");
}

#[tokio::test]
async fn a_413_makes_smaller_pushes_and_one_for_everything_holds() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..200).map(|number| format!("event {number}")).collect();
    bench.fold(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let before = bench.work.push.limit.get();
    bench.store.treat([Treatment::Refuse(Reply::say(413, "too large")), Treatment::Take]);
    assert_eq!(bench.push().await, "smaller");
    assert!(bench.work.push.limit.get() < before);
    assert_eq!(bench.push().await, "done");
    assert_eq!(bench.counted(), 200.0);

    bench.store.treat([Treatment::Refuse(Reply::say(413, "I am a proxy"))]);
    let mut said = "smaller";
    for _ in 0..40 {
        said = bench.push().await;
        if said != "smaller" {
            break;
        }
    }
    assert_eq!((said, bench.work.push.limit.get()), ("mend", before), "that was no limit");
    bench.store.treat([]);
    assert_eq!(bench.push().await, "done");
}
