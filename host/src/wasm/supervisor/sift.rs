//! Finds the records that an instance dies of, by halving.
//!
//! Invariant: of the rows to sift each is published once, rejected once, a suspect, or among the rest; what was published is
//! never tried again. With `k` records of which instances die among `n` it takes O(k log n) attempts.
//!
//! The largest parts are tried first: so a part without such a record, which proves that the plugin is well, is found
//! after about `4 k` attempts. Where none is found within [`MOST_IN_VAIN`] of them, or none any more, it is given up: then
//! it is not the records. A suspect is a record of which a fresh instance died that was handed nothing else. It is poison if
//! the plugin was well afterwards; so that there is something to show that, a row or two are put by until the end.

use super::super::output::clean;
use crate::publisher::{Fate, PublishError, PublishResult, Unpublished};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often in a row instances may die with nothing published between.
pub(super) const MOST_IN_VAIN: u32 = 64;
/// How long a reason may be that is given for each of many rows.
const MOST_REPEATED: usize = 1 << 10;
/// So many rows are not many.
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

/// A row that killed a fresh instance alone.
#[derive(Debug)]
pub(super) struct Suspected {
    pub(super) row: u32,
    /// How it died.
    pub(super) text: String,
    /// How often something had been published before.
    pub(super) after: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// Rows that the plugin left out.
    pub(super) left_out: Vec<Unpublished>,
    pub(super) suspects: Vec<Suspected>,
    /// Rows of which instances die while the plugin is well, and how.
    pub(super) poison: Vec<(u32, String)>,
    /// Rows of which nothing is known yet, as they are to be tried next.
    pub(super) rest: Parts,
    /// How the last instance died, if one did, and how old it was.
    pub(super) died: Option<(String, Option<Duration>)>,
    /// Something was published.
    pub(super) published: bool,
    /// Some instance came to its end and answered.
    pub(super) answered: bool,
    /// How often instances have died since something was published.
    pub(super) in_vain: u32,
    pub(super) stop: Option<Stop>,
}

impl Sifted {
    /// Both: what was found of one share of the rows, and of another.
    pub(super) fn join(&mut self, other: Self) {
        self.left_out.extend(other.left_out);
        self.suspects.extend(other.suspects);
        self.poison.extend(other.poison);
        self.in_vain = self.in_vain.max(other.in_vain);
        self.rest.extend(other.rest);
        self.died = self.died.take().or(other.died);
        self.published |= other.published;
        self.answered |= other.answered;
        self.stop = match (self.stop.take(), other.stop) {
            (Some(one), Some(another)) => Some(one.weightier(another)),
            (one, another) => one.or(another),
        };
    }

    /// Something has been published so often: those that killed an instance before the last time are poison.
    pub(super) fn convict(&mut self, published: u64) {
        let suspects = std::mem::take(&mut self.suspects);
        let (poison, suspects): (Vec<_>, Vec<_>) =
            suspects.into_iter().partition(|suspect| suspect.after < published);
        self.poison.extend(poison.into_iter().map(|Suspected { row, text, .. }| (row, text)));
        self.suspects = suspects;
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
            Err(PublishError::Reject { reason }) => {
                let reason = repeated(&reason, numbers.len());
                let rejected =
                    |row: &u32| Unpublished { row: *row, fate: Fate::Reject { reason: reason.clone() } };
                self.left_out.extend(numbers.iter().map(rejected));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// A reason that is given for each of so many rows: where they are many it is cut.
pub(super) fn repeated(reason: &str, rows: usize) -> String {
    if rows > FEW && reason.len() > MOST_REPEATED { clean(reason, MOST_REPEATED) } else { reason.to_owned() }
}

/// Takes a row or two out of a part of which an instance died.
fn put_by(part: &mut Vec<u32>) -> Vec<u32> {
    let third = part.len() / 3;
    match part.len() {
        0..3 => Vec::new(),
        3..6 => vec![part.remove(third)],
        _ => vec![part.remove(2 * third), part.remove(third)],
    }
}

/// Has the rows of these `parts` published, a part at once and those that kill an instance in halves. `proof` counts what
/// all publish who go through rows at once; instances have died `in_vain` so often before this.
pub(super) async fn sift(parts: Parts, proof: &AtomicU64, in_vain: u32, tries: &mut impl Tries) -> Sifted {
    let mut sifted = Sifted { rest: parts, in_vain, ..Sifted::default() };
    let (mut attempts, mut seen) = (0_u32, proof.load(Ordering::Relaxed));
    let mut by: Option<Vec<u32>> = None;
    while let Some(mut part) = sifted.rest.pop_front().or_else(|| Some(vec![by.as_mut()?.pop()?])) {
        let published = proof.load(Ordering::Relaxed);
        if std::mem::replace(&mut seen, published) != published {
            sifted.in_vain = 0;
        }
        let stop = if attempts > 0 && !tries.has_time() {
            Stop::OutOfTime
        } else if sifted.in_vain >= MOST_IN_VAIN {
            Stop::InVain
        } else {
            attempts += 1;
            match tries.attempt(&part).await {
                Tried::Answered(answer) => {
                    let before = std::mem::take(&mut sifted.published);
                    let taken = sifted.take(&part, answer);
                    proof.fetch_add(sifted.published.into(), Ordering::Relaxed);
                    sifted.published |= before;
                    match taken {
                        Ok(()) => continue,
                        Err(error) => Stop::Advised(error),
                    }
                }
                Tried::Died { text, fresh, lived } => {
                    sifted.in_vain += 1;
                    // The oldest is the one that was not made for this.
                    let oldest = sifted.died.take().and_then(|(_, oldest)| oldest);
                    sifted.died = Some((text.clone(), oldest.max(lived)));
                    match part.as_slice() {
                        // What it had done before may be what it died of.
                        rows if !fresh && (attempts == 1 || rows.len() == 1) => sifted.rest.push_front(part),
                        [row] => {
                            let after = proof.load(Ordering::Relaxed);
                            sifted.suspects.push(Suspected { row: *row, text, after });
                        }
                        _ => {
                            by.get_or_insert_with(|| put_by(&mut part));
                            let second = part.split_off(part.len() / 2);
                            sifted.rest.extend([part, second]);
                        }
                    }
                    continue;
                }
                Tried::Stopped(stop) => stop,
            }
        };
        sifted.rest.push_front(part);
        sifted.rest.extend(by.into_iter().flatten().map(|row| vec![row]));
        sifted.stop = Some(stop);
        break;
    }
    if proof.load(Ordering::Relaxed) != seen {
        sifted.in_vain = 0;
    }
    sifted
}

#[cfg(test)]
mod tests;
