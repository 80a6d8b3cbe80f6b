//! What ingest has taken and refused, for the host's own metrics.

use crate::report::Exposition;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what came in. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct IngestCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    records: Door,
    traces: Door,
}

/// One way in.
#[derive(Debug, Default)]
struct Door {
    accepted: AtomicU64,
    refused: AtomicU64,
    requests_refused: AtomicU64,
}

/// Which way something came in.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Records,
    Traces,
}

impl IngestCounts {
    fn door(&self, from: From) -> &Door {
        match from {
            From::Records => &self.0.records,
            From::Traces => &self.0.traces,
        }
    }

    /// A request was answered: so many rows or spans were taken, so many were not.
    pub(super) fn answered(&self, from: From, accepted: usize, refused: usize) {
        let door = self.door(from);
        door.accepted.fetch_add(accepted as u64, Ordering::Relaxed);
        door.refused.fetch_add(refused as u64, Ordering::Relaxed);
    }

    /// A request was refused as a whole.
    pub(super) fn refused(&self, from: From) {
        self.door(from).requests_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds them to the host's own metrics.
    pub fn expose(&self, mut exposition: Exposition) -> Exposition {
        for (name, door) in [("records", &self.0.records), ("traces", &self.0.traces)] {
            for (outcome, count) in [("accepted", &door.accepted), ("refused", &door.refused)] {
                exposition = exposition.counter(
                    "pressroom_ingest_records_total",
                    "Rows, messages and spans that were sent in, by endpoint and outcome.",
                    &[("endpoint", name), ("outcome", outcome)],
                    count.load(Ordering::Relaxed),
                );
            }
            exposition = exposition.counter(
                "pressroom_ingest_requests_refused_total",
                "Requests of which nothing was taken, by endpoint.",
                &[("endpoint", name)],
                door.requests_refused.load(Ordering::Relaxed),
            );
        }
        exposition
    }
}
