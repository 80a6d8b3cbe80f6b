use super::super::samples::When;
use super::super::{Batch, EventBatch, EventMetrics, NetworkBatch, NetworkMetrics, SharedBatch, Timestamp};
use super::*;
use proptest::prelude::*;
use std::ops::Range;
use uuid::Uuid;

/// Events with the ids 0, 1, … and as many operations with the ids that follow.
fn batch(count: u32, gauge: &ViewGauge) -> Arc<SharedBatch> {
    let id = |number: u32| Uuid::from_u128(number.into());
    let start = Timestamp::default();
    let events = (0..count).map(|number| EventMetrics::started(id(number), "step", "task", start));
    let operations = (count..2 * count)
        .map(|number| NetworkMetrics::started(id(number), "task", "GET", "a.example", 80, start));
    let batch = Batch { events: events.collect(), operations: operations.collect() };
    Arc::new(SharedBatch::new(0, batch, gauge.clone()))
}

fn admitted(batch: &Arc<SharedBatch>, range: Range<u32>, rules: &[When]) -> Vec<u128> {
    let mut rows = EventBatch::default();
    rows.push_admitted(batch, range, rules);
    rows.iter().map(|event| event.id.as_u128()).collect()
}

fn asked(rule: &When) -> usize {
    rule.asked.load(Ordering::Relaxed)
}

#[test]
fn a_rule_is_asked_once_per_row_whoever_wants_to_know_and_of_whatever_part() {
    let batch = batch(150, &ViewGauge::default());
    let rule = [When::new(|number| number % 3 == 0)];
    for range in [0..150, 0..150, 10..20, 64..65, 149..999] {
        let expected = range.clone().filter(|row| row % 3 == 0 && *row < 150).map(u128::from);
        assert_eq!(admitted(&batch, range.clone(), &rule), expected.collect::<Vec<_>>(), "{range:?}");
    }
    assert_eq!(asked(&rule[0]), 150);
    let mut operations = NetworkBatch::default();
    operations.push_admitted(&batch, 0..150, &rule);
    operations.push_admitted(&batch, 0..150, &rule);
    assert_eq!((operations.len(), asked(&rule[0])), (100, 300), "each kind for itself");
}

#[test]
fn every_rule_must_let_a_row_through() {
    let batch = batch(100, &ViewGauge::default());
    let rules =
        [When::new(|number| number % 2 == 0), When::new(|_| true), When::new(|number| number % 5 == 0)];
    assert_eq!(admitted(&batch, 0..31, &rules), [0, 10, 20, 30]);
    assert_eq!(admitted(&batch, 0..31, &rules[1..2]).len(), 31);
    assert_eq!(admitted(&batch, 0..31, &[]).len(), 31);
    let none = [When::new(|_| false), When::new(|_| true)];
    assert_eq!(admitted(&batch, 0..31, &none), []);
    assert_eq!(asked(&none[1]), 0, "what is settled is not asked for");
}

#[test]
fn who_asks_for_nothing_costs_nothing() {
    let gauge = ViewGauge::default();
    let batch = batch(100, &gauge);
    admitted(&batch, 0..100, &[]);
    let rule = [When::new(|_| true)];
    admitted(&batch, 50..50, &rule);
    admitted(&batch, 100..120, &rule);
    assert_eq!((gauge.bytes(), asked(&rule[0])), (0, 0));
}

#[test]
fn verdicts_are_counted_and_let_go_as_views_are() {
    let gauge = ViewGauge::default();
    let batch = batch(1_000, &gauge);
    let rule = [When::new(|number| number > 500)];
    admitted(&batch, 0..1_000, &rule);
    let one = gauge.bytes();
    assert!((125..400).contains(&one), "a bit for each row, and a little: {one}");
    admitted(&batch, 0..1_000, &[When::new(|number| number > 500)]);
    assert_eq!(gauge.bytes(), 2 * one, "another rule, though it says the same");
    batch.forget_views();
    assert_eq!(gauge.bytes(), 0);
    admitted(&batch, 0..1_000, &rule);
    assert_eq!((gauge.bytes(), asked(&rule[0])), (one, 2_000));
    drop(batch);
    assert_eq!(gauge.bytes(), 0);
}

#[test]
fn threads_that_ask_at_once_share_one_answer() {
    let batch = batch(1_000, &ViewGauge::default());
    let rule = [When::new(|number| number % 7 == 0)];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(admitted(&batch, 0..1_000, &rule).len(), 143));
        }
    });
    assert_eq!(asked(&rule[0]), 1_000);
}

proptest! {
    #[test]
    fn a_verdict_says_what_the_rule_says(count in 0_u32..200, start in 0_u32..220, length in 0_u32..220) {
        let batch = batch(count, &ViewGauge::default());
        let rules = [When::new(|number| number % 3 != 0), When::new(|number| number / 64 % 2 == 0)];
        let expected = (start..start + length)
            .filter(|row| *row < count && row % 3 != 0 && row / 64 % 2 == 0)
            .map(u128::from);
        prop_assert_eq!(admitted(&batch, start..start + length, &rules), expected.collect::<Vec<_>>());
    }
}
