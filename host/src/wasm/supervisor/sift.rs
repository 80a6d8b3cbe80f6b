//! Finds the records that an instance dies of, by halving.
//!
//! Invariant: of the rows to sift each is published once, rejected once, a suspect, or among the rest; what was published is
//! never tried again. With `k` records of which instances die among `n` it takes O(k log n) attempts.
//!
//! The largest parts are tried first: so a part without such a record, which proves that the plugin is well, is found
//! after about `4 k` attempts. Where none is found within [`MOST_IN_VAIN`] of them, or none any more within
//! [`MOST_SINCE`], it is given up: then it is not the records. A suspect is a record of which a fresh instance died that was handed nothing else; whether it is poison is
//! not decided here.

use super::super::output::clean;
use crate::publisher::{Fate, PublishError, PublishResult, Unpublished};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often instances may die before anything is published.
const MOST_IN_VAIN: u32 = 64;
/// How often they may die in a row once something was: then it is likelier that the place they publish to has gone, which
/// some die of.
const MOST_SINCE: u32 = 256;

/// How long a reason may be that is given for each of many rows, and how many are not many.
const MOST_REPEATED: usize = 1 << 10;
const FEW: usize = 16;

/// Rows by their numbers, in the parts in which they are to be tried, the largest first.
pub(super) type Parts = VecDeque<Vec<u32>>;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Tried {
    /// The plugin answered.
    Answered(PublishResult),
    /// The instance died of it; `fresh` if it was the first thing it did.
    Died { text: String, fresh: bool, lived: Option<Duration> },
    /// It was not the rows, and the next attempt would fare no better.
    Stopped(Stop),
}

/// Why no further attempt is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The plugin says so.
    Advised(PublishError),
    /// No instance comes to life.
    Unwell(String),
    /// The host waited for as long as a call may take.
    Late(String),
    /// There is no time for another attempt within this call of the publisher.
    OutOfTime,
    /// Instances die whatever they are handed.
    InVain,
}

impl Stop {
    /// Which of two tells more of what to do next.
    fn weightier(self, other: Self) -> Self {
        let weight = |stop: &Self| match stop {
            Self::Advised(PublishError::Hold { .. }) => 5,
            Self::Advised(_) => 4,
            Self::Unwell(_) => 3,
            Self::Late(_) => 2,
            Self::OutOfTime => 1,
            Self::InVain => 0,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }
}

/// Who makes the attempts.
pub(super) trait Tries: Send {
    /// Has the rows of these numbers published.
    fn attempt(&mut self, numbers: &[u32]) -> impl Future<Output = Tried> + Send;
    /// Whether there is time for another attempt.
    fn has_time(&self) -> bool;
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// Rows that the plugin left out.
    pub(super) left_out: Vec<Unpublished>,
    /// Rows that killed a fresh instance alone, and how it died.
    pub(super) suspects: Vec<(u32, String)>,
    /// Rows of which nothing is known yet, as they are to be tried next.
    pub(super) rest: Parts,
    /// How the last instance died, if one did, and how old it was.
    pub(super) died: Option<(String, Option<Duration>)>,
    /// Something was published.
    pub(super) published: bool,
    /// Some instance came to its end and answered.
    pub(super) answered: bool,
    pub(super) stop: Option<Stop>,
}

impl Sifted {
    /// Both: what was found of one share of the rows, and of another.
    pub(super) fn join(&mut self, other: Self) {
        self.left_out.extend(other.left_out);
        self.suspects.extend(other.suspects);
        self.rest.extend(other.rest);
        self.died = self.died.take().or(other.died);
        self.published |= other.published;
        self.answered |= other.answered;
        self.stop = match (self.stop.take(), other.stop) {
            (Some(one), Some(another)) => Some(one.weightier(another)),
            (one, another) => one.or(another),
        };
    }

    /// What `answer` means for the rows of these numbers. An error that is no reject is handed back.
    fn take(&mut self, numbers: &[u32], answer: PublishResult) -> Result<(), PublishError> {
        self.answered = true;
        match answer {
            Ok(left_out) => {
                let named =
                    left_out.iter().map(|entry| entry.row).filter(|row| (*row as usize) < numbers.len());
                self.published |= named.collect::<BTreeSet<_>>().len() < numbers.len();
                self.left_out.extend(left_out.into_iter().map(|Unpublished { row, fate }| {
                    // Rows that do not exist stay that, so that delivery counts them.
                    Unpublished { row: numbers.get(row as usize).copied().unwrap_or(u32::MAX), fate }
                }));
            }
            Err(PublishError::Reject { mut reason }) => {
                if numbers.len() > FEW && reason.len() > MOST_REPEATED {
                    reason = clean(&reason, MOST_REPEATED);
                }
                let rejected =
                    |row: &u32| Unpublished { row: *row, fate: Fate::Reject { reason: reason.clone() } };
                self.left_out.extend(numbers.iter().map(rejected));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Has the rows of these `parts` published, a part at once and those that kill an instance in halves. `proof` is set by
/// whoever publishes something, and looked at by all.
pub(super) async fn sift(parts: Parts, proof: &AtomicBool, tries: &mut impl Tries) -> Sifted {
    let mut sifted = Sifted { rest: parts, ..Sifted::default() };
    // Deaths since something was published here, and how many suspects there were then.
    let (mut attempts, mut deaths, mut before) = (0_u32, 0_u32, 0);
    while let Some(mut part) = sifted.rest.pop_front() {
        let stop = if attempts > 0 && !tries.has_time() {
            Stop::OutOfTime
        } else if deaths >= MOST_SINCE || (deaths >= MOST_IN_VAIN && !proof.load(Ordering::Relaxed)) {
            // What died since is as likely to be well.
            let doubtful = sifted.suspects.split_off(before);
            sifted.rest.extend(doubtful.into_iter().map(|(row, _)| vec![row]));
            Stop::InVain
        } else {
            attempts += 1;
            match tries.attempt(&part).await {
                Tried::Answered(answer) => {
                    let so_far = std::mem::take(&mut sifted.published);
                    let taken = sifted.take(&part, answer);
                    if sifted.published {
                        proof.store(true, Ordering::Relaxed);
                        (deaths, before) = (0, sifted.suspects.len());
                    }
                    sifted.published |= so_far;
                    match taken {
                        Ok(()) => continue,
                        Err(error) => Stop::Advised(error),
                    }
                }
                Tried::Died { text, fresh, lived } => {
                    deaths += 1;
                    // The oldest is the one that was not made for this.
                    let oldest = sifted.died.take().and_then(|(_, oldest)| oldest);
                    sifted.died = Some((text.clone(), oldest.max(lived)));
                    match part.as_slice() {
                        // What it had done before may be what it died of.
                        rows if !fresh && (attempts == 1 || rows.len() == 1) => sifted.rest.push_front(part),
                        [row] => sifted.suspects.push((*row, text)),
                        rows => {
                            let second = part.split_off(rows.len() / 2);
                            sifted.rest.extend([part, second]);
                        }
                    }
                    continue;
                }
                Tried::Stopped(stop) => stop,
            }
        };
        sifted.rest.push_front(part);
        sifted.stop = Some(stop);
        break;
    }
    sifted
}

#[cfg(test)]
mod tests;
