//! The contract between delivery and whatever delivers: the trait, the outcome, the factory.
//!
//! A publisher only delivers. Queueing, batching, deadlines, retries and counting belong to `delivery`, which knows
//! no publisher's type. The plugin contract (`wit/0.1/publisher.wit`) mirrors this one, case by case.

mod breaker;
pub(crate) mod causes;
pub(crate) mod panics;

pub use breaker::{Breaker, BreakerSettings, Stand};

use crate::config::Secrets;
use crate::record::{
    EventBatch, EventMetrics, NetworkBatch, NetworkMetrics, Record, Rows, Status, Timestamp,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Delivers batches to one place.
///
/// # Order of calls
///
/// `open` once, before anything else. Then `publish_*` and `flush` in any order, never two at once: one task owns
/// the publisher. `flush` comes at the configured interval and before the publisher is retired. Then either a
/// successor's `open` is called with it, or, where none takes its place, `close`; after that it is dropped.
///
/// A call that runs past the publisher's `timeout` is given up by dropping its future, and the batch counts as
/// [`PublishError::Retry`]: what is half done must be undone, or completed, by the next call. A panic costs the
/// publisher its life: delivery builds another one with its factory and tries the batch again.
#[async_trait::async_trait]
pub trait Publisher: Any + Send {
    /// Takes what is exclusive (a port, a file), for `build` must not: the predecessor, whom this one is to replace
    /// under the same label, may still hold it. What has not changed is to be taken over from it (trait upcasting
    /// gives `&mut dyn Any` for a downcast). After an error the predecessor goes on as it was.
    ///
    /// # Errors
    ///
    /// What it needs cannot be had; the text tells the operator what to do.
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let _ = predecessor;
        Ok(())
    }

    /// Publishes events; at least one row.
    ///
    /// `Ok` lists the rows that were left out, none as a rule, and is final for the others.
    ///
    /// # Errors
    ///
    /// The batch as a whole was not published; [`PublishError`] says whether to try again.
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult;

    /// Publishes network operations; as [`Publisher::publish_event_metrics`].
    ///
    /// # Errors
    ///
    /// As there.
    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult;

    /// Hands on what is held back. After an error it is called again at the next interval.
    ///
    /// # Errors
    ///
    /// What is held back could not be handed on.
    async fn flush(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    /// Ends for good what a successor would have gone on with: the label goes, or the host shuts down. Called once,
    /// after the last `flush`, and given up at the publisher's `timeout` or the drain's deadline, whichever is first;
    /// not called where that deadline has passed before, nor after a panic, nor while a plugin's file is missing.
    ///
    /// # Errors
    ///
    /// What was to be said at the end could not be said. Nobody asks again.
    async fn close(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    /// What reports show of this publisher beyond its books, if anything. Asked once, after `open`; the function is
    /// called from other tasks at any time.
    fn status(&self) -> Option<StatusSource> {
        None
    }

    /// For a publisher that answers before what it took has reached its place: what keeps it from there. Asked as
    /// [`Publisher::status`] is. While the function says something, reports show the publisher as held or retrying
    /// although every call of it is answered well.
    fn stall(&self) -> Option<StallSource> {
        None
    }

    /// What the last answer could not say. Asked after `open` and after every call, also one that was given up.
    fn standing(&self) -> Standing {
        Standing::default()
    }

    /// Forgets what was held against it: failures, waits, quarantine. What it holds back it keeps. False if nothing ever
    /// is: only a plugin has something to forget.
    fn reset(&mut self) -> bool {
        false
    }
}

/// How a publisher stands after a call, beyond what it answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// `Ok` is not final: rows are delivered when [`Publisher::flush`] has returned ok. What it rejects is rejected for
    /// all of them.
    pub at_flush: bool,
    /// It wants to flush before it is handed more.
    pub flush_due: bool,
    /// Changes when what it held back is lost. What it had answered `Ok` to before the call, and not flushed, comes
    /// again; what the very answer says is not touched by this.
    pub lost: u64,
    /// Of the rows handed back, so many can only be judged beside others: they are to be handed over again as soon as there
    /// are others.
    pub undecided: usize,
    /// It stopped in the middle so as not to run past its deadline: what it handed back is to be handed over again at once.
    pub unfinished: bool,
    /// It is not asked any more until it changes or is reset. Its answers say why, as what is on hold.
    pub quarantined: bool,
}

/// Has `publisher` flush. An error has a cause that can be read.
pub(crate) async fn flush(publisher: &mut dyn Publisher) -> Result<(), PublishError> {
    publisher.flush().await.map_err(|cause| causes::error(cause, "flush"))
}

/// Has `publisher` close. An error has a cause that can be read.
pub(crate) async fn close(publisher: &mut dyn Publisher) -> Result<(), PublishError> {
    publisher.close().await.map_err(|cause| causes::error(cause, "close"))
}

/// The two kinds of record, as a publisher is handed them.
pub(crate) trait Published: Record {
    /// Has `publisher` publish `rows`. Its answer has a cause that can be read, whatever it says.
    fn publish<'a>(publisher: &'a mut dyn Publisher, rows: &'a Rows<Self>) -> BoxFuture<'a, PublishResult>;
}

impl Published for EventMetrics {
    fn publish<'a>(publisher: &'a mut dyn Publisher, rows: &'a Rows<Self>) -> BoxFuture<'a, PublishResult> {
        let answer = publisher.publish_event_metrics(rows);
        answer.map(|answer| causes::answer(answer, "publish_event_metrics")).boxed()
    }
}

impl Published for NetworkMetrics {
    fn publish<'a>(publisher: &'a mut dyn Publisher, rows: &'a Rows<Self>) -> BoxFuture<'a, PublishResult> {
        let answer = publisher.publish_network_metrics(rows);
        answer.map(|answer| causes::answer(answer, "publish_network_metrics")).boxed()
    }
}

/// Answers with a publisher's own state, as a JSON object.
pub type StatusSource = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Answers with what keeps a publisher from its place, if anything does.
pub type StallSource = Arc<dyn Fn() -> Option<Stall> + Send + Sync>;

/// What keeps a publisher from its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Why, and whether somebody must mend something.
    pub error: PublishError,
    /// Since when.
    pub since: Timestamp,
}

