//! Real receivers of remote write: what `grafana-cloud` pushed to Prometheus and to VictoriaMetrics is, in PromQL, what
//! was recorded, and neither of them ever refused a sample.

use crate::prometheus::recorded;
use crate::support::servers::Metrics;
use crate::support::{Api, Folder, PATIENCE, Running, event, until_or};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

/// A section that pushes to `server` as who it lets in, five times a second.
fn section(server: &Metrics, more: &str) -> String {
    let (user, password) = server.login().unwrap_or(("nobody", "nothing"));
    format!(
        "[publishers.cloud]\ntype = \"grafana-cloud\"\nurl = \"{}\"\nuser = \"{user}\"\napi_key = \"{password}\"\n\
         push_interval = \"200ms\"\norg_slug = \"acme\"\nexternal_labels = {{ cluster = \"eu\" }}\n{more}",
        server.write_url()
    )
}

/// Events of that name, as they are posted.
fn named(name: &str, count: u64) -> Value {
    let named = |number| {
        let mut event = event(number);
        event["event_name"] = name.into();
        event
    };
    (0..count).map(named).collect()
}

fn wanted(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

async fn until_counted(server: &Metrics, pairs: &[(&str, f64)]) {
    let counts = "sum by (event_name) (event_duration_seconds_count)";
    server.promql.until(counts, "event_name", &wanted(pairs)).await;
}

/// Waits until a query that gives one number gives one in this range.
async fn until_within(server: &Metrics, query: &str, range: RangeInclusive<f64>) {
    let last = Mutex::new(None);
    let look = || async {
        let found = server.promql.query(query, "").await.and_then(|found| found.into_values().next());
        *last.lock().unwrap() = found;
        found.filter(|found| range.contains(found))
    };
    let more = || format!("{:?}", last.lock().unwrap());
    until_or(&format!("{query} is in {range:?}"), PATIENCE, look, more).await;
}

/// No sample was refused: not as too old, not as out of order, not as there already; and no request as wrong.
pub async fn assert_nothing_was_refused(server: &Metrics) {
    let metrics = server.promql.api().get("/metrics").await.unwrap();
    let mut seen = 0;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let refused = ["out_of_order", "out_of_bound", "too_old", "duplicate_timestamp"]
            .iter()
            .any(|word| series.contains(word) && !series.contains("_wal_") && !series.contains("_ooo_"))
            || (series.starts_with("prometheus_http_requests_total")
                && series.contains("/api/v1/write")
                && !series.contains("code=\"2")
                // Not a refusal: one that is going or coming back asks to be asked again, and is.
                && !series.contains("code=\"503"))
            || series.starts_with("vm_rows_ignored_total")
            || series.starts_with("vm_http_request_errors_total{path=\"/api/v1/write\"");
        if refused {
            seen += 1;
            assert_eq!(value.parse::<f64>().unwrap(), 0.0, "{line}");
        }
    }
    assert!(seen > 0, "nothing was looked at");
    let log = server.log().to_lowercase();
    for word in ["out of order", "out-of-order", "duplicate sample", "out of bounds"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
}

async fn push_state(api: &Api) -> Value {
    api.publisher("cloud").await["detail"]["push"].clone()
}

async fn shut_down(running: Running) {
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_has_what_was_recorded() {
    let Some(server) = Metrics::receiver().await else { return };
    what_was_recorded_is_there(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_has_what_was_recorded() {
    let Some(server) = Metrics::victoria().await else { return };
    what_was_recorded_is_there(&server).await;
}

async fn what_was_recorded_is_there(server: &Metrics) {
    let folder = Folder::new(&section(server, "instance = \"one\"\n"));
    let running = folder.start().await;
    let api = &running.api;
    for first in (0..2_000).step_by(500) {
        api.post(&(first..first + 500).map(recorded).collect()).await;
    }
    until_counted(server, &[("resize", 1_000.0), ("store", 500.0)]).await;
    let promql = &server.promql;
    let failed = "sum by (event_name) (event_duration_seconds_count{status=\"failed\",cluster=\"eu\",job=\"pressroom\"})";
    promql.until(failed, "event_name", &wanted(&[("store", 500.0)])).await;
    let retries = "sum by (event_name) (event_retries_total) > 0";
    promql.until(retries, "event_name", &wanted(&[("resize", 2_000.0)])).await;
    let operations = "sum by (operation) (network_latency_seconds_count)";
    promql.until(operations, "operation", &wanted(&[("PUT", 500.0)])).await;
    let bytes = "sum by (direction) (network_bytes_total)";
    promql.until(bytes, "direction", &wanted(&[("sent", 500_000.0), ("received", 5_000.0)])).await;
    let sum = "sum(event_duration_seconds_sum)";
    promql.until(sum, "", &wanted(&[("", 750.0)])).await;
    // All of them took half a second, and the histogram's buckets know it.
    let median = "histogram_quantile(0.5, sum by (le) (event_duration_seconds_bucket))";
    until_within(server, median, 0.25..=0.5).await;
    let at_most_half =
        "sum(event_duration_seconds_bucket{le=\"0.25\"}) + sum(event_duration_seconds_bucket{le=\"0.5\"})";
    promql.until(at_most_half, "", &wanted(&[("", 1_500.0)])).await;
    // The host's own metrics come along.
    let own =
        "sum by (publisher) (pressroom_publisher_records_total{outcome=\"delivered\",instance=\"one\"})";
    promql.until(own, "publisher", &wanted(&[("cloud", 2_000.0)])).await;
    promql
        .until("max by (version) (pressroom_info)", "version", &wanted(&[(env!("CARGO_PKG_VERSION"), 1.0)]))
        .await;

    // The very first event of its name: what a series begins with is seen to have grown.
    api.post(&named("first", 1)).await;
    let first = "sum(increase(event_duration_seconds_count{event_name=\"first\"}[5m]))";
    until_within(server, first, 0.99..=1.5).await;
    let buckets = "sum(increase(event_duration_seconds_bucket{event_name=\"first\",le=\"+Inf\"}[5m]))";
    until_within(server, buckets, 0.99..=1.5).await;
    assert_eq!(push_state(api).await["failed_pushes"], 0);

    // The last words: what was recorded a moment ago, and that it is over.
    api.post(&named("last", 3)).await;
    api.until_delivered("cloud", 2_004).await;
    shut_down(running).await;
    promql.until("count(event_duration_seconds_count)", "", &wanted(&[])).await;
    promql.until("count(pressroom_info)", "", &wanted(&[])).await;
    let last = "sum by (event_name) (last_over_time(event_duration_seconds_count{event_name=\"last\"}[5m]))";
    promql.until(last, "event_name", &wanted(&[("last", 3.0)])).await;

    // A host that comes back as the same instance: counters begin anew, and nothing is counted twice.
    let running = folder.start().await;
    running.api.post(&named("last", 5)).await;
    until_counted(server, &[("last", 5.0)]).await;
    let both = "sum(increase(event_duration_seconds_count{event_name=\"last\"}[5m]))";
    until_within(server, both, 7.9..=9.5).await;
    shut_down(running).await;
    assert_nothing_was_refused(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_comes_back_and_nothing_is_counted_twice() {
    let Some(server) = Metrics::receiver().await else { return };
    a_receiver_comes_back(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_comes_back_and_nothing_is_counted_twice() {
    let Some(server) = Metrics::victoria().await else { return };
    a_receiver_comes_back(server).await;
}

async fn a_receiver_comes_back(mut server: Metrics) {
    let folder = Folder::new(&section(&server, ""));
    let running = folder.start().await;
    let api = &running.api;
    api.post(&named("before", 100)).await;
    until_counted(&server, &[("before", 100.0)]).await;
    assert_nothing_was_refused(&server).await;

    // It crashes, and what is recorded meanwhile is taken all the same.
    server.kill();
    api.until("cloud", "is retrying", |status| status["state"] == "retrying").await;
    api.post(&named("before", 50)).await;
    api.post(&named("meanwhile", 7)).await;
    let status = api.until_delivered("cloud", 157).await;
    assert!(status["reason"].as_str().unwrap().contains("/api/v1/write"), "{status:#}");
    server.start_again().await;
    until_counted(&server, &[("before", 150.0), ("meanwhile", 7.0)]).await;
    api.until_running("cloud").await;

    // It is stopped as an operator does it, in the middle of what comes.
    let posting = async {
        for _ in 0..40 {
            api.post(&named("flood", 25)).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.stop().await;
        server.start_again().await;
    };
    tokio::join!(posting, stopping);
    until_counted(&server, &[("before", 150.0), ("meanwhile", 7.0), ("flood", 1_000.0)]).await;
    // As often as it grew, whatever was lost or repeated on the way: no counter ever fell.
    let resets = "sum(resets(event_duration_seconds_count[10m]))";
    server.promql.until(resets, "", &wanted(&[("", 0.0)])).await;
    let meanwhile = "sum(increase(event_duration_seconds_count{event_name=\"meanwhile\"}[10m]))";
    until_within(&server, meanwhile, 6.9..=9.0).await;
    shut_down(running).await;
    assert_nothing_was_refused(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_holds_until_it_is_mended() {
    let Some(server) = Metrics::receiver().await else { return };
    let (_, password) = server.login().unwrap();
    let right = section(&server, "");
    let folder = Folder::new(&right.replace(password, "a-wrong-one"));
    let running = folder.start().await;
    let api = &running.api;
    let status = api.until("cloud", "is on hold", |status| status["state"] == "held").await;
    let reason = status["reason"].as_str().unwrap();
    let says = ["`api_key` is wrong", "https://grafana.com/orgs/acme", "401"];
    assert!(says.iter().all(|word| reason.contains(word)) && !reason.contains("wrong-one"), "{reason}");
    assert!(
        api.get("/metrics")
            .await
            .unwrap()
            .contains("pressroom_publisher_up{publisher=\"cloud\",type=\"grafana-cloud\"} 0")
    );
    // What is recorded meanwhile is taken, and waits in the counters.
    api.post(&named("held", 100)).await;
    api.until_delivered("cloud", 100).await;
    folder.configure(&right);
    until_counted(&server, &[("held", 100.0)]).await;
    api.until_running("cloud").await;
    // It grew from nothing there: the zero was not lost with the wrong password.
    let grown = "sum(increase(event_duration_seconds_count{event_name=\"held\"}[5m]))";
    until_within(&server, grown, 99.0..=150.0).await;
    assert_eq!(api.publisher("cloud").await["books"]["delivered"], 100);
    shut_down(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_trusted_gets_nothing() {
    let Some(server) = Metrics::receiver_over_tls().await else { return };
    let folder = Folder::new(&section(&server, ""));
    let running = folder.start().await;
    let api = &running.api;
    api.post(&named("hidden", 10)).await;
    let status = api.until("cloud", "is retrying", |status| status["state"] == "retrying").await;
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("https://127.0.0.1") && reason.contains("certificate"), "{reason}");
    // A path that is relative begins where the configuration is.
    std::fs::copy(server.ca(), folder.path("authority.pem")).unwrap();
    folder.configure(&section(&server, "ca_file = \"authority.pem\"\n"));
    until_counted(&server, &[("hidden", 10.0)]).await;
    shut_down(running).await;
    assert_nothing_was_refused(&server).await;
}
