//! Statistics as tables: everything by name, and retries.

use super::{ERROR, NAME, events_table, operations_table, since_start, took};
use crate::cli::words::{self, Column, bytes, count, counted, cut, seconds, time};
use crate::report::{ByName, EventStatistics, MetricsReport, OperationStatistics, Quantiles, RetryStats};

pub(in crate::cli) fn metrics(report: &MetricsReport) -> String {
    let (events, operations) = (&report.totals.events, &report.totals.operations);
    let mut out = format!(
        "{}: {} completed, {} failed, {} cancelled, {}\n{}: {} failed, {} sent, {} received\n{}\n",
        counted(events.count, "event"),
        count(events.completed),
        count(events.failed),
        count(events.cancelled),
        words::retries(events.retries),
        counted(operations.count, "network operation"),
        count(operations.failed),
        bytes(operations.bytes_sent),
        bytes(operations.bytes_received),
        since_start(report.started, report.generated),
    );
    out.push_str("\nEvents by name\n");
    out.push_str(&event_statistics(&report.events));
    out.push_str("\nNetwork operations by name\n");
    out.push_str(&operation_statistics(&report.operations));
    out.push_str("\nThe newest events\n");
    out.push_str(&events_table(&report.recent_events, report.generated));
    out.push_str("\nThe newest network operations\n");
    out.push_str(&operations_table(&report.recent_operations, report.generated));
    out.push_str(&pending(report));
    out
}

pub(in crate::cli) fn retry_stats(report: &RetryStats) -> String {
    let mut out = format!(
        "{} in {} {}\n{} with retries: {} completed, {} failed, {} cancelled\n",
        words::retries(report.retries),
        counted(report.events, "event"),
        since_start(report.started, report.generated),
        counted(report.events_with_retries, "event"),
        count(report.completed_after_retry),
        count(report.failed_after_retry),
        count(report.cancelled_after_retry),
    );
    let spread = &report.retry_distribution;
    let spread = [
        ("0", spread.none),
        ("1", spread.one),
        ("2", spread.two),
        ("3", spread.three),
        ("4", spread.four),
        ("5", spread.five),
        ("6-10", spread.six_to_ten),
        ("11+", spread.more),
    ];
    out.push_str("\nHow many events had how many retries\n");
    let columns = [Column::Figure("retries"), Column::Figure("events"), Column::Text("")];
    let most = spread.iter().map(|(_, events)| *events).max().unwrap_or(0);
    let rows = spread
        .iter()
        .filter(|(_, events)| *events > 0)
        .map(|(retries, events)| vec![(*retries).to_owned(), count(*events), bar(*events, most)]);
    out.push_str(&words::table(&columns, rows, "no events"));

    out.push_str("\nBy event name\n");
    let columns = [
        Column::Text("event"),
        Column::Figure("events"),
        Column::Figure("retries"),
        Column::Figure("with retries"),
        Column::Figure("completed"),
        Column::Figure("failed"),
        Column::Figure("cancelled"),
    ];
    let rows = with_other(&report.by_name).map(|row| {
        let figures = [
            row.events,
            row.retries,
            row.events_with_retries,
            row.completed_after_retry,
            row.failed_after_retry,
            row.cancelled_after_retry,
        ];
        [cut(&row.event_name, NAME)].into_iter().chain(figures.map(count)).collect()
    });
    out.push_str(&words::table(&columns, rows, "nothing was tried again"));
    out.push_str(&names_scope(&report.by_name));
    out
}

fn event_statistics(names: &ByName<EventStatistics>) -> String {
    let columns = [
        Column::Text("event"),
        Column::Figure("count"),
        Column::Figure("completed"),
        Column::Figure("failed"),
        Column::Figure("cancelled"),
        Column::Figure("retries"),
        Column::Figure("mean"),
        Column::Figure("p50"),
        Column::Figure("p95"),
        Column::Figure("p99"),
        Column::Figure("max"),
    ];
    let rows = with_other(names).map(|row| {
        let counts = &row.counts;
        let figures = [counts.count, counts.completed, counts.failed, counts.cancelled, counts.retries];
        let mut cells = vec![cut(&row.event_name, NAME)];
        cells.extend(figures.map(count));
        cells.extend(quantiles(row.duration_seconds.as_ref()));
        cells
    });
    words::table(&columns, rows, "none yet") + &names_scope(names)
}

