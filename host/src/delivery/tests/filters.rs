//! What `only` lets through to a worker's publisher.

use super::*;
use crate::config::Only;

#[tokio::test(start_paused = true)]
async fn what_is_not_meant_for_it_is_filtered() {
    let only: Only = toml::from_str("kind = \"event\"\nevent_name = \"re*\"").unwrap();
    let bench = Bench::new(DeliveryConfig { only: Some(only), ..config() }, []);
    bench.record(&["resize", "store"]);
    let mut operation = NetworkMetrics::started(Uuid::nil(), "t", "GET", "h", 1, Timestamp::from_nanos(1));
    operation.end_time = Some(Timestamp::from_nanos(2));
    bench.journal.append(&mut [operation].into_iter().collect()).unwrap();
    bench.journal.seal();
    let books = bench.until(|books| books.accepted == 3 && books.backlog == 0).await;
    assert_eq!((books.filtered, books.delivered), (2, 1));
    assert_eq!(bench.script.lock().delivered, ["resize"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_judged_once_by_each_rule_however_many_publishers_ask() {
    let rules = Rules::default();
    let filter = |only: &str| rules.filter(&toml::from_str(only).unwrap());
    let (events, names) = (filter("kind = \"event\""), filter("event_name = \"re*\""));
    let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
    let letters = Arc::new(DeadLetters::new("never written"));
    let deliveries: Vec<Delivery> = (0..5_usize)
        .map(|number| {
            let script = Shared::default();
            // Parts of a batch ask for the whole of it, too.
            let mut config = config();
            config.batch.max_records = [7, 64, 1_000, 1_000, 1_000][number];
            // Read anew from the same tables, as at a reload.
            let filters = [filter("kind = \"event\""), filter("event_name = \"re*\"")];
            let filters = filters.into_iter().flatten().take(2 - number % 2).collect();
            let plan = Plan { filters, ..plan(&script, config) };
            let publisher = Box::new(Scripted { script, open: Ok(()) });
            Delivery::start(number.to_string().into(), &journal, Ok(publisher), plan, letters.clone())
        })
        .collect();
    let names_of = ["resize", "store", "render"];
    for batch in 0..10 {
        let mut batch: Batch = (0..100).map(|number| event(names_of[(batch + number) % 3])).collect();
        journal.append(&mut batch).unwrap();
        journal.seal();
    }
    for (number, delivery) in deliveries.iter().enumerate() {
        while delivery.status().books.delivered + delivery.status().books.filtered < 1_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let filtered = if number % 2 == 0 { 333 } else { 0 };
        assert_eq!(delivery.status().books.filtered, filtered);
    }
    assert_eq!((events.unwrap().asked(), names.unwrap().asked()), (1_000, 1_000));
    assert!(rules.filter(&Only::default()).is_none(), "what lets everything through is no rule");
}

#[tokio::test(start_paused = true)]
async fn a_sample_keeps_tasks_whole_and_every_failure() {
    let only: Only = toml::from_str("keep = 0.1").unwrap();
    let bench = Bench::new(DeliveryConfig { only: Some(only), ..config() }, []);
    for task in 0..1_000_u32 {
        let mut batch: Batch = ["1", "2", "3"].into_iter().map(event).collect();
        batch.events.iter_mut().for_each(|event| event.task_id = format!("task-{task}").into());
        if task % 10 == 0 {
            batch.events[2].status = Status::Failed;
        }
        bench.journal.append(&mut batch).unwrap();
    }
    bench.journal.seal();
    let books = bench.until(|books| books.accepted == 3_000 && books.backlog == 0).await;
    assert_eq!(books.filtered + books.delivered, 3_000);
    let script = bench.script.lock();
    let count = |name| script.delivered.iter().filter(|delivered| *delivered == name).count();
    let kept = count("1");
    assert!((60..140).contains(&kept), "{kept} of 1,000 tasks");
    assert_eq!(count("2"), kept, "a task is kept whole");
    let failed = count("3") - kept;
    assert!((80..=100).contains(&failed), "{failed} of 100 failures, beside those of tasks that are kept");
}

#[test]
fn every_kind_of_filter_admits_what_it_says() {
    let mut event = event("resize");
    event.pipeline_id = Some("thumbs".into());
    event.attributes.insert("region", "eu");
    event.attributes.insert("width", 640);
    event.attributes.insert("ratio", 1.5);
    event.attributes.insert("cached", true);
    let mut operation = NetworkMetrics::started(Uuid::nil(), "t", "GET", "h", 1, Timestamp::from_nanos(1));
    operation.end_time = Some(Timestamp::from_nanos(2));
    operation.error = Some("refused".into());
    for (only, admits_event, admits_operation) in [
        ("", true, true),
        ("kind = \"event\"", true, false),
        ("kind = \"network\"", false, true),
        ("event_name = \"res*\"", true, false),
        ("event_name = \"x\"", false, false),
        ("status = \"failed\"", false, true),
        ("status = [\"completed\", \"cancelled\"]", true, false),
        ("event_name = [\"x\", \"res*\"]", true, false),
        ("event_name = [\"x\", \"y\"]", false, false),
        ("pipeline = \"th*\"", true, false),
        ("pipeline = [\"a\", \"?humbs\"]", true, false),
        ("pipeline = [\"a\", \"b\"]", false, false),
        ("min_duration = \"1s\"", true, false),
        ("min_duration = \"2s\"", false, false),
        ("attributes = { region = \"eu\" }", true, false),
        ("attributes = { region = \"us\" }", false, false),
        ("attributes = { region = [\"us\", \"eu\"] }", true, false),
        ("attributes = { region = \"eu\", width = 640 }", true, false),
        ("attributes = { region = \"eu\", width = [1, 2] }", false, false),
        ("attributes = { ratio = 1.5, cached = true }", true, false),
        ("keep = 1", true, true),
        // The task's place is 0.8047; what failed is always kept.
        ("keep = 0.80", false, true),
        ("keep = 0.81", true, true),
        ("kind = \"event\"\nkeep = 0.81", true, false),
    ] {
        let filter = Filter::new(toml::from_str(only).unwrap());
        assert_eq!(
            (filter.admits(&event), filter.admits(&operation)),
            (admits_event, admits_operation),
            "{only}"
        );
    }
}
