//! What a publisher keeps to that leaves out rows, refuses batches, takes its time or cannot flush.

use super::*;

/// What one keeps to that can leave out rows and refuse batches.
pub(in crate::host::tests) async fn outcomes_hold(make: impl Fn(Behaviour, &Path) -> Subject) {
    a_rejected_row_is_set_aside_and_the_others_arrive(&|dir: &Path| make(Behaviour::RejectRow, dir)).await;
    for behaviour in [Behaviour::RetryRow, Behaviour::RetryFirst] {
        what_may_work_later_arrives_once(&|dir: &Path| make(behaviour, dir)).await;
    }
    what_is_on_hold_waits_for_a_successor(&make).await;
    a_rejected_batch_is_set_aside_whole(&|dir: &Path| make(Behaviour::RejectAll, dir)).await;
    a_shutdown_waits_for_a_slow_answer(&|dir: &Path| make(Behaviour::Slow, dir)).await;
    a_shutdown_that_cannot_wait_drops_what_was_under_way(&|dir: &Path| make(Behaviour::Slow, dir)).await;
}

/// What one keeps to that holds something back, which its flush cannot always hand on.
pub(in crate::host::tests) async fn flush_errors_hold(make: impl Fn(Behaviour, &Path) -> Subject) {
    a_flush_that_fails_is_told_and_costs_nothing(&|dir: &Path| make(Behaviour::FlushError, dir)).await;
}

async fn a_rejected_row_is_set_aside_and_the_others_arrive(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[40, 7, 100]);
    let status = bench.settled().await;
    let set_aside = bench.set_aside();
    assert_eq!(status.books.dead_lettered, set_aside.len() as u64);
    assert_eq!(status.attempts, set_aside.len() as u64, "one of each call");
    assert_eq!(status.books.delivered + status.books.dead_lettered, bench.recorded);
    bench.has_arrived(bench.recorded, &set_aside).await;
}

async fn what_may_work_later_arrives_once(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[40, 7, 100]);
    let status = bench.settled().await;
    assert_eq!(status.books.delivered, bench.recorded);
    assert!(status.failed_attempts >= 3, "{status:?}");
    bench.everything_has_arrived().await;
}

async fn what_is_on_hold_waits_for_a_successor(make: &impl Fn(Behaviour, &Path) -> Subject) {
    let mut bench = Bench::new(&|dir: &Path| make(Behaviour::Hold, dir)).await;
    bench.record(&[40]);
    let status = bench.until(|status| status.state == State::Held).await;
    assert_eq!((status.books.delivered, status.books.backlog), (0, 40));
    bench.has_arrived(0, &BTreeSet::new()).await;
    // One that is mended takes over what the other could not publish.
    bench.subject = make(Behaviour::Publish, bench.dir.path());
    bench.replace(&plan(&bench.subject.factory, bench.dir.path())).await;
    let status = bench.settled().await;
    assert_eq!((status.state, status.books.delivered), (State::Running, 40));
    bench.everything_has_arrived().await;
}

async fn a_rejected_batch_is_set_aside_whole(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[40, 7]);
    let status = bench.settled().await;
    assert_eq!((status.books.delivered, status.books.dead_lettered), (0, 47));
    assert_eq!(bench.set_aside(), (0..47).map(id).collect());
    assert_eq!(status.attempts, status.failed_attempts);
    bench.has_arrived(0, &BTreeSet::new()).await;
}

async fn a_shutdown_waits_for_a_slow_answer(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[2 * ROWS_PER_CALL as u64]);
    // Once the first answer is there the next one is under way.
    bench.until(|status| status.books.delivered > 0).await;
    let books = bench.drain(Instant::now() + PATIENCE).await;
    assert_eq!((books.delivered, books.dropped.total()), (bench.recorded, 0));
    bench.everything_has_arrived().await;
}

async fn a_shutdown_that_cannot_wait_drops_what_was_under_way(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[4 * ROWS_PER_CALL as u64]);
    bench.until(|status| status.books.delivered > 0).await;
    let books = bench.drain(Instant::now() + SLOW / 4).await;
    // An answer that comes at that moment may be one more.
    assert!(books.dropped.shutdown >= ROWS_PER_CALL as u64, "{books:?}");
    assert_eq!(books.delivered + books.dropped.shutdown, bench.recorded);
    bench.subject.so_many_have_arrived(books.delivered, ROWS_PER_CALL);
}

async fn a_flush_that_fails_is_told_and_costs_nothing(make: &impl Fn(&Path) -> Subject) {
    let mut bench = Bench::new(make).await;
    bench.record(&[40, 7, 100]);
    bench.until(|status| status.last_error.is_some()).await;
    let status = bench.settled().await;
    assert!(status.last_error.unwrap().starts_with("could not flush: "));
    assert_eq!((status.books.delivered, status.failed_attempts), (bench.recorded, 0));
    let books = bench.drain(Instant::now() + PATIENCE).await;
    assert_eq!(books.dropped.total(), 0);
    bench.everything_has_arrived().await;
}
