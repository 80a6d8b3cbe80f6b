//! A plugin that counts: per event name and network operation, counts, failures, retries and latency quantiles,
//! logged at every flush. Memory is bounded by `max_names`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod rollup;

use pressroom_plugin::{EventBatch, NetworkBatch, PublishError, PublishResult, Publisher, config, info};
use rollup::{EventTotals, Events, OperationTotals, Operations, Rollup, Texts};

struct Rollups {
    events: Rollup<EventTotals>,
    operations: Rollup<OperationTotals>,
    reset: bool,
}

impl Rollups {
    fn start() -> Result<Self, String> {
        let max_names = config::parse("max_names", 256)?;
        Ok(Self {
            events: Rollup::new(max_names),
            operations: Rollup::new(max_names),
            reset: config::parse("reset", true)?,
        })
    }
}

impl Publisher for Rollups {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        let columns = events.columns();
        self.events.add(Events {
            names: texts(&columns.event_name),
            starts: &columns.start_time,
            ends: &columns.end_time,
            status: &columns.status,
            retries: &columns.retry_count,
        });
        Ok(Vec::new())
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        let columns = operations.columns();
        self.operations.add(Operations {
            names: texts(&columns.operation),
            starts: &columns.start_time,
            ends: &columns.end_time,
            failed: &columns.error.present,
            sent: &columns.bytes_sent,
            received: &columns.bytes_received,
        });
        Ok(Vec::new())
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        for (name, totals) in self.events.iter() {
            info!("event={name:?} {totals}");
        }
        if self.events.other().count > 0 {
            info!("other events {}", self.events.other());
        }
        for (name, totals) in self.operations.iter() {
            info!("operation={name:?} {totals}");
        }
        if self.operations.other().count > 0 {
            info!("other operations {}", self.operations.other());
        }
        if self.reset {
            self.events.clear();
            self.operations.clear();
        }
        Ok(())
    }
}

fn texts(column: &pressroom_plugin::TextColumn) -> Texts<'_> {
    Texts { values: &column.values, ends: &column.ends }
}

pressroom_plugin::export!(Rollups, Rollups::start);

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::{EventMetrics, EventStatus};

    #[test]
    fn a_flush_starts_anew_only_if_it_is_to() {
        for reset in [true, false] {
            let mut rollups = Rollups { reset, ..Rollups::start().unwrap() };
            let failed = EventMetrics {
                event_name: "resize".into(),
                status: EventStatus::Failed,
                ..Default::default()
            };
            assert_eq!(rollups.publish_event_metrics(&vec![failed].into()), Ok(vec![]));
            assert_eq!(rollups.events.iter().map(|(_, totals)| totals.failed).sum::<u64>(), 1);
            assert_eq!(rollups.flush(), Ok(()));
            assert_eq!(rollups.events.iter().count(), usize::from(!reset));
        }
    }
}
