//! Rows, read where they lie: in the columns of a batch.
//!
//! Nothing here allocates or panics, whatever the columns hold: what is out of range reads as empty.

mod columns;
#[cfg(test)]
mod tests;

use crate::{
    AttributeColumns, AttributeRecord, EventColumns, EventMetrics, EventStatus, NetworkColumns,
    NetworkMetrics, OptionalTextColumn, TextColumn,
};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// One event of a batch. Fields are read when they are asked for.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    columns: &'a EventColumns,
    row: usize,
}

/// One network operation of a batch. Fields are read when they are asked for.
#[derive(Clone, Copy)]
pub struct NetworkOperation<'a> {
    columns: &'a NetworkColumns,
    row: usize,
}

impl EventColumns {
    /// How many rows there are.
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.start_time.len()
    }

    /// The rows.
    #[inline]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Event<'_>> + DoubleEndedIterator + Clone {
        (0..self.len()).map(move |row| Event { columns: self, row })
    }
}

impl NetworkColumns {
    /// How many rows there are.
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    #[inline]
    pub fn len(&self) -> usize {
        self.start_time.len()
    }

    /// The rows.
    #[inline]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = NetworkOperation<'_>> + DoubleEndedIterator + Clone {
        (0..self.len()).map(move |row| NetworkOperation { columns: self, row })
    }
}

impl<'a> Event<'a> {
    /// Its number within the batch: what [`crate::Unpublished`] wants.
    #[inline]
    pub fn row(&self) -> usize {
        self.row
    }

    /// A UUID, unique to this record, sortable by start time; the same on every attempt to publish it.
    #[inline]
    pub fn id(&self) -> &'a str {
        self.columns.id.text(self.row)
    }

    /// Which event of the pipeline this is an execution of.
    #[inline]
    pub fn event_name(&self) -> &'a str {
        self.columns.event_name.text(self.row)
    }

    /// The task on whose behalf it ran.
    #[inline]
    pub fn task_id(&self) -> &'a str {
        self.columns.task_id.text(self.row)
    }

    /// The pipeline, where it is known.
    #[inline]
    pub fn pipeline_id(&self) -> Option<&'a str> {
        self.columns.pipeline_id.text(self.row)
    }

    /// The process, where it is known.
    #[inline]
    pub fn process_id(&self) -> Option<u32> {
        Some(number(&self.columns.process_id, self.row)).filter(|id| *id != 0)
    }

    /// Nanoseconds since the Unix epoch.
    #[inline]
    pub fn start_time(&self) -> u64 {
        number(&self.columns.start_time, self.row)
    }

    /// Nanoseconds since the Unix epoch, if it has ended.
    #[inline]
    pub fn end_time(&self) -> Option<u64> {
        Some(number(&self.columns.end_time, self.row)).filter(|time| *time != 0)
    }

    /// From start to end, if it has ended.
    #[inline]
    pub fn duration(&self) -> Option<Duration> {
        self.end_time().map(|end| Duration::from_nanos(end.saturating_sub(self.start_time())))
    }

    /// How its execution stands.
    #[inline]
    pub fn status(&self) -> EventStatus {
        match number(&self.columns.status, self.row) {
            1 => EventStatus::Completed,
            2 => EventStatus::Failed,
            3 => EventStatus::Cancelled,
            _ => EventStatus::Pending,
        }
    }

    /// Why it failed; absent unless the status is `failed`.
    #[inline]
    pub fn error(&self) -> Option<&'a str> {
        self.columns.error.text(self.row)
    }

    /// How often it was tried again.
    #[inline]
    pub fn retry_count(&self) -> u32 {
        number(&self.columns.retry_count, self.row)
    }

    /// What it carries beyond its fields; keys are unique.
    #[inline]
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = Attribute<'a>> + Clone + use<'a> {
        self.columns.attributes.of(self.row)
    }

    /// The attribute of that key.
    pub fn attribute(&self, key: &str) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.key == key)
    }

    /// An owned copy.
    pub fn to_record(&self) -> EventMetrics {
        EventMetrics {
            id: self.id().to_owned(),
            event_name: self.event_name().to_owned(),
            task_id: self.task_id().to_owned(),
            pipeline_id: self.pipeline_id().map(str::to_owned),
            process_id: self.process_id(),
            start_time: self.start_time(),
            end_time: self.end_time(),
            status: self.status(),
            error: self.error().map(str::to_owned),
            retry_count: self.retry_count(),
            attributes: self.attributes().map(|attribute| attribute.to_record()).collect(),
        }
    }
}

impl<'a> NetworkOperation<'a> {
    /// Its number within the batch: what [`crate::Unpublished`] wants.
    #[inline]
    pub fn row(&self) -> usize {
        self.row
    }

