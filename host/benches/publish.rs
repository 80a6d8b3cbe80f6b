//! What publishing a batch of 1,024 events costs: through a plugin by each view, beside the same whole job done
//! natively. Every batch is a fresh one, so what the host renders or builds for it is within the time of both.
//!
//! - `encode`: the plugin `ndjson` writes the lines that the host rendered; natively the publisher `file` does.
//!   Neither syncs within a batch.
//! - `columns`: the plugin `rollup` counts, and takes quantiles; natively the very same code does, over the same columns.
//! - all fields read: a guest adds up every field of every row, by either view; natively that is a loop over records.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../src/wasm/tests/guests.rs"]
mod guests;
#[path = "../../plugins/rollup/src/rollup.rs"]
#[allow(dead_code, reason = "a report is no part of the measurement")]
mod rollup;
mod support;

use pressroom::publisher::{Context, PublishResult, Publisher, PublisherType};
use pressroom::publishers::FilePublisher;
use pressroom::record::{EventBatch, EventMetrics, NetworkBatch, Timestamp};
use pressroom::wasm::{HostSettings, PluginHost, WasmConfig};
use rollup::{EventTotals, Events, Rollup, Texts};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use support::records::event;
use support::{Goal, Pair, Table, each};

/// Rows of a batch.
const ROWS: u32 = 1_024;
const ROUNDS: usize = 400;
/// Rounds that are not counted.
const WARM_UP: usize = 40;
/// So often files are synced and emptied, outside of what is timed.
const TIDY: usize = 40;

/// The rollup as a native publisher.
struct NativeRollup(Rollup<EventTotals>);

#[async_trait::async_trait]
impl Publisher for NativeRollup {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        let columns = events.columns();
        self.0.add(Events {
            names: Texts { values: &columns.event_name.values, ends: &columns.event_name.ends },
            starts: &columns.start_time,
            ends: &columns.end_time,
            status: &columns.status,
            retries: &columns.retry_count,
        });
        Ok(Vec::new())
    }

    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        Ok(Vec::new())
    }
}

/// Adds up every field of every row, as the guest `hostile` does it.
#[derive(Default)]
struct NativeReader(usize);

#[async_trait::async_trait]
impl Publisher for NativeReader {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        for row in events.iter() {
            self.0 += row.event_name.len() + row.task_id.len() + row.id.as_bytes().len();
            self.0 += row.pipeline_id.as_ref().map_or(0, |text| text.len() + 1);
            self.0 += row.error.as_ref().map_or(0, |text| text.len() + 1);
            self.0 +=
                row.attributes.iter().map(|(key, value)| key.len() + value.as_text().len()).sum::<usize>();
            let numbers = [
                row.process_id.map_or(0, u64::from),
                row.start_time.as_nanos(),
                row.end_time.map_or(0, Timestamp::as_nanos),
                row.status as u64,
                row.retry_count.into(),
            ];
            let bytes =
                numbers.iter().map(|number| (u64::BITS - number.leading_zeros()).div_ceil(8) as usize);
            self.0 += bytes.sum::<usize>();
        }
        black_box(self.0);
        Ok(Vec::new())
    }

    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        Ok(Vec::new())
    }
}

type Subject = Box<dyn Publisher>;

async fn plugin(host: &PluginHost, name: &str, section: &str, dir: &Path) -> Subject {
    let config: WasmConfig = toml::from_str(section).unwrap();
    host.factory(config, guests::plugin(name))(Context::detached(name, dir)).await.unwrap()
}

/// Whether views are there already when a publisher is called, because another one has asked for them.
#[derive(Clone, Copy, PartialEq)]
enum Views {
    Fresh,
    Columns,
}

/// Publishes the same events to both, in turns, a fresh batch each time.
async fn measure(mut ours: Subject, mut beside: Subject, views: Views, files: &[&Path]) -> Pair {
    let events: Vec<_> = (0..ROWS).map(event).collect();
    let mut pair = Pair::default();
    for round in 0..ROUNDS + WARM_UP {
        let tidy = round % TIDY == 0;
        if tidy {
            ours.flush().await.unwrap();
            beside.flush().await.unwrap();
            for file in files.iter().filter(|file| file.exists()) {
                std::fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap();
            }
        }
        // Who comes first changes, for the one leaves the allocator as the other finds it.
        let (ours, beside) = if round % 2 == 0 {
            let ours = timed(&mut ours, &events, views).await;
            (ours, timed(&mut beside, &events, views).await)
        } else {
            let beside = timed(&mut beside, &events, views).await;
            (timed(&mut ours, &events, views).await, beside)
        };
        if round >= WARM_UP && !tidy {
            pair.ours.push(ours);
            pair.beside.push(beside);
        }
    }
    pair
}

async fn timed(publisher: &mut Subject, events: &[EventMetrics], views: Views) -> f64 {
    let batch = EventBatch::detached(events.to_vec());
    if views == Views::Columns {
        batch.columns();
    }
    let began = Instant::now();
    let outcome = publisher.publish_event_metrics(&batch).await;
    let elapsed = began.elapsed();
    assert_eq!(outcome, Ok(Vec::new()));
    each(elapsed, events.len())
}

async fn run(dir: &Path) -> Table {
    let host = PluginHost::new(HostSettings::default()).unwrap();
    let mut table = Table::default();
    let goal = |ratio| Some(Goal { nanos: None, ratio: Some(ratio) });

    let grant = "grant = { dirs = [{ host = '.', guest = '/out', write = true }] }\nconfig = { file = 'plugin.jsonl' }";
    let ndjson = plugin(&host, "ndjson", grant, dir).await;
    let native: FilePublisher = PublisherType::build(
        toml::from_str("path = 'native.jsonl'").unwrap(),
        Context::detached("file", dir),
    )
    .unwrap();
    let files = [dir.join("plugin.jsonl"), dir.join("native.jsonl")];
    let pair = measure(ndjson, Box::new(native), Views::Fresh, &[&files[0], &files[1]]).await;
    let [ours, beside] = files.map(|file| std::fs::read(file).unwrap());
    assert!(!ours.is_empty() && ours == beside, "both have written the same");
    table.row(
        "`encode`: render and write JSON lines",
        "plugin `ndjson`",
        "publisher `file`",
        &pair,
        goal(1.1),
    );

    for (what, views) in [
        ("`columns`: build them and roll up", Views::Fresh),
        ("the same where the columns have been built", Views::Columns),
    ] {
        let ours = plugin(&host, "rollup", "", dir).await;
        let pair = measure(ours, Box::new(NativeRollup(Rollup::new(256))), views, &[]).await;
        table.row(
            what,
            "plugin `rollup`",
            "the same code natively",
            &pair,
            (views == Views::Fresh).then(|| goal(2.0)).flatten(),
        );
    }

    for (view, what) in
        [("columns", "read every field, by `columns`"), ("records", "read every field, by `records`")]
    {
        let guest = plugin(&host, "hostile", &format!("config = {{ do = 'count-{view}' }}"), dir).await;
        let pair = measure(guest, Box::<NativeReader>::default(), Views::Fresh, &[]).await;
        table.row(what, "a guest in Rust", "a loop over records natively", &pair, None);
    }
    table
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let path = dir.path().to_owned();
    // In a task, where publishers live in a host.
    runtime.block_on(async move { tokio::spawn(async move { run(&path).await }).await }).unwrap().print();
}
