//! Records as InfluxDB line protocol.
use super::{EventMetrics, NetworkMetrics};
pub(super) fn write_event(_event: &EventMetrics, _out: &mut Vec<u8>) {}
pub(super) fn write_operation(_operation: &NetworkMetrics, _out: &mut Vec<u8>) {}