    /// A UUID, unique to this record, sortable by start time; the same on every attempt to publish it.
    #[inline]
    pub fn id(&self) -> &'a str {
        self.columns.id.text(self.row)
    }

    /// The task on whose behalf it was made.
    #[inline]
    pub fn task_id(&self) -> &'a str {
        self.columns.task_id.text(self.row)
    }

    /// What was done, in a word or two: `GET`, `remote_call`.
    #[inline]
    pub fn operation(&self) -> &'a str {
        self.columns.operation.text(self.row)
    }

    /// The other side.
    #[inline]
    pub fn host(&self) -> &'a str {
        self.columns.host.text(self.row)
    }

    /// The other side's port.
    #[inline]
    pub fn port(&self) -> u16 {
        number(&self.columns.port, self.row)
    }

    /// Nanoseconds since the Unix epoch.
    #[inline]
    pub fn start_time(&self) -> u64 {
        number(&self.columns.start_time, self.row)
    }

    /// Nanoseconds since the Unix epoch, if it has ended.
    #[inline]
    pub fn end_time(&self) -> Option<u64> {
        Some(number(&self.columns.end_time, self.row)).filter(|time| *time != 0)
    }

    /// From start to end, if it has ended.
    #[inline]
    pub fn latency(&self) -> Option<Duration> {
        self.end_time().map(|end| Duration::from_nanos(end.saturating_sub(self.start_time())))
    }

    /// Bytes that went out.
    #[inline]
    pub fn bytes_sent(&self) -> u64 {
        number(&self.columns.bytes_sent, self.row)
    }

    /// Bytes that came in.
    #[inline]
    pub fn bytes_received(&self) -> u64 {
        number(&self.columns.bytes_received, self.row)
    }

    /// Why it failed, if it did.
    #[inline]
    pub fn error(&self) -> Option<&'a str> {
        self.columns.error.text(self.row)
    }

    /// What it carries beyond its fields; keys are unique.
    #[inline]
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = Attribute<'a>> + Clone + use<'a> {
        self.columns.attributes.of(self.row)
    }

    /// The attribute of that key.
    pub fn attribute(&self, key: &str) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.key == key)
    }

    /// An owned copy.
    pub fn to_record(&self) -> NetworkMetrics {
        NetworkMetrics {
            id: self.id().to_owned(),
            task_id: self.task_id().to_owned(),
            operation: self.operation().to_owned(),
            host: self.host().to_owned(),
            port: self.port(),
            start_time: self.start_time(),
            end_time: self.end_time(),
            bytes_sent: self.bytes_sent(),
            bytes_received: self.bytes_received(),
            error: self.error().map(str::to_owned),
            attributes: self.attributes().map(|attribute| attribute.to_record()).collect(),
        }
    }
}

/// One attribute of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attribute<'a> {
    /// Its key, unique within the row.
    pub key: &'a str,
    /// Its value as readable text, whatever it was.
    pub text: &'a str,
    kind: u8,
}

/// An attribute's value, as what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A text, or a kind that this SDK does not know.
    Text(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of 64 bits.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// JSON text: a list, a map, a larger number.
    Json(&'a str),
}

impl<'a> Attribute<'a> {
    /// The value, as what it was.
    pub fn value(&self) -> Value<'a> {
        let typed = match self.kind {
            1 => self.text.parse().map(Value::Bool).ok(),
            2 => self.text.parse().map(Value::Integer).ok(),
            3 => self.text.parse().map(Value::Float).ok(),
            4 => Some(Value::Json(self.text)),
            _ => None,
        };
        typed.unwrap_or(Value::Text(self.text))
    }

    /// An owned copy.
    pub fn to_record(&self) -> AttributeRecord {
        AttributeRecord { key: self.key.to_owned(), value: self.text.to_owned(), kind: self.kind }
    }
}

impl TextColumn {
    /// The text of a row.
    #[inline]
    pub fn text(&self, row: usize) -> &str {
        self.values.get(range(&self.ends, row)).unwrap_or_default()
    }
}

impl OptionalTextColumn {
    /// The text of a row, if it has one.
    #[inline]
    pub fn text(&self, row: usize) -> Option<&str> {
        (number(&self.present, row) != 0).then(|| self.column.text(row))
    }
}

impl AttributeColumns {
    /// The attributes of a row.
    #[inline]
    pub fn of(&self, row: usize) -> impl ExactSizeIterator<Item = Attribute<'_>> + Clone {
        let Range { start, end } = range(&self.ends, row);
        (start..end.min(self.kinds.len())).map(move |at| Attribute {
            key: self.keys.text(at),
            text: self.values.text(at),
            kind: number(&self.kinds, at),
        })
    }
}

#[inline]
fn range(ends: &[u32], row: usize) -> Range<usize> {
    let start = row.checked_sub(1).map_or(0, |before| number(ends, before) as usize);
    start..number(ends, row) as usize
}

#[inline]
fn number<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_record().fmt(out)
    }
}

impl fmt::Debug for NetworkOperation<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_record().fmt(out)
    }
}
