use super::*;
use crate::record::{EventMetrics, NetworkMetrics, Status, Timestamp, Value};
use prometheus::{Encoder, TextEncoder};
use uuid::Uuid;

fn event(name: &str, status: Status, millis: u64, retries: u32) -> EventMetrics {
    let mut event = EventMetrics::started(Uuid::nil(), name, "task-1", Timestamp::from_nanos(5));
    event.end_time = Some(event.start_time.after(Duration::from_millis(millis)));
    event.status = status;
    event.retry_count = retries;
    event
}

fn operation(name: &str, sent: u64, received: u64, error: Option<&str>) -> NetworkMetrics {
    let start = Timestamp::from_nanos(5);
    let mut operation = NetworkMetrics::started(Uuid::nil(), "task-1", name, "s3.local", 443, start);
    operation.end_time = Some(start.after(Duration::from_millis(20)));
    (operation.bytes_sent, operation.bytes_received) = (sent, received);
    operation.error = error.map(Into::into);
    operation
}

fn with(mut event: EventMetrics, key: &str, value: impl Into<Value>) -> EventMetrics {
    event.attributes.insert(key, value);
    event
}

fn settings() -> SeriesSettings {
    SeriesSettings { buckets: vec![0.01, 0.1], ..SeriesSettings::default() }
}

fn series(settings: SeriesSettings) -> Series {
    Series::new(settings, None).unwrap()
}

