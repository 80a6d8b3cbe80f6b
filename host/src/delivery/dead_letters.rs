//! Dead letters: what could not be published is set aside in a file of JSON lines, each with its label and reason.
//!
//! Invariants: a row counts as dead-lettered when its line is on the disk, not before, and is backlog until then. A line is
//! whole or not there. A file that fails or hangs holds up nothing but the letters: they wait, bounded for each publisher,
//! and the file is written on a thread of its own that no runtime joins, so that not even the exit waits for it.

mod thread;

use crate::journal::{Cursor, Settled};
use crate::output::{escape, file::LineFile};
use crate::record::{Record, Rows, Timestamp};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Letters of one publisher that wait. One answer may lead beyond it; then no other is asked for.
const MAX_ROWS: u64 = 10_000;
const MAX_BYTES: usize = 16 << 20;

/// What is written and synced at once.
const WRITE_BYTES: usize = 4 << 20;

/// A write that takes longer counts as one that hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is until a write that failed is tried again; doubled with every failure.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_MOST: Duration = Duration::from_secs(10);

/// The file of dead letters. It is made when the first one comes.
pub struct DeadLetters {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Letters>>,
    /// Absent while it is written.
    file: Option<LineFile>,
    /// Writes what waits; ends when nothing does.
    task: Option<JoinHandle<()>>,
    trouble: Option<Trouble>,
}

/// Why dead letters cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Trouble {
    /// What is wrong with the file.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// The letters of one answer, rendered.
struct Letters {
    lines: Vec<u8>,
    rows: u64,
    /// Why the first of the rows was refused.
    reason: Arc<str>,
    of: Arc<Sender>,
}

/// What the letters of one publisher have in common.
struct Sender {
    label: Arc<str>,
    cursor: Cursor,
    load: watch::Sender<Load>,
}

/// What waits of one publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    rows: u64,
    bytes: usize,
}

/// A worker's way to the dead letters.
pub(super) struct Refusals {
    letters: Arc<DeadLetters>,
    sender: Arc<Sender>,
    load: watch::Receiver<Load>,
}

#[derive(Serialize)]
struct Letter<'a, R> {
    time: Timestamp,
    publisher: &'a str,
    reason: &'a str,
    record: &'a R,
}

impl DeadLetters {
    /// Dead letters at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), state: Mutex::default() }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why they cannot be written, while that is so.
    pub fn trouble(&self) -> Option<Trouble> {
        self.state.lock().trouble.clone()
    }

    /// The way to them for the publisher `label`, whose rows are booked at `cursor`.
    pub(super) fn for_publisher(self: &Arc<Self>, label: Arc<str>, cursor: Cursor) -> Refusals {
        let (load, received) = watch::channel(Load::default());
        Refusals { letters: self.clone(), sender: Arc::new(Sender { label, cursor, load }), load: received }
    }

    fn add(self: &Arc<Self>, letters: Letters) {
        letters.of.load.send_modify(|load| {
            load.rows += letters.rows;
            load.bytes += letters.lines.len();
        });
        let mut state = self.state.lock();
        state.waiting.push_back(Arc::new(letters));
        if state.task.as_ref().is_none_or(JoinHandle::is_finished) {
            state.task = Some(tokio::spawn(self.clone().write_all()));
        }
    }