fn operation_statistics(names: &ByName<OperationStatistics>) -> String {
    let columns = [
        Column::Text("operation"),
        Column::Figure("count"),
        Column::Figure("failed"),
        Column::Figure("sent"),
        Column::Figure("received"),
        Column::Figure("mean"),
        Column::Figure("p50"),
        Column::Figure("p95"),
        Column::Figure("p99"),
        Column::Figure("max"),
    ];
    let rows = with_other(names).map(|row| {
        let counts = &row.counts;
        let mut cells = vec![cut(&row.operation, NAME), count(counts.count), count(counts.failed)];
        cells.extend([bytes(counts.bytes_sent), bytes(counts.bytes_received)]);
        cells.extend(quantiles(row.latency_seconds.as_ref()));
        cells
    });
    words::table(&columns, rows, "none yet") + &names_scope(names)
}

fn quantiles(quantiles: Option<&Quantiles>) -> [String; 5] {
    match quantiles {
        Some(of) => [of.mean, of.p50, of.p95, of.p99, of.max].map(seconds),
        None => std::array::from_fn(|_| "-".to_owned()),
    }
}

fn pending(report: &MetricsReport) -> String {
    let pending = &report.pending;
    let columns = [
        Column::Text("started"),
        Column::Text("pending"),
        Column::Text("task"),
        Column::Figure("took"),
        Column::Figure("retries"),
    ];
    let events = pending.events.iter().map(|row| {
        let event = &row.event;
        let took = took(row.duration_seconds, row.running_seconds);
        (event.start_time, &event.event_name, &event.task_id, took, count(event.retry_count.into()))
    });
    let operations = pending.operations.iter().map(|row| {
        let operation = &row.operation;
        let took = took(row.latency_seconds, row.running_seconds);
        (operation.start_time, &operation.operation, &operation.task_id, took, String::new())
    });
    let mut rows: Vec<_> = events.chain(operations).collect();
    rows.sort_by_key(|(start, ..)| *start);
    let mut out = String::new();
    if !rows.is_empty() {
        let rows = rows.into_iter().map(|(start, name, task, took, retries)| {
            vec![time(start, report.generated), cut(name, NAME), cut(task, NAME), took, retries]
        });
        out.push_str("\nStarted and not ended, the longest running first\n");
        out.push_str(&words::table(&columns, rows, "none"));
    }
    let problems: Vec<_> = pending
        .recorder
        .iter()
        .filter(|(what, number)| **number > 0 && *what != "finished")
        .map(|(what, number)| format!("{} {}", count(*number), cut(what, ERROR).replace('_', " ")))
        .collect();
    if !problems.is_empty() {
        out.push_str(&format!("\nThe recorder counted {}\n", problems.join(", ")));
    }
    out
}

fn with_other<T>(names: &ByName<T>) -> impl Iterator<Item = &T> {
    names.rows.iter().chain(&names.other)
}

fn names_scope<T>(names: &ByName<T>) -> String {
    let mut out = String::new();
    if names.shown < names.names {
        let shown = count(names.shown as u64);
        out = format!("  {shown} of {} are shown\n", counted(names.names as u64, "name"));
    }
    if names.names_in_other > 0 {
        let more = counted(names.names_in_other as u64, "further name");
        out.push_str(&format!("  `other` is {more} together\n"));
    }
    out
}

fn bar(number: u64, most: u64) -> String {
    // At least one mark for what is not nothing.
    let marks = (number.saturating_mul(30) / most.max(1)).max(1);
    "#".repeat(usize::try_from(marks).unwrap_or(30))
}
