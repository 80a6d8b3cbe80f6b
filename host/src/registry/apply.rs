//! How what runs becomes what is desired: each label on its own.
//!
//! Invariants: one change of a label at a time; a build that is no longer wanted is given up; a label waits for others
//! only where it takes a label from them, and for removed ones at most [`HAND_OVER`].

use super::state::{Change, Held, Running, State};
use super::{Absent, Applied, Delivery, Desired, DropReason, Instant, Plan, Registry};
use crate::publisher::Publisher;
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long what starts waits for what was removed with it, which may hold the same file or port, or write to the same
/// place. Healthy publishers end sooner. What cannot be opened after that is tried again when a removed one has ended.
const HAND_OVER: Duration = Duration::from_millis(500);

/// A call of [`Registry::apply`] that has begun.
#[derive(Default)]
pub struct Round {
    number: u64,
    desired: Vec<Desired>,
    /// Labels that did not run before.
    new: Vec<Arc<str>>,
    /// Who held what when it began.
    held: Vec<Held>,
    removed: Vec<Arc<Delivery>>,
    retry_failed: bool,
}

impl Desired {
    /// Deliveries that hold a label of its: its own, or of what it is made of.
    fn holders<'a>(&self, held: &'a [Held]) -> impl Iterator<Item = &'a Held> {
        let is_mine = |label: &Arc<str>| *label == self.label || self.members.contains(label);
        held.iter().filter(move |(label, holder)| is_mine(label) && *holder != self.label)
    }

    fn pending() -> Absent {
        Absent::Pending(
            "it is being loaded and started; what is accepted meanwhile is kept for it".to_owned(),
        )
    }
}

impl Round {
    fn is_new(&self, desired: &Desired) -> bool {
        self.new.contains(&desired.label)
    }

    fn is_removed(&self, label: &str) -> bool {
        self.removed.iter().any(|delivery| **delivery.label() == *label)
    }

    /// Whether it may need what a removed one holds.
    fn succeeds_removed(&self, desired: &Desired) -> bool {
        self.is_new(desired) || desired.holders(&self.held).any(|(_, holder)| self.is_removed(holder))
    }

    /// Whether it takes a label from one that stays.
    fn takes_from_others(&self, desired: &Desired) -> bool {
        desired.holders(&self.held).any(|(_, holder)| !self.is_removed(holder))
    }
}

impl Registry {
    /// Makes what runs what is desired: [`Registry::begin`] and [`Registry::finish`].
    pub async fn apply(&self, desired: Vec<Desired>, patience: Duration, retry_failed: bool) -> Applied {
        let round = self.begin(desired, retry_failed);
        self.finish(round, patience).await
    }

    /// Says what is desired from here on. Every label has its cursor when this returns. What failed before and has not
    /// changed since is tried again only if `retry_failed`.
    pub fn begin(&self, desired: Vec<Desired>, retry_failed: bool) -> Round {
        let mut state = self.state.lock();
        if state.closed {
            // What is being built goes on until the deadline.
            return Round::default();
        }
        let held = state.held();
        let removed = state.begin(&desired);
        let mut new = Vec::new();
        for desired in &desired {
            if state.running.contains_key(&desired.label) {
                continue;
            }
            new.push(desired.label.clone());
            // A file that was dropped in and could not be loaded takes nothing until it can be.
            if desired.configured || state.failed(desired).is_none() {
                state.insert(&desired.label, self.start(desired));
            }
        }
        let number = state.round;
        drop(state);
        self.news.send_replace(());
        Round { number, desired, new, held, removed, retry_failed }
    }

    /// Returns when every label is as desired, or has failed, or is left to a newer call; and when labels that are not
    /// desired have delivered what was left, for at most `patience`.
    pub async fn finish(&self, round: Round, patience: Duration) -> Applied {
        let applied = Mutex::new(Applied::default());
        let (apart, together): (Vec<_>, Vec<_>) =
            round.desired.iter().partition(|desired| !round.takes_from_others(desired));
        let apart = join_all(apart.into_iter().map(|desired| self.settle_apart(&round, desired, &applied)));
        let together = self.settle_together(&round, together, &applied);
        let drained = async {
            for account in self.drain(&round.removed, patience, DropReason::Removed).await {
                tracing::info!(publisher = %account.label, "removed");
                applied.lock().removed.push(account.label);
            }
        };
        tokio::join!(apart, together, drained);
        let mut applied = applied.into_inner();
        applied.sort();
        applied
    }

    async fn settle_apart(&self, round: &Round, desired: &Desired, applied: &Mutex<Applied>) {
        if round.succeeds_removed(desired) {
            self.hand_over(round).await;
        }
        self.settle(round, desired, applied).await;
    }

    /// Those that take labels from others that stay, one after the other: two that exchange members go on.
    async fn settle_together(&self, round: &Round, mut these: Vec<&Desired>, applied: &Mutex<Applied>) {
        let labels: Vec<_> = these.iter().map(|desired| desired.label.clone()).collect();
        these.sort_by_key(|desired| round.is_new(desired));
        for desired in these {
            if round.succeeds_removed(desired) {
                self.hand_over(round).await;
            }
            let holders = desired.holders(&round.held).map(|(_, holder)| holder);
            let holders: Vec<_> = holders.filter(|holder| !labels.contains(holder)).collect();
            let let_go = |state: &State| {
                state.round != round.number || holders.iter().all(|holder| state.is_settled(holder))
            };
            self.until(let_go).await;
            // What could not be changed keeps what it has.
            let mut held = self.state.lock().held();
            held.retain(|(label, _)| round.is_new(desired) || *label == desired.label);
            match desired.holders(&held).next() {
                None => self.settle(round, desired, applied).await,
                Some((label, holder)) => {
                    let reason =
                        format!("\"{label}\" is still a member of \"{holder}\", which could not be changed");
                    let change = self.failed(desired, reason).await;
                    self.note(desired, change, &mut applied.lock());
                }
            }
        }
    }

