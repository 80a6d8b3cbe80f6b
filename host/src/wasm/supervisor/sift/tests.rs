//! Against a model: a plugin that dies of some rows.

use super::*;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A plugin that dies of every call in which one of `poison` is.
struct Model {
    poison: BTreeSet<u32>,
    published: BTreeMap<u32, u32>,
    /// Its instance has been called before.
    used: bool,
    /// Of an instance that has been called so often it dies whatever it is handed; 0 for never.
    dies_every: u32,
    calls: u32,
    total: u32,
    /// Attempts that there is time for.
    time: u32,
}

impl Model {
    fn new(poison: impl IntoIterator<Item = u32>) -> Self {
        let poison = poison.into_iter().collect();
        Self {
            poison,
            published: BTreeMap::new(),
            used: false,
            dies_every: 0,
            calls: 0,
            total: 0,
            time: u32::MAX,
        }
    }
}

impl Tries for Model {
    async fn attempt(&mut self, numbers: &[u32]) -> Tried {
        self.total += 1;
        self.calls += 1;
        self.time = self.time.saturating_sub(1);
        let fresh = !std::mem::replace(&mut self.used, true);
        let tired = self.dies_every > 0 && self.calls.is_multiple_of(self.dies_every);
        if tired || numbers.iter().any(|number| self.poison.contains(number)) {
            (self.used, self.calls) = (false, 0);
            return Tried::Died { text: "a trap".to_owned(), fresh, lived: None };
        }
        for number in numbers {
            *self.published.entry(*number).or_default() += 1;
        }
        Tried::Answered(Ok(Vec::new()))
    }

    fn has_time(&self) -> bool {
        self.time > 0
    }
}

/// The model never waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

fn whole(rows: u32) -> Parts {
    [(0..rows).collect()].into()
}

/// Sifts until nothing is left, as often as it takes; `time` attempts at once.
fn sift_all(model: &mut Model, rows: u32, time: u32) -> BTreeSet<u32> {
    let mut rest = whole(rows);
    let mut suspects = BTreeSet::new();
    while !rest.is_empty() {
        model.time = time;
        let sifted = run(sift(rest, &AtomicBool::new(false), model));
        for (row, text) in &sifted.suspects {
            assert_eq!(text, "a trap");
            assert!(suspects.insert(*row), "a suspect twice");
        }
        assert_eq!(sifted.stop.is_some(), !sifted.rest.is_empty());
        rest = sifted.rest;
    }
    suspects
}

/// However little time there is, one bad record is not mistaken for a plugin that always dies.
#[test]
fn one_bad_record_costs_few_searches_in_which_nothing_is_published() {
    for time in 1..10 {
        for bad in [0, 1, 500, 1_023] {
            let mut model = Model::new([bad]);
            let (mut rest, mut in_vain) = (whole(1_024), 0);
            while !rest.is_empty() {
                model.time = time;
                let sifted = run(sift(rest, &AtomicBool::new(false), &mut model));
                in_vain += u32::from(!sifted.published && model.published.is_empty());
                rest = sifted.rest;
            }
            assert!(in_vain <= 2, "{in_vain} with {time} attempts at once");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever rows are poison, in however many steps: exactly they are suspects, and every other row is published once.
    #[test]
    fn exactly_the_poison_is_found_and_all_else_is_published_once(
        rows in 1_u32..200,
        poison in proptest::collection::btree_set(0_u32..200, 0..40),
        used: bool,
        dies_every in prop_oneof![Just(0_u32), 2_u32..5],
        time in prop_oneof![Just(u32::MAX), 1_u32..20],
    ) {
        let poison: BTreeSet<u32> = poison.into_iter().filter(|row| *row < rows).collect();
        let mut model = Model { used, dies_every, ..Model::new(poison.clone()) };
        let suspects = sift_all(&mut model, rows, time);
        prop_assert_eq!(&suspects, &poison);
        let published: Vec<u32> = model.published.keys().copied().collect();
        let others: Vec<u32> = (0..rows).filter(|row| !poison.contains(row)).collect();
        prop_assert_eq!(published, others);
        prop_assert!(model.published.values().all(|times| *times == 1));
        if dies_every == 0 && time == u32::MAX {
            let (k, log) = (u32::try_from(poison.len()).unwrap(), rows.ilog2() + 1);
            prop_assert!(model.total <= 2 + 2 * k * (log + 1), "{} attempts for {k} of {rows}", model.total);
        }
    }
}

#[test]
fn a_plugin_that_always_dies_is_given_up_before_long() {
    let mut model = Model::new(0..1_024);
    let sifted = run(sift(whole(1_024), &AtomicBool::new(false), &mut model));
    assert_eq!((sifted.stop, model.total), (Some(Stop::InVain), MOST_IN_VAIN));
    assert!(!sifted.published && !sifted.answered && sifted.suspects.is_empty());
    assert_eq!(sifted.rest.iter().map(Vec::len).sum::<usize>(), 1_024);
    assert!(
        sifted.rest.iter().all(|part| part.len() <= 16),
        "the next search goes on where this one stopped"
    );
}

#[test]
fn what_an_instance_dies_of_that_was_used_before_is_no_suspect() {
    let mut model = Model { used: true, dies_every: 1, ..Model::new([]) };
    model.dies_every = 3;
    model.calls = 2;
    let sifted = run(sift(whole(1), &AtomicBool::new(false), &mut model));
    assert!(sifted.suspects.is_empty() && sifted.published && sifted.died.is_some());
    assert_eq!(model.total, 2);
}

#[test]
fn answers_for_parts_are_answers_for_their_rows() {
    let reject = |row, reason: &str| Unpublished { row, fate: Fate::Reject { reason: reason.to_owned() } };
    let mut sifted = Sifted::default();
    assert_eq!(sifted.take(&[5, 7], Ok(vec![reject(1, "a"), reject(2, "stray")])), Ok(()));
    assert_eq!(sifted.left_out, [reject(7, "a"), reject(u32::MAX, "stray")]);
    assert!(sifted.published);
    let mut sifted = Sifted::default();
    assert_eq!(sifted.take(&[5, 7], Ok(vec![reject(1, "a"), reject(0, "b"), reject(0, "twice")])), Ok(()));
    assert!(!sifted.published && sifted.answered, "nothing was");
    assert_eq!(sifted.take(&[8], Err(PublishError::reject("c"))), Ok(()));
    assert_eq!(sifted.left_out.last(), Some(&reject(8, "c")));
    assert_eq!(sifted.take(&[9], Err(PublishError::hold("d"))), Err(PublishError::hold("d")));
}
