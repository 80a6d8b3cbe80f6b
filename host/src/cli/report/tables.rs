//! Answers as tables.
//!
//! Invariant: every list says how many there are, how many are shown, and since when none is missing.

mod members;
mod state;
mod statistics;

pub(in crate::cli) use state::{Publisher, plugins, publishers};
pub(in crate::cli) use statistics::{metrics, retry_stats};

use crate::cli::words::{self, Column, bytes, count, counted, cut, seconds, time};
use crate::record::Timestamp;
use crate::report::{
    FailedEvents, FailedNetworkOperations, Listed, ReportedEvent, ReportedOperation, SlowEvents,
    SlowNetworkOperations,
};

/// How wide names, ids and errors may be.
const NAME: usize = 32;
const ERROR: usize = 64;

pub(in crate::cli) fn failed_events(report: &FailedEvents) -> String {
    format!(
        "{} failed {}\n\n{}",
        counted(report.failed_since_start, "event"),
        since_start(report.started, report.generated),
        events_table(&report.events, report.generated)
    )
}

pub(in crate::cli) fn slow_events(report: &SlowEvents) -> String {
    format!(
        "{} took {} or longer\n\n{}",
        counted(report.events.total as u64, "event"),
        seconds(report.threshold_seconds),
        events_table(&report.events, report.generated)
    )
}

pub(in crate::cli) fn failed_operations(report: &FailedNetworkOperations) -> String {
    format!(
        "{} failed {}\n\n{}",
        counted(report.failed_since_start, "network operation"),
        since_start(report.started, report.generated),
        operations_table(&report.operations, report.generated)
    )
}

pub(in crate::cli) fn slow_operations(report: &SlowNetworkOperations) -> String {
    format!(
        "{} took {} or longer\n\n{}",
        counted(report.operations.total as u64, "network operation"),
        seconds(report.threshold_seconds),
        operations_table(&report.operations, report.generated)
    )
}

fn events_table(list: &Listed<ReportedEvent>, now: Timestamp) -> String {
    let columns = [
        Column::Text("started"),
        Column::Text("event"),
        Column::Text("task"),
        Column::Text("pipeline"),
        Column::Text("status"),
        Column::Figure("took"),
        Column::Figure("retries"),
        Column::Text("error"),
    ];
    let rows = list.rows.iter().map(|row| {
        let event = &row.event;
        vec![
            time(event.start_time, now),
            cut(&event.event_name, NAME),
            cut(&event.task_id, NAME),
            cut(event.pipeline_id.as_deref().unwrap_or("-"), NAME),
            event.status.as_str().to_owned(),
            took(row.duration_seconds, row.running_seconds),
            count(event.retry_count.into()),
            cut(event.error.as_deref().unwrap_or(""), ERROR),
        ]
    });
    words::table(&columns, rows, "none") + &scope(list)
}

fn operations_table(list: &Listed<ReportedOperation>, now: Timestamp) -> String {
    let columns = [
        Column::Text("started"),
        Column::Text("operation"),
        Column::Text("host"),
        Column::Text("task"),
        Column::Figure("took"),
        Column::Figure("sent"),
        Column::Figure("received"),
        Column::Text("error"),
    ];
    let rows = list.rows.iter().map(|row| {
        let operation = &row.operation;
        let host = cut(&operation.host, NAME);
        vec![
            time(operation.start_time, now),
            cut(&operation.operation, NAME),
            if operation.port == 0 { host } else { format!("{host}:{}", operation.port) },
            cut(&operation.task_id, NAME),
            took(row.latency_seconds, row.running_seconds),
            bytes(operation.bytes_sent),
            bytes(operation.bytes_received),
            cut(operation.error.as_deref().unwrap_or(""), ERROR),
        ]
    });
    words::table(&columns, rows, "none") + &scope(list)
}

fn took(ended: Option<f64>, running: Option<f64>) -> String {
    match (ended, running) {
        (Some(took), _) => seconds(took),
        (None, Some(running)) => format!("{} so far", seconds(running)),
        (None, None) => "-".to_owned(),
    }
}

fn scope<T>(list: &Listed<T>) -> String {
    let shown = match (list.shown, list.total) {
        (shown, total) if shown < total => {
            format!("{} of {} are shown; ", count(shown as u64), count(total as u64))
        }
        _ => String::new(),
    };
    let considered = counted(list.considered as u64, "record");
    format!("  {shown}considered {considered}, none is missing since {}\n", words::date(list.complete_since))
}

fn since_start(started: Timestamp, generated: Timestamp) -> String {
    format!("since {} ({})", words::date(started), words::duration(generated.since(started)))
}
