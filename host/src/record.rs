//! What Pressroom records: events and network operations. Pure data.
//!
//! Invariant: a leaf. Nothing here knows a clock, a runtime, a file or a publisher, so that every other room
//! can speak of records without knowing another.
//!
//! Times are nanoseconds since the Unix epoch, UTC; in JSON they are RFC 3339 texts. There is one JSON form of a
//! record, for ingest, files, plugins and reports: `wit/0.1/formats.md` fixes it by example.

mod attributes;
pub mod columns;
mod encode;
mod json;
mod line_protocol;
mod lines;
mod otlp;
mod rows;
mod rules;
#[cfg(test)]
mod samples;
mod shared;
mod time;

pub use attributes::{Attributes, Value};
pub use encode::{Format, UnknownFormat};
pub use lines::JsonLines;
pub use rows::{EventBatch, NetworkBatch, Rows};
pub(crate) use rules::{Rule, RuleId};
pub use shared::SharedBatch;
pub(crate) use shared::ViewGauge;
pub use time::{InvalidTime, Timestamp};

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// A short text: up to 24 bytes of it are stored in place, without an allocation.
pub type Text = CompactString;

/// How an event's execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Status {
    /// It has started and not ended. Seen in reports only: nothing pending enters the journal.
    Pending = 0,
    /// It ended as it should.
    Completed = 1,
    /// It ended with an error.
    Failed = 2,
    /// It was given up before it could complete or fail.
    Cancelled = 3,
}

impl Status {
    /// The status as it is written in JSON, in labels and in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which of the two kinds a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An [`EventMetrics`].
    Event,
    /// A [`NetworkMetrics`].
    Network,
}

impl Kind {
    /// The kind as it is written in JSON (`type`) and in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Network => "network",
        }
    }
}

/// One execution of one named step of a pipeline.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EventMetrics {
    /// Unique to this record and the same on every attempt to publish it; sortable by start time.
    pub id: Uuid,
    /// The step's name.
    pub event_name: Text,
    /// The task it was executed for.
    pub task_id: Text,
    /// The pipeline it belongs to.
    pub pipeline_id: Option<Text>,
    /// The process that executed it.
    pub process_id: Option<u32>,
    /// When it started.
    pub start_time: Timestamp,
    /// When it ended; absent only while it is pending.
    pub end_time: Option<Timestamp>,
    /// How it stands.
    pub status: Status,
    /// Why it failed; absent unless the status is [`Status::Failed`].
    pub error: Option<Text>,
    /// How many times it was tried again.
    pub retry_count: u32,
    /// What it carries beyond its fields.
    pub attributes: Attributes,
}

impl EventMetrics {
    /// An event that has started and not ended.
    pub fn started(
        id: Uuid,
        event_name: impl Into<Text>,
        task_id: impl Into<Text>,
        start_time: Timestamp,
    ) -> Self {
        Self {
            id,
            event_name: event_name.into(),
            task_id: task_id.into(),
            pipeline_id: None,
            process_id: None,
            start_time,
            end_time: None,
            status: Status::Pending,
            error: None,
            retry_count: 0,
            attributes: Attributes::new(),
        }
    }

    /// From start to end; absent while it is pending, zero where the clocks disagreed.
    pub fn duration(&self) -> Option<Duration> {
        Some(self.end_time?.since(self.start_time))
    }
}

/// One call over the network on behalf of a task.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkMetrics {
    /// Unique to this record and the same on every attempt to publish it; sortable by start time.
    pub id: Uuid,
    /// The task it was made for.
    pub task_id: Text,
    /// What was done, in a word or two: `GET`, `remote_call`.
    pub operation: Text,
    /// The host that was called, by name or address.
    pub host: Text,
    /// The port that was called; 0 where it is unknown.
    pub port: u16,
    /// When it started.
    pub start_time: Timestamp,
    /// When it ended; absent only while it is pending.
    pub end_time: Option<Timestamp>,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Why it failed; absent where it did not.
    pub error: Option<Text>,
    /// What it carries beyond its fields.
    pub attributes: Attributes,
}

impl NetworkMetrics {
    /// A network operation that has started and not ended.
    pub fn started(
        id: Uuid,
        task_id: impl Into<Text>,
        operation: impl Into<Text>,
        host: impl Into<Text>,
        port: u16,
        start_time: Timestamp,
    ) -> Self {
        Self {
            id,
            task_id: task_id.into(),
            operation: operation.into(),
            host: host.into(),
            port,
            start_time,
            end_time: None,
            bytes_sent: 0,
            bytes_received: 0,
            error: None,
            attributes: Attributes::new(),
        }
    }

