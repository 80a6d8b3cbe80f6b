//! The host's own metrics, in the text exposition format.

use super::composite;
use crate::delivery::PublisherStatus;
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
    let own = [("publisher", label), ("type", status.kind.as_ref())];
    let publisher = [("publisher", label)];
    if *status.kind == *composite::TYPE {
        out = expose_members(out, label, status.detail.as_ref());
    }
    out.gauge(
        "pressroom_publisher_backlog_records",
        "Records that are yet to be published.",
        &publisher,
        books.backlog,
    )
    .gauge(
        "pressroom_publisher_up",
        "1 while a publisher is at work, 0 while it retries, is held, waits or has failed.",
        &own,
        matches!(status.state, crate::delivery::State::Running),
    )
    .counter("pressroom_publisher_attempts_total", "Calls of a publisher.", &publisher, status.attempts)
    .counter(
        "pressroom_publisher_failed_attempts_total",
        "Calls of a publisher that failed, wholly or for some rows.",
        &publisher,
        status.failed_attempts,
    )
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
        out = expose_members(out, publisher, told.get("detail"));
    }
    out
}
