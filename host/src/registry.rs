//! The registry: label → running delivery. Start-up and every reload are the same call, [`Registry::apply`].
//!
//! Invariants: what did not change is not touched; a new publisher is built before the old one ends, and takes over at
//! a batch boundary; a failed build keeps the old one running, and says why. A cursor belongs to a label.

#[cfg(test)]
mod tests;

use crate::delivery::{DeadLetters, Delivery, Plan, PublisherStatus};
use crate::journal::{Books, DropReason, Journal};
use crate::publisher::Publisher;
use crate::record::Timestamp;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A publisher that should run.
#[derive(Clone)]
pub struct Desired {
    /// Its label.
    pub label: Arc<str>,
    /// Two alike mean: nothing changed. Settings, and the digest of a plugin's file.
    pub fingerprint: String,
    /// How to build it and deliver to it.
    pub plan: Plan,
    /// Why it cannot be built now, if that is known: its plugin file is not there.
    pub missing: Option<String>,
    /// It is in the configuration: it has a cursor even while it cannot be built. (A file that was dropped in and
    /// cannot be loaded has none.)
    pub configured: bool,
    /// The host must not start without it.
    pub required: bool,
    /// Labels that it holds beside its own: of what it is made of.
    pub members: Vec<Arc<str>>,
}

/// What one call of [`Registry::apply`] did, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Applied {
    /// New ones that run.
    pub started: Vec<Arc<str>>,
    /// Changed ones that run as they are now.
    pub replaced: Vec<Arc<str>>,
    /// Ones that have ended.
    pub removed: Vec<Arc<str>>,
    /// Ones that did not change.
    pub unchanged: Vec<Arc<str>>,
    /// Ones that wait for their plugin file.
    pub waiting: Vec<(Arc<str>, String)>,
    /// Ones that could not be started or changed, and why.
    pub failed: Vec<Failed>,
}

/// A publisher that could not be started or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failed {
    /// Its label.
    pub label: Arc<str>,
    /// Why.
    pub reason: String,
    /// The host must not start without it.
    pub required: bool,
    /// The same was said of it before.
    pub told: bool,
}

/// Why nothing was reset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// No publisher has that label.
    #[error("no publisher runs under the label \"{0}\"; `pressroom report publishers` lists those that do")]
    Unknown(String),
    /// It is no plugin, or waits for its file.
    #[error("\"{0}\" runs no plugin now: there is nothing to reset")]
    NotAPlugin(String),
}

/// The final books of a publisher.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// Its label.
    pub label: Arc<str>,
    /// What became of its records.
    pub books: Books,
}

/// Label → running delivery.
pub struct Registry {
    journal: Journal,
    dead_letters: Arc<DeadLetters>,
    /// One call of `apply` at a time.
    applying: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<Arc<str>, Running>,
    /// On their way out: they deliver what is left.
    draining: Vec<Arc<Delivery>>,
    /// Nothing is started any more.
    closed: bool,
    failures: BTreeMap<Arc<str>, Failure>,
    ended: Vec<Account>,
}

#[derive(Clone)]
struct Running {
    delivery: Arc<Delivery>,
    /// Of what runs; `None` while it waits for something to run.
    fingerprint: Option<String>,
    /// The labels that it holds beside its own.
    members: Vec<Arc<str>>,
}

impl Desired {
    /// A label, its own or of what it is made of, that another delivery holds; and which.
    fn held_by_another<'a>(&self, held: &'a [Held]) -> Option<&'a Held> {
        let is_mine = |label: &Arc<str>| *label == self.label || self.members.contains(label);
        held.iter().find(|(label, holder)| is_mine(label) && *holder != self.label)
    }
}

/// A label, and the delivery that holds it.
type Held = (Arc<str>, Arc<str>);

struct Failure {
    fingerprint: String,
    kind: Arc<str>,
    reason: String,
    since: Timestamp,
}

/// What became of one label.
enum Change {
    Unchanged,
    Started(Delivery),
    Replaced,
    Waiting(String, Option<Delivery>),
    Failed(String, Option<Delivery>),
}

/// Accounts of removed publishers that are kept; the oldest go first.
const KEPT_ACCOUNTS: usize = 1_000;

