//! A plugin as a publisher: keeps instances alive, bounds their calls, replaces those that fail, and finds out whether it
//! is the plugin that fails or a record.
//!
//! Invariant: a row is reported as delivered, rejected or handed back by what an instance that came to its end said of it,
//! and else only as one of these:
//!
//! - **Poison**, a dead letter with the text of the trap: a fresh instance died of it that was handed nothing else, and
//!   another row of its kind was published beside it, in the same call of the publisher or in a later one.
//! - **Undecided**, handed back: it died so, and nothing beside it has been published. `delivery` reads on, so that there
//!   is something beside it. One that stays alone is tried again now and then; two or more of which none is published
//!   are the plugin's fault.
//! - **Not tried yet**, handed back: time ran out, or something else came between.
//!
//! How it gets there: a batch that an instance dies of is tried again on a fresh one, at once, and then in halves
//! ([`sift`]). That costs no wait and, where something is published, no strike; where nothing is, one strike and one
//! wait ([`health`]). Enough strikes in a row are a quarantine. A host that waited for too long (a slow server), and a
//! call that the caller gave up, cost the instance and nothing else.

mod attempts;
mod doubts;
mod health;
mod lane;
mod sift;

use super::bindings::Published;
use super::instance::{Failure, Setup};
use super::settings::Acknowledge;
use super::status::Stands;
use crate::publisher::{Fate, PublishError, PublishResult, Publisher, Standing, StatusSource, Unpublished};
use crate::record::{EventBatch, Kind as RecordKind, NetworkBatch, Record, Rows};
use attempts::Attempts;
use doubts::{Doubts, LONELY, Suspect};
use health::{At, Health};
use lane::{Death, Kind, Lane};
use sift::{Parts, Sifted, Stop};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

/// A running plugin.
pub(super) struct Plugin {
    setup: Arc<Setup>,
    /// Each has an instance at a time; the rows of a call are shared out among them.
    lanes: Vec<Lane>,
    health: Health,
    events: Doubts,
    operations: Doubts,
    /// An instance died while it flushed: what it held is published and flushed part by part.
    careful: bool,
    /// What was published could not be flushed at once, as it was to be.
    stuck: bool,
}

impl Plugin {
    /// Makes the first instance, so that a plugin that cannot run is found out before anything depends on it.
    pub(super) async fn start(setup: Arc<Setup>) -> Result<Self, Failure> {
        let mut lanes = vec![Lane::start(setup.clone()).await?];
        lanes.resize_with(setup.limits.instances.max(1), || Lane::empty(setup.clone()));
        let health = Health::new(setup.limits.strikes);
        Ok(Self {
            setup,
            lanes,
            health,
            events: Doubts::default(),
            operations: Doubts::default(),
            careful: false,
            stuck: false,
        })
    }

    async fn publish<R: Published>(&mut self, rows: &Rows<R>) -> PublishResult {
        self.stuck = false;
        if let Err(error) = self.may_be_asked() {
            self.doubts::<R>().proven = false;
            return Err(error);
        }
        let plan = self.doubts::<R>().plan(rows).map_err(|(reason, wait)| PublishError::Retry {
            reason: format!("plugin {}: {reason}", self.setup.label),
            after: Some(wait),
        })?;
        let proven = self.doubts::<R>().proven;
        let careful = self.at_flush() && (self.careful || plan.parts.len() > 1 || !plan.suspects.is_empty());
        let mut attempts = Attempts {
            rows: rows.clone(),
            // Whoever calls gives up after that, and must not in the middle of an attempt.
            until: Instant::now() + self.setup.limits.attempt.mul_f64(0.9),
            first: true,
            call: self.setup.limits.call_timeout,
            careful,
            at_flush: self.at_flush(),
            stuck: false,
            proof: Arc::new(AtomicBool::new(proven)),
        };
        let mut sifted = self.sift(&attempts, plan.parts).await;
        sifted.published |= proven;
        let mut kept = plan.suspects;
        // Not while what was published could not be flushed: it would be lost with the instance that a suspect kills.
        if sifted.published && sifted.stop.is_none() && !self.stuck && !kept.is_empty() {
            let parts = std::mem::take(&mut kept).into_iter().map(|(row, _)| vec![row]).collect();
            attempts.stuck = self.stuck;
            sifted.join(self.sift_here(attempts, parts).await);
        }
        if sifted.died.is_none() && sifted.stop.is_none() {
            self.careful = false;
        }
        let died_retiring: Vec<Death> = self.lanes.iter_mut().filter_map(Lane::died_retiring).collect();
        for Death { text, lived, .. } in died_retiring {
            self.strike(At::Flush, lived, &text);
        }
        if sifted.published && careful && !self.stuck {
            self.health.flushed();
        }
        let outcome = self.conclude(rows, sifted, kept, plan.lonely);
        self.show();
        outcome
    }

