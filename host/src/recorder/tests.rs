use super::*;
use crate::collector::CollectorSettings;
use crate::journal::{Cursor, Journal, JournalSettings, Overflow, Start};
use crate::record::Status;

fn recorder(max_pending: usize) -> (Recorder, Collector, Cursor) {
    let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
    let settings = CollectorSettings { max_pending, ..CollectorSettings::default() };
    let collector = Collector::new(journal.clone(), settings);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    (Recorder::new(collector.clone()), collector, cursor)
}

/// Events that have ended, as `pipeline/name/task status retries`.
fn ended(collector: &Collector, cursor: &Cursor) -> Vec<String> {
    collector.collect();
    let batches = cursor.read(1_000, usize::MAX);
    let events = batches.iter().flat_map(|segment| segment.batch.events());
    let show = |event: &EventMetrics| {
        assert!(event.end_time >= Some(event.start_time));
        let pipeline = event.pipeline_id.as_deref().unwrap_or("-");
        let (name, task, status) = (&event.event_name, &event.task_id, event.status.as_str());
        format!("{pipeline}/{name}/{task} {status} {}", event.retry_count)
    };
    let mut shown: Vec<_> = events.map(show).collect();
    shown.sort();
    shown
}

#[test]
fn guards_end_their_record_once() {
    let (recorder, collector, cursor) = recorder(100);
    let event = recorder.event("a").task("1").pipeline("p").attribute("k", "v").start();
    event.retry();
    event.complete();
    recorder.event("b").start().fail("why");
    drop(recorder.event("c").start_owned());
    recorder.event("d").start().cancel();
    recorder.network("GET", "h", 80).task("1").start().finish(1, 2);
    recorder.network("PUT", "h", 80).start().fail("reset", 3, 4);
    drop(recorder.network("POST", "h", 80).start_owned());
    collector.collect();
    let batch = &cursor.read(100, usize::MAX)[0].batch;
    let events: Vec<_> =
        batch.events().iter().map(|event| (event.event_name.as_str(), event.status)).collect();
    let expected =
        [("a", Status::Completed), ("b", Status::Failed), ("c", Status::Cancelled), ("d", Status::Cancelled)];
    assert_eq!(events, expected);
    assert_eq!((batch.events()[0].retry_count, batch.events()[1].error.as_deref()), (1, Some("why")));
    assert_eq!(batch.events()[0].process_id, Some(std::process::id()));
    let operations = batch.operations().iter();
    let operations: Vec<_> =
        operations.map(|one| (one.bytes_sent, one.bytes_received, one.error.as_deref())).collect();
    assert_eq!(operations, [(1, 2, None), (3, 4, Some("reset")), (0, 0, Some("cancelled"))]);
}

#[test]
fn events_of_one_task_tasks_of_one_event_and_pipelines_never_mix() {
    let (recorder, collector, cursor) = recorder(100);
    let keys = [
        EventKey::new("a", "1"),
        EventKey::new("b", "1"),
        EventKey::new("a", "2"),
        EventKey::new("a", "1").pipeline("p"),
        EventKey::new("a", "1").pipeline(""),
        EventKey::new("", "a1"),
    ];
    assert!(keys.iter().all(|key| recorder.start_event(*key)));
    assert_eq!(recorder.pending(100, usize::MAX).0.len(), keys.len());
    for (retries, key) in keys.iter().enumerate() {
        assert!((0..retries).all(|_| recorder.record_retry(*key)));
    }
    assert!(keys.iter().all(|key| recorder.end_event(*key, Outcome::Completed)));
    let expected = [
        "-//a1 completed 5",
        "-/a/1 completed 0",
        "-/a/2 completed 2",
        "-/b/1 completed 1",
        "/a/1 completed 4",
        "p/a/1 completed 3",
    ];
    assert_eq!(ended(&collector, &cursor), expected);
}

#[test]
fn what_makes_no_sense_is_counted_and_harms_nothing() {
    let (recorder, collector, cursor) = recorder(1);
    let key = EventKey::new("a", "1");
    assert!(!recorder.end_event(key, Outcome::Completed));
    assert!(!recorder.record_retry(key));
    assert!(recorder.start_event(key));
    assert!(recorder.end_event(key, Outcome::Failed("why")));
    assert!(!recorder.end_event(key, Outcome::Completed), "a second end");
    assert!(recorder.start_event(key));
    assert!(recorder.start_event(EventKey::new("b", "1")), "closes the first: there is one place");
    assert!(!recorder.end_event(key, Outcome::Completed), "an end after that");
    let counts = recorder.counts();
    assert_eq!((counts.unmatched_ends, counts.unmatched_retries, counts.closed_oldest), (3, 1, 1));
    assert_eq!(ended(&collector, &cursor), ["-/a/1 cancelled 0", "-/a/1 failed 0"]);
}

#[test]
fn one_that_is_started_again_closes_the_earlier() {
    let (recorder, collector, cursor) = recorder(100);
    let key = EventKey::new("a", "1");
    assert!(recorder.start_event(key) && recorder.record_retry(key));
    assert!(!recorder.start_event(key));
    assert!(recorder.end_event(key, Outcome::Completed));
    assert_eq!(ended(&collector, &cursor), ["-/a/1 cancelled 1", "-/a/1 completed 0"]);
    assert_eq!((recorder.counts().restarted, recorder.counts().pending), (1, 0));
}

#[test]
fn what_messages_end_waits_in_no_buffer() {
    let (recorder, collector, _cursor) = recorder(2);
    let mut ended = Batch::default();
    let mut follower = recorder.follow(&mut ended);
    let [a, b, c] = ["a", "b", "c"].map(|name| EventKey::new(name, "1"));
    assert!(!follower.end(a, Outcome::Completed) && !follower.retry(a));
    assert!(follower.start(a) && follower.retry(a) && follower.end(a, Outcome::Failed("why")));
    assert!(follower.start(b));
    assert!(!follower.start(b), "the earlier is closed");
    assert!(follower.start(a) && follower.start(c), "the oldest is closed for want of room");
    assert!(!follower.end(b, Outcome::Completed));
    let shown: Vec<_> = ended
        .events
        .iter()
        .map(|event| (event.event_name.as_str(), event.status, event.process_id))
        .collect();
    assert_eq!(
        shown,
        [("a", Status::Failed, None), ("b", Status::Cancelled, None), ("b", Status::Cancelled, None)]
    );
    assert_eq!((collector.waiting(), recorder.counts().pending, recorder.counts().finished), (0, 2, 3));
}