impl Registry {
    /// A registry of publishers of `journal`. Nothing runs yet.
    pub fn new(journal: Journal, dead_letters: Arc<DeadLetters>) -> Self {
        Self {
            journal,
            dead_letters,
            applying: tokio::sync::Mutex::new(()),
            state: Mutex::new(State::default()),
        }
    }

    /// Makes what runs what is desired. Labels that are not are drained for at most `patience`. What failed before and
    /// has not changed since is tried again only if `retry_failed`.
    pub async fn apply(&self, desired: Vec<Desired>, patience: Duration, retry_failed: bool) -> Applied {
        let _one_at_a_time = self.applying.lock().await;
        let applied = Mutex::new(Applied::default());
        let held = self.held();
        let removed = self.take_removed(&desired);
        let (known, new): (Vec<_>, Vec<_>) =
            desired.iter().partition(|desired| self.is_running(&desired.label));
        let (taking_in, known): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|desired| desired.held_by_another(&held).is_some());
        let change = async |desired: &Desired| {
            let change = self.change(desired, retry_failed).await;
            // At once, so that reports show what is done while others are still at it.
            self.state.lock().note(desired, change, &mut applied.lock());
        };
        let drained = async {
            let accounts = self.drain(removed, patience, DropReason::Removed).await;
            applied.lock().removed.extend(accounts.into_iter().map(|account| account.label));
        };
        // A label that goes gives up its port or its file before one that comes wants it: a rename is both, and so is a
        // label that moves into a failover, or out of one.
        tokio::join!(join_all(known.into_iter().map(&change)), drained);
        // What could not be changed keeps what it has: nobody else starts with it.
        let start = async |desired: &Desired, held: &[Held]| match desired.held_by_another(held) {
            Some((label, holder)) => {
                let reason =
                    format!("\"{label}\" is still a member of \"{holder}\", which could not be changed");
                let waiting =
                    self.start_waiting(desired, &reason).filter(|_| !self.is_running(&desired.label));
                self.state.lock().note(desired, Change::Failed(reason, waiting), &mut applied.lock());
            }
            None => change(desired).await,
        };
        for desired in taking_in {
            let mut held = self.held();
            // Two that exchange members go on, one after the other.
            held.retain(|(label, _)| *label == desired.label);
            start(desired, &held).await;
        }
        let held = self.held();
        join_all(new.into_iter().map(|desired| start(desired, &held))).await;
        let wanted = |label: &Arc<str>| desired.iter().any(|desired| desired.label == *label);
        self.state.lock().failures.retain(|label, _| wanted(label));
        let mut applied = applied.into_inner();
        applied.sort();
        applied
    }

    /// The labels that deliveries hold, their own and those of what they are made of.
    fn held(&self) -> Vec<Held> {
        let state = self.state.lock();
        let held = state.running.iter().flat_map(|(holder, running)| {
            std::iter::once(holder).chain(&running.members).map(|label| (label.clone(), holder.clone()))
        });
        held.collect()
    }

    fn is_running(&self, label: &Arc<str>) -> bool {
        self.state.lock().running.contains_key(label)
    }

    fn take_removed(&self, desired: &[Desired]) -> Vec<Arc<Delivery>> {
        let mut state = self.state.lock();
        let labels =
            state.running.keys().filter(|label| desired.iter().all(|desired| desired.label != **label));
        let labels: Vec<_> = labels.cloned().collect();
        let removed: Vec<_> = labels
            .iter()
            .filter_map(|label| state.running.remove(label))
            .map(|running| running.delivery)
            .collect();
        state.draining.extend(removed.iter().cloned());
        removed
    }

    async fn change(&self, desired: &Desired, retry_failed: bool) -> Change {
        let (running, failed) = {
            let state = self.state.lock();
            let same = |failure: &&Failure| failure.fingerprint == desired.fingerprint && !retry_failed;
            let failure =
                state.failures.get(&desired.label).filter(same).map(|failure| failure.reason.clone());
            (state.running.get(&desired.label).cloned(), failure)
        };
        let delivery = running.as_ref().map(|running| &running.delivery);
        if let Some(reason) = &desired.missing {
            return match delivery {
                Some(delivery) => {
                    delivery.suspend(reason.clone()).await;
                    Change::Waiting(reason.clone(), None)
                }
                None => Change::Waiting(reason.clone(), self.start_waiting(desired, reason)),
            };
        }
        if running.as_ref().is_some_and(|running| running.fingerprint.as_ref() == Some(&desired.fingerprint))
        {
            return Change::Unchanged;
        }
        if let Some(reason) = failed {
            return Change::Failed(reason, None);
        }
        let result = match delivery {
            Some(delivery) => match self.build(desired, false).await {
                Ok(publisher) => delivery.replace(publisher, desired.plan.clone()).await.map(|()| None),
                Err(reason) => Err(reason),
            },
            None => self.build(desired, true).await.map(|publisher| Some(self.start(desired, Ok(publisher)))),
        };
        match result {
            Ok(Some(delivery)) => Change::Started(delivery),
            Ok(None) => Change::Replaced,
            Err(reason) => {
                let waiting = match &running {
                    None => self.start_waiting(desired, &reason),
                    Some(Running { delivery, fingerprint: None, .. }) => {
                        // It still waits, and now for something else.
                        delivery.suspend(reason.clone()).await;
                        None
                    }
                    Some(_) => None,
                };
                Change::Failed(reason, waiting)
            }
        }
    }

    /// Builds a publisher; and opens it, if there is no predecessor to hand anything over.
    async fn build(&self, desired: &Desired, open: bool) -> Result<Box<dyn Publisher>, String> {
        let Plan { factory, context, config, .. } = desired.plan.clone();
        // In a task of its own: a factory that panics is a failed build, not the end of the reload.
        let build = tokio::spawn(async move {
            let mut publisher = factory(context).await?;
            if open {
                let opened = tokio::time::timeout(config.timeout, publisher.open(None)).await;
                opened.map_err(|_| {
                    let timeout = humantime::format_duration(config.timeout);
                    anyhow::anyhow!("not opened within {timeout}")
                })??;
            }
            anyhow::Ok(publisher)
        });
        match build.await {
            Ok(built) => {
                built.map_err(|error| desired.plan.context.secrets.redact(&format!("{error:#}")).into_owned())
            }
            Err(panic) => Err(format!("building it failed: {panic}")),
        }
    }

    /// One that is configured keeps a cursor while it waits for something to run.
    fn start_waiting(&self, desired: &Desired, reason: &str) -> Option<Delivery> {
        desired.configured.then(|| self.start(desired, Err(reason.to_owned())))
    }

    fn start(&self, desired: &Desired, publisher: Result<Box<dyn Publisher>, String>) -> Delivery {
        let letters = self.dead_letters.clone();
        Delivery::start(desired.label.clone(), &self.journal, publisher, desired.plan.clone(), letters)
    }

    /// Ends everything: delivers what is left until `patience` is over. Returns the final books of all that ever ran.
    pub async fn shutdown(&self, patience: Duration) -> Vec<Account> {
        let deadline = Instant::now() + patience;
        let running = {
            let mut state = self.state.lock();
            // What is being built meanwhile comes too late.
            state.closed = true;
            let running = std::mem::take(&mut state.running);
            let running: Vec<_> = running.into_values().map(|running| running.delivery).collect();
            state.draining.extend(running.iter().cloned());
            running
        };
        self.drain(running, patience, DropReason::Shutdown).await;
        // Whoever is being removed now has an account soon; but a build that hangs must not keep the host.
        let _ = tokio::time::timeout_at(deadline, self.applying.lock()).await;
        self.ended()
    }

    async fn drain(&self, going: Vec<Arc<Delivery>>, patience: Duration, reason: DropReason) -> Vec<Account> {
        let deadline = Instant::now() + patience;
        join_all(going.iter().map(|delivery| async move {
            let books = delivery.drain(deadline, reason).await;
            let account = Account { label: delivery.label().clone(), books };
            let mut state = self.state.lock();
            state.draining.retain(|other| !Arc::ptr_eq(other, delivery));
            state.ended.push(account.clone());
            let excess = state.ended.len().saturating_sub(KEPT_ACCOUNTS);
            state.ended.drain(..excess);
            account
        }))
        .await
    }

    /// Where what publishers refuse is set aside.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.dead_letters
    }

    /// Whether anything could not be started or changed as it should be.
    pub fn has_failures(&self) -> bool {
        !self.state.lock().failures.is_empty()
    }

    /// Has the publisher forget what is held against it that runs under `label`, or that has a member of that label.
    ///
    /// # Errors
    ///
    /// Nothing runs under that label, or nothing that ever holds anything against itself.
    pub async fn reset(&self, label: &str) -> Result<(), ResetError> {
        let delivery = {
            let state = self.state.lock();
            let named = state.running.get(label);
            let holder = || {
                let mut running = state.running.values();
                running.find(|running| running.members.iter().any(|member| **member == *label))
            };
            named.or_else(holder).map(|running| running.delivery.clone())
        };
        let delivery = delivery.ok_or_else(|| ResetError::Unknown(label.to_owned()))?;
        if delivery.reset().await { Ok(()) } else { Err(ResetError::NotAPlugin(label.to_owned())) }
    }

    /// How every publisher stands.
    pub fn status(&self) -> Vec<PublisherStatus> {
        let (deliveries, never_ran) = {
            let state = self.state.lock();
            let update_failed = |label| state.failures.get(label).map(|failure| failure.reason.clone());
            let running = state.running.iter();
            let running = running.map(|(label, running)| (running.delivery.clone(), update_failed(label)));
            let draining = state.draining.iter().map(|delivery| (delivery.clone(), None));
            let never_ran = state.failures.iter().filter(|(label, _)| !state.running.contains_key(*label));
            let never_ran = never_ran.map(|(label, failure)| {
                let Failure { kind, reason, since, .. } = failure;
                PublisherStatus::failed(label.clone(), kind.clone(), reason.clone(), *since)
            });
            (running.chain(draining).collect::<Vec<_>>(), never_ran.collect::<Vec<_>>())
        };
        // Not under the lock: publishers are asked for their own state.
        let status = |(delivery, update_failed): (Arc<Delivery>, _)| PublisherStatus {
            update_failed,
            ..delivery.status()
        };
        deliveries.into_iter().map(status).chain(never_ran).collect()
    }

    /// The final books of publishers that have ended.
    pub fn ended(&self) -> Vec<Account> {
        self.state.lock().ended.clone()
    }
}

