//! Compares what the pipeline counted by itself with what reports, `/metrics` and the file say.
//!
//! Invariant: every figure of the pipeline's tally is compared; one that differs fails the demonstration.

use super::pipeline::Tally;
use crate::cli::words::{self, Column, count};
use crate::report::MetricsReport;

/// What is compared: a figure by the pipeline's own count, by the reports, and by a scrape.
pub(super) struct Comparison {
    what: String,
    recorded: u64,
    reported: u64,
    /// Some figures are in the reports only.
    scraped: Option<u64>,
}

pub(super) fn compare(tally: &Tally, report: &MetricsReport, scrape: &str) -> Vec<Comparison> {
    let mut all = Vec::new();
    for ((name, status), recorded) in &tally.events {
        let row = report.events.rows.iter().find(|row| row.event_name == *name);
        let reported = row.map_or(0, |row| match *status {
            "completed" => row.counts.completed,
            _ => row.counts.failed,
        });
        let labels = [("event_name", *name), ("status", *status)];
        let scraped = Some(sum(scrape, "event_duration_seconds_count", &labels));
        all.push(Comparison { what: format!("{name} {status}"), recorded: *recorded, reported, scraped });
    }
    let events = report.totals.events;
    all.push(Comparison {
        what: "all events".to_owned(),
        recorded: tally.events_total(),
        reported: events.count,
        scraped: Some(sum(scrape, "event_duration_seconds_count", &[])),
    });
    all.push(Comparison {
        what: "retries".to_owned(),
        recorded: tally.retries_total(),
        reported: events.retries,
        scraped: Some(sum(scrape, "event_retries_total", &[])),
    });
    let operations = report.totals.operations;
    all.push(Comparison {
        what: "network operations".to_owned(),
        recorded: tally.operations,
        reported: operations.count,
        scraped: Some(sum(scrape, "network_latency_seconds_count", &[])),
    });
    all.push(Comparison {
        what: "failed network operations".to_owned(),
        recorded: tally.failed_operations,
        reported: operations.failed,
        scraped: Some(sum(scrape, "network_errors_total", &[])),
    });
    all.push(Comparison {
        what: "bytes received".to_owned(),
        recorded: tally.bytes_received,
        reported: operations.bytes_received,
        scraped: Some(sum(scrape, "network_bytes_total", &[("direction", "received")])),
    });
    all
}

impl Comparison {
    /// A figure that is not in a scrape: how many lines the file has.
    pub(super) fn of_file(tally: &Tally, lines: u64) -> Self {
        let recorded = tally.events_total() + tally.operations;
        Self { what: "lines in the file".to_owned(), recorded, reported: lines, scraped: None }
    }

    pub(super) fn agrees(&self) -> bool {
        self.recorded == self.reported && self.scraped.is_none_or(|scraped| scraped == self.recorded)
    }
}

pub(super) fn table(all: &[Comparison]) -> String {
    let columns = [
        Column::Text("what"),
        Column::Figure("recorded"),
        Column::Figure("reported"),
        Column::Figure("/metrics"),
        Column::Text(""),
    ];
    let rows = all.iter().map(|one| {
        let scraped = one.scraped.map_or_else(|| "-".to_owned(), count);
        let verdict = if one.agrees() { "equal" } else { "DIFFERS" };
        vec![one.what.clone(), count(one.recorded), count(one.reported), scraped, verdict.to_owned()]
    });
    words::table(&columns, rows, "nothing was recorded")
}

/// The sum of a metric's samples that have all of `labels`.
fn sum(scrape: &str, metric: &str, labels: &[(&str, &str)]) -> u64 {
    let samples = scrape.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?.strip_prefix('{')?;
        let (found, value) = rest.rsplit_once("} ")?;
        let has =
            |(key, value): &(&str, &str)| found.split(',').any(|pair| pair == format!("{key}=\"{value}\""));
        labels.iter().all(has).then_some(value)?.trim().parse::<f64>().ok()
    });
    // Whole numbers below 2^53: nothing is rounded.
    samples.sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_their_labels() {
        let scrape = "# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"2\",y=\"2\"} 4\na_total_more{x=\"1\"} 9\n";
        assert_eq!(sum(scrape, "a_total", &[]), 7);
        assert_eq!(sum(scrape, "a_total", &[("x", "1")]), 3);
        assert_eq!(sum(scrape, "a_total", &[("y", "2"), ("x", "2")]), 4);
        assert_eq!(sum(scrape, "b_total", &[]), 0);
    }

    #[test]
    fn one_figure_that_differs_is_shown() {
        let mut tally = Tally { operations: 2, ..Tally::default() };
        tally.events.insert(("read", "completed"), 3);
        assert!(Comparison::of_file(&tally, 5).agrees());
        let wrong = Comparison::of_file(&tally, 4);
        assert!(!wrong.agrees());
        assert!(table(&[wrong]).contains("DIFFERS"));
    }
}
