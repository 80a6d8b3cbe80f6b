//! What ingest has taken and refused, for the host's own metrics.

use crate::listen::{Places, RefusedCounts, Why};
use crate::report::Exposition;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Counts what came in. Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct IngestCounts(Arc<Counts>);

#[derive(Default)]
struct Counts {
    records: Door,
    traces: Door,
    refused: RefusedCounts,
    places: OnceLock<Places>,
}

/// One way in.
#[derive(Debug, Default)]
struct Door {
    accepted: AtomicU64,
    refused: AtomicU64,
    requests_refused: AtomicU64,
    attributes_left_out: AtomicU64,
    values_altered: AtomicU64,
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

    /// Of what was taken, so many attributes were left out, and so many values (rows, where the values are not told
    /// apart) are not what was sent.
    pub(super) fn altered(&self, from: From, attributes_left_out: usize, values_altered: usize) {
        let door = self.door(from);
        door.attributes_left_out.fetch_add(attributes_left_out as u64, Ordering::Relaxed);
        door.values_altered.fetch_add(values_altered as u64, Ordering::Relaxed);
    }

    /// A request was refused as a whole.
    pub(super) fn refused(&self, from: From) {
        self.door(from).requests_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that the guard refused.
    pub(super) fn refusals(&self) -> &RefusedCounts {
        &self.0.refused
    }

    /// Counts the connections that are closed early for their places.
    pub(super) fn count_closed(&self, places: Places) {
        // One server serves once.
        let _ = self.0.places.set(places);
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
            for (what, count) in [("left_out", &door.attributes_left_out), ("altered", &door.values_altered)]
            {
                exposition = exposition.counter(
                    "pressroom_ingest_changes_total",
                    "Of records that were taken: attributes left out, values cut or with characters replaced.",
                    &[("endpoint", name), ("change", what)],
                    count.load(Ordering::Relaxed),
                );
            }
        }
        for why in Why::ALL {
            exposition = exposition.counter(
                "pressroom_http_refused_total",
                "Requests that were refused for their head: Host (server.hosts), Origin (server.cors_origins), the token.",
                &[("reason", why.as_str())],
                self.0.refused.of(why),
            );
        }
        exposition.counter(
            "pressroom_http_closed_early_total",
            "Connections that were closed because they stalled, or were idle, and their place was needed.",
            &[],
            self.0.places.get().map_or(0, Places::closed),
        )
    }
}

impl std::fmt::Debug for IngestCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestCounts").finish_non_exhaustive()
    }
}
