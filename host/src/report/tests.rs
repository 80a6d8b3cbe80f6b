use super::*;
use crate::record::{Attributes, Batch, Text, Value, ViewGauge};
use std::time::Instant;
use uuid::Uuid;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(1_800_000_000_000_000_000).after(Duration::from_secs(seconds))
}

fn now() -> Moment {
    Moment { instant: Instant::now(), time: at(60) }
}

fn event(number: u128, name: &str, status: Status, millis: u64, retries: u32) -> EventMetrics {
    let mut event = EventMetrics::started(Uuid::from_u128(number), name, "42", at(1));
    event.end_time = Some(at(1).after(Duration::from_millis(millis)));
    event.status = status;
    event.error = (status == Status::Failed).then(|| Text::new("disk full"));
    event.retry_count = retries;
    event
}

fn operation(number: u128, name: &str, error: Option<&str>, millis: u64) -> NetworkMetrics {
    let mut operation = NetworkMetrics::started(Uuid::from_u128(number), "42", name, "s3.local", 443, at(1));
    operation.end_time = Some(at(1).after(Duration::from_millis(millis)));
    operation.error = error.map(Text::new);
    (operation.bytes_sent, operation.bytes_received) = (10, 200);
    operation
}

fn observe(reports: &Reports, events: Vec<EventMetrics>, operations: Vec<NetworkMetrics>) {
    let batch = Batch { events, operations };
    reports.observe_at(&Arc::new(SharedBatch::new(0, batch, ViewGauge::default())), now());
}

/// Answers that are the same whenever the test runs.
fn reports(settings: ReportSettings) -> Reports {
    let mut reports = Reports::new(settings.clone());
    let shared = Arc::get_mut(&mut reports.shared).unwrap();
    shared.started = at(0);
    let bounds = Bounds {
        records: settings.max_records,
        bytes: settings.max_bytes,
        age: settings.max_age,
        slow: settings.slow_threshold,
    };
    shared.history = Mutex::new(History::new(bounds, at(0)));
    reports
}

fn ids(listed: &Listed<ReportedEvent>) -> Vec<u128> {
    listed.rows.iter().map(|row| row.event.id.as_u128()).collect()
}

#[test]
fn an_empty_host_has_answers() {
    let reports = reports(ReportSettings::default());
    let metrics = reports.metrics_at(now());
    assert_eq!(metrics.totals, Totals::default());
    assert_eq!((metrics.events.names, metrics.events.rows.len(), &metrics.events.other), (0, 0, &None));
    assert_eq!((metrics.recent_events.total, metrics.recent_events.considered), (0, 0));
    assert_eq!(metrics.pending, PendingReport::default());
    assert_eq!(reports.failed_events().events.total, 0);
    assert_eq!(reports.slow_network_operations(Duration::ZERO).operations.total, 0);
    let retries = reports.retry_stats();
    assert_eq!((retries.events, retries.retries, retries.by_name.names), (0, 0, 0));
    assert!(serde_json::from_str::<MetricsReport>(&reports.metrics_json()).is_ok());
}

