//! What people see of answers that real reports gave.

use super::*;
use crate::record::{Batch, EventMetrics, NetworkMetrics, SharedBatch, Status, Timestamp, ViewGauge};
use crate::report::{ReportSettings, Reports};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// Answers hold the time of the question: texts of fixed times are put in their place.
fn fixed(mut answer: serde_json::Value) -> String {
    let at = "2026-11-23T12:40:00Z";
    for (key, time) in [("generated", at), ("started", "2026-11-23T12:00:00Z")] {
        if answer.get(key).is_some() {
            answer[key] = json!(time);
        }
    }
    for list in ["events", "operations", "recent_events", "recent_operations"] {
        if answer[list].get("complete_since").is_some() {
            answer[list]["complete_since"] = json!("2026-11-23T12:00:00Z");
        }
    }
    answer.to_string()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn reports() -> Reports {
    let reports = Reports::new(ReportSettings::default());
    let start = at("2026-11-23T12:33:38.120Z");
    let mut fetch = EventMetrics::started(Uuid::from_u128(1), "fetch", "a.rs", start);
    fetch.pipeline_id = Some("demo".into());
    fetch.end_time = Some(at("2026-11-23T12:33:40.526Z"));
    fetch.status = Status::Failed;
    fetch.retry_count = 3;
    fetch.error = Some("503\u{1b}[2J after\nfour attempts".into());
    let mut read = EventMetrics::started(Uuid::from_u128(2), "read", "b.rs", start);
    read.end_time = Some(at("2026-11-23T12:33:38.124Z"));
    read.status = Status::Completed;
    let mut get = NetworkMetrics::started(Uuid::from_u128(3), "a.rs", "GET", "127.0.0.1", 4000, start);
    get.end_time = Some(at("2026-11-23T12:33:39.320Z"));
    get.bytes_received = 1_536;
    get.error = Some("503 Service Unavailable".into());
    let batch = Batch { events: vec![fetch, read], operations: vec![get] };
    reports.observe(&Arc::new(SharedBatch::new(0, batch, ViewGauge::default())));
    reports
}

fn shown(question: Question, answer: impl serde::Serialize) -> String {
    show(question, &fixed(serde_json::to_value(answer).unwrap()), ROWS).unwrap()
}

#[test]
fn failed_events_are_a_table_that_says_how_far_it_goes() {
    assert_eq!(
        shown(Question::FailedEvents, reports().failed_events()),
        "\
1 event failed since 2026-11-23 12:00:00 UTC (40m 00s)

  STARTED       EVENT  TASK  PIPELINE  STATUS    TOOK  RETRIES  ERROR
  12:33:38.120  fetch  a.rs  demo      failed  2.41 s        3  503\\u{1b}[2J after\\nfour attempts
  considered 2 records, none is missing since 2026-11-23 12:00:00 UTC
"
    );
}

#[test]
fn slow_events_name_their_threshold() {
    let reports = reports();
    let text = shown(Question::SlowEvents, reports.slow_events(Duration::from_secs(2)));
    assert!(text.starts_with("1 event took 2.00 s or longer\n\n"), "{text}");
    let text = shown(Question::SlowEvents, reports.slow_events(Duration::from_secs(3)));
    assert!(text.starts_with("0 events took 3.00 s or longer\n\n  none\n  considered "), "{text}");
}

#[test]
fn network_operations_say_where_they_went() {
    assert_eq!(
        shown(Question::FailedNetworkOperations, reports().failed_network_operations()),
        "\
1 network operation failed since 2026-11-23 12:00:00 UTC (40m 00s)

  STARTED       OPERATION  HOST            TASK    TOOK  SENT  RECEIVED  ERROR
  12:33:38.120  GET        127.0.0.1:4000  a.rs  1.20 s   0 B   1.5 KiB  503 Service Unavailable
  considered 1 record, none is missing since 2026-11-23 12:00:00 UTC
"
    );
}

#[test]
fn retries_are_spread_out() {
    assert_eq!(
        shown(Question::RetryStats, reports().retry_stats()),
        "\
3 retries in 2 events since 2026-11-23 12:00:00 UTC (40m 00s)
1 event with retries: 0 completed, 1 failed, 0 cancelled

How many events had how many retries
  RETRIES  EVENTS
        0       1  ##############################
        3       1  ##############################

By event name
  EVENT  EVENTS  RETRIES  WITH RETRIES  COMPLETED  FAILED  CANCELLED
  fetch       1        3             1          0       1          0
"
    );
}

#[test]
fn metrics_show_everything_by_name() {
    let text = shown(Question::Metrics, reports().metrics());
    for part in [
        "2 events: 1 completed, 1 failed, 0 cancelled, 3 retries\n",
        "1 network operation: 1 failed, 0 B sent, 1.5 KiB received\n",
        "Events by name\n  EVENT  COUNT  COMPLETED  FAILED",
        "\n  fetch      1          0       1          0        3   2.41 s",
        "Network operations by name\n  OPERATION  COUNT  FAILED",
        "The newest events\n  STARTED ",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    // What was cut is said.
    let text = shown(Question::Metrics, reports().with_limit(1).metrics());
    assert!(text.contains("  1 of 2 names are shown\n"), "{text}");
    assert!(text.contains("  1 of 2 are shown; considered 2 records"), "{text}");
}

#[test]
fn publishers_show_their_books_and_what_ails_them() {
    let status = json!([{
        "label": "archive", "type": "file", "state": "retrying", "reason": "disk full", "last_error": "disk full",
        "since": "2020-01-01T00:00:00.000000000Z", "attempts": 7, "failed_attempts": 2, "misreported_rows": 0,
        "breaker": "open", "next_attempt": "2020-01-01T00:00:15Z",
        "books": {"accepted": 10, "filtered": 1, "delivered": 2, "dead_lettered": 3, "backlog": 4,
                  "dropped": {"overflow": 0, "removed": 0, "shutdown": 0}},
        "a newer host": "says more"
    }]);
    let text = show(Question::Publishers, &status.to_string(), ROWS).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].contains(" 7 (2 failed)  never"), "{text}");
    // The last error is the reason: it is said once.
    assert_eq!(
        lines[2],
        "  archive: retrying since 2020-01-01 00:00:00, breaker open, next attempt 2020-01-01 00:00:15: disk full"
    );
    assert_eq!(show(Question::Publishers, "[]", ROWS).unwrap(), "  there is no publisher\n");
}

#[test]
fn a_failover_shows_its_members_beneath_it() {
    let member = |label: &str, state: &str, delivered: u64| {
        json!({
            "label": label, "type": "file", "state": state, "since": "2020-01-01T00:00:00Z", "delivered": delivered,
            "rejected": 0, "attempts": 3, "failed_attempts": 0, "misreported_rows": 0
        })
    };
    let mut search = member("search", "open", 5);
    for (key, value) in [
        ("reason", json!("connection refused")),
        ("last_error", json!("connection refused")),
        ("next_probe", json!("2020-01-01T00:00:05Z")),
        ("failed_attempts", json!(2)),
    ] {
        search[key] = value;
    }
    let mut inner = member("inner", "active", 7);
    inner["type"] = json!("composite");
    inner["detail"] =
        json!({"mode": "failover", "members": [member("here", "active", 7), member("there", "standby", 0)]});
    let status = json!([{
        "label": "safe", "type": "composite", "state": "running", "since": "2020-01-01T00:00:00Z", "attempts": 7,
        "failed_attempts": 1, "misreported_rows": 0,
        "books": {"accepted": 12, "filtered": 0, "delivered": 12, "dead_lettered": 0, "backlog": 0,
                  "dropped": {"overflow": 0, "removed": 0, "shutdown": 0}},
        "detail": {"mode": "failover", "active": "inner", "members": [search, inner]}
    }]);
    assert_eq!(
        show(Question::Publishers, &status.to_string(), ROWS).unwrap(),
        "  PUBLISHER  TYPE       STATE    ACCEPTED  DELIVERED  FILTERED  DEAD LETTERS  DROPPED  BACKLOG  BOOKS    CALLS         LAST DELIVERY
  safe       composite  running        12         12         0             0        0        0  balance  7 (1 failed)  never
    search   file       open            -          5         -             0        -        -  -        3 (2 failed)  never
    inner    composite  active          -          7         -             0        -        -  -        3             never
      here   file       active          -          7         -             0        -        -  -        3             never
      there  file       standby         -          0         -             0        -        -  -        3             never
  search: open since 2020-01-01 00:00:00, next probe 2020-01-01 00:00:05: connection refused
"
    );
}

#[test]
fn plugins_show_who_runs_them_and_what_they_say() {
    let report = json!([
        {"plugin": "rollup", "file": "/p/rollup.wasm", "digest": "0123456789abcdef", "publishers": [{
            "label": "rollup", "state": "running",
            "detail": {"interface": "0.1.0", "compile_ms": 54.2, "tier": "baseline", "cached": false, "calls": 12, "traps": 0,
                       "memory_bytes": 1_572_864, "memory_limit_bytes": 134_217_728, "log": ["info: one", "info: two"]}
        }]},
        {"plugin": "slow", "file": "/p/slow.wasm", "compiling": {"tier": "optimised", "elapsed_ms": 1_200.0}},
        {"plugin": "broken", "file": "/p/broken.wasm", "reason": "not a component", "publishers": []},
    ]);
    assert_eq!(
        show(Question::Plugins, &report.to_string(), ROWS).unwrap(),
        "  PLUGIN  PUBLISHER  STATE    INTERFACE  DIGEST               COMPILED IN  CALLS  TRAPS   MEMORY         OF
  rollup  rollup     running  0.1.0      0123456789ab…  baseline, 54.2 ms     12      0  1.5 MiB  128.0 MiB
  slow    -          idle     -          -                              -      -      -        -          -
  broken  -          idle     -          -                              -      -      -        -          -
  rollup says info: one
  rollup says info: two
  slow is being compiled (optimised), for 1.20 s by now
  broken (/p/broken.wasm): not a component
"
    );
}

#[test]
fn a_question_becomes_an_address() {
    let url = |line: &str| {
        let cli = <crate::cli::Cli as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
        let crate::cli::Command::Report(args) = cli.command else { panic!("not report") };
        question_url(&args).map(String::from).map_err(|failure| (failure.code, failure.message))
    };
    let local = "http://127.0.0.1:4680/v1/report/";
    assert_eq!(url("pressroom report metrics"), Ok(format!("{local}metrics?limit=20")));
    assert_eq!(url("pressroom report metrics --json"), Ok(format!("{local}metrics")));
    assert_eq!(url("pressroom report publishers"), Ok(format!("{local}publishers")));
    assert_eq!(
        url("pressroom report slow-events --threshold 500ms --limit 3 --url http://h:1/base/"),
        Ok("http://h:1/base/v1/report/slow-events?limit=3&threshold=500ms".to_owned())
    );
    let (code, message) = url("pressroom report metrics --threshold 2s").unwrap_err();
    assert_eq!(code, 2);
    assert!(message.starts_with("metrics has no --threshold"), "{message}");
}

#[test]
fn addresses_that_no_host_has_are_refused() {
    assert!(address("http://127.0.0.1:4680").is_ok());
    for wrong in ["127.0.0.1:4680", "ftp://host", "https://host", "http://", ""] {
        assert!(address(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let said =
        |status, with_token, body| refusal("http://h:1", "/v1/report/plugins", status, with_token, body);
    assert_eq!(
        said(StatusCode::UNAUTHORIZED, false, ""),
        "the host at http://h:1 wants its server.token: give it with --token or PRESSROOM_TOKEN"
    );
    assert!(said(StatusCode::UNAUTHORIZED, true, "").contains("does not take this token"));
    assert!(said(StatusCode::NOT_FOUND, false, "").contains("older than this command"));
    assert_eq!(
        said(StatusCode::BAD_REQUEST, false, r#"{"error":"limit is at most 100000"}"#),
        "the host at http://h:1 refused: limit is at most 100000"
    );
    assert!(said(StatusCode::BAD_GATEWAY, false, "<html>").contains("hardly a host"));
}

#[tokio::test]
async fn where_no_host_runs_it_is_said() {
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/v1/report/metrics")).unwrap();
    let failure = ask(&url, None).await.unwrap_err();
    assert_eq!(failure.code, 1);
    assert!(failure.message.contains("no host answers at http://127.0.0.1:"), "{}", failure.message);
    assert!(failure.message.contains("--url names another"), "{}", failure.message);
}