    fn note(&self, desired: &Desired, change: Change, applied: &mut Applied) {
        self.state.lock().note(desired, change, applied);
        self.news.send_replace(());
    }

    /// Gives removed ones a short time to end.
    async fn hand_over(&self, round: &Round) {
        let ended = self.until(|state| !round.removed.iter().any(|removed| state.is_draining(removed)));
        let _ = tokio::time::timeout(HAND_OVER, ended).await;
    }

    /// Changes a label, when its turn has come and this is still what is wanted.
    async fn settle(&self, round: &Round, desired: &Desired, applied: &Mutex<Applied>) {
        let turn = self.state.lock().turn(&desired.label);
        let _turn = tokio::select! {
            biased;
            turn = turn.lock() => turn,
            // A newer call of `apply` waits for the same turn: one is enough.
            () = self.until(|state| state.round != round.number) => return,
        };
        let mut retry_failed = round.retry_failed;
        loop {
            let going = self.state.lock().draining.clone();
            let Some(change) = self.change(desired, retry_failed).await else { return };
            let again = matches!(change, Change::Failed(_)) && !going.is_empty();
            if !again {
                self.note(desired, change, &mut applied.lock());
                return;
            }
            self.note(desired, change, &mut Applied::default());
            // One that is ending may hold what it needs.
            let ended = |state: &State| going.iter().any(|delivery| !state.is_draining(delivery));
            self.until(|state| !state.wants(desired) || ended(state)).await;
            retry_failed = true;
        }
    }

    /// Changes a label now. `None` if something else is wanted before it is built.
    async fn change(&self, desired: &Desired, retry_failed: bool) -> Option<Change> {
        let (running, failed) = {
            let state = self.state.lock();
            if !state.wants(desired) {
                return None;
            }
            let failed = state.failed(desired).filter(|_| !retry_failed);
            (state.running.get(&desired.label).cloned(), failed.map(|failure| failure.reason.clone()))
        };
        if let Some(reason) = &desired.missing {
            if let Some(Running { delivery, .. }) = &running {
                if delivery.status().reason.as_deref() != Some(reason) {
                    tracing::warn!(publisher = %desired.label, "waits: {reason}");
                }
                delivery.suspend(Absent::Waiting(reason.clone())).await;
            }
            return Some(Change::Waiting(reason.clone()));
        }
        if let Some(Running { fingerprint: Some(fingerprint), .. }) = &running
            && *fingerprint == desired.fingerprint
        {
            return Some(Change::Unchanged);
        }
        if let Some(reason) = failed {
            return Some(Change::Failed(reason));
        }
        if let Some(Running { delivery, fingerprint: None, .. }) = &running {
            delivery.suspend(Desired::pending()).await;
        }
        let built = tokio::select! {
            biased;
            built = self.build(desired) => built,
            () = self.until(|state| !state.wants(desired)) => return None,
        };
        let publisher = match built {
            Ok(publisher) => publisher,
            Err(reason) => return Some(self.failed(desired, reason).await),
        };
        if !self.state.lock().wants(desired) {
            return None;
        }
        let delivery = match running {
            Some(running) => running.delivery,
            None => self.start_late(desired)?,
        };
        match delivery.replace(publisher, desired.plan.clone()).await {
            Ok(()) => Some(Change::Runs(delivery)),
            Err(reason) => Some(self.failed(desired, reason).await),
        }
    }

    /// One that is configured keeps its cursor while it waits for something to run; another one ends.
    async fn failed(&self, desired: &Desired, reason: String) -> Change {
        let idle = {
            let mut state = self.state.lock();
            let running = state.running.get(&desired.label).filter(|running| running.fingerprint.is_none());
            let idle = running.map(|running| running.delivery.clone());
            if !desired.configured && state.wants(desired) {
                state.take_idle(&desired.label);
            }
            idle
        };
        if let Some(delivery) = idle {
            if desired.configured {
                delivery.suspend(Absent::Waiting(reason.clone())).await;
            } else {
                delivery.drain(Instant::now(), DropReason::Removed).await;
            }
        }
        Change::Failed(reason)
    }

    /// In a task of its own: a factory that panics is a failed build, not the end of the reload.
    async fn build(&self, desired: &Desired) -> Result<Box<dyn Publisher>, String> {
        let Plan { factory, context, .. } = desired.plan.clone();
        // The task ends with the set, when the build is given up.
        let mut build = JoinSet::new();
        build.spawn(async move { factory(context).await });
        match build.join_next().await {
            Some(Ok(built)) => {
                built.map_err(|error| desired.plan.context.secrets.redact(&format!("{error:#}")).into_owned())
            }
            Some(Err(panic)) => Err(format!("building it failed: {panic}")),
            None => Err("building it did not begin".to_owned()),
        }
    }

    /// Starts a delivery for one that could not be loaded before, and has no cursor.
    fn start_late(&self, desired: &Desired) -> Option<Arc<Delivery>> {
        let mut state = self.state.lock();
        if state.closed || !state.wants(desired) {
            return None;
        }
        let delivery = self.start(desired);
        state.insert(&desired.label, delivery.clone());
        Some(delivery)
    }

    fn start(&self, desired: &Desired) -> Arc<Delivery> {
        let (letters, plan) = (self.dead_letters.clone(), desired.plan.clone());
        let absent = Err(Desired::pending());
        Arc::new(Delivery::start(desired.label.clone(), &self.journal, absent, plan, letters))
    }
}
