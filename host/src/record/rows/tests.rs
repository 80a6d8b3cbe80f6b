use super::super::samples::When;
use super::super::{Batch, EventMetrics, Format, NetworkMetrics, Timestamp, ViewGauge};
use super::{EventBatch, NetworkBatch, Rows, SharedBatch};
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;

/// A batch of `count` events whose ids and retry counts are `first`, `first + 1`, ….
fn batch(first: u32, count: u32) -> Arc<SharedBatch> {
    let events = (first..first + count).map(|number| EventMetrics {
        retry_count: number,
        ..EventMetrics::started(Uuid::from_u128(number.into()), "step", "task", Timestamp::default())
    });
    Arc::new(SharedBatch::new(first.into(), events.collect::<Batch>(), ViewGauge::default()))
}

fn numbers(rows: &EventBatch) -> Vec<u32> {
    assert_eq!(rows.iter().count(), rows.len());
    assert_eq!(rows.is_empty(), rows.iter().next().is_none());
    rows.iter().map(|event| event.retry_count).collect()
}

/// Ten rows out of two batches: 2, 3, 4 and 10, 12, 14, 16, 18, 20, 22.
fn two_parts() -> EventBatch {
    let mut rows = Rows::default();
    rows.push(&batch(0, 5), 2..5);
    rows.push_admitted(&batch(10, 13), 0..13, &[When::new(|number| number.is_multiple_of(2))]);
    rows
}

#[test]
fn rows_come_in_the_order_of_their_parts() {
    assert_eq!(numbers(&two_parts()), [2, 3, 4, 10, 12, 14, 16, 18, 20, 22]);
}

#[test]
fn a_range_is_clipped_to_the_batch() {
    let mut rows = EventBatch::default();
    rows.push(&batch(0, 3), 1..99);
    rows.push(&batch(0, 3), 3..99);
    rows.push(&batch(0, 3), 2..2);
    rows.push_admitted(&batch(0, 3), 1..99, &[When::new(|number| number != 1)]);
    rows.push_admitted(&batch(0, 3), 2..99, &[When::new(|_| true)]);
    rows.push_admitted(&batch(0, 3), 7..99, &[When::new(|_| true)]);
    assert_eq!(numbers(&rows), [1, 2, 2, 2]);
}

#[test]
fn an_empty_selection_keeps_no_batch_alive() {
    let batch = batch(0, 3);
    let mut rows = EventBatch::default();
    rows.push_admitted(&batch, 0..3, &[When::new(|_| false)]);
    rows.push_admitted(&batch, 0..2, &[When::new(|number| number == 2)]);
    assert!(rows.is_empty());
    assert!(EventBatch::all(&batch).select([7]).is_empty());
    assert_eq!(Arc::strong_count(&batch), 1);
}

#[test]
fn selecting_passes_over_what_is_out_of_range_out_of_order_or_doubled() {
    let rows = two_parts();
    assert_eq!(numbers(&rows.select([0, 2, 3, 9])), [2, 4, 10, 22]);
    assert_eq!(numbers(&rows.select([8, 10, 4_000_000_000])), [20]);
    assert_eq!(numbers(&rows.select([1, 1, 1, 4, 4])), [3, 12]);
    assert_eq!(numbers(&rows.select([2, 1, 0, 5])), [4, 14]);
    assert_eq!(numbers(&rows.select([5, 0])), [14]);
}

#[test]
fn only_all_rows_of_one_batch_are_whole() {
    let batch = batch(0, 4);
    let all = EventBatch::all(&batch);
    assert!(all.whole().is_some_and(|whole| Arc::ptr_eq(whole, &batch)));
    assert!(all.select(0..4).whole().is_some(), "a selection of all rows is the whole");
    assert!(all.select(0..3).whole().is_none());
    assert!(all.select([0, 0, 1, 2]).whole().is_none());
    assert!(two_parts().whole().is_none());

    let mut kept = EventBatch::default();
    kept.push_admitted(&batch, 0..9, &[When::new(|_| true)]);
    assert!(kept.whole().is_some(), "a filter that keeps everything costs no view");
    kept.push(&batch, 0..4);
    assert!(kept.whole().is_none());

    assert_eq!(NetworkBatch::all(&batch).len(), 0);
}

#[test]
fn both_kinds_can_be_detached_from_a_journal() {
    let operation = NetworkMetrics::started(Uuid::nil(), "42", "GET", "a.example", 80, Timestamp::default());
    let rows = NetworkBatch::detached(vec![operation.clone()]);
    assert_eq!(rows.iter().collect::<Vec<_>>(), [&operation]);
    assert_eq!(rows.clone().encode(Format::JsonLines).as_ptr(), rows.encode(Format::JsonLines).as_ptr());
}

proptest! {
    #[test]
    fn selecting_is_indexing(picked in proptest::collection::btree_set(0_u32..14, 0..14), again in any::<u16>()) {
        let rows = two_parts();
        let all = numbers(&rows);
        let expected: Vec<u32> = picked.iter().filter_map(|at| all.get(*at as usize).copied()).collect();
        let selected = rows.select(picked);
        prop_assert_eq!(numbers(&selected), expected.clone());
        // A selection of a selection: what a retry of some rows does to a half.
        let at: Vec<u32> = (0..16).filter(|bit| again >> bit & 1 == 1).collect();
        let twice: Vec<u32> = at.iter().filter_map(|at| expected.get(*at as usize).copied()).collect();
        prop_assert_eq!(numbers(&selected.select(at)), twice);
    }
}
