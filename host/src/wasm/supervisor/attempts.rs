//! The attempts that a lane makes within one call of the publisher.
//!
//! Invariant: none outlasts whoever called, and only the first may find that the host is slow, for later ones have what is
//! left of the time; where rows are delivered by a flush, what is published in parts is flushed part by part, so that what the next
//! part does to the instance costs no other.

use super::super::bindings::Published;
use super::lane::{Death, Kind, Lane, Then};
use super::number;
use super::sift::{Parts, Sifted, Stop, Tried, Tries, repeated, sift};
use crate::publisher::{Fate, PublishError, Unpublished};
use crate::record::Rows;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::Instant;

/// The attempts of one lane within one call of the publisher.
#[derive(Clone)]
pub(super) struct Attempts<R: Published> {
    pub(super) rows: Rows<R>,
    /// No attempt may take longer.
    pub(super) until: Instant,
    /// The next attempt is the first one of the call.
    pub(super) first: bool,
    /// What an attempt may take.
    pub(super) call: Duration,
    /// What is published is flushed at once.
    pub(super) careful: bool,
    pub(super) at_flush: bool,
    /// That could not be done.
    pub(super) stuck: bool,
    /// How often something was published.
    pub(super) proof: Arc<AtomicU64>,
    /// How often instances have died since then.
    pub(super) in_vain: u32,
}

impl<R: Published> Attempts<R> {
    /// Goes through rows with `lane`.
    pub(super) async fn sift(&mut self, lane: &mut Lane, parts: Parts) -> Sifted {
        let (proof, in_vain) = (self.proof.clone(), self.in_vain);
        sift(parts, &proof, in_vain, &mut Attempting { attempts: self, lane }).await
    }

    /// Whether there is time for another attempt, and a use.
    pub(super) fn has_time(&self) -> bool {
        !self.stuck && Instant::now() + self.call / 4 <= self.until
    }
}

struct Attempting<'a, R: Published> {
    attempts: &'a mut Attempts<R>,
    lane: &'a mut Lane,
}

impl<R: Published> Tries for Attempting<'_, R> {
    async fn attempt(&mut self, numbers: &[u32]) -> Tried {
        let attempts = &mut *self.attempts;
        // All of them are the batch as it came, with the views that it has.
        let part =
            (numbers.len() < attempts.rows.len()).then(|| attempts.rows.select(numbers.iter().copied()));
        let rows = part.as_ref().unwrap_or(&attempts.rows);
        let then = if attempts.careful { Then::Flush } else { Then::Nothing };
        let left = attempts.until.saturating_duration_since(Instant::now());
        let first = std::mem::take(&mut attempts.first);
        let limit = attempts.call.min(left);
        match self.lane.publish(rows, then, limit).await {
            Ok((answer, Ok(()))) => Tried::Answered(answer),
            Ok((answer, Err(PublishError::Reject { reason }))) => {
                Tried::Answered(answer.map(|left_out| all_rejected(left_out, rows.len(), &reason)))
            }
            Ok((answer, Err(_))) => {
                attempts.stuck = true;
                Tried::Answered(answer)
            }
            Err(Death { kind: Kind::Unborn, text, .. }) => Tried::Stopped(Stop::Unwell(text)),
            // It had less than its time.
            Err(Death { kind: Kind::Late, .. }) if !first && limit < attempts.call => {
                Tried::Stopped(Stop::OutOfTime)
            }
            Err(Death { kind: Kind::Late, text, .. }) => Tried::Stopped(Stop::Late(text)),
            Err(Death { kind: Kind::Died, text, fresh, lived }) => {
                attempts.careful = attempts.at_flush;
                Tried::Died { text, fresh, lived }
            }
        }
    }

    fn has_time(&self) -> bool {
        self.attempts.has_time()
    }
}

/// What an answer comes to when all that it took was then given up.
fn all_rejected(mut left_out: Vec<Unpublished>, rows: usize, reason: &str) -> Vec<Unpublished> {
    let not_taken: BTreeSet<u32> = left_out.iter().map(|entry| entry.row).collect();
    let reason = repeated(reason, rows);
    let reject = |row| Unpublished { row, fate: Fate::Reject { reason: reason.clone() } };
    left_out.extend((0..number(rows)).filter(|row| !not_taken.contains(row)).map(reject));
    left_out
}