#[test]
fn the_metrics_report_has_this_shape() {
    let reports = reports(ReportSettings { max_names: 1, ..ReportSettings::default() });
    let mut tagged = event(1, "resize", Status::Failed, 1_500, 2);
    tagged.pipeline_id = Some(Text::new("thumbs"));
    tagged.process_id = Some(7);
    tagged.attributes = [("deep", Value::Json(r#"{"a": [1, 2]}"#.into())), ("width", Value::Integer(640))]
        .into_iter()
        .collect::<Attributes>();
    let events = vec![tagged, event(2, "late", Status::Completed, 0, 0)];
    observe(&reports, events, vec![operation(3, "PUT", None, 250)]);
    reports.set_pending(Arc::new(|limit| {
        assert_eq!(limit, DEFAULT_LIMIT);
        Pending {
            events: vec![EventMetrics::started(Uuid::from_u128(9), "resize", "43", at(58))],
            operations: Vec::new(),
            events_total: 1,
            operations_total: 0,
            counters: vec![("ends_without_start", 3)],
        }
    }));
    let metrics = reports.metrics_at(now());
    let json = serde_json::to_string_pretty(&metrics).unwrap();
    assert_eq!(json.trim(), include_str!("metrics.json").trim(), "\n{json}\n");
    assert_eq!(serde_json::from_str::<MetricsReport>(&json).unwrap().totals, metrics.totals);
}

#[test]
fn answers_read_back_from_json() {
    let reports = reports(ReportSettings::default());
    let events = vec![event(1, "a", Status::Failed, 1_500, 2), event(2, "b", Status::Completed, 250, 0)];
    observe(&reports, events, vec![operation(3, "GET", Some("reset"), 2_000)]);
    macro_rules! reads_back {
        ($($answer:expr),+ $(,)?) => {$({
            let answer = $answer;
            let json = serde_json::to_string(&answer).unwrap();
            let mut read = answer.clone();
            read.clone_from(&serde_json::from_str(&json).unwrap());
            assert_eq!(read, answer);
        })+};
    }
    reads_back!(
        reports.failed_events(),
        reports.slow_events(Duration::from_secs(1)),
        reports.retry_stats(),
        reports.failed_network_operations(),
        reports.slow_network_operations(Duration::from_secs(1)),
    );
}

#[test]
fn failures_outlive_a_flood() {
    let reports = reports(ReportSettings { max_records: 100, ..ReportSettings::default() });
    observe(
        &reports,
        vec![event(1, "a", Status::Failed, 5, 0), event(2, "a", Status::Completed, 9_000, 0)],
        vec![],
    );
    observe(&reports, vec![], vec![operation(3, "GET", Some("reset"), 5)]);
    for flood in 0..50 {
        let events = (0..10).map(|n| event(1_000 + flood * 10 + n, "a", Status::Completed, 5, 0)).collect();
        observe(&reports, events, vec![]);
    }
    let failed = reports.failed_events_at(now());
    assert_eq!(ids(&failed.events), [1]);
    assert_eq!((failed.events.total, failed.events.considered, failed.failed_since_start), (1, 101, 1));
    // Nothing that failed has been let go, so the answer is complete (to the history's age).
    assert_eq!(failed.events.complete_since, at(0));
    assert_eq!(ids(&reports.slow_events_at(Duration::from_secs(1), now()).events), [2]);
    assert_eq!(reports.failed_network_operations().operations.total, 1);
    let recent = reports.metrics_at(now()).recent_events;
    assert_eq!((recent.total, recent.complete_since), (100, at(60)));
}

#[test]
fn the_slowest_come_first_and_the_threshold_is_included() {
    let reports = reports(ReportSettings::default());
    let millis = [1_000, 999, 3_000, 2_000, 3_000];
    let events = (1..).zip(millis).map(|(id, millis)| event(id, "a", Status::Completed, millis, 0)).collect();
    observe(&reports, events, vec![operation(9, "GET", None, 400)]);
    let slow = reports.slow_events_at(Duration::from_secs(1), now());
    assert_eq!(ids(&slow.events), [5, 3, 4, 1]);
    assert_eq!((slow.threshold_seconds, slow.events.total, slow.events.considered), (1.0, 4, 5));
    let one = reports.with_limit(1).slow_events_at(Duration::from_secs(1), now()).events;
    assert_eq!((ids(&one), one.total, one.shown), (vec![5], 4, 1));
    assert_eq!(reports.slow_network_operations(Duration::from_millis(400)).operations.total, 1);
    assert_eq!(reports.slow_network_operations(Duration::from_millis(401)).operations.total, 0);
}

#[test]
fn retries_are_told_with_what_became_of_them() {
    let reports = reports(ReportSettings { max_names: 2, ..ReportSettings::default() });
    let events = vec![
        event(1, "a", Status::Completed, 5, 1),
        event(2, "b", Status::Failed, 5, 12),
        event(3, "b", Status::Cancelled, 5, 2),
        event(4, "a", Status::Completed, 5, 0),
        event(5, "c", Status::Failed, 5, 3),
    ];
    observe(&reports, events, vec![]);
    let stats = reports.retry_stats();
    assert_eq!((stats.events, stats.retries, stats.events_with_retries), (5, 18, 4));
    assert_eq!(
        (stats.completed_after_retry, stats.failed_after_retry, stats.cancelled_after_retry),
        (1, 2, 1)
    );
    let distribution = RetryDistribution { none: 1, one: 1, two: 1, three: 1, more: 1, ..Default::default() };
    assert_eq!(stats.retry_distribution, distribution);
    let names: Vec<_> = stats.by_name.rows.iter().map(|row| (row.event_name.as_str(), row.retries)).collect();
    assert_eq!(names, [("b", 14), ("a", 1)]);
    assert_eq!(stats.by_name.other.map(|other| (other.events, other.failed_after_retry)), Some((1, 1)));
    assert_eq!(stats.by_name.names_in_other, 1);
}

#[test]
fn many_names_are_read_in_turns_and_sorted() {
    let reports = reports(ReportSettings { max_names: 500, ..ReportSettings::default() });
    let name = |n: u128| format!("name-{n:04}");
    let events = (0..600).map(|n| event(n, &name(n), Status::Completed, 5, 0)).collect();
    observe(&reports, events, vec![]);
    observe(&reports, vec![event(1_000, &name(321), Status::Completed, 5, 0)], vec![]);
    let names = reports.with_limit(20).metrics_at(now()).events;
    assert_eq!((names.names, names.shown, names.rows.len(), names.names_in_other), (500, 20, 20, 100));
    let shown: Vec<_> = names.rows.iter().map(|row| row.event_name.clone()).collect();
    assert_eq!(shown[..3], [name(321), name(0), name(1)]);
    assert_eq!(names.other.unwrap().counts.count, 100);
    let all = reports.metrics_at(now()).events;
    let counted: u64 = all.rows.iter().chain(&all.other).map(|row| row.counts.count).sum();
    assert_eq!(counted, reports.totals().events.count);
}

#[test]
fn questions_and_records_at_the_same_time() {
    let reports = reports(ReportSettings { max_records: 500, max_names: 50, ..ReportSettings::default() });
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..200 {
                let event = |n| event(n, &format!("n{}", n % 70), Status::Failed, 5, 1);
                observe(&reports, (round * 10..round * 10 + 10).map(event).collect(), vec![]);
            }
        });
        let mut before = 0;
        while !writer.is_finished() {
            let metrics = reports.metrics_at(now());
            assert!(metrics.totals.events.count >= before);
            before = metrics.totals.events.count;
            assert!(metrics.recent_events.total <= 500);
        }
    });
    let metrics = reports.metrics_at(now());
    let counted: u64 =
        metrics.events.rows.iter().chain(&metrics.events.other).map(|row| row.counts.count).sum();
    assert_eq!((metrics.totals.events.count, counted), (2_000, 2_000));
    let failed = reports.failed_events_at(now()).events;
    assert_eq!((failed.total, failed.considered), (550, 550));
}

#[test]
fn totals_join_the_hosts_own_metrics() {
    let reports = reports(ReportSettings::default());
    observe(&reports, vec![event(1, "a", Status::Failed, 5, 4)], vec![operation(2, "GET", None, 5)]);
    let text = reports.expose(Exposition::new()).finish();
    for line in [
        r#"pressroom_records_total{kind="event",status="failed"} 1"#,
        r#"pressroom_records_total{kind="event",status="completed"} 0"#,
        r#"pressroom_records_total{kind="network",status="completed"} 1"#,
        "pressroom_event_retries_total 4",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
}
