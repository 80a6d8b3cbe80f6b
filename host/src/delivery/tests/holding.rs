//! A publisher that holds back what it has answered for, and one whose answers are not all there is to say.

use super::*;

/// One that delivers when it is flushed, and is flushed every so often.
fn holding(flush_interval: Duration, answers: impl IntoIterator<Item = Answer>) -> Bench {
    let bench = Bench::new(DeliveryConfig { flush_interval, ..config() }, answers);
    bench.script.lock().standing.at_flush = true;
    bench
}

fn operation(name: &str) -> NetworkMetrics {
    let mut operation =
        NetworkMetrics::started(Uuid::nil(), "t", name, "a.local", 443, Timestamp::from_nanos(1));
    operation.end_time = Some(Timestamp::from_nanos(1_000_000_001));
    operation
}

const NEVER: Duration = Duration::from_secs(1 << 30);
const NOW_AND_THEN: Duration = Duration::from_secs(1_000);

impl Bench {
    /// Waits until `names` are what was published so far, in that order.
    async fn until_published(&self, names: &[&str]) -> Books {
        self.until(|_| self.script.lock().delivered == names).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_is_delivered_when_it_is_flushed() {
    let bench = holding(NOW_AND_THEN, [retry(), Answer::Give(Ok(vec![row(0, reject("bad"))]))]);
    bench.record(&["1", "2"]);
    let books = bench.until_published(&["2"]).await;
    bench.record(&["3"]);
    assert_eq!(books.delivered, 0);
    let books = bench.until_published(&["2", "3"]).await;
    assert_eq!((books.delivered, books.dead_lettered, books.backlog), (0, 1, 2));
    assert_eq!(bench.delivery.status().state, State::Running);
    assert_eq!(bench.settled().await.delivered, 2);
    assert_eq!(bench.script.lock().flushed, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_before_it_is_flushed_comes_again_and_what_was_answered_since_does_not() {
    let bench = holding(NOW_AND_THEN, []);
    bench.record(&["1"]);
    bench.until_published(&["1"]).await;
    bench.script.lock().standing.lost = 1;
    bench.record(&["2"]);
    let books = bench.until_published(&["1", "2", "1"]).await;
    assert_eq!((books.delivered, books.backlog), (1, 1), "what is left was flushed before the next call");
    assert_eq!(bench.settled().await.delivered, 2);
    assert_eq!(bench.calls(), [["1"], ["2"], ["1"]]);
}

#[tokio::test(start_paused = true)]
async fn what_a_flush_rejects_is_set_aside_and_what_it_cannot_hand_on_holds_up_the_rest() {
    let bench = holding(NOW_AND_THEN, []);
    let answers = [Err(PublishError::retry("away")), Err(PublishError::hold("mend me")), Ok(())];
    bench.script.lock().flushes.extend(answers);
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Retrying).await;
    assert_eq!(bench.delivery.status().reason.as_deref(), Some("away"));
    bench.record(&["2"]);
    bench.until(|_| bench.delivery.status().state == State::Held).await;
    assert_eq!(bench.calls(), [["1"]], "more would only be held back as well");
    bench.until(|books| books.delivered == 1).await;
    assert_eq!(bench.delivery.status().state, State::Running);
    bench.script.lock().flushes.push_back(Err(PublishError::reject("too old")));
    let books = bench.settled().await;
    assert_eq!((books.delivered, books.dead_lettered), (1, 1));
    assert_eq!((&bench.letters()[0]["reason"], bench.letters().len()), (&"too old".into(), 1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_flushed_for_long_enough_is_set_aside() {
    let mut config = config();
    (config.flush_interval, config.retry.max_age) = (NOW_AND_THEN, Duration::from_secs(3_600));
    let bench = Bench::new(config, []);
    bench.script.lock().standing.at_flush = true;
    bench.script.lock().flushes.extend((0..10_000).map(|_| Err(PublishError::retry("away"))));
    bench.record(&["1"]);
    assert_eq!(bench.settled().await.dead_lettered, 1);
    assert_eq!(bench.letters()[0]["reason"], "not flushed within 1h: away");
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_asked_for_when_much_is_held_back_or_the_publisher_wants_it() {
    let mut config = config();
    config.batch.max_records = 2;
    let bench = Bench::new(config, []);
    bench.script.lock().standing.at_flush = true;
    for number in 0..20 {
        bench.record(&[&number.to_string()]);
    }
    let books = bench.until(|books| books.delivered > 0).await;
    assert_eq!(books.delivered, 16, "eight batches");
    bench.until(|_| bench.script.lock().delivered.len() == 20).await;
    assert_eq!(bench.delivery.status().books.delivered, 16);
    bench.script.lock().standing.flush_due = true;
    bench.record(&["20"]);
    assert_eq!(bench.settled().await.delivered, 21);
}

#[tokio::test(start_paused = true)]
async fn a_drain_flushes_until_all_is_delivered_or_the_time_is_up() {
    for (answers, delivered) in [(2, 2), (100, 0)] {
        let bench = holding(NEVER, []);
        bench.script.lock().flushes.extend((0..answers).map(|_| Err(PublishError::retry("away"))));
        bench.record(&["1", "2"]);
        bench.until_published(&["1", "2"]).await;
        let books =
            bench.delivery.drain(Instant::now() + Duration::from_secs(60), DropReason::Shutdown).await;
        assert_eq!((books.delivered, books.dropped.shutdown), (delivered, 2 - delivered));
        assert!(books.balance());
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_that_goes_could_not_flush_its_successor_is_handed() {
    let bench = holding(NEVER, []);
    bench.record(&["1", "2"]);
    bench.until_published(&["1", "2"]).await;
    bench.script.lock().flushes.push_back(Err(PublishError::retry("away")));
    let new = Shared::default();
    let publisher = Scripted { script: new.clone(), open: Ok(()) };
    bench.delivery.replace(Box::new(publisher), plan(&new, config())).await.unwrap();
    assert_eq!(bench.settled().await.delivered, 2);
    assert_eq!(new.lock().delivered, ["1", "2"]);
    // What was flushed is not.
    let newer = Shared::default();
    let publisher = Scripted { script: newer.clone(), open: Ok(()) };
    bench.delivery.replace(Box::new(publisher), plan(&newer, config())).await.unwrap();
    assert_eq!(newer.lock().delivered, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_panic_loses_what_was_held_back_and_so_does_a_file_that_goes() {
    let bench = holding(NEVER, [Answer::Give(Ok(Vec::new())), Answer::Panic]);
    bench.record(&["1"]);
    bench.until_published(&["1"]).await;
    bench.record(&["2"]);
    bench.until_published(&["1", "1", "2"]).await;
    bench.script.lock().flushes.push_back(Err(PublishError::retry("away")));
    bench.delivery.suspend(Absent::Waiting("its file has gone".into())).await;
    let publisher = Scripted { script: bench.script.clone(), open: Ok(()) };
    bench.delivery.replace(Box::new(publisher), bench.plan.clone()).await.unwrap();
    bench.until_published(&["1", "1", "2", "1", "2"]).await;
    bench.delivery.drain(Instant::now() + Duration::from_secs(60), DropReason::Removed).await;
    assert_eq!(bench.delivery.status().books.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_flush_loses_what_was_held_back() {
    let bench = holding(NOW_AND_THEN, []);
    bench.record(&["1"]);
    bench.until_published(&["1"]).await;
    bench.script.lock().flush_panics = true;
    let books = bench.until_published(&["1", "1"]).await;
    assert_eq!(books.delivered, 0);
    assert_eq!(bench.settled().await.delivered, 1);
    assert_eq!(bench.script.lock().delivered, ["1", "1"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_is_as_old_as_that_whatever_its_flush_waited_for() {
    let mut config = config();
    (config.flush_interval, config.retry.max_age) = (NOW_AND_THEN, Duration::from_secs(3_600));
    let bench = Bench::new(config, [Answer::Give(Ok(Vec::new())), retry()]);
    bench.script.lock().standing.at_flush = true;
    bench.script.lock().flushes.extend((0..100_000).map(|_| Err(PublishError::hold("mend me"))));
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Held).await;
    tokio::time::sleep(Duration::from_secs(30 * 3_600)).await;
    bench.script.lock().flushes.clear();
    bench.script.lock().standing.lost = 1;
    let books = bench.settled().await;
    assert_eq!((books.delivered, books.dead_lettered), (1, 0), "{:?}", bench.letters());
    assert_eq!(bench.calls(), [["1"], ["1"], ["1"]]);
}

#[tokio::test(start_paused = true)]
async fn what_can_only_be_judged_beside_others_is_handed_over_with_them() {
    let alone = PublishError::Retry { reason: "alone".into(), after: Some(Duration::from_secs(3_000)) };
    let bench = Bench::new(config(), [Answer::Give(Err(alone))]);
    bench.script.lock().standing.undecided = 1;
    bench.record(&["1"]);
    bench.until(|_| bench.delivery.status().state == State::Retrying).await;
    let began = Instant::now();
    bench.record(&["2"]);
    assert_eq!(bench.settled().await.delivered, 2);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(bench.calls(), [vec!["1"], vec!["1", "2"]]);
    // Where something else is left as well, that comes first.
    let bench = Bench::new(config(), [retry()]);
    bench.script.lock().standing.undecided = 1;
    bench.record(&["1", "2"]);
    bench.until(|_| bench.delivery.status().state == State::Retrying).await;
    bench.record(&["3"]);
    bench.settled().await;
    assert_eq!(bench.calls(), [vec!["1", "2"], vec!["1", "2"], vec!["3"]]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_finished_goes_on_at_once() {
    let bench = Bench::new(config(), [Answer::Give(Ok(vec![row(1, later())]))]);
    bench.script.lock().standing.unfinished = true;
    bench.record(&["1", "2"]);
    assert_eq!(bench.settled().await.delivered, 2);
    assert_eq!(bench.waits(), [Duration::ZERO]);
}

#[tokio::test(start_paused = true)]
async fn one_in_quarantine_keeps_its_records_until_it_is_reset() {
    let mut config = config();
    config.retry.max_age = Duration::from_secs(60);
    let hold = || Answer::Give(Err(PublishError::hold("it always dies")));
    let bench = Bench::new(config, [hold(), hold(), hold(), hold()]);
    bench.script.lock().standing.quarantined = true;
    bench.record(&["1"]);
    bench.until(|_| bench.script.lock().calls.len() == 4).await;
    let status = bench.delivery.status();
    assert_eq!((status.state, status.reason.as_deref()), (State::Quarantined, Some("it always dies")));
    assert_eq!((status.books.backlog, status.books.dead_lettered), (1, 0), "the time does not count");
    let began = Instant::now();
    assert!(bench.delivery.reset().await);
    assert_eq!(bench.settled().await.delivered, 1);
    assert!(began.elapsed() < Duration::from_secs(1), "at once");
    assert_eq!(bench.delivery.status().state, State::Running);
    assert!(!bench.delivery.reset().await, "there is nothing to forget");
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_flushed_before_a_call_that_may_cost_it_and_only_what_costs_it_is_set_aside() {
    let mut config = config();
    (config.flush_interval, config.retry.max_age) = (NEVER, Duration::from_secs(3_600));
    let bench = Bench::new(config, []);
    {
        let mut script = bench.script.lock();
        script.standing.at_flush = true;
        script.costly = Some(PublishError::retry("it dies of operations"));
    }
    let mut batch: Batch = (0..540).map(|number| event(&number.to_string())).collect();
    batch.operations = vec![operation("put"), operation("get"), operation("list")];
    bench.journal.append(&mut batch).unwrap();
    bench.journal.seal();
    let books = bench.settled().await;
    assert_eq!((books.delivered, books.dead_lettered), (540, 3));
    for letter in bench.letters() {
        assert_eq!(letter["reason"], "not published within 1h: it dies of operations");
    }
    assert_eq!(bench.calls().len(), 2, "lost once, and flushed before the second trial");
    // What comes later is not lost with them either.
    bench.script.lock().costly = None;
    bench.record(&["later"]);
    bench.until(|_| bench.script.lock().delivered.last().is_some_and(|name| name == "later")).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_in_the_last_attempt_does_not_become_a_dead_letter_with_what_is_too_old() {
    let mut config = config();
    (config.flush_interval, config.retry.max_age) = (NEVER, Duration::from_secs(60));
    // The first attempt leaves all of them in hand, the second comes when they are too old.
    let bench = Bench::new(config, [retry()]);
    {
        let mut script = bench.script.lock();
        script.standing.at_flush = true;
        script.costly = Some(PublishError::Retry {
            reason: "it dies of operations".into(),
            after: Some(Duration::from_secs(1_000)),
        });
    }
    let mut batch: Batch = [event("1"), event("2")].into_iter().collect();
    batch.operations = vec![operation("put")];
    bench.journal.append(&mut batch).unwrap();
    bench.journal.seal();
    let books = bench.settled().await;
    assert_eq!((books.delivered, books.dead_lettered), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_reason_is_told_with_the_call_that_gave_it() {
    for empty in ["", " \n", "\u{200b}"] {
        let answers = [PublishError::hold(empty), PublishError::retry(empty), PublishError::reject(empty)];
        let bench = Bench::new(config(), answers.map(|answer| Answer::Give(Err(answer))));
        bench.record(&["1"]);
        for (state, answer) in [(State::Held, "hold"), (State::Retrying, "retry")] {
            bench.until(|_| bench.delivery.status().state == state).await;
            let wanted =
                format!("no reason given: `publish_event_metrics` answered `{answer}` with an empty text");
            assert_eq!(bench.delivery.status().reason, Some(wanted));
        }
        assert_eq!(bench.settled().await.dead_lettered, 1);
        let wanted = "no reason given: `publish_event_metrics` answered `reject` with an empty text";
        assert_eq!(bench.letters()[0]["reason"], wanted);
    }
}
