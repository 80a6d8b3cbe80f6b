//! Members that answer at random, behind a real delivery: nothing is lost, nothing doubled, and the books close.

use super::*;
use crate::config::DeliveryConfig;
use crate::delivery::{DeadLetters, Delivery, Plan};
use crate::journal::{DropReason, Journal, JournalSettings};
use crate::record::{Batch, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An answer to any number of rows: what is said of a row is said of its number modulo the pattern's length.
#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Option<Fate>>),
    Act(Act),
}

fn fate() -> impl Strategy<Value = Option<Fate>> {
    let after =
        prop_oneof![Just(None), (0_u64..3_000).prop_map(|millis| Some(Duration::from_millis(millis)))];
    prop_oneof![
        3 => Just(None),
        2 => after.prop_map(|after| Some(Fate::Retry { reason: "later".into(), after })),
        1 => Just(Some(Fate::Reject { reason: "never".into() })),
    ]
}

fn step(hangs: Act) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(fate(), 1..7).prop_map(Step::Rows),
        4 => Just(Step::Act(retry("down"))),
        1 => Just(Step::Act(Act::Answer(Err(PublishError::reject("no such index"))))),
        1 => Just(Step::Act(hold("mend me"))),
        1 => Just(Step::Act(hangs)),
        1 => Just(Step::Act(Act::Panic)),
    ]
}

/// A member that follows a pattern, for which it must know how many rows there are.
struct Patterned {
    inner: Scripted,
    steps: Arc<Mutex<VecDeque<Step>>>,
}

impl Patterned {
    async fn publish(&mut self, rows: Vec<u128>) -> PublishResult {
        let step = self.steps.lock().pop_front();
        let act = match step {
            None => Act::Answer(Ok(vec![])),
            Some(Step::Act(act)) => act,
            Some(Step::Rows(pattern)) => {
                let fates = pattern.iter().cycle().take(rows.len()).zip(0..);
                Act::Answer(Ok(fates
                    .filter_map(|(fate, row)| Some(Unpublished { row, fate: fate.clone()? }))
                    .collect()))
            }
        };
        self.inner.script.lock().acts.push_back(act);
        self.inner.publish(rows).await
    }
}

#[async_trait::async_trait]
impl Publisher for Patterned {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events.iter().map(|event| event.id.as_u128()).collect()).await
    }
    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations.iter().map(|operation| operation.id.as_u128()).collect()).await
    }
}

fn patterned(label: &str, script: &Shared, steps: Vec<Step>) -> MemberPlan {
    let steps = Arc::new(Mutex::new(VecDeque::from(steps)));
    let plan = member(label, script);
    let script = script.clone();
    let factory: Factory = Arc::new(move |_| {
        let inner = Scripted { script: script.clone(), used: false };
        let publisher = Patterned { inner, steps: steps.clone() };
        Box::pin(async { Ok(Box::new(publisher) as Box<dyn Publisher>) })
    });
    MemberPlan { factory, ..plan }
}

const RECORDS: u128 = 60;

fn record(journal: &Journal) {
    for first in (0..RECORDS).step_by(20) {
        let mut batch = Batch::default();
        for number in first..first + 20 {
            if number % 3 == 2 {
                batch
                    .operations
                    .push(NetworkMetrics { end_time: Some(Timestamp::from_nanos(1)), ..operation(number) });
            } else {
                let ended = (Some(Timestamp::from_nanos(1)), Status::Completed);
                batch.events.push(EventMetrics { end_time: ended.0, status: ended.1, ..event(number) });
            }
        }
        journal.append(&mut batch).unwrap();
        journal.seal();
    }
}

/// How often each record was set aside.
fn letters(letters: &DeadLetters) -> BTreeMap<u128, usize> {
    let text = std::fs::read_to_string(letters.path()).unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let letter: serde_json::Value = serde_json::from_str(line).unwrap();
        let id: Uuid = letter["record"]["id"].as_str().unwrap().parse().unwrap();
        *found.entry(id.as_u128()).or_default() += 1;
    }
    found
}

async fn run(steps: Vec<Vec<Step>>, batch: usize) {
    let dir = tempfile::tempdir().unwrap();
    let set_aside = Arc::new(DeadLetters::new(dir.path().join("letters.jsonl")));
    let scripts: Vec<Shared> = steps.iter().map(|_| Shared::default()).collect();
    let labels = ["a", "b", "c"];
    let members = steps.into_iter().zip(&scripts).zip(labels);
    let members: Vec<MemberPlan> =
        members.map(|((steps, script), label)| patterned(label, script, steps)).collect();
    let mut config = DeliveryConfig::default();
    config.batch.max_records = batch;
    config.batch.max_age = Duration::from_millis(1);
    config.timeout = Failover::call_timeout(&members);
    let factory = Failover::factory(SETTINGS, members);
    let context = Context::detached("safe", dir.path());
    let mut failover = factory(context.clone()).await.unwrap();
    failover.open(None).await.unwrap();
    let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
    let plan = Plan { kind: "composite".into(), config, filters: Vec::new(), factory, context };
    let delivery = Delivery::start("safe".into(), &journal, Ok(failover), plan, set_aside.clone());
    record(&journal);
    for look in 0.. {
        let books = delivery.status().books;
        assert!(books.balance(), "{books:?}");
        if books.backlog == 0 {
            break;
        }
        assert!(look < 200_000, "{:?}", delivery.status());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let status = delivery.status();
    let deadline = Instant::now() + Duration::from_secs(60);
    let books = delivery.drain(deadline, DropReason::Shutdown).await;
    let mut found = letters(&set_aside);
    let dead_lettered = found.values().sum::<usize>() as u64;
    let numbers =
        |of: fn(&Script) -> &Vec<u128>| scripts.iter().flat_map(move |script| of(&script.lock()).clone());
    numbers(|script| &script.taken).for_each(|number| *found.entry(number).or_default() += 1);
    let (taken, untold) = (numbers(|script| &script.taken).count(), numbers(|script| &script.untold));
    // Where an attempt was cut off that had taken its rows, they were taken once more, or set aside.
    let mut untold_rows = 0;
    for number in untold {
        untold_rows += 1;
        *found.entry(number).or_default() -= 1;
    }
    let each_once: BTreeMap<u128, usize> = (0..RECORDS).map(|number| (number, 1)).collect();
    assert_eq!(found, each_once);
    assert_eq!((books.delivered, books.dead_lettered), (taken as u64 - untold_rows, dead_lettered));
    assert_eq!(books.dropped.total(), 0);
    let detail = status.detail.unwrap();
    let sum = |key: &str| {
        detail["members"].as_array().unwrap().iter().map(|member| member[key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("delivered"), sum("rejected")), (books.delivered, books.dead_lettered));
    assert_eq!(status.misreported_rows, 0);
}

fn run_to_the_end(steps: Vec<Vec<Step>>, batch: usize) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(run(steps, batch));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_record_ends_once_at_a_member_or_among_the_dead_letters(
        steps in vec(vec(step(Act::Hang), 0..14), 2..=3),
        batch in 1_usize..25,
    ) {
        run_to_the_end(steps, batch);
    }

    #[test]
    fn a_record_is_doubled_only_where_an_attempt_was_cut_off_that_had_taken_it(
        steps in vec(vec(step(Act::TakeAndHang), 0..14), 2..=3),
        batch in 1_usize..25,
    ) {
        run_to_the_end(steps, batch);
    }
}
