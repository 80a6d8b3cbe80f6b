//! Which member takes what, and what delivery is told.

use super::*;

fn nothing() -> [Vec<u128>; 3] {
    [vec![], vec![], vec![]]
}

#[tokio::test(start_paused = true)]
async fn the_first_takes_everything_while_it_is_well() {
    let mut bench = Bench::new(Default::default()).await;
    assert_eq!(bench.publish(0..3).await, Ok(vec![]));
    let operations = NetworkBatch::detached(vec![operation(3)]);
    assert_eq!(bench.failover.publish_network_metrics(&operations).await, Ok(vec![]));
    assert_eq!(bench.taken(), [vec![0, 1, 2, 3], vec![], vec![]]);
    assert_eq!(bench.states(), ["active", "standby", "standby"]);
    let status = bench.status();
    assert_eq!(status["active"], "a");
    assert_eq!(status["members"][0]["delivered"], 4);
    assert_eq!(status["members"][0]["attempts"], 2);
    assert_eq!(status["members"][0]["detail"]["taken"], 4);
    assert!(status["members"][1].get("last_delivery").is_none(), "{status:#}");
}

#[tokio::test(start_paused = true)]
async fn its_failures_are_handed_on_as_they_are_until_its_breaker_opens() {
    let advice = PublishError::Retry { reason: "busy".into(), after: Some(Duration::from_secs(7)) };
    let mut bench =
        Bench::new([vec![Act::Answer(Err(advice)), retry("down"), retry("down")], vec![], vec![]]).await;
    let passed_on = PublishError::Retry { reason: "a: busy".into(), after: Some(Duration::from_secs(7)) };
    assert_eq!(bench.publish(0..2).await, Err(passed_on));
    assert_eq!(bench.publish(0..2).await, Err(PublishError::retry("a: down")));
    assert_eq!((bench.taken(), bench.states()[0].as_str()), (nothing(), "active"));
    // The third opens it: the rows go to the next one within the same call, ...
    assert_eq!(bench.publish(0..2).await, Ok(vec![]));
    assert_eq!(bench.states(), ["open", "active", "standby"]);
    // ... and so do all others, without another attempt at the first.
    assert_eq!(bench.publish(2..4).await, Ok(vec![]));
    assert_eq!((bench.taken(), bench.calls()), ([vec![], vec![0, 1, 2, 3], vec![]], [3, 2, 0]));
    let status = bench.status();
    assert_eq!(status["members"][0]["reason"], "down");
    assert_eq!(status["members"][0]["failed_attempts"], 3);
    assert!(status["members"][0]["next_probe"].is_string(), "{status:#}");
}

#[tokio::test(start_paused = true)]
async fn it_returns_to_the_first_when_a_probe_succeeds() {
    let mut bench = Bench::new([vec![hold("mend me"), retry("still down")], vec![], vec![]]).await;
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
    assert_eq!(bench.states(), ["held", "active", "standby"]);
    bench.until_probes().await;
    assert_eq!(bench.publish(1..2).await, Ok(vec![]));
    assert_eq!(
        (bench.states(), bench.calls()),
        (vec!["open".into(), "active".into(), "standby".into()], [2, 2, 0])
    );
    assert_eq!(bench.publish(2..3).await, Ok(vec![]));
    assert_eq!(bench.calls(), [2, 3, 0], "one probe, not two");
    bench.until_probes().await;
    assert_eq!(bench.publish(3..4).await, Ok(vec![]));
    assert_eq!(bench.publish(4..5).await, Ok(vec![]));
    assert_eq!(bench.taken(), [vec![3, 4], vec![0, 1, 2], vec![]]);
    assert_eq!(bench.states(), ["active", "standby", "standby"]);
    assert!(bench.status()["members"][0].get("reason").is_none());
    assert_eq!(bench.status()["members"][0]["last_error"], "still down");
}