/// What became of a batch that was published: the rows that were left out.
pub type PublishResult = Result<Vec<Unpublished>, PublishError>;

/// A row that was not published although its batch was. Rows count from 0 within the batch passed. A row that is
/// out of range, or listed twice, is counted and passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// Its number.
    pub row: u32,
    /// What is to become of it.
    pub fate: Fate,
}

/// What is to become of a row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may work later.
    Retry {
        /// Why not now.
        reason: String,
        /// How long to wait at least.
        after: Option<Duration>,
    },
    /// It never will: it becomes a dead letter.
    Reject {
        /// Why not.
        reason: String,
    },
    /// It needs something that other rows do not need: an index that refuses, say. The row waits beside the others, which
    /// go on. One of the rows that wait for the same thing is tried every `retry.hold`; when it does not wait again, the
    /// rest of them follow.
    Wait {
        /// What it waits for. Many rows may wait for the same.
        on: Arc<str>,
        /// Why not now.
        reason: String,
        /// Somebody must mend something first, as with [`PublishError::Hold`]: the time does not count against its age.
        hold: bool,
    },
}

/// Why a batch as a whole was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It may work later.
    #[error("{reason}")]
    Retry {
        /// Why not now.
        reason: String,
        /// How long to wait at least; without it, as long as delivery's backoff says.
        after: Option<Duration>,
    },
    /// It never will: its rows become dead letters.
    #[error("{reason}")]
    Reject {
        /// Why not.
        reason: String,
    },
    /// Somebody must mend something first (a credential, a missing index). The batch is kept and tried now and then;
    /// the time does not count against its age.
    #[error("{reason}")]
    Hold {
        /// What is to be mended.
        reason: String,
    },
}

