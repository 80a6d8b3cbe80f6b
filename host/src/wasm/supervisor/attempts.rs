//! The attempts that a lane makes within one call of the publisher.
//!
//! Invariant: the first has all the time that a call of the plugin may take, later ones what is left before whoever called
//! gives up; where rows are delivered by a flush, what is published in parts is flushed part by part, so that what the next
//! part does to the instance costs no other.

use super::super::bindings::Published;
use super::lane::{Death, Kind, Lane, Then};
use super::number;
use super::sift::{Parts, Sifted, Stop, Tried, Tries, sift};
use crate::publisher::{Fate, PublishError, Unpublished};
use crate::record::Rows;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::time::Instant;

/// The attempts of one lane within one call of the publisher.
#[derive(Clone)]
pub(super) struct Attempts<R: Published> {
    pub(super) rows: Rows<R>,
    /// No attempt may take longer, but for the first.
    pub(super) until: Instant,
    pub(super) first: bool,
    /// What an attempt may take.
    pub(super) call: Duration,
    /// What is published is flushed at once.
    pub(super) careful: bool,
    pub(super) at_flush: bool,
    /// That could not be done.
    pub(super) stuck: bool,
    /// Something was published.
    pub(super) proof: Arc<AtomicBool>,
}

impl<R: Published> Attempts<R> {
    /// Goes through rows with `lane`.
    pub(super) async fn sift(&mut self, lane: &mut Lane, parts: Parts) -> Sifted {
        let proof = self.proof.clone();
        sift(parts, &proof, &mut Attempting { attempts: self, lane }).await
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
        let limit = if std::mem::take(&mut attempts.first) { attempts.call } else { attempts.call.min(left) };
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
            Err(Death { kind: Kind::Late, .. }) if limit < attempts.call => Tried::Stopped(Stop::OutOfTime),
            Err(Death { kind: Kind::Late, text, .. }) => Tried::Stopped(Stop::Late(text)),
            Err(Death { kind: Kind::Died, text, fresh, lived }) => {
                attempts.careful = attempts.at_flush;
                Tried::Died { text, fresh, lived }
            }
        }
    }

    fn has_time(&self) -> bool {
        !self.attempts.stuck && Instant::now() + self.attempts.call / 4 <= self.attempts.until
    }
}

/// What an answer comes to when all that it took was then given up.
fn all_rejected(mut left_out: Vec<Unpublished>, rows: usize, reason: &str) -> Vec<Unpublished> {
    let named: HashSet<u32> = left_out.iter().map(|entry| entry.row).collect();
    let reject = |row| Unpublished { row, fate: Fate::Reject { reason: reason.to_owned() } };
    left_out.extend((0..number(rows)).filter(|row| !named.contains(row)).map(reject));
    left_out
}
