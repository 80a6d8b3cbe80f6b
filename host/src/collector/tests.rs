use super::*;
use crate::journal::{JournalSettings, Overflow, Settled, Start};
use crate::record::{Record, Status};
use crate::recorder::Recorder;
use std::collections::HashSet;

fn collector(max_pending: usize, max_buffered: usize) -> (Journal, Collector, Recorder) {
    let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
    let settings = CollectorSettings { max_pending, max_buffered, ..CollectorSettings::default() };
    let collector = Collector::new(journal.clone(), settings);
    let recorder = Recorder::new(collector.clone());
    (journal, collector, recorder)
}

#[test]
fn tiny_bounds_hold_on_many_threads_and_nobody_waits_forever() {
    for max_pending in [0, 1, 2, 10] {
        let (journal, collector, recorder) = collector(max_pending, 1 << 20);
        let _reader = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let one = recorder.event("one").start();
                        let two = recorder.network("GET", "h", 1).start();
                        one.complete();
                        two.finish(1, 1);
                    }
                });
            }
        });
        collector.collect();
        let counts = collector.counts();
        assert_eq!((counts.pending, counts.dropped, counts.finished), (0, 0, 8_000));
        assert_eq!(counts.closed_oldest, counts.ended_late);
        assert_eq!((journal.held().accepted, collector.waiting()), (8_000, 0));
    }
}

#[test]
fn places_that_others_do_not_need_are_taken_before_anything_is_closed() {
    let (_, collector, recorder) = collector(100, 100);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| drop(recorder.event("e").start()));
        }
    });
    let open: Vec<_> = (0..100).map(|_| recorder.event("e").start()).collect();
    assert_eq!((collector.counts().closed_oldest, collector.counts().pending), (0, 100));
    drop(recorder.event("one more").start());
    assert_eq!((collector.counts().closed_oldest, collector.counts().pending), (1, 99));
    drop(open);
    assert_eq!(collector.counts().pending, 0);
}

#[test]
fn the_oldest_is_closed_as_cancelled_and_its_end_comes_too_late() {
    let (journal, collector, recorder) = collector(2, 100);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    let oldest = recorder.event("oldest").start();
    let (_b, _c) = (recorder.event("b").start(), recorder.event("c").start());
    oldest.complete();
    collector.collect();
    let read = cursor.read(10, usize::MAX);
    let event = &read[0].batch.events()[0];
    assert_eq!((event.event_name.as_str(), event.status), ("oldest", Status::Cancelled));
    assert!(event.end_time >= Some(event.start_time));
    assert_eq!((collector.counts().closed_oldest, collector.counts().ended_late), (1, 1));
}

#[test]
fn beyond_the_buffer_records_are_dropped_and_counted_even_while_the_journal_refuses() {
    let settings = JournalSettings { max_records: 4, batch_records: 1, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let settings = CollectorSettings { max_buffered: 10, ..CollectorSettings::default() };
    let collector = Collector::new(journal.clone(), settings);
    let recorder = Recorder::new(collector.clone());
    let cursor = journal.cursor("block".into(), Start::Newest, Overflow::Block);
    let record = |times: usize| {
        for _ in 0..times {
            recorder.event("e").start().complete();
            collector.collect();
        }
    };
    record(4);
    record(25);
    assert_eq!((journal.held().accepted, collector.waiting(), collector.counts().dropped), (4, 10, 15));
    let pass = || {
        let delivered = cursor.read(20, usize::MAX).len() as u64;
        cursor.settle(Settled { delivered, ..Settled::default() });
        cursor.acknowledge();
        collector.collect();
    };
    pass();
    assert_eq!(
        (journal.held().accepted, collector.waiting()),
        (5, 9),
        "the rest does not fit beside the first"
    );
    pass();
    assert_eq!((journal.held().accepted, collector.waiting()), (14, 0));
    assert_eq!(cursor.books().dropped.total(), 0);
    pass();
    record(1);
    assert_eq!((journal.held().accepted, collector.counts().dropped), (15, 15), "places come back");
}

#[test]
fn closing_loses_nothing_uncounted() {
    for _ in 0..20 {
        let (journal, collector, recorder) = collector(1_000, 1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..300).for_each(|_| recorder.event("e").start().complete()));
            }
            scope.spawn(|| collector.close());
        });
        let counts = collector.counts();
        assert_eq!(counts.finished + counts.dropped, 1_200);
        assert_eq!((journal.held().accepted, collector.waiting()), (counts.finished, 0));
    }
}

#[test]
fn what_is_open_at_the_end_is_appended_as_cancelled_for_no_lack_of_room() {
    let (journal, collector, recorder) = collector(100, 100);
    let (a, b) = (recorder.event("a").start(), recorder.network("GET", "h", 1).start());
    assert_eq!(collector.end(), 2);
    assert_eq!((journal.held().accepted, collector.counts().closed_oldest), (2, 0));
    a.complete();
    b.finish(0, 0);
    assert_eq!((journal.held().accepted, collector.counts().ended_late), (2, 2));
}