#[tokio::test(start_paused = true)]
async fn only_the_rows_not_yet_taken_move_on_and_keep_their_numbers() {
    // Of 0..8 the first takes 0, 2, 4, 6 and rejects 7; of 1, 3, 5 the second takes 1 and rejects 3; 5 is the third's.
    let first = rows([later(1), later(3), later(5), never(7)]);
    let second = rows([never(1), later(2)]);
    let mut bench = Bench::new([vec![hold("x"), first], vec![hold("y"), second], vec![]]).await;
    assert_eq!(bench.publish(100..101).await, Ok(vec![]));
    bench.until_probes().await;
    // Both are probed, and remain open: rows that are left over are a failed attempt.
    let mut left_out = bench.publish(0..8).await.unwrap();
    left_out.sort_by_key(|left_out| left_out.row);
    assert_eq!(left_out, [says("b", never(3)), says("a", never(7))]);
    assert_eq!(bench.taken(), [vec![0, 2, 4, 6], vec![1], vec![100, 5]]);
    assert_eq!(bench.states(), ["open", "open", "active"]);
    let status = bench.status();
    let of = |key: &str| [0, 1, 2].map(|at| status["members"][at][key].as_u64().unwrap());
    assert_eq!((of("delivered"), of("rejected")), ([4, 1, 2], [1, 1, 0]));
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_left_over_are_the_members_own_while_its_breaker_is_closed() {
    let mut bench = Bench::new([vec![rows([later(1), never(0)])], vec![], vec![]]).await;
    assert_eq!(bench.publish(0..3).await, Ok(vec![says("a", never(0)), says("a", later(1))]));
    assert_eq!(bench.taken(), [vec![2], vec![], vec![]]);
    // Three times in a row, and the fourth goes elsewhere.
    let again = || rows([later(0)]);
    let mut bench = Bench::new([vec![again(), again(), again()], vec![], vec![]]).await;
    assert_eq!(bench.publish(0..2).await, Ok(vec![says("a", later(0))]));
    assert_eq!(bench.publish(0..1).await, Ok(vec![says("a", later(0))]));
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
    assert_eq!(bench.taken(), [vec![1], vec![0], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn a_reject_never_fails_over() {
    let reject = || Act::Answer(Err(PublishError::reject("no such index")));
    let mut bench = Bench::new([(0..9).map(|_| reject()).collect(), vec![], vec![]]).await;
    for _ in 0..9 {
        assert_eq!(bench.publish(0..2).await, Err(PublishError::reject("a: no such index")));
    }
    assert_eq!((bench.taken(), bench.calls()), (nothing(), [9, 0, 0]));
    assert_eq!(bench.states()[0], "active", "it has answered");
    assert_eq!(bench.status()["members"][0]["rejected"], 18);
    // Not of what was left over by another, either.
    let mut bench =
        Bench::new([vec![hold("x"), rows([later(0), later(2)])], vec![rows([]), reject()], vec![]]).await;
    bench.publish(100..101).await.unwrap();
    bench.until_probes().await;
    let rejected = |row| Unpublished { row, fate: Fate::Reject { reason: "b: no such index".into() } };
    assert_eq!(bench.publish(0..3).await, Ok(vec![rejected(0), rejected(2)]));
    assert_eq!(bench.taken(), [vec![1], vec![100], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_costs_its_own_deadline_and_another_takes_the_rows() {
    let mut bench = Bench::new([vec![Act::Hang, Act::Hang, Act::Hang], vec![], vec![]]).await;
    let no_answer = Err(PublishError::retry("a: no answer within 4s"));
    assert_eq!(bench.publish(0..1).await, no_answer);
    assert_eq!(bench.publish(0..1).await, no_answer);
    let began = Instant::now();
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
    assert_eq!(began.elapsed(), TIMEOUT);
    let began = Instant::now();
    assert_eq!(bench.publish(1..2).await, Ok(vec![]));
    assert_eq!((began.elapsed(), bench.taken()), (Duration::ZERO, [vec![], vec![0, 1], vec![]]));
    let call = Failover::call_timeout(&plans(&bench.scripts));
    assert!(call > 3 * TIMEOUT, "a call has time for every member: {call:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_that_member_only_and_it_is_built_again() {
    let mut bench = Bench::new([vec![Act::Panic, Act::Panic, rows([])], vec![], vec![]]).await;
    for _ in 0..2 {
        let error = bench.publish(0..1).await.unwrap_err();
        assert_eq!(error, PublishError::retry("a: the publisher panicked: as the script says"));
    }
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
    assert_eq!(bench.taken(), [vec![0], vec![], vec![]]);
    assert_eq!(bench.scripts[0].lock().opened, ["nothing"; 3], "at the start, and after each panic");
    assert_eq!(bench.status()["members"][0]["detail"]["taken"], 1);
    // One that cannot be built again is out at once.
    bench.scripts[0].lock().acts.push_back(Act::Panic);
    bench.publish(1..2).await.unwrap_err();
    bench.scripts[0].lock().unbuildable = Some("no more");
    assert_eq!(bench.publish(1..2).await, Ok(vec![]));
    assert_eq!(bench.states(), ["held", "active", "standby"]);
    assert_eq!(bench.status()["members"][0]["reason"], "could not be built again: no more");
    bench.scripts[0].lock().unbuildable = None;
    bench.until_probes().await;
    assert_eq!(bench.publish(2..3).await, Ok(vec![]));
    assert_eq!(bench.taken(), [vec![0, 2], vec![1], vec![]]);
}

#[tokio::test(start_paused = true)]
async fn where_all_are_out_delivery_is_told_when_the_next_probe_is_due() {
    let down = |reason| vec![hold(reason), retry(reason)];
    let mut bench = Bench::new([down("no a"), down("no b"), down("no c")]).await;
    let held = PublishError::hold("no member takes records: a: no a; b: no b; c: no c");
    assert_eq!(bench.publish(0..1).await, Err(held.clone()));
    assert_eq!(bench.states(), ["held", "held", "held"]);
    // The other kind follows at once, and is not another attempt.
    let operations = NetworkBatch::detached(vec![operation(3)]);
    assert_eq!(bench.failover.publish_network_metrics(&operations).await, Err(held));
    assert_eq!(bench.calls(), [1, 1, 1]);
    bench.until_probes().await;
    let Err(PublishError::Retry { reason, after: Some(after) }) = bench.publish(0..1).await else { panic!() };
    assert_eq!(reason, "no member takes records: a: no a; b: no b; c: no c");
    assert!(after >= SETTINGS.max / 2 && after <= SETTINGS.max, "{after:?}");
    assert_eq!(bench.calls(), [2, 2, 2]);
    tokio::time::sleep(after).await;
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn who_asks_although_nobody_is_due_gets_one_more_try() {
    let mut bench = Bench::new([vec![hold("x")], vec![hold("y")], vec![hold("z")]]).await;
    bench.publish(0..1).await.unwrap_err();
    bench.publish(0..1).await.unwrap_err();
    assert_eq!(bench.calls(), [1, 1, 1], "they have a rest first");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
    assert_eq!(bench.calls().iter().sum::<usize>(), 4, "one of them");
    assert_eq!(bench.taken().concat(), [0]);
}

#[tokio::test(start_paused = true)]
async fn what_some_have_taken_and_nobody_takes_the_rest_of_is_handed_back_row_by_row() {
    let mut bench = Bench::new([
        vec![hold("x"), rows([later(1), never(2)])],
        vec![hold("y"), hold("y")],
        vec![rows([]), hold("z")],
    ])
    .await;
    bench.publish(100..101).await.unwrap();
    bench.until_probes().await;
    let left_out = bench.publish(0..3).await.unwrap();
    assert_eq!(left_out[0], says("a", never(2)));
    let [_, Unpublished { row: 1, fate: Fate::Retry { reason, after: Some(_) } }] = &left_out[..] else {
        panic!("{left_out:?}")
    };
    assert_eq!(reason, "no member takes records: a: later; b: y; c: z");
    assert_eq!(bench.taken(), [vec![0], vec![], vec![100]]);
}

#[tokio::test(start_paused = true)]
async fn lies_about_rows_are_counted_and_move_nothing() {
    let lies = rows([later(0), never(0), later(9), never(1)]);
    let mut bench = Bench::new([vec![hold("x"), lies.clone()], vec![], vec![]]).await;
    bench.publish(100..101).await.unwrap();
    bench.until_probes().await;
    let left_out = bench.publish(0..3).await.unwrap();
    let of = |row| left_out.iter().filter(|left_out| left_out.row == row).count();
    assert_eq!((of(0), of(1), of(u32::MAX), left_out.len()), (0, 1, 2, 3), "{left_out:?}");
    assert_eq!(bench.taken(), [vec![2], vec![100, 0], vec![]]);
    assert_eq!(bench.status()["members"][0]["misreported_rows"], 2);
    let mut bench = Bench::new([vec![lies], vec![], vec![]]).await;
    assert_eq!(bench.publish(0..3).await.unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cut_off_counts_as_failed() {
    let mut bench = Bench::new([(0..3).map(|_| Act::Hang).collect(), vec![], vec![]]).await;
    for _ in 0..3 {
        let cut_off = tokio::time::timeout(TIMEOUT / 2, bench.publish(0..1)).await;
        assert!(cut_off.is_err());
    }
    assert_eq!(bench.publish(0..1).await, Ok(vec![]));
    assert_eq!((bench.taken(), bench.states()[0].as_str()), ([vec![], vec![0], vec![]], "open"));
    assert_eq!(bench.status()["members"][0]["reason"], "the attempt was cut off");
}

#[tokio::test(start_paused = true)]
async fn a_flush_reaches_all_members_and_one_that_hangs_does_not_cost_it_again_and_again() {
    let mut bench = Bench::new([(0..3).map(|_| Act::Hang).collect(), vec![], vec![]]).await;
    for flush in 1..=2 {
        bench.failover.flush().await.unwrap();
        assert!(bench.scripts.iter().all(|script| script.lock().flushed == flush));
    }
    for _ in 0..3 {
        let _ = bench.publish(0..1).await;
    }
    assert_eq!(bench.states()[0], "open");
    bench.scripts[0].lock().flushes.extend([Act::Hang, Act::Hang]);
    bench.scripts[1].lock().flushes.push_back(Act::Panic);
    let flush_failed = retry("disk full");
    bench.scripts[2].lock().flushes.push_back(flush_failed);
    let began = Instant::now();
    let error = bench.failover.flush().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "a: could not flush: no answer within 4s; b: could not flush: the publisher panicked: as the script says; \
         c: could not flush: disk full"
    );
    assert_eq!(began.elapsed(), TIMEOUT, "at the same time");
    let began = Instant::now();
    bench.failover.flush().await.unwrap();
    assert_eq!((began.elapsed(), bench.scripts[0].lock().flushed), (Duration::ZERO, 3));
    assert_eq!(bench.states(), ["open", "active", "standby"], "one error of a flush is none of a batch");
    bench.until_probes().await;
    bench.failover.flush().await.unwrap_err();
    assert_eq!(bench.scripts[0].lock().flushed, 4);
    assert_eq!(bench.publish(1..2).await, Ok(vec![]));
    assert_eq!(bench.calls()[0], 3, "that was the probe");
}

#[tokio::test(start_paused = true)]
async fn secrets_are_not_shown() {
    let script = Shared::default();
    let text = "[publishers.x]\ntype = \"x\"\nurl = \"${TOKEN}\"\n";
    let config = crate::config::Config::read(text, ".", "x", &|_| Some("s3same-open".into())).0;
    let mut plan = member("a", &script);
    plan.context.secrets = config.secrets().clone();
    let mut failover = build(&[plan, member("b", &script)]).await.unwrap();
    failover.open(None).await.unwrap();
    script.lock().acts.extend([hold("no entry with s3same-open"), rows([])]);
    failover.publish_event_metrics(&EventBatch::detached(vec![event(1)])).await.unwrap();
    let shown = failover.status().unwrap()().to_string();
    assert!(shown.contains("no entry with [redacted]") && !shown.contains("s3same-open"), "{shown}");
}
