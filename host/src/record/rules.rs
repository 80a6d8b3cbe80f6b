//! What rules say of a batch's rows, kept with the batch as its views are.
//!
//! Invariant: a rule is asked once per row and batch, whoever wants to know. It is opaque here: an id, and a question
//! that it answers alike at any time.

use super::Record;
use super::shared::{View, ViewGauge, Weigh};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells a rule from every other of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuleId(u64);

impl RuleId {
    /// One that no other rule has.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Lets records through, or does not.
pub(crate) trait Rule {
    /// Under which its verdicts are kept.
    fn id(&self) -> RuleId;
    /// Whether it lets the record through. For the same record it is always the same.
    fn admits<R: Record>(&self, record: &R) -> bool;
}

/// Which rows of one kind in a batch a rule lets through.
pub(super) enum Verdict {
    All,
    None,
    /// Row `i` is bit `i % 64` of word `i / 64`.
    Some(Box<[u64]>),
}

impl Verdict {
    fn of<R: Record>(rule: &impl Rule, rows: &[R]) -> Self {
        let mut words = vec![0_u64; rows.len().div_ceil(64)];
        let mut admitted = 0;
        for (word, rows) in words.iter_mut().zip(rows.chunks(64)) {
            for (bit, row) in rows.iter().enumerate() {
                *word |= u64::from(rule.admits(row)) << bit;
            }
            admitted += word.count_ones() as usize;
        }
        match admitted {
            0 => Self::None,
            all if all == rows.len() => Self::All,
            _ => Self::Some(words.into()),
        }
    }

    pub(super) fn admits(&self, row: u32) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some(words) => words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1),
        }
    }
}

impl Weigh for Verdict {
    fn weight(&self) -> usize {
        let words = match self {
            Self::All | Self::None => 0,
            Self::Some(words) => words.len() * size_of::<u64>(),
        };
        size_of::<Kept>() + size_of::<View<Self>>() + size_of::<Self>() + words
    }
}

type Kept = (RuleId, Arc<View<Verdict>>);

/// The verdicts on one kind of record in a batch. Without a rule it is empty, and costs nothing.
#[derive(Default)]
pub(super) struct Verdicts(Mutex<Vec<Kept>>);

impl Verdicts {
    /// What `rule` says of `rows`, all of the batch's, found out now if nobody has asked before. Who asks meanwhile
    /// waits for that one.
    pub(super) fn of<R: Record>(&self, rule: &impl Rule, rows: &[R], gauge: &ViewGauge) -> Arc<Verdict> {
        // Not under the lock: who asks for another rule does not wait.
        let view = {
            let mut kept = self.0.lock();
            match kept.iter().find(|(id, _)| *id == rule.id()) {
                Some((_, view)) => view.clone(),
                None => {
                    let view = Arc::<View<Verdict>>::default();
                    kept.push((rule.id(), view.clone()));
                    view
                }
            }
        };
        view.get_or_build(gauge, || Verdict::of(rule, rows))
    }

    /// Lets every verdict go. Their places stay, so that one who is about to fill one does it where it is counted.
    pub(super) fn forget(&self, gauge: &ViewGauge) {
        self.0.lock().iter().for_each(|(_, view)| view.forget(gauge));
    }
}

#[cfg(test)]
mod tests;