#[test]
fn seventy_thousand_open_events_are_appended_at_the_end_though_the_buffer_and_the_journal_are_smaller() {
    let settings = JournalSettings { max_records: 10, batch_records: 10, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let collector = Collector::new(journal.clone(), CollectorSettings::default());
    let recorder = Recorder::new(collector.clone());
    let [block, other] = [("block", Overflow::Block), ("other", Overflow::DropOldest)]
        .map(|(label, overflow)| journal.cursor(label.into(), Start::Newest, overflow));
    (0..20).for_each(|_| recorder.event("finished").start().complete());
    collector.collect();
    (0..5).for_each(|_| recorder.event("refused").start().complete());
    (0..70_000).for_each(|_| std::mem::forget(recorder.event("open").start()));
    assert_eq!(collector.end(), 70_000);
    assert_eq!((collector.counts().dropped, collector.counts().pending, collector.waiting()), (0, 0, 0));
    for cursor in [block, other] {
        cursor.stop();
        let books = cursor.books();
        assert_eq!((books.accepted, books.dropped.total()), (70_025, 0), "nothing makes room for it");
    }
}

/// Of a length that no record holds in place.
fn long(number: usize) -> String {
    format!("{number:01000}")
}

#[test]
fn open_records_are_bounded_in_bytes_and_the_oldest_are_closed() {
    let journal = Journal::new(JournalSettings::default(), Box::new(|_| {}));
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    let settings = CollectorSettings { max_pending_bytes: 1 << 20, ..CollectorSettings::default() };
    let collector = Collector::new(journal.clone(), settings);
    let recorder = Recorder::new(collector.clone());
    // On many threads, so that lanes have bytes leased that others want.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let recorder = &recorder;
            scope.spawn(move || {
                for number in 0..500 {
                    let name = long(thread * 500 + number);
                    std::mem::forget(recorder.event(&name).task(&name).pipeline(&name).start());
                }
            });
        }
    });
    let (open, _) = collector.pending(usize::MAX, usize::MAX);
    let held: usize = open.iter().map(Record::bytes).sum();
    assert!(held <= 1 << 20, "{held}");
    assert!(held >= 1 << 19, "{held}: what is leased and not used is no loss");
    let counts = collector.counts();
    assert_eq!((counts.closed_oldest, counts.dropped), (4_000 - open.len() as u64, 0));
    // An attribute counts, too; and one that is larger than everything closes all, itself included.
    let event = recorder.event("e").start();
    event.attribute("all", "x".repeat(1 << 20));
    assert_eq!(collector.counts().pending, 0);
    recorder.event("after").start().complete();
    collector.collect();
    assert_eq!(cursor.books().accepted, 4_002);
    let listed = recorder.event(&long(0)).start_owned();
    let _second = recorder.event(&long(1)).start_owned();
    assert_eq!(collector.pending(100, 1).0.len(), 1, "a list ends when its bytes are reached");
    drop(listed);
}

#[test]
fn finished_records_are_bounded_in_bytes_while_the_journal_refuses() {
    let settings = JournalSettings { max_records: 1, batch_records: 1, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let settings = CollectorSettings { max_buffered_bytes: 1 << 20, ..CollectorSettings::default() };
    let collector = Collector::new(journal.clone(), settings);
    let recorder = Recorder::new(collector.clone());
    let cursor = journal.cursor("block".into(), Start::Newest, Overflow::Block);
    let error = "x".repeat(60_000);
    let record = |times: usize| {
        for _ in 0..times {
            recorder.event("e").start().fail(&error);
            collector.collect();
        }
    };
    record(1);
    record(100);
    let waiting = collector.waiting();
    assert!((10..=17).contains(&waiting), "{waiting} of 60 KB each in a MiB");
    assert_eq!(collector.counts().dropped, 100 - waiting as u64);
    let pass = || {
        let delivered = cursor.read(200, usize::MAX).iter().map(|segment| segment.events.len() as u64).sum();
        cursor.settle(Settled { delivered, ..Settled::default() });
        cursor.acknowledge();
        collector.collect();
    };
    pass();
    pass();
    assert_eq!((collector.waiting(), collector.counts().pending), (0, 0));
    pass();
    record(1);
    assert_eq!(collector.counts().dropped, 100 - waiting as u64, "the bytes come back");
}

#[test]
fn ids_are_unique_and_sort_by_start() {
    let mut lane = Lane::new();
    let ids: Vec<_> = (0..2_000_u64)
        .map(|at| lane.next_id(Timestamp::from_nanos(1_795_432_484_250_000_000 + at * 300)))
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));

    let (_, collector, recorder) = collector(100_000, 100_000);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1_000).for_each(|_| std::mem::forget(recorder.event("e").start())));
        }
    });
    let (events, operations) = collector.pending(usize::MAX, usize::MAX);
    assert_eq!((events.len(), operations.len()), (8_000, 0));
    assert_eq!(events.iter().map(|event| event.id).collect::<HashSet<_>>().len(), 8_000);
    assert!(events.iter().all(|event| event.status == Status::Pending && event.end_time.is_none()));
    assert_eq!(collector.pending(7, usize::MAX).0.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_collector_wakes_for_one_record() {
    let (journal, collector, recorder) = collector(100, 100);
    let running = tokio::spawn({
        let collector = collector.clone();
        async move { collector.run().await }
    });
    let mut sealed = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest).sealed();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(collector.0.asleep.load(Ordering::SeqCst));
        let began = tokio::time::Instant::now();
        recorder.event("e").start().complete();
        sealed.changed().await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(20));
    }
    let mut batch = Batch::default();
    batch.events.push(EventMetrics::started(Uuid::nil(), "e", "t", Timestamp::from_nanos(1)));
    collector.accept(&mut batch).await.unwrap();
    sealed.changed().await.unwrap();
    collector.close();
    running.await.unwrap();
    assert_eq!(journal.held().accepted, 4);
}
