//! A record in an answer: the one JSON form of a record, and how long it took beside it.

use crate::record::{Attributes, EventMetrics, NetworkMetrics, Record, Status, Text, Timestamp};
use serde::de::{Deserialize, Deserializer, Error};
use std::collections::BTreeMap;
use uuid::Uuid;

/// An event in an answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ReportedEvent {
    /// The event.
    #[serde(flatten)]
    pub event: EventMetrics,
    /// From start to end; absent while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// From its start until this was answered, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_seconds: Option<f64>,
}

/// A network operation in an answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ReportedOperation {
    /// The network operation.
    #[serde(flatten)]
    pub operation: NetworkMetrics,
    /// From start to end; absent while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_seconds: Option<f64>,
    /// From its start until this was answered, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_seconds: Option<f64>,
}

/// How a kind of record is shown.
pub(super) trait Shown: Record {
    type Row;
    fn row(self, now: Timestamp) -> Self::Row;
}

impl Shown for EventMetrics {
    type Row = ReportedEvent;
    fn row(self, now: Timestamp) -> ReportedEvent {
        let (duration_seconds, running_seconds) = seconds(&self, now);
        ReportedEvent { event: self, duration_seconds, running_seconds }
    }
}

impl Shown for NetworkMetrics {
    type Row = ReportedOperation;
    fn row(self, now: Timestamp) -> ReportedOperation {
        let (latency_seconds, running_seconds) = seconds(&self, now);
        ReportedOperation { operation: self, latency_seconds, running_seconds }
    }
}

fn seconds<R: Record>(record: &R, now: Timestamp) -> (Option<f64>, Option<f64>) {
    match record.elapsed() {
        Some(elapsed) => (Some(elapsed.as_secs_f64()), None),
        None => (None, Some(now.since(record.start_time()).as_secs_f64())),
    }
}

/// Reads a point in time.
pub(super) fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Timestamp, D::Error> {
    Text::deserialize(input)?.parse().map_err(D::Error::custom)
}

/// A [`Timestamp`] in JSON.
struct Time(Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        time(input).map(Self)
    }
}

type AttributeMap = BTreeMap<Text, serde_json::Value>;

/// An answer is read leniently (unlike what a client posts): a newer host may say more.
#[derive(serde::Deserialize)]
struct EventFields {
    id: Uuid,
    event_name: Text,
    task_id: Text,
    pipeline_id: Option<Text>,
    process_id: Option<u32>,
    start_time: Time,
    end_time: Option<Time>,
    status: Status,
    error: Option<Text>,
    retry_count: u32,
    #[serde(default)]
    attributes: AttributeMap,
    duration_seconds: Option<f64>,
    running_seconds: Option<f64>,
}

impl<'de> Deserialize<'de> for ReportedEvent {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let fields = EventFields::deserialize(input)?;
        let event = EventMetrics {
            id: fields.id,
            event_name: fields.event_name,
            task_id: fields.task_id,
            pipeline_id: fields.pipeline_id,
            process_id: fields.process_id,
            start_time: fields.start_time.0,
            end_time: fields.end_time.map(|time| time.0),
            status: fields.status,
            error: fields.error,
            retry_count: fields.retry_count,
            attributes: Attributes::from_iter(fields.attributes),
        };
        let (duration_seconds, running_seconds) = (fields.duration_seconds, fields.running_seconds);
        Ok(Self { event, duration_seconds, running_seconds })
    }
}

#[derive(serde::Deserialize)]
struct OperationFields {
    id: Uuid,
    task_id: Text,
    operation: Text,
    host: Text,
    port: u16,
    start_time: Time,
    end_time: Option<Time>,
    bytes_sent: u64,
    bytes_received: u64,
    error: Option<Text>,
    #[serde(default)]
    attributes: AttributeMap,
    latency_seconds: Option<f64>,
    running_seconds: Option<f64>,
}

impl<'de> Deserialize<'de> for ReportedOperation {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let fields = OperationFields::deserialize(input)?;
        let operation = NetworkMetrics {
            id: fields.id,
            task_id: fields.task_id,
            operation: fields.operation,
            host: fields.host,
            port: fields.port,
            start_time: fields.start_time.0,
            end_time: fields.end_time.map(|time| time.0),
            bytes_sent: fields.bytes_sent,
            bytes_received: fields.bytes_received,
            error: fields.error,
            attributes: Attributes::from_iter(fields.attributes),
        };
        let (latency_seconds, running_seconds) = (fields.latency_seconds, fields.running_seconds);
        Ok(Self { operation, latency_seconds, running_seconds })
    }
}
