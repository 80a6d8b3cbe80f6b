//! `pressroom plugin bench`: what does publishing through this file cost?
//!
//! Invariant: what is timed is the call as delivery makes it; making the records is not.

use super::super::{Failure, block_on, to_stdout, words};
use super::check::batches::{event, operation, rows};
use super::sandbox::{Sandbox, SectionArgs, Subject};
use crate::publisher::PublishResult;
use crate::record::{EventBatch, NetworkBatch};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use words::Column;

/// Rows of a batch.
const ROWS: u64 = 1_024;
/// Calls before those that count.
const WARM_UP: u32 = 10;
const LEAST_CALLS: u32 = 10;

/// Measure what publishing through a plugin costs
///
/// Publishes batches of 1,024 records in the sandbox and says what a record costs, in nanoseconds, medians: once with
/// what the host renders or builds for the plugin (its first reader pays for that), and once where another publisher has
/// had it before. Without a section of a configuration it has no settings and no grants; with one, what it publishes
/// arrives where the section leads.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin bench rollup.wasm
  pressroom plugin bench alerts.wasm --config pressroom.toml --seconds 10")]
pub(super) struct Args {
    /// The component
    file: PathBuf,
    #[command(flatten)]
    section: SectionArgs,
    /// How long each row of the table is measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// The calls of one kind.
#[derive(Default)]
struct Calls {
    /// What each took.
    took: Vec<Duration>,
    /// How many were answered by anything but `ok`, and the last such answer.
    declined: u32,
    answer: String,
}

pub(super) fn bench(args: &Args) -> Result<(), Failure> {
    let sandbox = Sandbox::new(&args.file, &args.section)?;
    let budget = Duration::from_secs(args.seconds);
    block_on(async {
        let mut subject = sandbox.start().await?;
        until_optimised(&mut subject).await;
        let mut table = Vec::new();
        let mut notes = String::new();
        if let Some(cause) = subject.text("optimised_failed") {
            notes = format!(
                "measured on baseline code, for no other could be made: {}\n",
                words::cut(&cause, 300)
            );
        }
        for (name, is_events, is_fresh) in [
            ("events, view made for it", true, true),
            ("events, view there already", true, false),
            ("operations, view made for it", false, true),
            ("operations, view there already", false, false),
        ] {
            let calls = measure(&mut subject, budget, is_events, is_fresh).await;
            table.push(row(name, &calls));
            if calls.declined > 0 {
                notes = format!(
                    "some calls were not answered ok, the last: {}\n",
                    words::cut(&calls.answer, 300)
                );
            }
        }
        let columns = [
            Column::Text(""),
            Column::Figure("ns per record"),
            Column::Figure("slowest of 100"),
            Column::Figure("calls/s"),
        ];
        let text = words::table(&columns, table, "");
        to_stdout(&format!("{text}{notes}{}; batches of {ROWS}", subject.footprint()))?;
        Ok(())
    })
}

/// A new plugin begins on code that is quickly made; what is measured is what it will run on.
async fn until_optimised(subject: &mut Subject) {
    for number in 0.. {
        let is_optimised = subject.text("tier").is_some_and(|tier| tier == "optimised");
        if is_optimised || subject.text("optimised_failed").is_some() {
            return;
        }
        // The other code takes over where a batch begins.
        let _ = subject.publisher.publish_event_metrics(&EventBatch::detached(rows(number, 1, event))).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn measure(subject: &mut Subject, budget: Duration, is_events: bool, is_fresh: bool) -> Calls {
    let mut calls = Calls::default();
    let events = EventBatch::detached(rows(0, ROWS, event));
    let operations = NetworkBatch::detached(rows(0, ROWS, operation));
    let until = Instant::now() + budget;
    for call in 0_u32.. {
        if call >= WARM_UP + LEAST_CALLS && Instant::now() >= until {
            break;
        }
        // A new batch has no views yet.
        let (answer, took) = match (is_events, is_fresh) {
            (true, true) => timed_events(subject, &EventBatch::detached(rows(0, ROWS, event))).await,
            (true, false) => timed_events(subject, &events).await,
            (false, true) => {
                timed_operations(subject, &NetworkBatch::detached(rows(0, ROWS, operation))).await
            }
            (false, false) => timed_operations(subject, &operations).await,
        };
        if call < WARM_UP {
            continue;
        }
        calls.took.push(took);
        if let Err(error) = answer {
            calls.declined += 1;
            calls.answer = error.to_string();
        }
    }
    calls.took.sort_unstable();
    calls
}

async fn timed_events(subject: &mut Subject, batch: &EventBatch) -> (PublishResult, Duration) {
    let began = Instant::now();
    let answer = subject.publisher.publish_event_metrics(batch).await;
    (answer, began.elapsed())
}

async fn timed_operations(subject: &mut Subject, batch: &NetworkBatch) -> (PublishResult, Duration) {
    let began = Instant::now();
    let answer = subject.publisher.publish_network_metrics(batch).await;
    (answer, began.elapsed())
}

fn row(name: &str, calls: &Calls) -> Vec<String> {
    let at = |part: f64| {
        let last = calls.took.len().saturating_sub(1);
        calls.took.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    };
    let each = |took: Duration| format!("{:.0}", took.as_secs_f64() * 1e9 / ROWS as f64);
    let all: Duration = calls.took.iter().sum();
    let rate = calls.took.len() as f64 / all.as_secs_f64().max(1e-9);
    vec![name.to_owned(), each(at(0.5)), each(at(0.99)), words::count(rate as u64)]
}
