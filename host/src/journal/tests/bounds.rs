//! The journal's bound in bytes, views included, and room that is reserved.

use super::*;

#[test]
fn what_is_held_is_within_the_bound_whatever_views_are_asked_for() {
    for overflow in [Overflow::DropOldest, Overflow::Block] {
        let max_bytes = 1 << 20;
        let settings = JournalSettings { max_bytes, batch_records: 64, ..JournalSettings::default() };
        let journal = Journal::new(settings, Box::new(|_| {}));
        let [fast, slow] =
            ["fast", "slow"].map(|label| journal.cursor(label.into(), Start::Newest, overflow));
        let mut refused = 0;
        for _ in 0..200 {
            refused += u32::from(append(&journal, 64).is_err());
            assert!(journal.held().bytes <= max_bytes, "{:?}", journal.held());
            for segment in fast.read(1_000, usize::MAX) {
                let rows = Rows::<EventMetrics>::all(&segment.batch);
                for format in [Format::JsonLines, Format::JsonColumns, Format::OtlpProtobuf] {
                    assert!(!rows.encode(format).is_empty());
                    assert!(journal.held().bytes <= max_bytes, "{:?}", journal.held());
                }
                deliver(&fast, segment.events.len() as u64);
            }
            fast.acknowledge();
        }
        assert!(journal.held().bytes > max_bytes / 2);
        assert_eq!(
            (refused > 0, slow.books().dropped.total() > 0),
            match overflow {
                Overflow::Block => (true, false),
                Overflow::DropOldest => (false, true),
            }
        );
    }
}

#[test]
fn in_a_full_journal_publishers_still_share_views() {
    let settings = JournalSettings { max_bytes: 1 << 20, batch_records: 64, ..JournalSettings::default() };
    let journal = Journal::new(settings, Box::new(|_| {}));
    let dead = journal.cursor("dead".into(), Start::Newest, Overflow::DropOldest);
    dead.set_active(false);
    let cursors = ["a", "b"].map(|label| journal.cursor(label.into(), Start::Newest, Overflow::DropOldest));
    for _ in 0..200 {
        append(&journal, 64).unwrap();
        let views = cursors.each_ref().map(|cursor| {
            let read = cursor.read(1_000, usize::MAX);
            deliver(cursor, count(&read));
            Rows::<EventMetrics>::all(&read[0].batch).encode(Format::JsonLines)
        });
        assert_eq!(views[0].as_ptr(), views[1].as_ptr());
        cursors.iter().for_each(Cursor::acknowledge);
    }
    assert!(dead.books().dropped.overflow > 0);
}

#[test]
fn what_is_reserved_is_had_and_nothing_else_gets_it() {
    let journal = journal(10, 4);
    let block = journal.cursor("block".into(), Start::Newest, Overflow::Block);
    append(&journal, 4).unwrap();
    let reserved = journal.reserve(5, 1_000).unwrap();
    assert!(append(&journal, 2).is_err() && journal.reserve(2, 0).is_err());
    assert_eq!(journal.would_take(), Ok(()));
    append(&journal, 1).unwrap();
    assert!(journal.would_take().is_err());
    reserved.append(&mut batch(5, 0)).unwrap();
    assert!(append(&journal, 1).is_err());
    assert_eq!((journal.held().records, block.books().backlog), (10, 10));
    deliver(&block, count(&block.read(100, usize::MAX)));
    block.acknowledge();
    // What is not used is given back.
    drop(journal.reserve(8, 1_000).unwrap());
    append(&journal, 8).unwrap();
    let reserved = journal.reserve(1, 0).unwrap();
    journal.close();
    let mut late = batch(1, 0);
    assert_eq!(reserved.append(&mut late), Err(Refused::Closed));
    journal.append_last(&mut late);
    assert_eq!((late.len(), block.books().accepted, block.books().dropped.total()), (0, 19, 0));
}
