mod bounds;

use super::*;
use crate::record::{EventMetrics, Format, NetworkMetrics, Record, Rows, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

fn event(number: u64) -> EventMetrics {
    let mut event = EventMetrics::started(Uuid::from_u128(number.into()), "e", "t", Timestamp::from_nanos(1));
    event.end_time = Some(Timestamp::from_nanos(2));
    event
}

fn batch(events: u64, operations: u64) -> Batch {
    let operation = |_| NetworkMetrics::started(Uuid::nil(), "t", "GET", "h", 80, Timestamp::from_nanos(1));
    Batch { events: (0..events).map(event).collect(), operations: (0..operations).map(operation).collect() }
}

fn journal(max_records: usize, batch_records: usize) -> Journal {
    let settings = JournalSettings { max_records, batch_records, ..JournalSettings::default() };
    Journal::new(settings, Box::new(|_| {}))
}

fn append(journal: &Journal, events: u64) -> Result<(), Refused> {
    let mut batch = batch(events, 0);
    let appended = journal.append(&mut batch);
    assert_eq!(batch.len() as u64, if appended.is_ok() { 0 } else { events }, "all or nothing");
    journal.seal();
    appended
}

fn count(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| (segment.events.len() + segment.operations.len()) as u64).sum()
}

fn deliver(cursor: &Cursor, delivered: u64) {
    cursor.settle(Settled { delivered, ..Settled::default() });
}

#[test]
fn both_kinds_are_read_once_and_in_order() {
    let journal = journal(1_000, 4);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    journal.append(&mut batch(6, 5)).unwrap();
    assert_eq!(count(&cursor.read(100, usize::MAX)), 8, "the tail is not read");
    journal.seal();
    assert_eq!(count(&cursor.read(100, usize::MAX)), 3);
    assert_eq!(cursor.books().backlog, 11);
    cursor.settle(Settled { filtered: 1, delivered: 9, dead_lettered: 1, refused: 0 });
    cursor.acknowledge();
    let books = cursor.books();
    assert_eq!((books.accepted, books.backlog, journal.held().records), (11, 0, 0));
    assert!(books.balance());
}

#[test]
fn a_cursor_that_comes_while_the_tail_is_slack_begins_behind_it() {
    let journal = journal(1_000, 100);
    let first = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    journal.append(&mut batch(3, 0)).unwrap();
    let newest = journal.cursor("b".into(), Start::Newest, Overflow::DropOldest);
    let oldest = journal.cursor("c".into(), Start::Oldest, Overflow::DropOldest);
    append(&journal, 2).unwrap();
    let read = [&first, &newest, &oldest].map(|cursor| count(&cursor.read(100, usize::MAX)));
    assert_eq!(read, [5, 2, 5]);
}

#[test]
fn a_read_divides_a_batch_only_if_it_must() {
    let journal = journal(1_000, 4);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    append(&journal, 12).unwrap();
    assert_eq!(count(&cursor.read(6, usize::MAX)), 4, "the second is left whole");
    assert_eq!(count(&cursor.read(3, usize::MAX)), 3);
    assert_eq!(count(&cursor.read(0, usize::MAX)), 1, "at least one");
    let one = Record::bytes(&event(0));
    assert_eq!(count(&cursor.read(100, one * 2)), 2);
    assert_eq!(count(&cursor.read(100, 0)), 1);
}

#[test]
fn overflow_moves_the_hindmost_on_and_leaves_what_is_in_hand() {
    let journal = journal(8, 4);
    let slow = journal.cursor("slow".into(), Start::Newest, Overflow::DropOldest);
    append(&journal, 8).unwrap();
    assert_eq!(count(&slow.read(2, usize::MAX)), 2);
    append(&journal, 4).unwrap();
    assert_eq!((slow.books().dropped.overflow, slow.books().backlog), (2, 10));
    append(&journal, 4).unwrap();
    assert_eq!((slow.books().dropped.overflow, slow.books().backlog), (6, 10));
    deliver(&slow, 2);
    slow.acknowledge();
    assert_eq!(count(&slow.read(100, usize::MAX)), 8);
    assert!(slow.books().balance());
    assert_eq!(journal.held().records, 8);
}

