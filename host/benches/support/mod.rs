//! What the benchmarks share: the median of what was measured, and the table that is printed.
//!
//! Two ways to do the same are measured in turns, A B A B, so that what else the machine does meets both; of each the
//! median is told.

#[allow(dead_code, reason = "the benchmark of recording makes its own")]
pub mod records;

use std::fmt::Write as _;
use std::time::Duration;

/// What was measured of two ways, in nanoseconds a record.
#[derive(Default)]
pub struct Pair {
    /// Ours.
    pub ours: Vec<f64>,
    /// What a user would pick instead.
    pub beside: Vec<f64>,
}

impl Pair {
    /// The median of the ratios of neighbours, which what changes slowly does not bend.
    pub fn ratio(&self) -> f64 {
        median(self.ours.iter().zip(&self.beside).map(|(ours, beside)| ours / beside).collect())
    }
}

/// The middle of `values`.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// Nanoseconds for each of `records`.
pub fn each(elapsed: Duration, records: usize) -> f64 {
    elapsed.as_nanos() as f64 / records as f64
}

/// What is held against a goal.
pub struct Goal {
    /// At most so many nanoseconds a record.
    pub nanos: Option<f64>,
    /// At most so many times what the other takes.
    pub ratio: Option<f64>,
}

/// The table, a row per pair.
#[derive(Default)]
pub struct Table(String);

impl Table {
    /// Adds a row; `ours` and `beside` say what was measured.
    pub fn row(&mut self, what: &str, ours: &str, beside: &str, pair: &Pair, goal: Option<Goal>) {
        let (nanos, other, ratio) = (median(pair.ours.clone()), median(pair.beside.clone()), pair.ratio());
        let said = goal.map_or("–".to_owned(), |goal| {
            let met =
                goal.nanos.is_none_or(|most| nanos <= most) && goal.ratio.is_none_or(|most| ratio <= most);
            let most = [
                goal.nanos.map(|most| format!("{most:.0} ns")),
                goal.ratio.map(|most| format!("{most:.2}×")),
            ];
            let most = most.into_iter().flatten().collect::<Vec<_>>().join(", ");
            format!("≤ {most}: {}", if met { "reached" } else { "missed" })
        });
        let line =
            format!("| {what} | {ours}: {nanos:.0} ns | {beside}: {other:.0} ns | {ratio:.2}× | {said} |");
        eprintln!("{line}");
        let _ = writeln!(self.0, "{line}");
    }

    /// Prints it as Markdown.
    pub fn print(&self) {
        println!(
            "\n| per record | Pressroom | beside | ratio | goal |\n| --- | --- | --- | --- | --- |\n{}",
            self.0
        );
    }
}
