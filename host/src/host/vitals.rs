//! The host's own metrics, in the text exposition format.

use super::composite;
use crate::delivery::{PublisherStatus, State};
use crate::journal::Journal;
use crate::recorder::Recorder;
use crate::report::{Exposition, Reports};
use serde_json::Value;

/// Everything that the host says of itself.
pub(super) fn expose(
    publishers: &[PublisherStatus],
    journal: &Journal,
    recorder: &Recorder,
    reports: &Reports,
    started: std::time::Instant,
) -> Exposition {
    let held = journal.held();
    let counts = recorder.counts();
    let mut out = Exposition::new()
        .gauge("pressroom_info", "The host's version.", &[("version", env!("CARGO_PKG_VERSION"))], 1_u64)
        .gauge("pressroom_uptime_seconds", "How long the host has run.", &[], started.elapsed().as_secs_f64())
        .counter("pressroom_accepted_records_total", "Records appended to the journal.", &[], held.accepted)
        .gauge("pressroom_journal_records", "Records that some publisher has not passed.", &[], held.records)
        .gauge("pressroom_journal_bytes", "What the journal holds, views included.", &[], held.bytes)
        .gauge("pressroom_pending_records", "Records that have started and not ended.", &[], counts.pending);
    let recorder_help = "What recorders could not record as asked, by what happened.";
    for (what, count) in counts.problems() {
        out = out.counter("pressroom_recorder_problems_total", recorder_help, &[("what", what)], count);
    }
    publishers.iter().fold(reports.expose(out), expose_publisher)
}

fn expose_publisher(mut out: Exposition, status: &PublisherStatus) -> Exposition {
    let (label, books) = (status.label.as_ref(), status.books);
    for (outcome, count) in [
        ("filtered", books.filtered),
        ("delivered", books.delivered),
        ("dead_lettered", books.dead_lettered),
        ("dropped_overflow", books.dropped.overflow),
        ("dropped_removed", books.dropped.removed),
        ("dropped_shutdown", books.dropped.shutdown),
    ] {
        let labels = [("publisher", label), ("outcome", outcome)];
        let help = "What became of a publisher's records.";
        out = out.counter("pressroom_publisher_records_total", help, &labels, count);
    }
    for state in State::ALL {
        let labels = [("publisher", label), ("state", state.as_str())];
        let help = "1 for the state that a publisher is in, 0 for the others.";
        out = out.gauge("pressroom_publisher_state", help, &labels, state == status.state);
    }
    let own = [("publisher", label), ("type", status.kind.as_ref())];
    let publisher = [("publisher", label)];
    let out = out
        .gauge(
            "pressroom_publisher_up",
            "1 while a publisher is at work, 0 while it retries, is held, waits or has failed.",
            &own,
            status.state == State::Running,
        )
        .gauge(
            "pressroom_publisher_update_failed",
            "1 while a publisher's newest settings or plugin file cannot run and the version before goes on.",
            &publisher,
            status.update_failed.is_some(),
        )
        .gauge(
            "pressroom_publisher_backlog_records",
            "Records that are yet to be published.",
            &publisher,
            books.backlog,
        )
        .gauge(
            "pressroom_publisher_backlog_age_seconds",
            "How long the oldest record of the backlog has been waiting; 0 where there is none.",
            &publisher,
            status.backlog_age_seconds,
        )
        .gauge(
            "pressroom_publisher_refused_waiting_records",
            "Records of the backlog that a publisher refused, and that wait to be written to the dead letters.",
            &publisher,
            status.refused_waiting,
        )
        .counter("pressroom_publisher_attempts_total", "Calls of a publisher.", &publisher, status.attempts)
        .counter(
            "pressroom_publisher_failed_attempts_total",
            "Calls of a publisher that failed, wholly or for some rows.",
            &publisher,
            status.failed_attempts,
        )
        .counter(
            "pressroom_publisher_attempt_seconds_total",
            "How long all calls of a publisher took together.",
            &publisher,
            status.attempt_seconds,
        );
    match &status.detail {
        Some(detail) if &*status.kind == "wasm" => expose_plugin(out, label, detail),
        Some(detail) if &*status.kind == "prometheus" => expose_listener(out, label, detail),
        detail if *status.kind == *composite::TYPE => expose_members(out, label, detail.as_ref()),
        _ => out,
    }
}

/// Scrapes that a listener refused, by reason.
fn expose_listener(mut out: Exposition, label: &str, detail: &Value) -> Exposition {
    for (reason, count) in detail["refused"].as_object().into_iter().flatten() {
        out = out.counter(
            "pressroom_scrape_refused_total",
            "Scrapes that were refused for their head: Host (hosts), Origin, the token.",
            &[("publisher", label), ("reason", reason)],
            count.as_u64().unwrap_or_default(),
        );
    }
    out
}

