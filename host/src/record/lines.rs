//! Rows beside the lines they are rendered to, for formats that put something around each: a line is found by its
//! row, and none is copied.
//!
//! Invariant: lines are those of the view that the journal's batch shares; they live as long as this does, also where
//! the batch lets its views go meanwhile.

use super::encode::rendered_part;
use super::rows::{Part, Selection};
use super::shared::Rendered;
use super::{Record, Rows};
use std::ops::Range;
use std::sync::Arc;

/// Rows and their JSON lines. Cheap to clone, and tied to no borrow: it may be worked through on another thread.
pub struct JsonLines<R: Record>(Arc<[Lines<R>]>);

struct Lines<R: Record> {
    part: Part,
    rendered: Arc<Rendered>,
    /// The rows were rendered for themselves, one after the other, and not with the rest of their batch.
    alone: bool,
    /// The number of its first row.
    first: usize,
    kind: std::marker::PhantomData<fn() -> R>,
}

impl<R: Record> Clone for JsonLines<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Record> Rows<R> {
    /// The rows with their JSON lines, rendered now where nobody has asked for them before.
    pub fn json_lines(&self) -> JsonLines<R> {
        let mut first = 0;
        let parts = self.parts.iter().map(|part| {
            let (rendered, alone) = rendered_part::<R>(part, |shelf| &shelf.json_lines, R::write_json_line);
            let lines = Lines { part: part.clone(), rendered, alone, first, kind: std::marker::PhantomData };
            first += part.rows.len();
            lines
        });
        JsonLines(parts.collect())
    }
}

impl<R: Record> JsonLines<R> {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |last| last.first + last.part.rows.len())
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of this number and its line, the newline included.
    pub fn get(&self, number: usize) -> Option<(&R, &[u8])> {
        self.range(number..number.checked_add(1)?).next()
    }

    /// The rows of these numbers, as far as there are such, each with its line.
    pub fn range(&self, numbers: Range<usize>) -> impl Iterator<Item = (&R, &[u8])> {
        let begin = self.0.partition_point(|lines| lines.first + lines.part.rows.len() <= numbers.start);
        let parts = self.0.get(begin..).unwrap_or_default().iter();
        parts
            .take_while({
                let end = numbers.end;
                move |lines| lines.first < end
            })
            .flat_map(move |lines| {
                let from = numbers.start.saturating_sub(lines.first);
                let to = (numbers.end - lines.first).min(lines.part.rows.len());
                lines.range(from..to)
            })
    }
}

impl<R: Record> Lines<R> {
    fn range(&self, numbers: Range<usize>) -> impl Iterator<Item = (&R, &[u8])> {
        let rows = &R::shelf(&self.part.batch).rows;
        let numbers =
            u32::try_from(numbers.start).unwrap_or(u32::MAX)..u32::try_from(numbers.end).unwrap_or(u32::MAX);
        numbers.filter_map(move |number| {
            let at = match &self.part.rows {
                Selection::Range(range) => range.start + number,
                Selection::List(list) => *list.get(number as usize)?,
            };
            let line = if self.alone { number } else { at };
            Some((rows.get(at as usize)?, self.rendered.rows(line..line + 1)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EventMetrics, Format, Rows, SharedBatch, ViewGauge, samples};
    use std::sync::Arc;

    fn batch() -> Arc<SharedBatch> {
        let mut batch = samples::batch();
        batch.events = batch.events.iter().cycle().take(40).cloned().collect();
        Arc::new(SharedBatch::new(0, batch, ViewGauge::default()))
    }

    /// What the lines are, one after the other, is what `encode` gives; and each stands beside its row.
    fn agree(rows: &Rows<EventMetrics>) {
        let lines = rows.json_lines();
        assert_eq!((lines.len(), lines.is_empty()), (rows.len(), rows.is_empty()));
        let all: Vec<u8> = lines.range(0..usize::MAX).flat_map(|(_, line)| line).copied().collect();
        assert_eq!(all, rows.encode(Format::JsonLines));
        for (number, row) in rows.iter().enumerate() {
            let (found, line) = lines.get(number).unwrap();
            assert!(std::ptr::eq(found, row));
            assert!(line.ends_with(b"}\n"));
            let read: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(read["id"], row.id.to_string());
        }
        assert!(lines.get(rows.len()).is_none() && lines.get(usize::MAX).is_none());
        for (from, to) in [(0, 1), (3, 30), (35, 60), (39, 41), (60, 60)] {
            let expected: Vec<_> = rows.iter().skip(from).take(to - from).map(|row| row.id).collect();
            let found: Vec<_> = lines.range(from..to).map(|(row, _)| row.id).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn every_row_stands_beside_its_line() {
        let (first, second) = (batch(), batch());
        let mut rows = Rows::all(&first);
        agree(&rows);
        rows.push(&second, 5..25);
        agree(&rows);
        agree(&rows.select([0, 1, 7, 39, 40, 44]));
        agree(&Rows::default());
    }

    #[test]
    fn few_rows_of_a_batch_that_nobody_has_rendered_are_rendered_alone() {
        let batch = batch();
        let few = Rows::<EventMetrics>::all(&batch).select([3, 4, 17]);
        agree(&few);
        assert_eq!(batch.views(), 0, "the batch was not rendered for three rows");
        let all = Rows::<EventMetrics>::all(&batch);
        agree(&all);
        assert!(batch.views() > 0);
        agree(&few);
    }

    #[test]
    fn lines_outlive_the_views_of_their_batch() {
        let batch = batch();
        let rows = Rows::<EventMetrics>::all(&batch);
        let lines = rows.json_lines();
        let before: Vec<u8> = lines.range(0..40).flat_map(|(_, line)| line).copied().collect();
        batch.forget_views();
        let after: Vec<u8> = lines.range(0..40).flat_map(|(_, line)| line).copied().collect();
        assert!(before == after && !before.is_empty());
    }
}
