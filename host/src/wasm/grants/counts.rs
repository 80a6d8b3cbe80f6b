//! What reports show of a plugin's network.
//!
//! Invariant: numbers, and the host's own words about the last denial; no header, body or query of a request.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one plugin under one label.
#[derive(Debug, Default)]
pub(in super::super) struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    denied: AtomicU64,
    under_way: AtomicU64,
    /// The most that any one instance had under way.
    peak: AtomicU64,
    sockets_denied: AtomicU64,
    last_denied: Mutex<Option<String>>,
}

impl Counts {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn denied(&self, text: String) {
        self.denied.fetch_add(1, Ordering::Relaxed);
        *self.last_denied.lock() = Some(text);
    }

    pub(super) fn socket_denied(&self, text: String) {
        self.sockets_denied.fetch_add(1, Ordering::Relaxed);
        *self.last_denied.lock() = Some(text);
    }

    /// For the report, to stand in a plugin's object.
    pub(in super::super) fn add_to(&self, report: &mut Value) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        report["http_requests"] = count(&self.requests).into();
        report["http_failed"] = count(&self.failed).into();
        report["http_denied"] = count(&self.denied).into();
        report["connections"] = count(&self.under_way).into();
        report["connections_peak"] = count(&self.peak).into();
        report["sockets_denied"] = count(&self.sockets_denied).into();
        report["last_denied"] = json!(*self.last_denied.lock());
    }
}

/// The requests that one instance has under way.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    counts: Arc<Counts>,
    taken: Arc<AtomicU64>,
    most: u64,
}

impl Slots {
    pub(super) fn new(counts: Arc<Counts>, most: usize) -> Self {
        Self { counts, taken: Arc::default(), most: u64::try_from(most).unwrap_or(u64::MAX) }
    }

    /// One more, unless it has as many as it may.
    pub(super) fn take(&self) -> Option<UnderWay> {
        let one_more = |taken| (taken < self.most).then_some(taken + 1);
        let before = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        self.counts.peak.fetch_max(before + 1, Ordering::Relaxed);
        self.counts.under_way.fetch_add(1, Ordering::Relaxed);
        Some(UnderWay(self.clone()))
    }
}

/// One request under way, until its answer is read or given up.
#[derive(Debug)]
pub(super) struct UnderWay(Slots);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.counts.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Slots};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn slots_are_bounded_per_instance_and_given_back() {
        let counts = Arc::new(Counts::default());
        let (one, other) = (Slots::new(counts.clone(), 2), Slots::new(counts.clone(), 2));
        let taken = (one.take().unwrap(), one.take().unwrap());
        assert!(one.take().is_none());
        let third = other.take().unwrap();
        let mut report = json!({});
        counts.add_to(&mut report);
        assert_eq!((&report["connections"], &report["connections_peak"]), (&json!(3), &json!(2)));
        drop((taken, third));
        assert!(one.take().is_some());
        counts.add_to(&mut report);
        assert_eq!(report["connections"], 0);
    }
}
