//! The answers, as data: what a program reads from the library, and, field by field, from `GET /v1/report/*`.
//!
//! Invariant: an answer says how far it goes. `total` is how many there are, `shown` how many of them are listed,
//! `considered` how many records were looked at, and `complete_since` since when none is missing. A figure with a
//! unit has it in its name. Fields may be added; none is renamed.

use super::records::{ReportedEvent, ReportedOperation, time};
use crate::record::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything: totals, statistics by name, what is pending, and the newest records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MetricsReport {
    /// When this was answered.
    #[serde(deserialize_with = "time")]
    pub generated: Timestamp,
    /// When the host started: totals and statistics count from there.
    #[serde(deserialize_with = "time")]
    pub started: Timestamp,
    /// All events and all network operations since the start.
    pub totals: Totals,
    /// Statistics by event name since the start, the most frequent first.
    pub events: ByName<EventStatistics>,
    /// Statistics by operation since the start, the most frequent first.
    pub operations: ByName<OperationStatistics>,
    /// What has started and not ended.
    pub pending: PendingReport,
    /// The newest events, the newest first.
    pub recent_events: Listed<ReportedEvent>,
    /// The newest network operations, the newest first.
    pub recent_operations: Listed<ReportedOperation>,
}

/// The events that failed, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedEvents {
    /// When this was answered.
    #[serde(deserialize_with = "time")]
    pub generated: Timestamp,
    /// When the host started.
    #[serde(deserialize_with = "time")]
    pub started: Timestamp,
    /// How many have failed since the start, whether or not they are still known.
    pub failed_since_start: u64,
    /// Those that are still known.
    pub events: Listed<ReportedEvent>,
}

/// The events that took a threshold or longer, the slowest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlowEvents {
    /// When this was answered.
    #[serde(deserialize_with = "time")]
    pub generated: Timestamp,
    /// Faster ones are left out.
    pub threshold_seconds: f64,
    /// Those that are still known.
    pub events: Listed<ReportedEvent>,
}

/// The network operations that failed, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedNetworkOperations {
    /// When this was answered.
    #[serde(deserialize_with = "time")]
    pub generated: Timestamp,
    /// When the host started.
    #[serde(deserialize_with = "time")]
    pub started: Timestamp,
    /// How many have failed since the start, whether or not they are still known.
    pub failed_since_start: u64,
    /// Those that are still known.
    pub operations: Listed<ReportedOperation>,
}

/// The network operations that took a threshold or longer, the slowest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlowNetworkOperations {
    /// When this was answered.
    #[serde(deserialize_with = "time")]
    pub generated: Timestamp,
    /// Faster ones are left out.
    pub threshold_seconds: f64,
    /// Those that are still known.
    pub operations: Listed<ReportedOperation>,
}

/// How often events were tried again, and what became of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetryStats {
    /// When this was answered.
    #[serde(deserialize_with = "time")]
    pub generated: Timestamp,
    /// When the host started: all figures count from there.
    #[serde(deserialize_with = "time")]
    pub started: Timestamp,
    /// All events.
    pub events: u64,
    /// All retries of all events.
    pub retries: u64,
    /// Events with at least one retry.
    pub events_with_retries: u64,
    /// Of these, the ones that completed.
    pub completed_after_retry: u64,
    /// Of these, the ones that failed all the same.
    pub failed_after_retry: u64,
    /// Of these, the ones that were cancelled.
    pub cancelled_after_retry: u64,
    /// How many events had how many retries.
    pub retry_distribution: RetryDistribution,
    /// The event names that had retries, the most retries first.
    pub by_name: ByName<RetryStatistics>,
}

/// Records in an answer, and how far it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listed<T> {
    /// How many records are the answer.
    pub total: usize,
    /// How many of them are listed here: the limit may be lower.
    pub shown: usize,
    /// How many records history held and were looked at.
    pub considered: usize,
    /// None is missing of those that the host has seen after this. Older ones may have left history.
    #[serde(deserialize_with = "time")]
    pub complete_since: Timestamp,
    /// The records.
    pub rows: Vec<T>,
}