    /// # Errors
    ///
    /// It is in quarantine, or its next instance is not due yet.
    fn may_be_asked(&self) -> Result<(), PublishError> {
        if let Some(error) = self.in_quarantine() {
            return Err(error);
        }
        match self.health.wait() {
            Some(wait) if !self.lanes.iter().all(Lane::is_alive) => {
                let reason = format!("plugin {}: waits for its next instance", self.setup.label);
                Err(PublishError::Retry { reason, after: Some(wait) })
            }
            _ => Ok(()),
        }
    }

    fn in_quarantine(&self) -> Option<PublishError> {
        let label = &self.setup.label;
        let reason = self.health.quarantined()?;
        Some(PublishError::hold(format!(
            "plugin {label}: {reason}; it is asked again when its file or its section changes, or after `pressroom \
             plugin reset {label}`"
        )))
    }

    /// Shares rows out among the lanes, each of which goes through its own.
    async fn sift<R: Published>(&mut self, attempts: &Attempts<R>, mut parts: Parts) -> Sifted {
        if let [whole] = &*parts.make_contiguous() {
            parts =
                whole.chunks(whole.len().div_ceil(self.lanes.len()).max(1)).map(<[u32]>::to_vec).collect();
        }
        let lanes = self.lanes.len().min(parts.len());
        if lanes <= 1 {
            return self.sift_here(attempts.clone(), parts).await;
        }
        let mut shares = vec![Parts::new(); lanes];
        for (at, part) in parts.into_iter().enumerate() {
            if let Some(share) = shares.get_mut(at % lanes) {
                share.push_back(part);
            }
        }
        let mut tasks = JoinSet::new();
        for (at, (lane, parts)) in self.lanes.iter_mut().zip(shares).enumerate() {
            let (mut lane, mut attempts) = (lane.take(), attempts.clone());
            tasks.spawn(async move {
                let sifted = attempts.sift(&mut lane, parts).await;
                (at, lane, sifted)
            });
        }
        let mut sifted = Sifted::default();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((at, lane, share)) => {
                    if let Some(place) = self.lanes.get_mut(at) {
                        *place = lane;
                    }
                    sifted.join(share);
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is ending: nobody waits for an answer.
                Err(_) => std::future::pending().await,
            }
        }
        sifted
    }

    /// Goes through rows with the first lane.
    async fn sift_here<R: Published>(&mut self, mut attempts: Attempts<R>, parts: Parts) -> Sifted {
        let Some(lane) = self.lanes.first_mut() else { return Sifted::default() };
        let sifted = attempts.sift(lane, parts).await;
        self.stuck |= attempts.stuck;
        sifted
    }

    /// What becomes of `rows`; `kept` are suspects that could not be tried again.
    fn conclude<R: Published>(
        &mut self,
        rows: &Rows<R>,
        sifted: Sifted,
        kept: Vec<(u32, Suspect)>,
        lonely: bool,
    ) -> PublishResult {
        let Sifted { mut left_out, suspects, rest, died, published, answered, stop } = sifted;
        let mut found: HashMap<u32, Suspect> = kept.into_iter().collect();
        if published {
            self.health.published();
            self.setup.status.poisoned.fetch_add(suspects.len() as u64, Ordering::Relaxed);
            left_out.extend(suspects.into_iter().map(|(row, text)| {
                let reason = format!("plugin {}: dies of this record: {text}", self.setup.label);
                Unpublished { row, fate: Fate::Reject { reason } }
            }));
        } else {
            let now = Instant::now();
            found.extend(suspects.into_iter().map(|(row, text)| (row, Suspect { text, tried: now })));
        }
        let mut again: Vec<u32> = rest.iter().flatten().copied().collect();
        again.extend(found.keys());
        // What was seen in this call counts for the one that goes on with it, at once, and for no later one.
        let goes_on = matches!(stop, Some(Stop::OutOfTime | Stop::InVain));
        let mut doubts = Doubts { proven: published && goes_on, ..Doubts::default() };
        let parted = died.is_some() || !found.is_empty() || rest.len() > self.lanes.len();
        if parted && !again.is_empty() {
            let ids: Vec<Uuid> = rows.iter().map(Record::id).collect();
            let id = |row: &u32| ids.get(*row as usize).copied();
            doubts.parts = rest.iter().map(|part| part.iter().filter_map(id).collect()).collect();
            doubts.suspects =
                found.into_iter().filter_map(|(row, suspect)| Some((id(&row)?, suspect))).collect();
        }
        *self.doubts::<R>() = doubts;
        if again.is_empty() && stop.is_none() {
            // Where it rejected all of them as one, that is passed on.
            return match left_out.first() {
                Some(Unpublished { fate: Fate::Reject { reason }, .. })
                    if !published && left_out.len() == rows.len() && all_the_same(&left_out, reason) =>
                {
                    Err(PublishError::reject(reason.as_str()))
                }
                _ => Ok(left_out),
            };
        }
        let error = self.why_again(died, published || answered, published, stop, lonely);
        if again.len() == rows.len() {
            return Err(error);
        }
        let (reason, after) = match error {
            PublishError::Retry { reason, after } => (reason, after),
            PublishError::Reject { reason } | PublishError::Hold { reason } => (reason, None),
        };
        let fate = Fate::Retry { reason, after };
        left_out.extend(again.into_iter().map(|row| Unpublished { row, fate: fate.clone() }));
        Ok(left_out)
    }

    /// Why rows are handed back, and what that costs the plugin.
    fn why_again(
        &mut self,
        died: Option<(String, Option<Duration>)>,
        answered: bool,
        published: bool,
        stop: Option<Stop>,
        lonely: bool,
    ) -> PublishError {
        let label = self.setup.label.clone();
        let retry =
            |cause: &str, after| PublishError::Retry { reason: format!("plugin {label}: {cause}"), after };
        let (died, lived) = died.unwrap_or_default();
        match stop {
            Some(Stop::Advised(error)) => error,
            Some(Stop::Late(cause)) => retry(&cause, None),
            Some(Stop::Unwell(cause)) => {
                let wait = self.strike(At::Publish, None, &cause);
                self.in_quarantine().unwrap_or_else(|| retry(&cause, Some(wait)))
            }
            Some(Stop::OutOfTime | Stop::InVain) if published => {
                retry(&format!("{died}; it is being found out of which records"), None)
            }
            _ if lonely => retry(&died, Some(LONELY)),
            _ if answered => retry(&died, None),
            _ => {
                let wait = self.strike(At::Publish, lived, &died);
                self.in_quarantine().unwrap_or_else(|| retry(&died, Some(wait)))
            }
        }
    }

    /// Instances died in vain. Returns how long it is until the next one.
    fn strike(&mut self, at: At, lived: Option<Duration>, cause: &str) -> Duration {
        let (label, was_quarantined) = (&*self.setup.label, self.health.quarantined().is_some());
        let wait = self.health.failed(at, lived, cause);
        let strikes = self.health.strikes();
        match self.health.quarantined() {
            Some(reason) if !was_quarantined => {
                tracing::error!(target: "pressroom::plugin", label, "{reason}");
            }
            _ => tracing::warn!(target: "pressroom::plugin", label, cause, ?wait, strikes, "plugin failed"),
        }
        wait
    }

    fn show(&self) {
        let stands = match (self.health.quarantined(), self.health.wait()) {
            (Some(_), _) => Stands::Quarantined,
            (None, Some(_)) if !self.lanes.iter().any(Lane::is_alive) => Stands::BackingOff,
            _ => Stands::Running,
        };
        self.setup.status.stands(stands, self.health.strikes());
    }

    fn at_flush(&self) -> bool {
        self.setup.acknowledge == Acknowledge::Flush
    }

    fn doubts<R: Record>(&mut self) -> &mut Doubts {
        if R::KIND == RecordKind::Event { &mut self.events } else { &mut self.operations }
    }
}