#[test]
fn who_must_not_lose_anything_makes_everybody_wait_and_costs_nobody_a_record() {
    let journal = journal(8, 4);
    let slow = journal.cursor("slow".into(), Start::Newest, Overflow::DropOldest);
    let block = journal.cursor("block".into(), Start::Newest, Overflow::Block);
    append(&journal, 8).unwrap();
    deliver(&block, count(&block.read(4, usize::MAX)));
    block.acknowledge();
    let refused = append(&journal, 6).unwrap_err();
    assert_eq!(refused, Refused::Full { label: "block".into() });
    assert_eq!(slow.books().dropped.overflow, 0, "what cannot help is not done");
    append(&journal, 4).unwrap();
    assert_eq!(slow.books().dropped.overflow, 4);
    assert_eq!(block.books().dropped.total(), 0);
    block.set_overflow(Overflow::DropOldest);
    append(&journal, 4).unwrap();
    assert!(slow.books().balance() && block.books().balance());
}

#[test]
fn a_batch_beyond_the_bound_is_taken_when_there_is_nothing_else() {
    let journal = journal(8, 4);
    let block = journal.cursor("block".into(), Start::Newest, Overflow::Block);
    append(&journal, 20).unwrap();
    assert!(append(&journal, 1).is_err());
    deliver(&block, count(&block.read(100, usize::MAX)));
    block.acknowledge();
    append(&journal, 20).unwrap();
    assert_eq!(block.books().dropped.total(), 0);
}

#[test]
fn views_count_and_go_when_the_last_active_cursor_has_passed() {
    let journal = journal(100, 4);
    let [a, b, dead] =
        ["a", "b", "dead"].map(|label| journal.cursor(label.into(), Start::Newest, Overflow::DropOldest));
    dead.set_active(false);
    append(&journal, 4).unwrap();
    let before = journal.held().bytes;
    let pass = |cursor: &Cursor| {
        for segment in cursor.read(100, usize::MAX) {
            Rows::<EventMetrics>::all(&segment.batch).encode(Format::JsonLines);
        }
        deliver(cursor, 4);
        cursor.acknowledge();
    };
    pass(&a);
    assert!(journal.held().bytes > before, "b is still to pass");
    pass(&b);
    assert_eq!(journal.held().bytes, before, "the dead one keeps the records alone");

    append(&journal, 4).unwrap();
    let before = journal.held().bytes;
    pass(&a);
    b.set_active(false);
    assert_eq!(journal.held().bytes, before, "one that fails keeps no views alive");
    b.retire(DropReason::Removed);
    dead.retire(DropReason::Removed);
    assert_eq!(journal.held(), Held { records: 0, bytes: 0, accepted: 8 });
}