impl PublishError {
    /// It may work later.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// It never will.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into() }
    }

    /// Somebody must mend something first.
    pub fn hold(reason: impl Into<String>) -> Self {
        Self::Hold { reason: reason.into() }
    }
}

/// What a publisher is built with, beside its own settings.
#[derive(Clone)]
#[non_exhaustive]
pub struct Context {
    /// The label of the instance: the name of its section, or of its plugin file.
    pub label: Arc<str>,
    /// Relative paths in settings start here: the configuration's directory.
    pub base_dir: PathBuf,
    /// What must not be seen in logs, reports and dead letters: whatever came through `${…}` in the configuration.
    pub secrets: Secrets,
    /// The host's own metrics in the text exposition format, for publishers that serve a scrape.
    pub host_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Context {
    /// A context for a publisher outside of a host: for tests and benchmarks.
    pub fn detached(label: &str, base_dir: impl Into<PathBuf>) -> Self {
        Self {
            label: label.into(),
            base_dir: base_dir.into(),
            secrets: Secrets::default(),
            host_metrics: Arc::new(String::new),
        }
    }
}

/// Builds a publisher, as often as it is needed: at the start, at a reload, after a panic. Building takes nothing
/// exclusive; see [`Publisher::open`].
pub type Factory =
    Arc<dyn Fn(Context) -> BoxFuture<'static, anyhow::Result<Box<dyn Publisher>>> + Send + Sync>;

/// How much one call takes at most: so many records, or records that occupy so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// Records.
    pub records: usize,
    /// Bytes of memory, as the journal counts them.
    pub bytes: u64,
}

/// A file that settings name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUse {
    /// The key that names it; it may be dotted.
    pub key: String,
    /// Where it is; a relative path starts at the configuration's directory.
    pub path: PathBuf,
    /// What is done with it.
    pub access: Access,
}

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read when the publisher is built.
    Read,
    /// It is written, and made where it does not exist.
    Write,
    /// It is a directory that exists, in which files are made.
    WriteWithin,
}

impl FileUse {
    /// A file that the key `key` names, to be read when the publisher is built.
    pub fn read(key: &str, path: &std::path::Path) -> Self {
        Self { key: key.to_owned(), path: path.to_owned(), access: Access::Read }
    }

    /// A file that the key `key` names, to be written.
    pub fn written(key: &str, path: &std::path::Path) -> Self {
        Self { key: key.to_owned(), path: path.to_owned(), access: Access::Write }
    }
}

/// A type of publisher, as configuration names it: `type = "file"`.
///
/// Every native publisher joins through this and nothing else.
pub trait PublisherType: Publisher + Sized {
    /// Its name in configuration.
    const TYPE: &'static str;
    /// Its own keys; unknown ones are refused (`#[serde(deny_unknown_fields)]`).
    type Config: serde::de::DeserializeOwned + Clone + Send + Sync + 'static;
    /// The records that reach one whose section has no `only`: those that ended so. Empty: all. (`only = {}` says all in
    /// so many words.)
    const ONLY: &'static [Status] = &[];

    /// How much one call should take where the section does not say (`batch.max_records`, `batch.max_bytes`): for a
    /// type that is worth more, or less, at once than the default of all. Each key counts for itself, and what the
    /// section says always holds.
    fn batch() -> Option<BatchSize> {
        None
    }

    /// Checks what the types of the settings do not: called when the configuration is read, before anything is
    /// built. Every problem found, as (key, message); the key may be dotted.
    fn validate(config: &Self::Config) -> Vec<(String, String)> {
        let _ = config;
        Vec::new()
    }

    /// The files that the settings name. One that is read is watched, and a change of it counts as a change of the
    /// section. Whether one can be written is tried by `pressroom check`.
    fn files(config: &Self::Config) -> Vec<FileUse> {
        let _ = config;
        Vec::new()
    }

    /// Builds one. Takes nothing exclusive.
    ///
    /// # Errors
    ///
    /// It cannot be built with these settings; the text says what to change.
    fn build(config: Self::Config, context: Context) -> anyhow::Result<Self>;
}
