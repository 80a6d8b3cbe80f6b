//! What the registry knows of every label: what runs, what is wanted, what has failed, what is on its way out.
//!
//! Invariant: nothing is awaited here; whoever holds the lock decides from what is there.

use super::{Account, Applied, Desired, Failed, KEPT_ACCOUNTS};
use crate::delivery::Delivery;
use crate::record::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct State {
    pub(super) running: BTreeMap<Arc<str>, Running>,
    /// Removed ones that deliver what is left.
    pub(super) draining: Vec<Arc<Delivery>>,
    /// Nothing is started any more.
    pub(super) closed: bool,
    pub(super) failures: BTreeMap<Arc<str>, Failure>,
    pub(super) ended: Vec<Account>,
    /// Counts the calls of `apply`.
    pub(super) round: u64,
    /// What the newest call of `apply` asks for.
    wanted: BTreeMap<Arc<str>, Wanted>,
    /// Held while a label is changed: one change at a time.
    turns: BTreeMap<Arc<str>, Turn>,
}

pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Clone)]
pub(super) struct Running {
    pub(super) delivery: Arc<Delivery>,
    /// Of what runs; `None` while it waits for something to run.
    pub(super) fingerprint: Option<String>,
    /// The labels that it holds beside its own.
    pub(super) members: Vec<Arc<str>>,
    /// It has not been anything but pending.
    new: bool,
}

struct Wanted {
    fingerprint: String,
    missing: Option<String>,
    /// It runs so, or has failed to.
    settled: bool,
}

pub(super) struct Failure {
    pub(super) fingerprint: String,
    pub(super) kind: Arc<str>,
    pub(super) reason: String,
    pub(super) since: Timestamp,
    required: bool,
}

impl Failure {
    pub(super) fn of(&self, label: &Arc<str>) -> Failed {
        Failed { label: label.clone(), reason: self.reason.clone(), required: self.required, told: true }
    }
}

/// A label, and the delivery that holds it.
pub(super) type Held = (Arc<str>, Arc<str>);

/// What became of one label.
pub(super) enum Change {
    Unchanged,
    /// Something runs under it that did not.
    Runs(Arc<Delivery>),
    Waiting(String),
    Failed(String),
}

impl State {
    /// Takes out what runs and is not desired, and notes what is wanted from here on.
    pub(super) fn begin(&mut self, desired: &[Desired]) -> Vec<Arc<Delivery>> {
        self.round += 1;
        let wanted = |desired: &Desired| Wanted {
            fingerprint: desired.fingerprint.clone(),
            missing: desired.missing.clone(),
            settled: false,
        };
        self.wanted = desired.iter().map(|desired| (desired.label.clone(), wanted(desired))).collect();
        let Self { wanted, failures, turns, running, draining, .. } = self;
        failures.retain(|label, _| wanted.contains_key(label));
        turns.retain(|label, turn| wanted.contains_key(label) || Arc::strong_count(turn) > 1);
        let gone = running.extract_if(.., |label, _| !wanted.contains_key(label));
        let gone: Vec<_> = gone.map(|(_, running)| running.delivery).collect();
        draining.extend(gone.iter().cloned());
        gone
    }

    /// Whether this is what the newest call of `apply` asks for.
    pub(super) fn wants(&self, desired: &Desired) -> bool {
        self.wanted.get(&desired.label).is_some_and(|wanted| {
            wanted.fingerprint == desired.fingerprint && wanted.missing == desired.missing
        })
    }

    pub(super) fn is_settled(&self, label: &str) -> bool {
        self.wanted.get(label).is_none_or(|wanted| wanted.settled)
    }

    pub(super) fn turn(&mut self, label: &Arc<str>) -> Turn {
        self.turns.entry(label.clone()).or_default().clone()
    }

    /// The labels that deliveries hold, their own and those of what they are made of.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = self.running.iter().flat_map(|(holder, running)| {
            std::iter::once(holder).chain(&running.members).map(|label| (label.clone(), holder.clone()))
        });
        held.collect()
    }

    /// Why it could not be built before, if it has not changed since.
    pub(super) fn failed(&self, desired: &Desired) -> Option<&Failure> {
        self.failures.get(&desired.label).filter(|failure| failure.fingerprint == desired.fingerprint)
    }

    pub(super) fn insert(&mut self, label: &Arc<str>, delivery: Arc<Delivery>) {
        let running = Running { delivery, fingerprint: None, members: Vec::new(), new: true };
        self.running.insert(label.clone(), running);
    }

    /// Takes out a delivery that never ran.
    pub(super) fn take_idle(&mut self, label: &str) -> Option<Arc<Delivery>> {
        self.running.get(label).filter(|running| running.fingerprint.is_none())?;
        self.running.remove(label).map(|running| running.delivery)
    }

    pub(super) fn is_draining(&self, delivery: &Arc<Delivery>) -> bool {
        self.draining.iter().any(|other| Arc::ptr_eq(other, delivery))
    }

    pub(super) fn note_ended(&mut self, delivery: &Arc<Delivery>, account: Account) {
        self.draining.retain(|other| !Arc::ptr_eq(other, delivery));
        self.ended.push(account);
        let excess = self.ended.len().saturating_sub(KEPT_ACCOUNTS);
        self.ended.drain(..excess);
    }

    /// Notes what became of a label, and tells of it.
    pub(super) fn note(&mut self, desired: &Desired, change: Change, applied: &mut Applied) {
        let Desired { label, fingerprint, members, .. } = desired;
        if let Change::Runs(delivery) = &change {
            // What runs is noted even where something else is wanted by now: that is built after this.
            let running =
                self.running.get_mut(label).filter(|running| Arc::ptr_eq(&running.delivery, delivery));
            let Some(running) = running else { return };
            (running.fingerprint, running.members) = (Some(fingerprint.clone()), members.clone());
            if std::mem::take(&mut running.new) {
                tracing::info!(publisher = %label, "started");
                applied.started.push(label.clone());
            } else {
                tracing::info!(publisher = %label, "replaced");
                applied.replaced.push(label.clone());
            }
        }
        if !self.wants(desired) {
            return;
        }
        if let Some(wanted) = self.wanted.get_mut(label) {
            wanted.settled = true;
        }
        match change {
            Change::Failed(reason) => {
                if let Some(running) = self.running.get_mut(label) {
                    running.new = false;
                }
                return self.note_failed(desired, reason, applied);
            }
            Change::Waiting(reason) => {
                if let Some(running) = self.running.get_mut(label) {
                    (running.fingerprint, running.members, running.new) = (None, members.clone(), false);
                }
                applied.waiting.push((label.clone(), reason));
            }
            Change::Unchanged => applied.unchanged.push(label.clone()),
            Change::Runs(_) => {}
        }
        self.failures.remove(label);
    }

    fn note_failed(&mut self, desired: &Desired, reason: String, applied: &mut Applied) {
        let Desired { label, fingerprint, required, .. } = desired;
        let known = self.failed(desired);
        let since = known.map_or_else(Timestamp::now, |known| known.since);
        let told = known.is_some_and(|known| known.reason == reason);
        if !told {
            tracing::error!(publisher = %label, "could not be started or changed: {reason}");
        }
        let (kind, fingerprint) = (desired.plan.kind.clone(), fingerprint.clone());
        applied.failed.push(Failed {
            label: label.clone(),
            reason: reason.clone(),
            required: *required,
            told,
        });
        self.failures
            .insert(label.clone(), Failure { fingerprint, kind, reason, since, required: *required });
    }
}