#[test]
fn views_make_room_before_anybody_has_to_wait() {
    let one = Record::bytes(&event(0));
    let max_bytes = 4 * size_of::<SharedBatch>() + 10 * one;
    let settings = JournalSettings { max_bytes, batch_records: 4, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let block = journal.cursor("block".into(), Start::Newest, Overflow::Block);
    append(&journal, 4).unwrap();
    let rows = Rows::<EventMetrics>::all(&block.read(4, usize::MAX)[0].batch);
    while journal.held().bytes <= max_bytes - 4 * one {
        let before = journal.held().bytes;
        for format in [Format::JsonLines, Format::JsonColumns, Format::LineProtocol, Format::OtlpProtobuf] {
            rows.encode(format);
        }
        rows.columns();
        if before == journal.held().bytes {
            break;
        }
    }
    append(&journal, 4).unwrap();
    assert_eq!(block.books().dropped.total(), 0);
    assert!(journal.held().bytes <= max_bytes);
}

#[test]
fn a_stopped_cursor_reads_what_it_had_and_no_more() {
    let journal = journal(8, 100);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    journal.append(&mut batch(3, 0)).unwrap();
    cursor.stop();
    append(&journal, 4).unwrap();
    assert_eq!((cursor.books().accepted, cursor.readable(100, 100_000).0), (3, 3));
    append(&journal, 4).unwrap();
    append(&journal, 4).unwrap();
    let books = cursor.books();
    assert_eq!((books.accepted, books.dropped.overflow, books.backlog), (3, 3, 0));
    assert!(cursor.read(100, usize::MAX).is_empty());
    assert_eq!(cursor.retire(DropReason::Removed), books);
}

#[test]
fn a_cursor_is_behind_by_what_its_oldest_open_batch_has_waited() {
    let journal = journal(1_000, 4);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    assert_eq!(cursor.behind(), Duration::ZERO);
    append(&journal, 1).unwrap();
    let between = std::time::Instant::now();
    append(&journal, 1).unwrap();
    let since = between.elapsed();
    assert!(cursor.behind() >= since);
    // Read is not settled, and settled is not passed.
    cursor.read(1, usize::MAX);
    deliver(&cursor, 1);
    assert!(cursor.behind() >= since);
    cursor.acknowledge();
    assert!((Duration::from_nanos(1)..=between.elapsed()).contains(&cursor.behind()), "now the second");
    cursor.read(1, usize::MAX);
    deliver(&cursor, 1);
    cursor.acknowledge();
    assert_eq!(cursor.behind(), Duration::ZERO);
    // What comes after its end is not its own.
    cursor.stop();
    append(&journal, 1).unwrap();
    assert_eq!(cursor.behind(), Duration::ZERO);
}

#[test]
fn retiring_drops_the_backlog_once_and_the_books_stay() {
    let journal = journal(100, 4);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    append(&journal, 6).unwrap();
    deliver(&cursor, count(&cursor.read(4, usize::MAX)) - 1);
    let books = cursor.retire(DropReason::Shutdown);
    assert_eq!((books.dropped.shutdown, books.delivered, books.backlog), (3, 3, 0));
    append(&journal, 6).unwrap();
    deliver(&cursor, 1);
    assert_eq!((cursor.books(), cursor.retire(DropReason::Removed)), (books, books));
    assert!(books.balance());
    journal.close();
    assert_eq!(append(&journal, 1), Err(Refused::Closed));
}

/// A cursor by its definition: every record by its number, and where it stands.
#[derive(Default)]
struct Model {
    unread: Vec<u64>,
    in_hand: u64,
}

#[derive(Clone, Debug)]
enum Act {
    Append(u64, u64),
    Seal,
    Read(usize, usize),
    Settle(usize, u64, u8),
    Retire(usize),
    Add(bool),
    Active(usize, bool),
    Stop(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..9_u64, 0..9_u64).prop_map(|(events, operations)| Act::Append(events, operations)),
        3 => Just(Act::Seal),
        4 => (0..8_usize, 1..20_usize).prop_map(|(at, most)| Act::Read(at, most)),
        4 => (0..8_usize, 0..9_u64, any::<u8>()).prop_map(|(at, rows, fate)| Act::Settle(at, rows, fate)),
        1 => (0..8_usize).prop_map(Act::Retire),
        2 => any::<bool>().prop_map(Act::Add),
        1 => (0..8_usize, any::<bool>()).prop_map(|(at, active)| Act::Active(at, active)),
        1 => (0..8_usize).prop_map(Act::Stop),
    ]
}

proptest! {
    #[test]
    fn books_close_whatever_happens(acts in prop::collection::vec(act(), 1..120)) {
        let journal = journal(24, 5);
        let mut cursors: Vec<(Cursor, Model)> = Vec::new();
        let mut appended = 0;
        for act in acts {
            let at = |at: usize| at.checked_rem(cursors.len());
            match act {
                Act::Append(events, operations) => {
                    let mut batch = batch(events, operations);
                    let before = batch.clone();
                    match journal.append(&mut batch) {
                        Ok(()) => appended += events + operations,
                        Err(_) => prop_assert_eq!(batch, before),
                    }
                }
                Act::Seal => { journal.seal(); }
                Act::Read(cursor, most) => if let Some(at) = at(cursor) {
                    let (cursor, model) = &mut cursors[at];
                    for segment in cursor.read(most, usize::MAX) {
                        let first = segment.batch.first();
                        let behind = first + segment.batch.events().len() as u64;
                        model.unread.extend(segment.events.clone().map(|row| first + u64::from(row)));
                        model.unread.extend(segment.operations.clone().map(|row| behind + u64::from(row)));
                        model.in_hand += (segment.events.len() + segment.operations.len()) as u64;
                    }
                    prop_assert!(model.unread.windows(2).all(|pair| pair[0] < pair[1]), "once and in order");
                },
                Act::Settle(cursor, rows, fate) => if let Some(at) = at(cursor) {
                    let (cursor, model) = &mut cursors[at];
                    let rows = rows.min(model.in_hand);
                    model.in_hand -= rows;
                    let mut settled = Settled::default();
                    match fate % 3 {
                        0 => settled.filtered = rows,
                        1 => settled.delivered = rows,
                        _ => settled.dead_lettered = rows,
                    }
                    cursor.settle(settled);
                    if model.in_hand == 0 {
                        cursor.acknowledge();
                    }
                },
                Act::Retire(cursor) => if let Some(at) = at(cursor) {
                    let books = cursors.remove(at).0.retire(DropReason::Removed);
                    prop_assert!(books.balance() && books.backlog == 0);
                },
                Act::Add(block) if cursors.len() < 6 => {
                    let (start, overflow) =
                        if block { (Start::Oldest, Overflow::Block) } else { (Start::Newest, Overflow::DropOldest) };
                    cursors.push((journal.cursor("c".into(), start, overflow), Model::default()));
                }
                Act::Add(_) => {}
                Act::Active(cursor, active) => if let Some(at) = at(cursor) {
                    cursors[at].0.set_active(active);
                },
                Act::Stop(cursor) => if let Some(at) = at(cursor) {
                    cursors[at].0.stop();
                },
            }
            prop_assert_eq!(journal.held().accepted, appended);
            for (cursor, model) in &cursors {
                let books = cursor.books();
                prop_assert!(books.balance(), "{:?}", books);
                prop_assert!(books.backlog >= model.in_hand);
            }
        }
        journal.seal();
        for (cursor, mut model) in cursors {
            let rest = count(&cursor.read(1_000, usize::MAX));
            model.in_hand += rest;
            prop_assert_eq!(cursor.books().backlog, model.in_hand, "everything can be read");
            deliver(&cursor, model.in_hand);
            prop_assert_eq!(cursor.retire(DropReason::Shutdown).dropped.shutdown, 0);
        }
        prop_assert_eq!(journal.held().records, 0);
        prop_assert_eq!(journal.held().bytes, 0);
    }
}