/// Statistics by name. Rows are read one after the other while records come in: each is right in itself, and a later
/// one may count a record more than the totals do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ByName<T> {
    /// How many names the answer has, `other` not counted.
    pub names: usize,
    /// How many of them are listed here: the limit may be lower.
    pub shown: usize,
    /// The statistics.
    pub rows: Vec<T>,
    /// All further names together: they came when `max_names` or `max_statistics_bytes` had been reached, or are longer than
    /// 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<T>,
    /// How many distinct names are in `other`, counted up to `max_names` and as far as `max_statistics_bytes` allows.
    pub names_in_other: usize,
}

/// All events and all network operations since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// All events.
    pub events: EventCounts,
    /// All network operations.
    pub operations: OperationCounts,
}

/// Counts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// All.
    pub count: u64,
    /// Those that completed.
    pub completed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Their retries.
    pub retries: u64,
    /// Those with at least one retry.
    pub events_with_retries: u64,
    /// Of these, the ones that completed.
    pub completed_after_retry: u64,
    /// Of these, the ones that failed all the same.
    pub failed_after_retry: u64,
    /// Of these, the ones that were cancelled.
    pub cancelled_after_retry: u64,
    /// How many had how many retries.
    pub retry_distribution: RetryDistribution,
}

/// Counts of network operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCounts {
    /// All.
    pub count: u64,
    /// Those with an error.
    pub failed: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

/// How many events had how many retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The keys say it.
pub struct RetryDistribution {
    #[serde(rename = "0")]
    pub none: u64,
    #[serde(rename = "1")]
    pub one: u64,
    #[serde(rename = "2")]
    pub two: u64,
    #[serde(rename = "3")]
    pub three: u64,
    #[serde(rename = "4")]
    pub four: u64,
    #[serde(rename = "5")]
    pub five: u64,
    #[serde(rename = "6-10")]
    pub six_to_ten: u64,
    #[serde(rename = "11+")]
    pub more: u64,
}

/// Statistics of one event name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventStatistics {
    /// The name.
    pub event_name: String,
    /// How many.
    #[serde(flatten)]
    pub counts: EventCounts,
    /// From start to end.
    pub duration_seconds: Option<Quantiles>,
}

/// Statistics of one kind of network operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OperationStatistics {
    /// The operation.
    pub operation: String,
    /// How many.
    #[serde(flatten)]
    pub counts: OperationCounts,
    /// From start to end.
    pub latency_seconds: Option<Quantiles>,
}

/// The retries of one event name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetryStatistics {
    /// The name.
    pub event_name: String,
    /// All events of the name.
    pub events: u64,
    /// Their retries.
    pub retries: u64,
    /// Those with at least one retry.
    pub events_with_retries: u64,
    /// Of these, the ones that completed.
    pub completed_after_retry: u64,
    /// Of these, the ones that failed all the same.
    pub failed_after_retry: u64,
    /// Of these, the ones that were cancelled.
    pub cancelled_after_retry: u64,
}

/// How durations are distributed, in seconds. Least, mean and greatest are exact; a quantile is within 2 % of one
/// that occurred, unless `quantile_error` says more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Quantiles {
    pub min: f64,
    pub mean: f64,
    pub max: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    /// How far a quantile may be from one that occurred, as a part of it, where statistics had reached
    /// `reports.max_statistics_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile_error: Option<f64>,
}

/// What has started and not ended, the longest running first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingReport {
    /// How many events are pending.
    pub events_total: usize,
    /// How many network operations are pending.
    pub operations_total: usize,
    /// The events, as many as the limit lets through, and no more once they occupy 8 MiB.
    pub events: Vec<ReportedEvent>,
    /// The network operations, in the same bounds.
    pub operations: Vec<ReportedOperation>,
    /// What the recorder has counted since the start beyond what it recorded: ends without a start, what was closed
    /// or dropped for its bounds.
    pub recorder: BTreeMap<String, u64>,
}
