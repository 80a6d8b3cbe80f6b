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
    /// After so many attempts it dies whatever it is handed.
    well: u32,
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
            well: u32::MAX,
        }
    }
}

impl Tries for Model {
    async fn attempt(&mut self, numbers: &[u32]) -> Tried {
        self.total += 1;
        self.calls += 1;
        self.time = self.time.saturating_sub(1);
        let fresh = !std::mem::replace(&mut self.used, true);
        let tired =
            self.total > self.well || self.dies_every > 0 && self.calls.is_multiple_of(self.dies_every);
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
        let sifted = run(sift(rest, &AtomicU64::new(0), 0, model));
        for Suspected { row, text, .. } in &sifted.suspects {
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
                let sifted = run(sift(rest, &AtomicU64::new(0), 0, &mut model));
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
            prop_assert!(model.total <= 4 + 2 * k * (log + 1), "{} attempts for {k} of {rows}", model.total);
        }
    }
}

#[test]
fn a_plugin_that_always_dies_is_given_up_before_long() {
    let mut model = Model::new(0..1_024);
    let sifted = run(sift(whole(1_024), &AtomicU64::new(0), 0, &mut model));
    assert_eq!((sifted.stop, model.total), (Some(Stop::InVain), MOST_IN_VAIN));
    assert!(!sifted.published && !sifted.answered && sifted.suspects.is_empty());
    assert_eq!(sifted.rest.iter().map(Vec::len).sum::<usize>(), 1_024);
    assert!(
        sifted.rest.iter().all(|part| part.len() <= 16),
        "the next search goes on where this one stopped"
    );
}

#[test]
fn an_outage_in_the_middle_of_a_search_is_given_up_and_convicts_nobody() {
    let bad: BTreeSet<u32> = (0..1_024).step_by(64).collect();
    let (mut stopped, mut convicted) = (0, 0);
    for well in [1, 5, 20, 40, 60, 80, 120, 160, 190, 200, 210, 215] {
        let mut model = Model { well, ..Model::new(bad.iter().copied()) };
        let proof = AtomicU64::new(0);
        let mut sifted = run(sift(whole(1_024), &proof, 0, &mut model));
        stopped += u32::from(sifted.stop == Some(Stop::InVain));
        assert!(model.total <= well.max(64) + MOST_IN_VAIN, "{} attempts, {well} of them well", model.total);
        sifted.convict(proof.into_inner());
        convicted += sifted.poison.len();
        assert!(sifted.poison.iter().all(|(row, _)| bad.contains(row)), "{well}: {:?}", sifted.poison);
    }
    assert!(stopped > 4 && convicted > 0, "{stopped} {convicted}");
}

/// A row that is put by is published at the end, wherever the bad one was.
#[test]
fn one_bad_record_among_many_is_convicted_at_once() {
    for rows in 6..40 {
        let convicted = (0..rows).filter(|bad| {
            let (mut model, proof) = (Model::new([*bad]), AtomicU64::new(0));
            let mut sifted = run(sift(whole(rows), &proof, 0, &mut model));
            sifted.convict(proof.into_inner());
            assert_eq!(sifted.poison.len() + sifted.suspects.len(), 1);
            !sifted.poison.is_empty()
        });
        assert!(convicted.count() + 1 >= rows as usize, "{rows}");
    }
}

#[test]
fn a_long_reason_is_not_kept_in_full_for_each_of_many_rows() {
    let long = "é".repeat(32 << 10);
    let mut sifted = Sifted::default();
    let rows: Vec<u32> = (0..1_024).collect();
    assert_eq!(sifted.take(&rows, Err(PublishError::reject(long.clone()))), Ok(()));
    for Unpublished { fate, .. } in &sifted.left_out {
        let Fate::Reject { reason } = fate else { panic!("{fate:?}") };
        assert!(reason.len() < 2 << 10 && reason.ends_with("(cut, was 65536 bytes)"), "{}", reason.len());
    }
    assert_eq!(repeated(&long, FEW), long, "few rows have all of it");
    assert_eq!(repeated("short", 1_024), "short");
}

#[test]
fn what_an_instance_dies_of_that_was_used_before_is_no_suspect() {
    let mut model = Model { used: true, dies_every: 1, ..Model::new([]) };
    model.dies_every = 3;
    model.calls = 2;
    let sifted = run(sift(whole(1), &AtomicU64::new(0), 0, &mut model));
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