/// A journal of which a publisher is pressed when it is some more than 100 events behind.
fn pressed_at_a_hundred() -> Journal {
    let max_bytes = 150 * Record::bytes(&event(0)) * PRESSING_PART;
    let settings = JournalSettings { max_bytes, batch_records: 10, ..JournalSettings::default() };
    Journal::new(settings, Box::new(|_| {}))
}

async fn waits(journal: &Journal) -> Duration {
    let began = Instant::now();
    journal.unpressed(Duration::from_secs(2)).await;
    began.elapsed()
}

/// Delivers what there is, 100 records in a tenth of a second.
async fn work(cursor: &Cursor) {
    loop {
        let read = count(&cursor.read(100, usize::MAX));
        if read == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        deliver(cursor, read);
        cursor.acknowledge();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_appends_waits_a_moment_for_a_publisher_that_keeps_up() {
    let journal = pressed_at_a_hundred();
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    append(&journal, 300).unwrap();
    let (waited, ()) = tokio::join!(waits(&journal), work(&cursor));
    assert_eq!(waited, Duration::from_millis(200), "it is trusted for a first call");
    assert_eq!(waits(&journal).await, Duration::ZERO, "it is not behind");
    append(&journal, 300).unwrap();
    let (waited, ()) = tokio::join!(waits(&journal), work(&cursor));
    assert_eq!(waited, Duration::from_millis(200), "until it is within some more than a hundred");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_publisher_that_is_down_or_slow_or_has_stopped() {
    let journal = pressed_at_a_hundred();
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::DropOldest);
    append(&journal, 300).unwrap();
    work(&cursor).await;
    append(&journal, 300).unwrap();
    cursor.set_active(false);
    assert_eq!(waits(&journal).await, Duration::ZERO, "it is down");
    cursor.set_active(true);
    assert_eq!(waits(&journal).await, Duration::from_secs(2), "it is trusted for a while");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(waits(&journal).await, Duration::ZERO, "it has stopped");
    for _ in 0..30 {
        count(&cursor.read(1, usize::MAX));
        deliver(&cursor, 1);
        cursor.acknowledge();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(waits(&journal).await, Duration::ZERO, "it is slow");
}

#[tokio::test(start_paused = true)]
async fn whoever_appends_waits_for_one_that_must_not_lose_and_not_for_ever() {
    let journal = journal(100, 10);
    let cursor = journal.cursor("a".into(), Start::Newest, Overflow::Block);
    append(&journal, 100).unwrap();
    assert_eq!(waits(&journal).await, Duration::from_secs(2));
    let (waited, ()) = tokio::join!(waits(&journal), work(&cursor));
    assert_eq!(waited, Duration::from_millis(100));
    append(&journal, 100).unwrap();
    let (waited, ()) = tokio::join!(waits(&journal), async { journal.close() });
    assert_eq!(waited, Duration::ZERO, "the host is closing");
}
