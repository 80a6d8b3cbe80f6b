//! The column view of a batch: an array per field, as the plugin contract fixes it.
//!
//! Columns are shared (`Arc`), so that whoever hands them on copies nothing.

use super::shared::Weigh;
use super::{Attributes, EventMetrics, NetworkMetrics, Timestamp};
use std::sync::Arc;

/// A column of texts: row `i` is `values[ends[i - 1]..ends[i]]`, in bytes of UTF-8; `ends[-1]` counts as 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextColumn {
    /// The texts, one after the other.
    pub values: Arc<str>,
    /// Where each ends.
    pub ends: Arc<[u32]>,
}

/// A column of texts in which a row may be absent: `present` is 1 or 0, and an absent row's text is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionalTextColumn {
    /// 1 where there is a text, else 0.
    pub present: Arc<[u8]>,
    /// The texts.
    pub column: TextColumn,
}

/// The attributes of all rows: those of row `i` are keys, values and kinds `ends[i - 1]..ends[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeColumns {
    /// Where each row's attributes end.
    pub ends: Arc<[u32]>,
    /// The keys.
    pub keys: TextColumn,
    /// The values, as readable text.
    pub values: TextColumn,
    /// What each value was ([`super::Value::kind`]).
    pub kinds: Arc<[u8]>,
}

/// A batch of events as columns, a row per event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of `EventMetrics`.
pub struct EventColumns {
    pub id: TextColumn,
    pub event_name: TextColumn,
    pub task_id: TextColumn,
    pub pipeline_id: OptionalTextColumn,
    /// 0 where the process is unknown.
    pub process_id: Arc<[u32]>,
    pub start_time: Arc<[u64]>,
    /// 0 where the event has not ended.
    pub end_time: Arc<[u64]>,
    /// [`super::Status`] by its number.
    pub status: Arc<[u8]>,
    pub error: OptionalTextColumn,
    pub retry_count: Arc<[u32]>,
    pub attributes: AttributeColumns,
}

/// A batch of network operations as columns, a row per operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of `NetworkMetrics`.
pub struct NetworkColumns {
    pub id: TextColumn,
    pub task_id: TextColumn,
    pub operation: TextColumn,
    pub host: TextColumn,
    pub port: Arc<[u16]>,
    pub start_time: Arc<[u64]>,
    /// 0 where the operation has not ended.
    pub end_time: Arc<[u64]>,
    pub bytes_sent: Arc<[u64]>,
    pub bytes_received: Arc<[u64]>,
    pub error: OptionalTextColumn,
    pub attributes: AttributeColumns,
}

impl EventColumns {
    pub(super) fn build<'a>(rows: impl Iterator<Item = &'a EventMetrics> + Clone) -> Self {
        Self {
            id: ids(rows.clone().map(|row| row.id)),
            event_name: texts(rows.clone().map(|row| row.event_name.as_str())),
            task_id: texts(rows.clone().map(|row| row.task_id.as_str())),
            pipeline_id: optional_texts(rows.clone().map(|row| row.pipeline_id.as_deref())),
            process_id: rows.clone().map(|row| row.process_id.unwrap_or(0)).collect(),
            start_time: rows.clone().map(|row| row.start_time.as_nanos()).collect(),
            end_time: rows.clone().map(|row| ended(row.end_time)).collect(),
            status: rows.clone().map(|row| row.status as u8).collect(),
            error: optional_texts(rows.clone().map(|row| row.error.as_deref())),
            retry_count: rows.clone().map(|row| row.retry_count).collect(),
            attributes: attributes(rows.map(|row| &row.attributes)),
        }
    }
}

impl NetworkColumns {
    pub(super) fn build<'a>(rows: impl Iterator<Item = &'a NetworkMetrics> + Clone) -> Self {
        Self {
            id: ids(rows.clone().map(|row| row.id)),
            task_id: texts(rows.clone().map(|row| row.task_id.as_str())),
            operation: texts(rows.clone().map(|row| row.operation.as_str())),
            host: texts(rows.clone().map(|row| row.host.as_str())),
            port: rows.clone().map(|row| row.port).collect(),
            start_time: rows.clone().map(|row| row.start_time.as_nanos()).collect(),
            end_time: rows.clone().map(|row| ended(row.end_time)).collect(),
            bytes_sent: rows.clone().map(|row| row.bytes_sent).collect(),
            bytes_received: rows.clone().map(|row| row.bytes_received).collect(),
            error: optional_texts(rows.clone().map(|row| row.error.as_deref())),
            attributes: attributes(rows.map(|row| &row.attributes)),
        }
    }
}

fn ended(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_nanos)
}

fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn texts<'a>(rows: impl Iterator<Item = &'a str>) -> TextColumn {
    let mut column = Texts::default();
    rows.for_each(|text| column.push(text));
    column.finish()
}

fn ids(rows: impl Iterator<Item = uuid::Uuid>) -> TextColumn {
    let mut column = Texts::default();
    rows.for_each(|id| column.push(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())));
    column.finish()
}

fn optional_texts<'a>(rows: impl Iterator<Item = Option<&'a str>> + Clone) -> OptionalTextColumn {
    OptionalTextColumn {
        present: rows.clone().map(|text| u8::from(text.is_some())).collect(),
        column: texts(rows.map(Option::unwrap_or_default)),
    }
}

fn attributes<'a>(rows: impl Iterator<Item = &'a Attributes>) -> AttributeColumns {
    let (mut ends, mut kinds) = (Vec::new(), Vec::new());
    let (mut keys, mut values) = (Texts::default(), Texts::default());
    for row in rows {
        for (key, value) in row.iter() {
            keys.push(key);
            values.push(&value.as_text());
            kinds.push(value.kind());
        }
        ends.push(position(kinds.len()));
    }
    AttributeColumns { ends: ends.into(), keys: keys.finish(), values: values.finish(), kinds: kinds.into() }
}

#[derive(Default)]
struct Texts {
    values: String,
    ends: Vec<u32>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.values.push_str(text);
        self.ends.push(position(self.values.len()));
    }

    fn finish(self) -> TextColumn {
        TextColumn { values: self.values.into(), ends: self.ends.into() }
    }
}

impl Weigh for TextColumn {
    fn weight(&self) -> usize {
        self.values.len() + size_of_val(&*self.ends)
    }
}

impl Weigh for OptionalTextColumn {
    fn weight(&self) -> usize {
        self.present.len() + self.column.weight()
    }
}

impl Weigh for AttributeColumns {
    fn weight(&self) -> usize {
        size_of_val(&*self.ends) + self.keys.weight() + self.values.weight() + self.kinds.len()
    }
}

impl Weigh for EventColumns {
    fn weight(&self) -> usize {
        self.id.weight()
            + self.event_name.weight()
            + self.task_id.weight()
            + self.pipeline_id.weight()
            + size_of_val(&*self.process_id)
            + size_of_val(&*self.start_time)
            + size_of_val(&*self.end_time)
            + self.status.len()
            + self.error.weight()
            + size_of_val(&*self.retry_count)
            + self.attributes.weight()
    }
}

impl Weigh for NetworkColumns {
    fn weight(&self) -> usize {
        self.id.weight()
            + self.task_id.weight()
            + self.operation.weight()
            + self.host.weight()
            + size_of_val(&*self.port)
            + size_of_val(&*self.start_time)
            + size_of_val(&*self.end_time)
            + size_of_val(&*self.bytes_sent)
            + size_of_val(&*self.bytes_received)
            + self.error.weight()
            + self.attributes.weight()
    }
}

#[cfg(test)]
mod tests;