    /// From start to end; absent while it is pending, zero where the clocks disagreed.
    pub fn latency(&self) -> Option<Duration> {
        Some(self.end_time?.since(self.start_time))
    }

    /// [`Status::Failed`] where it has an error, [`Status::Pending`] where it has not ended, else
    /// [`Status::Completed`].
    pub fn status(&self) -> Status {
        match (&self.error, self.end_time) {
            (Some(_), _) => Status::Failed,
            (None, None) => Status::Pending,
            (None, Some(_)) => Status::Completed,
        }
    }
}

/// Records that travel together, before the journal has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The events, in the order in which they finished.
    pub events: Vec<EventMetrics>,
    /// The network operations, in the order in which they finished.
    pub operations: Vec<NetworkMetrics>,
}

impl Batch {
    /// How many records of both kinds.
    pub fn len(&self) -> usize {
        self.events.len() + self.operations.len()
    }

    /// Whether there is no record in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that its records occupy, in bytes.
    pub fn bytes(&self) -> usize {
        self.events.iter().map(Record::bytes).sum::<usize>()
            + self.operations.iter().map(Record::bytes).sum::<usize>()
    }
}

impl FromIterator<EventMetrics> for Batch {
    fn from_iter<I: IntoIterator<Item = EventMetrics>>(events: I) -> Self {
        Self { events: events.into_iter().collect(), operations: Vec::new() }
    }
}

impl FromIterator<NetworkMetrics> for Batch {
    fn from_iter<I: IntoIterator<Item = NetworkMetrics>>(operations: I) -> Self {
        Self { events: Vec::new(), operations: operations.into_iter().collect() }
    }
}

/// What events and network operations have in common, so that what handles both is written once.
///
/// Sealed: [`EventMetrics`] and [`NetworkMetrics`] are all there is.
pub trait Record: shared::Shelved + Clone + Serialize + Send + Sync + 'static {
    /// Which of the two it is.
    const KIND: Kind;
    /// See [`EventMetrics::id`].
    fn id(&self) -> Uuid;
    /// The event's name, or the operation.
    fn name(&self) -> &str;
    /// See [`EventMetrics::task_id`].
    fn task_id(&self) -> &str;
    /// The pipeline, where it has one.
    fn pipeline_id(&self) -> Option<&str>;
    /// When it started.
    fn start_time(&self) -> Timestamp;
    /// From start to end; absent while it is pending.
    fn elapsed(&self) -> Option<Duration>;
    /// How it stands.
    fn status(&self) -> Status;
    /// Why it failed.
    fn error(&self) -> Option<&str>;
    /// What it carries beyond its fields.
    fn attributes(&self) -> &Attributes;
    /// The memory it occupies, in bytes, its own size included: what the journal's bound counts.
    fn bytes(&self) -> usize;
}

impl Record for EventMetrics {
    const KIND: Kind = Kind::Event;

    fn id(&self) -> Uuid {
        self.id
    }
    fn name(&self) -> &str {
        &self.event_name
    }
    fn task_id(&self) -> &str {
        &self.task_id
    }
    fn pipeline_id(&self) -> Option<&str> {
        self.pipeline_id.as_deref()
    }
    fn start_time(&self) -> Timestamp {
        self.start_time
    }
    fn elapsed(&self) -> Option<Duration> {
        self.duration()
    }
    fn status(&self) -> Status {
        self.status
    }
    fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
    fn attributes(&self) -> &Attributes {
        &self.attributes
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + heap(&self.event_name)
            + heap(&self.task_id)
            + self.pipeline_id.as_ref().map_or(0, heap)
            + self.error.as_ref().map_or(0, heap)
            + self.attributes.heap_bytes()
    }
}

impl Record for NetworkMetrics {
    const KIND: Kind = Kind::Network;

    fn id(&self) -> Uuid {
        self.id
    }
    fn name(&self) -> &str {
        &self.operation
    }
    fn task_id(&self) -> &str {
        &self.task_id
    }
    fn pipeline_id(&self) -> Option<&str> {
        None
    }
    fn start_time(&self) -> Timestamp {
        self.start_time
    }
    fn elapsed(&self) -> Option<Duration> {
        self.latency()
    }
    fn status(&self) -> Status {
        self.status()
    }
    fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
    fn attributes(&self) -> &Attributes {
        &self.attributes
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + heap(&self.task_id)
            + heap(&self.operation)
            + heap(&self.host)
            + self.error.as_ref().map_or(0, heap)
            + self.attributes.heap_bytes()
    }
}

/// What a text occupies beyond its own 24 bytes.
fn heap(text: &Text) -> usize {
    if text.is_heap_allocated() { text.capacity() } else { 0 }
}
