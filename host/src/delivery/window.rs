//! The rows that a worker has in hand: read, let through by the filters, and not settled.

use crate::config::Secrets;
use crate::publisher::{Fate, PublishError, PublishResult, Published, Unpublished};
use crate::record::{EventBatch, EventMetrics, NetworkBatch, NetworkMetrics, Record, Rows};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is in hand, and since when it has been tried.
#[derive(Default)]
pub(super) struct Window {
    pub(super) events: EventBatch,
    pub(super) operations: NetworkBatch,
    first_attempt: Option<Instant>,
    /// Time that does not count: nobody could have published it then.
    not_aged: Duration,
    /// Since when it does not.
    paused: Option<Instant>,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.operations.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len() + self.operations.len()
    }

    /// Takes more in hand. All of it is as old as that: what is new must not be given up with what was there.
    pub(super) fn read_on(&mut self, more: Self) {
        let before = std::mem::replace(self, more);
        self.come_again(before);
    }

    /// Takes in hand again what came before this. Where nothing was in hand, the clock of its age starts anew: what it
    /// measured before was no attempt of this.
    pub(super) fn come_again(&mut self, mut before: Self) {
        if self.is_empty() {
            (self.first_attempt, self.not_aged, self.paused) = (None, Duration::ZERO, None);
        }
        before.events.append(std::mem::take(&mut self.events));
        before.operations.append(std::mem::take(&mut self.operations));
        (self.events, self.operations) = (before.events, before.operations);
    }

    /// Notes an attempt, and says for how long there have been attempts.
    pub(super) fn age(&mut self) -> Duration {
        self.not_aged += self.paused.take().map_or(Duration::ZERO, |since| since.elapsed());
        let first = *self.first_attempt.get_or_insert_with(Instant::now);
        first.elapsed().saturating_sub(self.not_aged)
    }

    /// For how long there have been attempts, the time on hold included.
    pub(super) fn age_with_holds(&self) -> Duration {
        self.first_attempt.map_or(Duration::ZERO, |first| first.elapsed())
    }

    /// The clock of its age stands still until the next attempt.
    pub(super) fn pause(&mut self) {
        if self.first_attempt.is_some() {
            self.paused.get_or_insert_with(Instant::now);
        }
    }
}

/// The two kinds of record, as a worker has them in hand.
pub(super) trait InHand: Published {
    fn rows(window: &mut Window) -> &mut Rows<Self>;

    /// The same rows in a batch of their own, which keeps no other rows and no views in memory.
    fn copied(rows: &Rows<Self>) -> Rows<Self>;
}

impl InHand for EventMetrics {
    fn rows(window: &mut Window) -> &mut Rows<Self> {
        &mut window.events
    }

    fn copied(rows: &EventBatch) -> EventBatch {
        Rows::detached(rows.iter().cloned().collect())
    }
}

impl InHand for NetworkMetrics {
    fn rows(window: &mut Window) -> &mut Rows<Self> {
        &mut window.operations
    }

    fn copied(rows: &NetworkBatch) -> NetworkBatch {
        Rows::detached(rows.iter().cloned().collect())
    }
}

/// What an answer means for the rows that were passed.
pub(super) struct Verdict<R: Record> {
    pub(super) delivered: u64,
    /// Tried again.
    pub(super) keep: Rows<R>,
    /// Never tried again, each for its reason.
    pub(super) rejected: Rows<R>,
    pub(super) reasons: Vec<Arc<str>>,
    /// Tried again beside the others, by what they wait for.
    pub(super) held: BTreeMap<Arc<str>, Held<R>>,
    pub(super) trouble: Option<Trouble>,
    pub(super) misreported: u64,
    /// The rows that are not delivered, by their numbers.
    left_out: Vec<u32>,
}

impl<R: Record> Verdict<R> {
    /// Those of `rows` that are delivered.
    pub(super) fn taken(&self, rows: &Rows<R>) -> Rows<R> {
        if self.delivered == rows.len() as u64 {
            return rows.clone();
        }
        if self.delivered == 0 {
            return Rows::default();
        }
        let all = 0..u32::try_from(rows.len()).unwrap_or(u32::MAX);
        rows.select(all.filter(|row| self.left_out.binary_search(row).is_err()))
    }
}

