//! Events whose start and end are seen in different places, found again by (pipeline, event name, task).
//!
//! Invariant: two events of one task and two tasks of one event never mix; what has been closed for others' sake
//! leaves no trace that grows.

use crate::collector::{Collector, OpenRef};
use crate::record::{EventMetrics, Status, Text};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// What tells one event from another: its pipeline, its name, its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EventKey<'a> {
    /// The pipeline, if any.
    pub pipeline_id: Option<&'a str>,
    /// The event's name.
    pub event_name: &'a str,
    /// The task it is executed for.
    pub task_id: &'a str,
}

impl<'a> EventKey<'a> {
    /// The event `event_name` of the task `task_id`.
    pub const fn new(event_name: &'a str, task_id: &'a str) -> Self {
        Self { pipeline_id: None, event_name, task_id }
    }

    /// Within a pipeline.
    #[must_use]
    pub const fn pipeline(self, pipeline_id: &'a str) -> Self {
        Self { pipeline_id: Some(pipeline_id), ..self }
    }

    /// What an open event takes beside its record: its key's text, and the entry under which it is found.
    pub(super) fn held_bytes(&self) -> usize {
        const LENGTHS: usize = 8;
        let pipeline = self.pipeline_id.map_or(0, str::len);
        2 * size_of::<(Text, OpenRef)>() + LENGTHS + pipeline + self.event_name.len() + self.task_id.len()
    }

    /// One text for the three, in which no two keys are alike: lengths come first.
    fn text(&self) -> Text {
        let pipeline =
            self.pipeline_id.map_or(-1, |pipeline| i64::try_from(pipeline.len()).unwrap_or(i64::MAX));
        compact_str::format_compact!(
            "{pipeline}:{}:{}{}{}",
            self.event_name.len(),
            self.pipeline_id.unwrap_or_default(),
            self.event_name,
            self.task_id
        )
    }
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// As it should.
    Completed,
    /// With this error.
    Failed(&'a str),
    /// It was given up.
    Cancelled,
}

impl Outcome<'_> {
    #[inline]
    pub(super) fn apply(self, event: &mut EventMetrics) {
        match self {
            Self::Completed => event.status = Status::Completed,
            Self::Cancelled => event.status = Status::Cancelled,
            Self::Failed(error) => {
                event.status = Status::Failed;
                event.error = Some(Text::new(error));
            }
        }
    }
}

const SHARDS: usize = 16;

/// Open events by key, in shards by the key's hash.
#[derive(Default)]
pub(super) struct Keyed {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    open: HashMap<Text, OpenRef>,
    /// When it has grown to this, keys of events that were closed for others' sake are swept out.
    sweep_at: usize,
}

impl Keyed {
    /// Remembers an open event. Returns the one that is open under its key, which is to be closed.
    pub(super) fn insert(&self, collector: &Collector, key: &EventKey<'_>, open: OpenRef) -> Option<OpenRef> {
        let text = key.text();
        let mut shard = self.shard(&text).lock();
        if shard.open.len() >= shard.sweep_at.max(1024) {
            shard.open.retain(|_, open| collector.is_open::<EventMetrics>(*open));
            shard.sweep_at = shard.open.len() * 2;
        }
        let earlier = shard.open.insert(text, open);
        drop(shard);
        earlier.filter(|earlier| collector.is_open::<EventMetrics>(*earlier))
    }

    pub(super) fn get(&self, key: &EventKey<'_>) -> Option<OpenRef> {
        let text = key.text();
        self.shard(&text).lock().open.get(&text).copied()
    }

    pub(super) fn remove(&self, key: &EventKey<'_>) -> Option<OpenRef> {
        let text = key.text();
        self.shard(&text).lock().open.remove(&text)
    }

    fn shard(&self, text: &Text) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(text) % SHARDS as u64).unwrap_or(0);
        #[allow(clippy::indexing_slicing)] // The index is a remainder of the array's length.
        &self.shards[hash]
    }
}
