//! The registry: label → running delivery. Start-up and every reload are the same call, [`Registry::apply`].
//!
//! Invariants: what did not change is not touched; a section that is slow to build delays only itself; a new publisher
//! is built before the old one ends, and takes over at a batch boundary; a failed build keeps the old one running, and
//! says why. A cursor belongs to a label and begins when the label is first desired. Of two calls the newer one wins,
//! whichever ends first.

mod apply;
mod state;
#[cfg(test)]
mod tests;

pub use apply::Round;

use crate::delivery::{Absent, DeadLetters, Delivery, Plan, PublisherStatus};
use crate::journal::{Books, DropReason, Journal};
use parking_lot::Mutex;
use serde::Serialize;
use state::{Failure, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
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
    state: Mutex<State>,
    /// Changes whenever `state` does in a way that somebody may wait for.
    news: watch::Sender<()>,
}

/// Accounts of removed publishers that are kept; the oldest go first.
const KEPT_ACCOUNTS: usize = 1_000;

impl Registry {
    /// A registry of publishers of `journal`. Nothing runs yet.
    pub fn new(journal: Journal, dead_letters: Arc<DeadLetters>) -> Self {
        Self { journal, dead_letters, state: Mutex::new(State::default()), news: watch::Sender::new(()) }
    }

    /// Ends everything: delivers what is left until `patience` is over. Returns the final books of all that ever ran.
    pub async fn shutdown(&self, patience: Duration) -> Vec<Account> {
        let deadline = Instant::now() + patience;
        let (running, removed) = {
            let mut state = self.state.lock();
            // Nothing is started from here on.
            state.closed = true;
            let removed = state.draining.clone();
            let running = std::mem::take(&mut state.running);
            let running: Vec<_> = running.into_values().map(|running| running.delivery).collect();
            state.draining.extend(running.iter().cloned());
            (running, removed)
        };
        self.news.send_replace(());
        for delivery in removed {
            delivery.begin_drain(deadline, DropReason::Shutdown);
        }
        self.drain(&running, patience, DropReason::Shutdown).await;
        // The removed ones are accounted for by the call of `apply` that removed them.
        let _ = tokio::time::timeout_at(deadline, self.until(|state| state.draining.is_empty())).await;
        self.ended()
    }

    async fn drain(&self, going: &[Arc<Delivery>], patience: Duration, reason: DropReason) -> Vec<Account> {
        let deadline = Instant::now() + patience;
        futures_util::future::join_all(going.iter().map(|delivery| async move {
            let books = delivery.drain(deadline, reason).await;
            let account = Account { label: delivery.label().clone(), books };
            self.state.lock().note_ended(delivery, account.clone());
            self.news.send_replace(());
            account
        }))
        .await
    }

    /// Where what publishers refuse is set aside.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.dead_letters
    }

    /// Returns when `condition` holds.
    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut news = self.news.subscribe();
        while !condition(&self.state.lock()) {
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns when each of these labels has become what it was last desired to be, or has failed to.
    pub async fn settled(&self, labels: &[Arc<str>]) {
        self.until(|state| labels.iter().all(|label| state.is_settled(label))).await;
    }

    /// What could not be started or changed as it should be.
    pub fn failures(&self) -> Vec<Failed> {
        self.state.lock().failures.iter().map(|(label, failure)| failure.of(label)).collect()
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