/// Rows that wait for the same thing.
pub(super) struct Held<R: Record> {
    pub(super) reason: Arc<str>,
    /// Somebody must mend something first.
    pub(super) hold: bool,
    pub(super) rows: Rows<R>,
}

/// Why rows are kept.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) reason: String,
    pub(super) after: Option<Duration>,
    pub(super) hold: bool,
}

impl Trouble {
    pub(super) fn retry(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), after: None, hold: false }
    }

    /// Both: the longer wait, the first reason. A hold outweighs a retry: what is held must not become a dead letter
    /// because of what is beside it.
    pub(super) fn and(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.hold && !self.hold => other.and(Some(self)),
            Some(other) => Self { after: self.after.max(other.after), ..self },
            None => self,
        }
    }
}

/// The same answer with reasons that anyone may read: they go to the log, to reports and into dead letters.
pub(super) fn without_secrets(answer: PublishResult, secrets: &Secrets) -> PublishResult {
    let clean = |reason: String| secrets.redact(&reason).into_owned();
    match answer {
        Ok(mut unpublished) => {
            for Unpublished { fate, .. } in &mut unpublished {
                if let Fate::Wait { on, .. } = fate
                    && let Cow::Owned(redacted) = secrets.redact(on)
                {
                    *on = redacted.into();
                }
                let (Fate::Retry { reason, .. } | Fate::Reject { reason } | Fate::Wait { reason, .. }) = fate;
                *reason = clean(std::mem::take(reason));
            }
            Ok(unpublished)
        }
        Err(PublishError::Retry { reason, after }) => {
            Err(PublishError::Retry { reason: clean(reason), after })
        }
        Err(PublishError::Reject { reason }) => Err(PublishError::Reject { reason: clean(reason) }),
        Err(PublishError::Hold { reason }) => Err(PublishError::Hold { reason: clean(reason) }),
    }
}

/// What `answer` means for `rows`. What it says of rows that do not exist, or says twice, is passed over and counted.
pub(super) fn judge<R: Record>(rows: &Rows<R>, answer: PublishResult) -> Verdict<R> {
    let mut verdict = Verdict {
        delivered: 0,
        keep: Rows::default(),
        rejected: Rows::default(),
        reasons: Vec::new(),
        held: BTreeMap::new(),
        trouble: None,
        misreported: 0,
        left_out: Vec::new(),
    };
    match answer {
        Ok(unpublished) => left_out(rows, unpublished, &mut verdict),
        Err(PublishError::Reject { reason }) => {
            verdict.reasons = vec![reason.into(); rows.len()];
            verdict.rejected = rows.clone();
        }
        Err(PublishError::Retry { reason, after }) => {
            verdict.trouble = Some(Trouble { reason, after, hold: false });
            verdict.keep = rows.clone();
        }
        Err(PublishError::Hold { reason }) => {
            verdict.trouble = Some(Trouble { reason, after: None, hold: true });
            verdict.keep = rows.clone();
        }
    }
    verdict
}

fn left_out<R: Record>(rows: &Rows<R>, unpublished: Vec<Unpublished>, verdict: &mut Verdict<R>) {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    for Unpublished { row, fate } in unpublished {
        if (row as usize) < rows.len() && !fates.contains_key(&row) {
            fates.insert(row, fate);
        } else {
            verdict.misreported += 1;
        }
    }
    let (mut keep, mut rejected) = (Vec::new(), Vec::new());
    let mut held: BTreeMap<Arc<str>, (String, bool, Vec<u32>)> = BTreeMap::new();
    verdict.delivered = (rows.len() - fates.len()) as u64;
    verdict.left_out = fates.keys().copied().collect();
    for (row, fate) in fates {
        match fate {
            Fate::Reject { reason } => {
                rejected.push(row);
                verdict.reasons.push(reason.into());
            }
            Fate::Retry { reason, after } => {
                keep.push(row);
                verdict.trouble = Some(Trouble { reason, after, hold: false }.and(verdict.trouble.take()));
            }
            Fate::Wait { on, reason, hold } => {
                held.entry(on).or_insert((reason, hold, Vec::new())).2.push(row)
            }
        }
    }
    let held = held.into_iter().map(|(on, (reason, hold, list))| {
        (on, Held { reason: reason.into(), hold, rows: rows.select(list) })
    });
    verdict.held = held.collect();
    verdict.keep = rows.select(keep);
    verdict.rejected = rows.select(rejected);
}
