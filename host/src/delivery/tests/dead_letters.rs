//! What happens to refused rows: the file that works, that fails, that hangs, that is moved away.

use super::*;

/// Batches of `rows` rows, all refused.
fn refuses_all(calls: usize) -> impl Iterator<Item = Answer> {
    (0..calls).map(|_| Answer::Give(Err(PublishError::reject("bad"))))
}

/// Dead letters at a path whose directory is a file, until the file is removed.
fn blocked() -> (tempfile::TempDir, Arc<DeadLetters>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("blocked"), "a file where a folder should be").unwrap();
    let letters = Arc::new(DeadLetters::new(dir.path().join("blocked/letters.jsonl")));
    (dir, letters)
}

fn unblock(bench: &Bench) {
    std::fs::remove_file(bench.dir.path().join("blocked")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn rejects_that_cannot_be_written_wait_on_their_own_and_the_rest_goes_on() {
    let (dir, letters) = blocked();
    let answers = [Answer::Give(Ok(vec![row(0, reject("bad"))]))];
    let bench = Bench::with_letters(config(), answers, dir, letters);
    bench.record(&["1", "2"]);
    bench.until(|books| books.delivered == 1).await;
    for number in 3..100 {
        bench.record(&[&number.to_string()]);
    }
    let books = bench.until(|books| books.delivered == 98).await;
    assert_eq!((books.accepted, books.dead_lettered, books.backlog), (99, 0, 1));
    let status = bench.delivery.status();
    assert_eq!((status.state, status.refused_waiting), (State::Running, 1));
    let trouble = bench.letters.trouble().unwrap();
    assert!(trouble.reason.contains("blocked"), "{trouble:?}");
    assert_eq!(bench.journal.held().records, 0, "the journal does not wait for them");

    unblock(&bench);
    assert_eq!(bench.settled().await.dead_lettered, 1);
    bench.until(|_| bench.letters.trouble().is_none()).await;
    assert_eq!((bench.letters().len(), bench.delivery.status().refused_waiting), (1, 0));
    assert_eq!(bench.script.lock().delivered.len(), 98);
}

#[tokio::test(start_paused = true)]
async fn at_their_bound_the_publisher_waits_says_why_and_goes_on_by_itself() {
    let (dir, letters) = blocked();
    let bench = Bench::with_letters(config(), refuses_all(30), dir, letters);
    let names: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..30 {
        bench.record(&names);
    }
    bench.until(|_| bench.delivery.status().state == State::Held).await;
    let status = bench.delivery.status();
    assert!((10_000..12_000).contains(&status.refused_waiting), "{status:?}");
    assert_eq!((status.books.backlog, status.books.dead_lettered), (30_000, 0));
    let reason = status.reason.unwrap();
    assert!(reason.starts_with("dead letters cannot be written to "), "{reason}");
    let calls = bench.calls().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(bench.calls().len(), calls, "it is not asked while it waits");

    unblock(&bench);
    assert_eq!(bench.settled().await.dead_lettered, 30_000);
    assert_eq!(bench.delivery.status().state, State::Running);
    assert_eq!(bench.letters().len(), 30_000);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_letters_until_its_deadline_and_then_books_them_as_dropped() {
    let (dir, letters) = blocked();
    let bench = Bench::with_letters(config(), refuses_all(1), dir, letters);
    bench.record(&["1", "2"]);
    bench.until(|_| bench.delivery.status().refused_waiting == 2).await;
    let began = Instant::now();
    let books = bench.delivery.drain(began + Duration::from_secs(5), DropReason::Removed).await;
    assert!(began.elapsed() < Duration::from_secs(6));
    assert_eq!((books.dead_lettered, books.dropped.removed, books.backlog), (0, 2, 0));
    assert!(books.balance());
    // They were dropped: they must not be written later as well.
    unblock(&bench);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bench.letters().is_empty());
    assert_eq!(bench.letters.trouble(), None, "nothing waits any more");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_last_letter_is_written() {
    let (dir, letters) = blocked();
    let bench = Bench::with_letters(config(), refuses_all(1), dir, letters);
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().refused_waiting == 1).await;
    let began = Instant::now();
    let drain = bench.delivery.drain(began + Duration::from_secs(3_600), DropReason::Shutdown);
    let later = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        unblock(&bench);
    };
    let (books, ()) = tokio::join!(drain, later);
    assert_eq!((books.dead_lettered, books.dropped.total()), (1, 0));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_pipe_and_a_full_disk_are_said_and_hold_up_nothing_else() {
    for (path, why) in [("pipe", "neither a file nor a device"), ("/dev/full", "No space left")] {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
        assert!(made.success());
        let letters = Arc::new(DeadLetters::new(dir.path().join(path)));
        let bench = Bench::with_letters(config(), refuses_all(1), dir, letters);
        bench.record(&["1"]);
        bench.until(|_| bench.delivery.status().refused_waiting == 1).await;
        bench.record(&["2"]);
        bench.until(|books| books.delivered == 1).await;
        bench.until(|_| bench.letters.trouble().is_some_and(|trouble| trouble.reason.contains(why))).await;
        let books = bench.delivery.drain(Instant::now(), DropReason::Shutdown).await;
        assert_eq!((books.delivered, books.dropped.shutdown, books.dead_lettered), (1, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_line_goes_to_the_file_that_is_under_the_path_now() {
    let bench = Bench::new(config(), refuses_all(4));
    let path = bench.letters.path().to_owned();
    let moved = path.with_file_name("moved");
    let text = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    bench.record(&["first"]);
    bench.settled().await;
    // As logrotate's `create` leaves it; and its `compress`, which removes what was moved.
    std::fs::rename(&path, &moved).unwrap();
    std::fs::write(&path, "").unwrap();
    bench.record(&["second"]);
    bench.settled().await;
    assert!(text(&moved).contains("first") && !text(&moved).contains("second"));
    assert!(text(&path).contains("second") && text(&path).lines().count() == 1);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    bench.record(&["third"]);
    bench.settled().await;
    assert!(text(&path).contains("third") && text(&path).lines().count() == 1);
    // As `copytruncate` does it.
    std::fs::write(&path, "").unwrap();
    bench.record(&["fourth"]);
    assert_eq!(bench.settled().await.dead_lettered, 4);
    assert!(text(&path).contains("fourth") && text(&path).lines().count() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_another_host_writes_is_left_to_it() {
    let bench = Bench::new(config(), refuses_all(1));
    let path = bench.letters.path().to_owned();
    let other = std::fs::File::create(&path).unwrap();
    other.try_lock().unwrap();
    bench.record(&["1"]);
    let locked = |trouble: DeadLettersTrouble| trouble.reason.contains("has locked it");
    bench.until(|_| bench.letters.trouble().is_some_and(locked)).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    drop(other);
    assert_eq!(bench.settled().await.dead_lettered, 1);
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn refused_records_are_for_the_owner_of_the_file_alone() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(config(), refuses_all(1));
    bench.record(&["1"]);
    bench.settled().await;
    assert_eq!(std::fs::metadata(bench.letters.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn a_torn_line_of_ours_is_cut_and_a_file_that_is_not_ours_is_not() {
    let bench = Bench::new(config(), refuses_all(3));
    let path = bench.letters.path().to_owned();
    bench.record(&["1"]);
    bench.settled().await;
    let whole = std::fs::read_to_string(&path).unwrap();
    // Another file, so that it is opened anew.
    let again = |text: &str| {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, text).unwrap();
    };
    again(&format!("{whole}{{\"time\":\"to"));
    bench.record(&["2"]);
    bench.settled().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&whole) && text.lines().count() == 2, "{text}");
    again("it was a dark and");
    bench.record(&["3"]);
    bench.until(|_| bench.letters.trouble().is_some_and(|trouble| trouble.reason.contains("no JSON"))).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "it was a dark and");
}

#[tokio::test(start_paused = true)]
async fn hostile_text_reaches_the_file_as_json_that_steers_no_terminal() {
    let hostile = "\u{1b}]0;x\u{7}\n\u{9b}2J\u{202e}\u{2028}";
    let bench = Bench::new(config(), [Answer::Give(Err(PublishError::reject(hostile)))]);
    bench.record(&[hostile]);
    bench.settled().await;
    let text = std::fs::read_to_string(bench.letters.path()).unwrap();
    assert!(text.trim_end().chars().all(|c| (' '..='~').contains(&c)), "{text:?}");
    assert_eq!(bench.letters()[0]["reason"], hostile);
    assert_eq!(bench.letters()[0]["record"]["event_name"], hostile);
}
