//! Messages that tell of starts and ends: what is answered with 200 is kept, and what cannot be kept is refused.

use super::*;
use crate::journal::Settled;

#[tokio::test]
async fn messages_are_refused_while_what_they_record_could_not_be_kept() {
    let settings = JournalSettings { max_records: 1, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let cursor = journal.cursor("archive".into(), Start::Oldest, Overflow::Block);
    let bounds = CollectorSettings { max_buffered: 4, ..CollectorSettings::default() };
    let collector = Collector::new(journal.clone(), bounds);
    let recorder = Recorder::new(collector.clone());
    let host = start_with(loopback(), Services { collector, recorder, ..services() }).await;
    assert_eq!(host.post("/v1/records", NDJSON, event("resize").as_bytes()).await.status, 200);
    host.services.collector.collect();
    let messages: String = (0..4)
        .flat_map(|task| ["start", "end"].map(|step| (step, task)))
        .map(|(step, task)| format!(r#"{{"type":"{step}","event_name":"resize","task_id":"{task}"}}"#) + "\n")
        .collect();
    let reply = host.post("/v1/records", NDJSON, messages.as_bytes()).await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    let counts = host.services.recorder.counts();
    assert_eq!((counts.finished, counts.dropped, counts.pending), (0, 0, 0), "nothing was followed");
    // Once there is room the same body is taken, and all of it is kept.
    cursor.read(10, usize::MAX);
    cursor.settle(Settled { delivered: 1, ..Settled::default() });
    cursor.acknowledge();
    cursor.set_overflow(Overflow::DropOldest);
    let reply = host.post("/v1/records", NDJSON, messages.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(host.services.recorder.counts().dropped, 0);
    host.end().await;
}

#[tokio::test]
async fn messages_that_are_answered_with_200_are_in_the_journal_and_others_are_refused_with_a_full_one() {
    let max_bytes = 4 << 20;
    let settings = JournalSettings { max_bytes, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let block = journal.cursor("archive".into(), Start::Oldest, Overflow::Block);
    let collector = Collector::new(journal.clone(), CollectorSettings::default());
    let recorder = Recorder::new(collector.clone());
    let host = start_with(loopback(), Services { collector, recorder, ..services() }).await;
    let error = "x".repeat(60_000);
    let (mut accepted, mut refused) = (0, 0);
    for task in 0..200 {
        let key = format!(r#""event_name":"resize","task_id":"{task}""#);
        let body = format!(
            "{{\"type\":\"start\",{key}}}\n{{\"type\":\"end\",{key},\"status\":\"failed\",\"error\":\"{error}\"}}\n"
        );
        let reply = host.post("/v1/records", NDJSON, body.as_bytes()).await;
        match reply.status {
            200 => accepted += 1,
            _ => {
                assert_eq!(reply.status, 429, "{}", reply.text());
                assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
                refused += 1;
            }
        }
        assert_eq!(block.books().accepted, accepted, "appended before it is answered");
        assert!(journal.held().bytes <= max_bytes, "{:?}", journal.held());
        if refused == 3 {
            break;
        }
    }
    assert!((50..=70).contains(&accepted), "{accepted}");
    let counts = host.services.recorder.counts();
    assert_eq!((counts.pending, counts.dropped, counts.finished), (0, 0, accepted));
    host.end().await;
}

#[tokio::test]
async fn starts_with_long_names_are_taken_and_the_oldest_are_closed_and_appended() {
    let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
    let cursor = journal.cursor("archive".into(), Start::Oldest, Overflow::DropOldest);
    let settings = CollectorSettings { max_pending_bytes: 1 << 20, ..CollectorSettings::default() };
    let collector = Collector::new(journal.clone(), settings);
    let recorder = Recorder::new(collector.clone());
    let host = start_with(loopback(), Services { collector, recorder, ..services() }).await;
    for first in (0..4_000).step_by(2_000) {
        let start = |number: usize| {
            let name = format!("{number:01000}");
            format!(r#"{{"type":"start","event_name":"{name}","task_id":"{name}","pipeline_id":"{name}"}}"#)
        };
        let body = (first..first + 2_000).map(|number| start(number) + "\n").collect::<String>();
        let reply = host.post("/v1/records", NDJSON, body.as_bytes()).await;
        assert_eq!((reply.status, reply.json()["accepted"].clone()), (200, 2_000.into()), "{}", reply.text());
    }
    let counts = host.services.recorder.counts();
    // Each occupies its names twice, for they are its key as well.
    assert!((100..=(1 << 20) / 6_000).contains(&counts.pending), "{counts:?}");
    assert_eq!((counts.closed_oldest, counts.dropped), (4_000 - counts.pending as u64, 0));
    assert_eq!(cursor.books().accepted, counts.closed_oldest, "in the journal before they are answered");
    host.services.collector.end();
    assert_eq!(cursor.books().accepted, 4_000);
    host.end().await;
}
