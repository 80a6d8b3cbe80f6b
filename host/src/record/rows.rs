//! What a publisher is handed: rows of one kind, out of one or more batches of the journal.
//!
//! Invariant: nothing is copied and nothing is rendered that the journal's batch has rendered before. Filters,
//! retries of some rows and halves are selections of the same batches.

use super::rules::{Rule, Verdict};
use super::{EventMetrics, NetworkMetrics, Record, SharedBatch};
use std::ops::Range;
use std::sync::Arc;

/// Events, handed to a publisher.
pub type EventBatch = Rows<EventMetrics>;

/// Network operations, handed to a publisher.
pub type NetworkBatch = Rows<NetworkMetrics>;

/// Rows of one kind, numbered from 0, out of one or more batches of the journal.
pub struct Rows<R: Record> {
    pub(super) parts: Vec<Part>,
    len: usize,
    kind: std::marker::PhantomData<fn() -> R>,
}

#[derive(Clone)]
pub(super) struct Part {
    pub(super) batch: Arc<SharedBatch>,
    pub(super) rows: Selection,
}

#[derive(Clone)]
pub(super) enum Selection {
    Range(Range<u32>),
    List(Arc<[u32]>),
}

impl Selection {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Range(range) => range.clone().nth(at),
            Self::List(list) => list.get(at).copied(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        let (range, list) = match self {
            Self::Range(range) => (range.clone(), &[][..]),
            Self::List(list) => (0..0, &list[..]),
        };
        range.chain(list.iter().copied())
    }
}

impl<R: Record> Clone for Rows<R> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone(), len: self.len, kind: self.kind }
    }
}

impl<R: Record> Default for Rows<R> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0, kind: std::marker::PhantomData }
    }
}

impl<R: Record> Rows<R> {
    /// Every row of this kind in `batch`.
    pub fn all(batch: &Arc<SharedBatch>) -> Self {
        let mut rows = Self::default();
        rows.push(batch, 0..u32::try_from(R::shelf(batch).rows.len()).unwrap_or(u32::MAX));
        rows
    }

    /// The rows that `rows` holds outside of a journal: for tests of publishers, benchmarks and `plugin check`.
    pub fn detached(rows: Vec<R>) -> Self
    where
        super::Batch: FromIterator<R>,
    {
        let batch = Arc::new(SharedBatch::new(0, rows.into_iter().collect(), super::ViewGauge::default()));
        Self::all(&batch)
    }

    /// Adds the rows `range` of `batch`, clipped to what it has.
    pub(crate) fn push(&mut self, batch: &Arc<SharedBatch>, range: Range<u32>) {
        let end = range.end.min(u32::try_from(R::shelf(batch).rows.len()).unwrap_or(u32::MAX));
        if range.start < end {
            self.push_part(batch, Selection::Range(range.start..end));
        }
    }

    /// Adds those rows of `batch` within `range` that all `rules` let through. What they say of the batch is kept with
    /// it, for whoever asks next.
    pub(crate) fn push_admitted(&mut self, batch: &Arc<SharedBatch>, range: Range<u32>, rules: &[impl Rule]) {
        let shelf = R::shelf(batch);
        let range = range.start..range.end.min(u32::try_from(shelf.rows.len()).unwrap_or(u32::MAX));
        let mut verdicts = Vec::new();
        for rule in rules.iter().filter(|_| !range.is_empty()) {
            let verdict = shelf.verdicts.of(rule, &shelf.rows, &batch.gauge);
            match *verdict {
                Verdict::All => {}
                Verdict::None => return,
                Verdict::Some(_) => verdicts.push(verdict),
            }
        }
        if verdicts.is_empty() {
            return self.push(batch, range);
        }
        let admitted = |row: &u32| verdicts.iter().all(|verdict| verdict.admits(*row));
        let rows: Vec<u32> = range.clone().filter(admitted).collect();
        if rows.len() == range.len() {
            self.push(batch, range);
        } else if !rows.is_empty() {
            self.push_part(batch, Selection::List(rows.into()));
        }
    }

    /// Adds the rows of `other` behind these.
    pub(crate) fn append(&mut self, other: Self) {
        self.len += other.len;
        self.parts.extend(other.parts);
    }

    /// How many bytes of `view`, which is one of these rows, the journal does not keep: none where they are a whole batch.
    #[cfg(feature = "wasm")]
    pub(crate) fn own_bytes(&self, view: &impl super::shared::Weigh) -> usize {
        if self.whole().is_some() { 0 } else { view.weight() }
    }

    fn push_part(&mut self, batch: &Arc<SharedBatch>, rows: Selection) {
        self.len += rows.len();
        self.parts.push(Part { batch: batch.clone(), rows });
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = &R> + Clone + '_ {
        self.parts.iter().flat_map(|part| {
            let rows = &R::shelf(&part.batch).rows;
            part.rows.iter().filter_map(move |at| rows.get(at as usize))
        })
    }

    /// The rows whose numbers `numbers` lists, ascending; a number that is out of range or out of order, or listed
    /// before, is passed over.
    pub fn select(&self, numbers: impl IntoIterator<Item = u32>) -> Self {
        let mut selected = Self::default();
        let mut numbers = numbers.into_iter().peekable();
        let (mut before, mut next) = (0_usize, 0_usize);
        for part in &self.parts {
            let end = before + part.rows.len();
            let mut rows = Vec::new();
            while let Some(number) = numbers.next_if(|number| (*number as usize) < end) {
                let number = number as usize;
                if number >= next {
                    rows.extend(number.checked_sub(before).and_then(|at| part.rows.get(at)));
                    next = number + 1;
                }
            }
            if rows.len() == part.rows.len() {
                selected.push_part(&part.batch, part.rows.clone());
            } else if !rows.is_empty() {
                selected.push_part(&part.batch, Selection::List(rows.into()));
            }
            before = end;
        }
        selected
    }

    /// The one batch of which these are all the rows, in order; then its views serve as they are.
    pub(super) fn whole(&self) -> Option<&Arc<SharedBatch>> {
        match self.parts.as_slice() {
            [Part { batch, rows: Selection::Range(range) }] if range.len() == R::shelf(batch).rows.len() => {
                Some(batch)
            }
            _ => None,
        }
    }
}

impl<R: Record> std::fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({} of kind {})", self.len, R::KIND.as_str())
    }
}

#[cfg(test)]
mod tests;
