//! The well-behaved ways: what a view handed over, field by field.

use crate::Batch;
use pressroom_plugin::{Attribute, AttributeRecord, Format, PublishError, config};
use std::fmt;

/// What this instance has seen.
#[derive(Default)]
pub struct Seen {
    events: usize,
    operations: usize,
    bytes: usize,
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, operations, bytes } = self;
        write!(out, "rows={} events={events} operations={operations} bytes={bytes}", events + operations)
    }
}

impl Seen {
    pub fn rows(&mut self, batch: &Batch<'_, '_>) {
        match batch {
            Batch::Events(events) => self.events += events.len(),
            Batch::Operations(operations) => self.operations += operations.len(),
        }
    }

    pub fn encoded(&mut self, batch: &Batch<'_, '_>) -> Result<(), PublishError> {
        let name = config::get("format").unwrap_or_else(|| "json-lines".to_owned());
        let bytes = match batch {
            Batch::Events(events) => events.encode(Format::Named(&name))?,
            Batch::Operations(operations) => operations.encode(Format::Named(&name))?,
        };
        self.bytes += bytes.len();
        Ok(())
    }

    pub fn columns(&mut self, batch: &Batch<'_, '_>) {
        match batch {
            Batch::Events(events) => {
                for row in events.rows() {
                    self.bytes += row.id().len() + row.event_name().len() + row.task_id().len();
                    self.bytes += optional(row.pipeline_id()) + optional(row.error());
                    self.bytes += row.attributes().map(|attribute| weight(&attribute)).sum::<usize>();
                    self.bytes += numbers(&[
                        row.process_id().map_or(0, u64::from),
                        row.start_time(),
                        row.end_time().unwrap_or(0),
                        row.status() as u64,
                        row.retry_count().into(),
                    ]);
                }
            }
            Batch::Operations(operations) => {
                for row in operations.rows() {
                    self.bytes += row.id().len() + row.task_id().len() + row.operation().len();
                    self.bytes += row.host().len() + optional(row.error());
                    self.bytes += row.attributes().map(|attribute| weight(&attribute)).sum::<usize>();
                    self.bytes += numbers(&[
                        row.port().into(),
                        row.start_time(),
                        row.end_time().unwrap_or(0),
                        row.bytes_sent(),
                        row.bytes_received(),
                    ]);
                }
            }
        }
    }

    pub fn records(&mut self, batch: &Batch<'_, '_>) {
        match batch {
            Batch::Events(events) => {
                for row in events.records() {
                    self.bytes += row.id.len() + row.event_name.len() + row.task_id.len();
                    self.bytes += optional(row.pipeline_id.as_deref()) + optional(row.error.as_deref());
                    self.bytes += row.attributes.iter().map(owned_weight).sum::<usize>();
                    self.bytes += numbers(&[
                        row.process_id.map_or(0, u64::from),
                        row.start_time,
                        row.end_time.unwrap_or(0),
                        row.status as u64,
                        row.retry_count.into(),
                    ]);
                }
            }
            Batch::Operations(operations) => {
                for row in operations.records() {
                    self.bytes += row.id.len() + row.task_id.len() + row.operation.len();
                    self.bytes += row.host.len() + optional(row.error.as_deref());
                    self.bytes += row.attributes.iter().map(owned_weight).sum::<usize>();
                    self.bytes += numbers(&[
                        row.port.into(),
                        row.start_time,
                        row.end_time.unwrap_or(0),
                        row.bytes_sent,
                        row.bytes_received,
                    ]);
                }
            }
        }
    }
}

/// An absent text counts nothing, an empty one a byte: views must agree on that too.
fn optional(text: Option<&str>) -> usize {
    text.map_or(0, |text| text.len() + 1)
}

fn weight(attribute: &Attribute<'_>) -> usize {
    attribute.key.len() + attribute.text.len()
}

fn owned_weight(attribute: &AttributeRecord) -> usize {
    attribute.key.len() + attribute.value.len()
}

/// As many bytes as a number has that are not 0, so that a number that got lost shows.
fn numbers(numbers: &[u64]) -> usize {
    numbers.iter().map(|number| (u64::BITS - number.leading_zeros()).div_ceil(8) as usize).sum()
}