impl Applied {
    /// Labels are done in any order; what is shown has one.
    fn sort(&mut self) {
        for labels in [&mut self.started, &mut self.replaced, &mut self.removed, &mut self.unchanged] {
            labels.sort();
        }
        self.waiting.sort();
        self.failed.sort_by(|a, b| a.label.cmp(&b.label));
    }
}

impl State {
    fn note(&mut self, desired: &Desired, change: Change, applied: &mut Applied) {
        if self.closed {
            // A delivery that has just started ends when its handle goes.
            return;
        }
        let Desired { label, fingerprint, required, members, .. } = desired;
        let run = |state: &mut Self, delivery: Option<Delivery>, fingerprint: Option<String>| {
            let members = members.clone();
            if let Some(delivery) = delivery {
                let delivery = Arc::new(delivery);
                state.running.insert(label.clone(), Running { delivery, fingerprint, members });
            } else if let Some(running) = state.running.get_mut(label) {
                (running.fingerprint, running.members) = (fingerprint, members);
            }
        };
        if !matches!(change, Change::Failed(..)) {
            self.failures.remove(label);
        }
        match change {
            Change::Unchanged => applied.unchanged.push(label.clone()),
            Change::Started(delivery) => {
                run(self, Some(delivery), Some(fingerprint.clone()));
                applied.started.push(label.clone());
            }
            Change::Replaced => {
                run(self, None, Some(fingerprint.clone()));
                applied.replaced.push(label.clone());
            }
            Change::Waiting(reason, delivery) => {
                run(self, delivery, None);
                applied.waiting.push((label.clone(), reason));
            }
            Change::Failed(reason, delivery) => {
                if let Some(delivery) = delivery {
                    run(self, Some(delivery), None);
                }
                let (kind, fingerprint) = (desired.plan.kind.clone(), fingerprint.clone());
                let known = self.failures.get(label).filter(|known| known.fingerprint == fingerprint);
                let since = known.map_or_else(Timestamp::now, |known| known.since);
                let told = known.is_some_and(|known| known.reason == reason);
                let (label, reason) = (label.clone(), reason);
                applied.failed.push(Failed {
                    label: label.clone(),
                    reason: reason.clone(),
                    required: *required,
                    told,
                });
                self.failures.insert(label, Failure { fingerprint, kind, reason, since });
            }
        }
    }
}
