//! Rows that wait beside the others, for something that the others do not need.

use super::*;

fn wait_for(on: &str) -> Fate {
    Fate::Wait { on: on.into(), reason: "it is closed".into(), hold: true }
}

fn give(rows: impl IntoIterator<Item = Unpublished>) -> Answer {
    Answer::Give(Ok(rows.into_iter().collect()))
}

const HOLD: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn rows_that_are_held_wait_and_the_others_go_on() {
    let held = |row_number| give([row(row_number, wait_for("index a"))]);
    let bench = Bench::new(config(), [held(0), held(0)]);
    bench.record(&["1", "2"]);
    let books = bench.until(|books| books.delivered == 1).await;
    assert_eq!((books.backlog, books.dead_lettered), (1, 0));
    let status = bench.delivery.status();
    assert_eq!(status.state, State::Held);
    let reason = status.reason.unwrap();
    assert!(reason.contains("1 wait for index a: it is closed"), "{reason}");
    // The next ones are held as well, or not: nobody waits for them.
    bench.record(&["3"]);
    bench.record(&["4", "5"]);
    bench.until(|books| books.delivered == 3).await;
    assert_eq!(bench.script.lock().delivered, ["2", "4", "5"]);
    // One of them is tried, and then the others follow.
    assert_eq!(bench.settled().await.delivered, 5);
    assert_eq!(bench.calls().last().unwrap(), &["3"]);
    let status = bench.delivery.status();
    assert_eq!((status.state, status.backlog_age_seconds), (State::Running, 0.0));
}

#[tokio::test(start_paused = true)]
async fn one_row_of_each_group_is_tried_until_it_is_taken() {
    let answers = [
        give((0..4).map(|number| row(number, wait_for(if number < 3 { "index a" } else { "index b" })))),
        give([row(0, wait_for("index a")), row(1, wait_for("index b"))]),
        give([row(0, wait_for("index a"))]),
    ];
    let bench = Bench::new(config(), answers);
    let began = Instant::now();
    bench.record(&["1", "2", "3", "4"]);
    assert_eq!(bench.settled().await.delivered, 4);
    let calls = [vec!["1", "2", "3", "4"], vec!["1", "4"], vec!["1", "4"], vec!["1"], vec!["2", "3"]];
    assert_eq!(bench.calls(), calls);
    assert!(began.elapsed() >= 3 * HOLD && began.elapsed() < 4 * HOLD, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_held_does_not_age_unless_it_is_told_to() {
    let never = || (0..10_000).map(|_| give([row(0, wait_for("index a"))]));
    let mut config = config();
    config.retry.max_age = Duration::from_secs(60);
    let bench = Bench::new(config.clone(), never());
    bench.record(&["1"]);
    bench.until(|_| bench.script.lock().calls.len() > 100).await;
    assert_eq!(bench.delivery.status().books.backlog, 1);

    config.retry.hold_max_age = Some(Duration::from_secs(600));
    let bench = Bench::new(config.clone(), never());
    let began = Instant::now();
    bench.record(&["1"]);
    assert_eq!(bench.settled().await.dead_lettered, 1);
    assert!(began.elapsed() >= Duration::from_secs(600) && began.elapsed() < Duration::from_secs(700));
    let reason = bench.letters()[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("index a refused for 10m: it is closed"), "{reason}");
    assert_eq!(bench.delivery.status().state, State::Running);

    // What may pass by itself ages as every retry does.
    config.retry.max_age = Duration::from_secs(100);
    let full = || Fate::Wait { on: "index a".into(), reason: "it is full".into(), hold: false };
    let bench = Bench::new(config.clone(), (0..10_000).map(|_| give([row(0, full())])));
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Retrying).await;
    assert_eq!(bench.settled().await.dead_lettered, 1);
    assert!(bench.letters()[0]["reason"].as_str().unwrap().contains("refused for 1m 40s: it is full"));

    // As what holds everything.
    let bench = Bench::new(config, (0..10_000).map(|_| Answer::Give(Err(PublishError::hold("mend me")))));
    bench.record(&["1"]);
    assert_eq!(bench.settled().await.dead_lettered, 1);
    assert!(bench.letters()[0]["reason"].as_str().unwrap().contains("not published within 10m: mend me"));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_is_still_refused_becomes_dead_letters_and_nothing_is_lost() {
    let held = |count: u32| give((0..count).map(|number| row(number, wait_for("index a"))));
    let bench = Bench::new(config(), [held(3), held(1)]);
    bench.record(&["1", "2", "3"]);
    bench.until(|_| bench.delivery.status().state == State::Held).await;
    let began = Instant::now();
    let books = bench.delivery.drain(began + Duration::from_secs(10), DropReason::Shutdown).await;
    assert_eq!((books.dead_lettered, books.dropped.total(), books.balance()), (3, 0, true));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(bench.letters().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_successor_tries_at_once_what_waited() {
    let bench = Bench::new(config(), [give([row(0, wait_for("index a"))])]);
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Held).await;
    let began = Instant::now();
    let publisher = Scripted { script: bench.script.clone(), open: Ok(()) };
    bench.delivery.replace(Box::new(publisher), bench.plan.clone()).await.unwrap();
    assert_eq!(bench.settled().await.delivered, 1);
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// A worker whose journal, and so what may wait, is small.
fn small(answers: impl IntoIterator<Item = Answer>) -> Bench {
    let mut bench = Bench::new(config(), answers);
    let settings = JournalSettings { max_records: 8, batch_records: 1, ..JournalSettings::default() };
    bench.journal = Journal::new(settings, Box::new(|_| {}));
    let publisher = Box::new(Scripted { script: bench.script.clone(), open: Ok(()) });
    let letters = bench.letters.clone();
    bench.delivery = Delivery::start("a".into(), &bench.journal, Ok(publisher), bench.plan.clone(), letters);
    bench
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_becomes_a_dead_letter_where_others_go_on() {
    let held = || give([row(0, wait_for("index a"))]);
    let bench = small([held(), held(), give([]), held(), held()]);
    for (name, wanted) in [("1", 0), ("2", 0), ("3", 1)] {
        bench.record(&[name]);
        let calls = name.parse().unwrap();
        bench.until(|books| books.delivered == wanted && bench.script.lock().calls.len() >= calls).await;
    }
    bench.record(&["4"]);
    let books = bench.until(|books| books.dead_lettered == 1).await;
    assert_eq!((books.delivered, books.backlog), (1, 2), "two wait");
    assert!(bench.letters()[0]["reason"].as_str().unwrap().contains("too many records wait"));
    // They are not lost either.
    bench.until(|books| books.backlog == 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_holds_where_nothing_else_is_published() {
    let held = || give([row(0, wait_for("index a"))]);
    let bench = small([held(), held(), held(), held(), held()]);
    for name in ["1", "2", "3"] {
        bench.record(&[name]);
        let calls = name.parse().unwrap();
        bench.until(|_| bench.script.lock().calls.len() >= calls).await;
    }
    bench.until(|_| bench.delivery.status().state == State::Held).await;
    let books = bench.delivery.status().books;
    assert_eq!((books.backlog, books.dead_lettered), (3, 0));
    assert_eq!(bench.settled().await.delivered, 3);
    assert!(bench.letters().is_empty());
}
