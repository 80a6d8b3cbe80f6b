//! What reports show of a failover's members.

use crate::publisher::panics::ask;
use crate::publisher::{Breaker, Stand, StatusSource};
use crate::record::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// A member as it was last seen.
pub(super) struct Seen {
    label: Arc<str>,
    kind: Arc<str>,
    /// There is nothing to ask until something changes.
    waits: bool,
    stand: Stand,
    held: bool,
    until: Option<Instant>,
    since: Timestamp,
    /// Why it takes nothing, or did not take everything last.
    pub(super) reason: Option<String>,
    pub(super) counts: Counts,
    pub(super) detail: Option<StatusSource>,
}

/// What is counted of a member, whatever publisher stood there.
#[derive(Clone, Default)]
pub(super) struct Counts {
    pub(super) attempts: u64,
    pub(super) failed_attempts: u64,
    pub(super) delivered: u64,
    pub(super) rejected: u64,
    pub(super) misreported_rows: u64,
    pub(super) last_error: Option<String>,
    pub(super) last_delivery: Option<Timestamp>,
}

impl Seen {
    pub(super) fn new(label: Arc<str>, kind: Arc<str>, missing: Option<String>) -> Self {
        Self {
            label,
            kind,
            waits: missing.is_some(),
            stand: Stand::Closed,
            held: false,
            until: None,
            since: Timestamp::now(),
            reason: missing,
            counts: Counts::default(),
            detail: None,
        }
    }

    pub(super) fn set(&mut self, breaker: &Breaker) {
        if (self.stand == Stand::Closed) != (breaker.stand() == Stand::Closed) {
            self.since = Timestamp::now();
        }
        (self.stand, self.held, self.until) = (breaker.stand(), breaker.is_held(), breaker.until());
    }

    fn takes_records(&self) -> bool {
        self.stand == Stand::Closed && !self.waits
    }

    fn state(&self, active: bool) -> &'static str {
        match self.stand {
            _ if self.waits => "waiting",
            Stand::Closed if active => "active",
            Stand::Closed => "standby",
            Stand::Probing => "probing",
            Stand::Open if self.held => "held",
            Stand::Open => "open",
        }
    }

    fn json(&self, active: bool) -> Value {
        let Counts { attempts, failed_attempts, delivered, rejected, misreported_rows, .. } = self.counts;
        let mut member = json!({
            "label": &*self.label,
            "type": &*self.kind,
            "state": self.state(active),
            "since": self.since,
            "delivered": delivered,
            "rejected": rejected,
            "attempts": attempts,
            "failed_attempts": failed_attempts,
            "misreported_rows": misreported_rows,
        });
        let now = tokio::time::Instant::now().into_std();
        let probe = self.until.map(|until| Timestamp::now().after(until.saturating_duration_since(now)));
        let mut add = |key: &str, value: Option<Value>| {
            if let (Some(value), Some(fields)) = (value, member.as_object_mut()) {
                fields.insert(key.to_owned(), value);
            }
        };
        add("reason", self.reason.as_ref().map(|reason| json!(reason)));
        add("next_probe", probe.map(|probe| json!(probe)));
        add("last_error", self.counts.last_error.as_ref().map(|error| json!(error)));
        add("last_delivery", self.counts.last_delivery.map(|time| json!(time)));
        member
    }
}

/// Answers with all members, the first choice first. `active` is the one that records go to.
pub(super) fn source(members: Vec<Arc<Mutex<Seen>>>) -> StatusSource {
    Arc::new(move || {
        let mut active = None;
        let mut shown = Vec::new();
        for member in &members {
            let (mut json, detail) = {
                let seen = member.lock();
                let is_active = active.is_none() && seen.takes_records();
                if is_active {
                    active = Some(seen.label.clone());
                }
                (seen.json(is_active), seen.detail.clone())
            };
            // Not under the lock: it is another's code.
            if let (Some(detail), Some(fields)) =
                (detail.and_then(|detail| ask(|| detail())), json.as_object_mut())
            {
                fields.insert("detail".to_owned(), detail);
            }
            shown.push(json);
        }
        json!({ "mode": "failover", "active": active.as_deref(), "members": shown })
    })
}