    /// Writes what waits, until nothing does.
    async fn write_all(self: Arc<Self>) {
        let mut pause = AGAIN;
        while let Some((file, next)) = self.next() {
            if self.write(file, next).await {
                pause = AGAIN;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MOST);
            }
        }
    }

    /// The file, and letters of one publisher to be written at once. Those whose publisher has ended are forgotten: they
    /// were booked as dropped.
    fn next(&self) -> Option<(LineFile, Vec<Arc<Letters>>)> {
        let mut state = self.state.lock();
        state.waiting.retain(|letters| !letters.of.cursor.is_retired());
        let Some(first) = state.waiting.pop_front() else {
            (state.task, state.trouble) = (None, None);
            return None;
        };
        let mut bytes = first.lines.len();
        let mut taken = vec![first];
        while let (Some(first), Some(next)) = (taken.first(), state.waiting.front()) {
            bytes += next.lines.len();
            if !Arc::ptr_eq(&first.of, &next.of) || bytes > WRITE_BYTES {
                break;
            }
            taken.extend(state.waiting.pop_front());
        }
        let file = state.file.take().unwrap_or_else(|| LineFile::private(self.path.clone()));
        Some((file, taken))
    }

    /// Writes `next`; false if that failed, and they wait again.
    async fn write(&self, file: LineFile, next: Vec<Arc<Letters>>) -> bool {
        let mut writing = std::pin::pin!(thread::write(file, next.clone()));
        let (file, result) = match tokio::time::timeout(PATIENCE, &mut writing).await {
            Ok(written) => written,
            Err(_) => {
                let patience = humantime::format_duration(PATIENCE);
                self.note_trouble(format!("no answer from the file system within {patience}"), &next);
                writing.await
            }
        };
        self.state.lock().file = file;
        let Err(reason) = result else {
            self.note_written(&next);
            return true;
        };
        let mut state = self.state.lock();
        next.into_iter().rev().for_each(|letters| state.waiting.push_front(letters));
        drop(state);
        self.note_trouble(reason, &[]);
        false
    }

    fn note_written(&self, written: &[Arc<Letters>]) {
        if self.state.lock().trouble.take().is_some() {
            tracing::info!(dead_letters = %escape::path(&self.path), "dead letters are written again");
        }
        for letters in written {
            let Letters { lines, rows, reason, of } = &**letters;
            tracing::warn!(
                publisher = %of.label,
                rows,
                dead_letters = %escape::path(&self.path),
                "records were set aside as dead letters: {reason}"
            );
            of.load.send_modify(|load| {
                load.rows -= rows;
                load.bytes -= lines.len();
            });
        }
    }

    /// Notes why they cannot be written, what waits and what is `writing`.
    fn note_trouble(&self, reason: String, writing: &[Arc<Letters>]) {
        let mut state = self.state.lock();
        let told = state.trouble.as_ref().is_some_and(|trouble| trouble.reason == reason);
        if !told {
            tracing::error!(
                dead_letters = %escape::path(&self.path),
                "dead letters cannot be written, refused records wait: {reason}"
            );
        }
        let since = state.trouble.as_ref().map_or_else(Timestamp::now, |trouble| trouble.since);
        state.trouble = Some(Trouble { reason, since });
        // Those that wait for room say why.
        state.waiting.iter().chain(writing).for_each(|letters| letters.of.load.send_modify(|_| {}));
    }
}

impl Refusals {
    /// Sets `rows` aside that are in hand: they are backlog until their letters are on the disk. `reasons` has a text for each
    /// row.
    ///
    /// # Errors
    ///
    /// The runtime is going down; the rows are still in hand.
    pub(super) async fn add<R: Record>(&self, rows: &Rows<R>, reasons: Vec<Arc<str>>) -> Result<(), String> {
        let Some(reason) = reasons.first().cloned() else { return Ok(()) };
        let (label, rows) = (self.sender.label.clone(), rows.clone());
        let count = rows.len() as u64;
        let lines = tokio::task::spawn_blocking(move || render(&label, &rows, &reasons)).await;
        let lines = lines
            .map_err(|error| error.to_string())
            .and_then(|lines| lines.map_err(|error| error.to_string()))
            .map_err(|error| format!("dead letters cannot be made: {error}"))?;
        self.sender.cursor.settle(Settled { refused: count, ..Settled::default() });
        self.letters.add(Letters { lines, rows: count, reason, of: self.sender.clone() });
        Ok(())
    }

    /// How many rows wait to be written.
    pub(super) fn waiting(&self) -> u64 {
        self.load.borrow().rows
    }

    /// Whether so many wait that the publisher must, too.
    pub(super) fn is_full(&self) -> bool {
        let load = *self.load.borrow();
        load.rows >= MAX_ROWS || load.bytes >= MAX_BYTES
    }

    /// Why the publisher waits, where it waits for a file that cannot be written.
    pub(super) fn stuck(&self) -> Option<String> {
        if !self.is_full() {
            return None;
        }
        let trouble = self.letters.trouble()?;
        Some(format!(
            "dead letters cannot be written to {} and {} of its rows wait for that, which is the most that may: {}",
            escape::path(&self.letters.path),
            self.waiting(),
            trouble.reason
        ))
    }

    /// Returns when what waits has changed, or why.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as this.
        let _ = self.load.changed().await;
    }

    /// Returns when nothing waits.
    pub(super) async fn all_written(&mut self) {
        let _ = self.load.wait_for(|load| load.rows == 0).await;
    }

    /// The same for reports.
    pub(super) fn watch(&self) -> WaitingRows {
        WaitingRows(self.load.clone())
    }
}

/// How many rows of a publisher wait to be written to the dead letters.
pub(super) struct WaitingRows(watch::Receiver<Load>);

impl WaitingRows {
    pub(super) fn get(&self) -> u64 {
        self.0.borrow().rows
    }
}

fn render<R: Record>(label: &str, rows: &Rows<R>, reasons: &[Arc<str>]) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    let time = Timestamp::now();
    for (record, reason) in rows.iter().zip(reasons) {
        serde_json::to_writer(&mut lines, &Letter { time, publisher: label, reason, record })?;
        lines.push(b'\n');
    }
    Ok(escape::json(lines))
}