/// A row's number. There are never so many rows that it has none.
fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

fn all_the_same(left_out: &[Unpublished], text: &str) -> bool {
    left_out.iter().all(|entry| matches!(&entry.fate, Fate::Reject { reason } if reason == text))
}

#[async_trait::async_trait]
impl Publisher for Plugin {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations).await
    }

    async fn flush(&mut self) -> Result<(), PublishError> {
        self.stuck = false;
        let mut outcome = Ok(());
        for at in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            let was_alive = lane.is_alive();
            let flushed = match lane.flush().await {
                Ok(flushed) => {
                    if was_alive && flushed.is_ok() {
                        self.health.flushed();
                    }
                    flushed
                }
                Err(Death { text, lived, kind, .. }) => {
                    self.careful = true;
                    let reason = format!("plugin {}: {text}", self.setup.label);
                    let after = (kind == Kind::Died).then(|| self.strike(At::Flush, lived, &text));
                    Err(self.in_quarantine().unwrap_or(PublishError::Retry { reason, after }))
                }
            };
            outcome = outcome.and(flushed);
        }
        self.show();
        outcome
    }

    fn status(&self) -> Option<StatusSource> {
        let status = self.setup.status.clone();
        Some(Arc::new(move || status.json()))
    }

    fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        standing.at_flush = self.at_flush();
        standing.flush_due = standing.at_flush && (self.stuck || self.lanes.iter().any(Lane::is_due));
        standing.lost = self.lanes.iter().map(Lane::lost).sum();
        standing.quarantined = self.health.quarantined().is_some();
        if !standing.quarantined {
            standing.undecided = self.events.suspects.len() + self.operations.suspects.len();
        }
        standing.unfinished = self.events.proven || self.operations.proven;
        standing
    }

    fn reset(&mut self) -> bool {
        self.health.reset();
        (self.events, self.operations) = (Doubts::default(), Doubts::default());
        self.show();
        tracing::info!(target: "pressroom::plugin", label = &*self.setup.label, "reset: what was held against it is forgotten");
        true
    }
}