/// What a plugin's status says of itself, as far as it is a number. A plugin that was replaced begins anew.
fn expose_plugin(out: Exposition, label: &str, detail: &Value) -> Exposition {
    let number = |key: &str| detail.get(key).and_then(Value::as_u64).unwrap_or_default();
    let publisher = [("publisher", label)];
    let mut out = out
        .gauge(
            "pressroom_plugin_memory_bytes",
            "What a plugin's instances make the host hold.",
            &publisher,
            number("memory_bytes"),
        )
        .gauge(
            "pressroom_plugin_memory_limit_bytes",
            "What it may hold: limits.memory.",
            &publisher,
            number("memory_limit_bytes"),
        );
    for (name, help, value) in [
        (
            "pressroom_plugin_quarantined",
            "1 for a plugin that is not asked any more until it changes or is reset.",
            u64::from(detail.get("state").is_some_and(|state| state == "quarantined")),
        ),
        (
            "pressroom_plugin_strikes",
            "Instances in a row that died and had done nothing; limits.strikes of them are a quarantine.",
            number("strikes"),
        ),
        ("pressroom_plugin_instances", "Instances that are alive.", number("instances")),
    ] {
        out = out.gauge(name, help, &publisher, value);
    }
    let discarded = number("traps") + number("timeouts") + number("calls_given_up");
    let help = "Instances that were discarded, or could not be started: trap, panic, limit, deadline, call given up.";
    out = out.counter("pressroom_plugin_failures_total", help, &publisher, discarded);
    for (name, help, key) in [
        ("pressroom_plugin_calls_total", "Calls into a plugin.", "calls"),
        (
            "pressroom_plugin_instances_started_total",
            "Instances of a plugin that came to life.",
            "instances_started",
        ),
        (
            "pressroom_plugin_instances_retired_total",
            "Instances that made way for a fresh one before they reached their memory's limit.",
            "instances_retired",
        ),
        (
            "pressroom_plugin_poisoned_records_total",
            "Records that became dead letters because instances die of them.",
            "poisoned_records",
        ),
        (
            "pressroom_plugin_log_lines_dropped_total",
            "Log lines of a plugin beyond what it may write.",
            "log_lines_dropped",
        ),
        ("pressroom_plugin_http_requests_total", "Requests that a plugin asked for.", "http_requests"),
        (
            "pressroom_plugin_http_failed_total",
            "Requests of a plugin that were let out and not answered.",
            "http_failed",
        ),
        (
            "pressroom_plugin_http_denied_total",
            "Requests of a plugin that were not let out: not granted, or beyond a limit.",
            "http_denied",
        ),
        (
            "pressroom_plugin_sockets_denied_total",
            "Sockets of a plugin to what is not granted.",
            "sockets_denied",
        ),
    ] {
        out = out.counter(name, help, &publisher, number(key));
    }
    out
}

/// What a failover tells of its members, those within a member included.
fn expose_members(mut out: Exposition, publisher: &str, detail: Option<&Value>) -> Exposition {
    for told in composite::members(detail) {
        let text = |key: &str| told[key].as_str().unwrap_or_default();
        let count = |key: &str| told[key].as_u64().unwrap_or_default();
        let member = [("publisher", publisher), ("member", text("label"))];
        for outcome in ["delivered", "rejected"] {
            let labels = [member[0], member[1], ("outcome", outcome)];
            let help = "What became of records at a failover's member.";
            out = out.counter("pressroom_failover_member_records_total", help, &labels, count(outcome));
        }
        out = out
            .counter(
                "pressroom_failover_member_attempts_total",
                "Attempts at a failover's member.",
                &member,
                count("attempts"),
            )
            .counter(
                "pressroom_failover_member_failed_attempts_total",
                "Attempts at a failover's member that failed, wholly or for some rows.",
                &member,
                count("failed_attempts"),
            )
            .gauge(
                "pressroom_failover_member_up",
                "1 while a failover's member takes records or stands by, 0 while it is out.",
                &member,
                matches!(text("state"), "active" | "standby"),
            )
            .gauge(
                "pressroom_failover_member_active",
                "1 for the member that a failover's records go to.",
                &member,
                text("state") == "active",
            );
        out = match told.get("detail") {
            Some(detail) if text("type") == "wasm" => expose_plugin(out, text("label"), detail),
            detail => expose_members(out, publisher, detail),
        };
    }
    out
}