fn text(series: &Series) -> String {
    let mut text = Vec::new();
    TextEncoder::new().encode(&series.gather(), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The samples, without comments and overflow.
fn samples(series: &Series) -> Vec<String> {
    let text = text(series);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("overflow"));
    lines.map(str::to_owned).collect()
}

#[test]
fn records_become_the_five_metrics() {
    let series = series(settings());
    assert!(series.is_empty());
    series.fold_events(&EventBatch::detached(vec![
        with(event("resize", Status::Completed, 50, 2), "service.name", "thumbs"),
        with(event("resize", Status::Completed, 5, 0), "service.name", "thumbs"),
        event("resize", Status::Failed, 500, 0),
    ]));
    series.fold_operations(&NetworkBatch::detached(vec![
        operation("PUT", 100, 7, None),
        operation("PUT", 11, 0, Some("connection reset by 10.0.0.7")),
    ]));
    assert_eq!(
        samples(&series),
        [
            r#"event_duration_seconds_bucket{event_name="resize",service="",status="failed",le="0.01"} 0"#,
            r#"event_duration_seconds_bucket{event_name="resize",service="",status="failed",le="0.1"} 0"#,
            r#"event_duration_seconds_bucket{event_name="resize",service="",status="failed",le="+Inf"} 1"#,
            r#"event_duration_seconds_sum{event_name="resize",service="",status="failed"} 0.5"#,
            r#"event_duration_seconds_count{event_name="resize",service="",status="failed"} 1"#,
            r#"event_duration_seconds_bucket{event_name="resize",service="thumbs",status="completed",le="0.01"} 1"#,
            r#"event_duration_seconds_bucket{event_name="resize",service="thumbs",status="completed",le="0.1"} 2"#,
            r#"event_duration_seconds_bucket{event_name="resize",service="thumbs",status="completed",le="+Inf"} 2"#,
            r#"event_duration_seconds_sum{event_name="resize",service="thumbs",status="completed"} 0.055"#,
            r#"event_duration_seconds_count{event_name="resize",service="thumbs",status="completed"} 2"#,
            r#"event_retries_total{event_name="resize",service=""} 0"#,
            r#"event_retries_total{event_name="resize",service="thumbs"} 2"#,
            r#"network_bytes_total{direction="received",operation="PUT",service=""} 7"#,
            r#"network_bytes_total{direction="sent",operation="PUT",service=""} 111"#,
            r#"network_latency_seconds_bucket{operation="PUT",service="",le="0.01"} 0"#,
            r#"network_latency_seconds_bucket{operation="PUT",service="",le="0.1"} 2"#,
            r#"network_latency_seconds_bucket{operation="PUT",service="",le="+Inf"} 2"#,
            r#"network_latency_seconds_sum{operation="PUT",service=""} 0.04"#,
            r#"network_latency_seconds_count{operation="PUT",service=""} 2"#,
            r#"network_errors_total{operation="PUT",service=""} 1"#,
        ]
    );
}

#[test]
fn counters_are_there_before_anything_went_wrong() {
    let series = series(settings());
    series.fold_operations(&NetworkBatch::detached(vec![operation("GET", 0, 0, None)]));
    series.fold_events(&EventBatch::detached(vec![event("hash", Status::Completed, 1, 0)]));
    let samples = samples(&series);
    for zero in [
        r#"network_errors_total{operation="GET",service=""} 0"#,
        r#"network_bytes_total{direction="sent",operation="GET",service=""} 0"#,
        r#"event_retries_total{event_name="hash",service=""} 0"#,
    ] {
        assert!(samples.iter().any(|sample| sample == zero), "{zero} in {samples:#?}");
    }
}

#[test]
fn label_values_that_read_alike_run_together_stay_apart() {
    let series = series(settings());
    series.fold_operations(&NetworkBatch::detached(vec![operation("ab", 1, 0, None), {
        let mut other = operation("a", 2, 0, None);
        other.attributes.insert("service.name", "b");
        other
    }]));
    let samples = samples(&series);
    assert!(
        samples.contains(&r#"network_bytes_total{direction="sent",operation="ab",service=""} 1"#.to_owned())
    );
    assert!(
        samples.contains(&r#"network_bytes_total{direction="sent",operation="a",service="b"} 2"#.to_owned())
    );
}

#[test]
fn attributes_become_labels_and_odd_values_are_escaped() {
    let series =
        series(SeriesSettings { labels: vec!["http.method".into(), "2nd-try".into()], ..settings() });
    let odd = with(event("a\"b\\c\nd", Status::Completed, 1, 3), "http.method", "GÉT");
    series.fold_events(&EventBatch::detached(vec![with(odd, "2nd-try", true)]));
    let expected =
        r#"event_retries_total{_2nd_try="true",event_name="a\"b\\c\nd",http_method="GÉT",service=""} 3"#;
    assert!(samples(&series).iter().any(|sample| sample == expected), "{:#?}", samples(&series));
}

#[test]
fn long_values_are_cut_between_characters() {
    let series = series(settings());
    series.fold_events(&EventBatch::detached(vec![event(&"é".repeat(500), Status::Completed, 1, 0)]));
    let expected = format!(r#"event_retries_total{{event_name="{}",service=""}} 0"#, "é".repeat(128));
    assert!(samples(&series).contains(&expected));
}

#[test]
fn what_goes_beyond_the_cap_is_counted_under_other() {
    let series = series(SeriesSettings { max_series: 2, ..settings() });
    let names = ["a", "b", "c", "d", "a", "c"];
    let events = names.map(|name| event(name, Status::Completed, 1, 1)).to_vec();
    series.fold_events(&EventBatch::detached(events));
    let operations = ["GET", "PUT"].map(|name| operation(name, 1, 1, None)).to_vec();
    series.fold_operations(&NetworkBatch::detached(operations));
    let all = samples(&series);
    let retries: Vec<_> = all.iter().filter(|sample| sample.starts_with("event_retries")).collect();
    assert_eq!(
        retries,
        [
            r#"event_retries_total{event_name="a",service=""} 2"#,
            r#"event_retries_total{event_name="b",service=""} 1"#,
            r#"event_retries_total{event_name="other",service="other"} 3"#,
        ]
    );
    // A status is one of few, so `other` keeps it.
    assert!(all.iter().any(|sample| {
        sample == r#"event_duration_seconds_count{event_name="other",service="other",status="completed"} 3"#
    }));
    let text = text(&series);
    for (metric, count) in
        [("event_duration_seconds", 3), ("event_retries_total", 3), ("network_bytes_total", 1)]
    {
        let line = format!("pressroom_series_overflow_total{{metric=\"{metric}\"}} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    // Three of each event metric, four of bytes (both directions of `other` too), two latencies, two errors.
    assert_eq!((series.len(), series.overflowed()), (14, 7));
}

#[tokio::test(start_paused = true)]
async fn idle_series_go_and_make_room() {
    let series =
        Series::new(SeriesSettings { max_series: 2, ..settings() }, Some(Duration::from_secs(60))).unwrap();
    let fold = |name: &str| {
        series.fold_events(&EventBatch::detached(vec![event(name, Status::Completed, 1, 1)]));
    };
    fold("a");
    fold("b");
    tokio::time::advance(Duration::from_secs(40)).await;
    fold("b");
    tokio::time::advance(Duration::from_secs(40)).await;
    fold("c");
    let beyond = samples(&series);
    assert!(beyond.contains(&r#"event_retries_total{event_name="other",service="other"} 1"#.to_owned()));
    assert!(!beyond.iter().any(|sample| sample.contains(r#"event_name="a""#)), "{beyond:#?}");
    assert!(beyond.contains(&r#"event_retries_total{event_name="b",service=""} 2"#.to_owned()));
    // Gathering has let `a` go, so there is room.
    fold("d");
    assert!(samples(&series).contains(&r#"event_retries_total{event_name="d",service=""} 1"#.to_owned()));
    series.set_idle_expiry(None);
    tokio::time::advance(Duration::from_secs(4_000)).await;
    assert!(samples(&series).contains(&r#"event_retries_total{event_name="d",service=""} 1"#.to_owned()));
}

#[test]
fn every_problem_of_the_settings_is_named() {
    let labels =
        ["", "service", "le", "event-name", "__x", "1", "task.id", "a.b", "a-b"].map(str::to_owned).to_vec();
    let problems =
        SeriesSettings { labels, buckets: vec![1.0, 1.0, f64::INFINITY], max_series: 0 }.problems();
    let lines: Vec<String> = problems.iter().map(|(key, message)| format!("{key}: {message}")).collect();
    assert_eq!(
        lines,
        [
            "labels: an attribute key is empty",
            "labels: \"service\" would be the label service, which the metrics have already",
            "labels: \"le\" would be the label le, which the metrics have already",
            "labels: \"event-name\" would be the label event_name, which the metrics have already",
            "labels: \"__x\" would be the label __x: Prometheus keeps __ for itself",
            "labels: \"task.id\" is another in every record: each would be a series",
            "labels: \"a.b\" and \"a-b\" would both be the label a_b",
            "buckets: inf is not finite; the bucket for all the rest is always there",
            "buckets: the bounds must ascend, but 1 follows 1",
            "max_series: must be at least 2",
        ]
    );
    assert!(SeriesSettings::default().problems().is_empty());
    assert_eq!(
        SeriesSettings { buckets: Vec::new(), ..settings() }.problems().first().unwrap().1,
        "give between 1 and 256 upper bounds, in seconds"
    );
}

#[test]
fn a_sum_of_bytes_beyond_64_bits_does_not_wrap() {
    let series = series(settings());
    let operations = [u64::MAX, u64::MAX, 100].map(|bytes| operation("PUT", bytes, bytes, None));
    series.fold_operations(&NetworkBatch::detached(operations.into()));
    let retries = [u32::MAX; 3].map(|retries| event("resize", Status::Completed, 1, retries));
    series.fold_events(&EventBatch::detached(retries.into()));
    let value = |name: &str| -> f64 {
        let samples = samples(&series);
        let sample = samples.iter().find(|sample| sample.starts_with(name)).unwrap();
        sample.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("network_bytes_total"), 2.0 * u64::MAX as f64 + 100.0);
    assert_eq!(value("event_retries_total"), 3.0 * f64::from(u32::MAX));
}
