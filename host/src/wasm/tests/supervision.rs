//! Whose fault is it: the record's, the plugin's, or that of neither?

use super::{EventBatch, EventMetrics, HOST, Subject, WasmConfig, event, events, guests, operations};
use crate::publisher::{Context, Fate, PublishError, PublishResult, Unpublished};
use std::time::Duration;

/// Events of these numbers, of which instances that are to die of poison die where `is_poison`.
fn mixed(numbers: impl IntoIterator<Item = u32>, is_poison: impl Fn(u32) -> bool) -> EventBatch {
    let event = |number| match is_poison(number) {
        true => EventMetrics { event_name: "poison".into(), ..event(number) },
        false => event(number),
    };
    EventBatch::detached(numbers.into_iter().map(event).collect())
}

async fn publish(plugin: &mut Subject, batch: &EventBatch) -> PublishResult {
    plugin.publisher.publish_event_metrics(batch).await
}

/// The rows of an answer that are rejected, and nothing else may be in it.
fn rejected(answer: PublishResult) -> Vec<u32> {
    let mut rows: Vec<u32> = answer
        .unwrap()
        .into_iter()
        .map(|Unpublished { row, fate }| match fate {
            Fate::Reject { reason } => {
                let begin = "plugin subject: dies of this record: trapped: wasm `unreachable`";
                assert!(reason.starts_with(begin), "{reason}");
                row
            }
            fate => panic!("{row}: {fate:?}"),
        })
        .collect();
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn the_records_that_kill_become_dead_letters_and_the_others_are_published() {
    for instances in [1, 3] {
        let section = format!("config = {{ do = 'trap-poison' }}\nlimits = {{ instances = {instances} }}");
        let mut plugin = Subject::hostile(&section).await.unwrap();
        for poison in [vec![0], vec![99], vec![3, 50, 51], (20..40).collect(), vec![]] {
            let batch = mixed(0..100, |number| poison.contains(&number));
            let before = plugin.count("traps");
            assert_eq!(rejected(publish(&mut plugin, &batch).await), poison);
            // Halving a hundred takes eight calls, and one more where the last was not an instance's first; and one may
            // have been there before.
            let most = 9 * poison.len() as u64 + instances;
            assert!(plugin.count("traps") - before <= most, "{most}");
        }
        assert_eq!(plugin.count("poisoned_records"), 25);
        assert_eq!((plugin.count("strikes"), &plugin.status()["state"]), (0, &"running".into()));
    }
}

#[tokio::test]
async fn one_that_is_alone_waits_for_a_record_beside_it() {
    let mut plugin = Subject::hostile("config = { do = 'trap-poison' }").await.unwrap();
    let alone = mixed([7], |_| true);
    let first = publish(&mut plugin, &alone).await.unwrap_err().to_string();
    assert!(first.contains("trapped"), "{first}");
    assert_eq!((plugin.count("strikes"), plugin.count("traps")), (1, 1));
    let standing = plugin.publisher.standing();
    assert_eq!((standing.undecided, standing.quarantined), (1, false));
    for _ in 0..3 {
        // The wait for the next instance, which is over before long, and then that for company.
        let outcome = loop {
            match publish(&mut plugin, &alone).await.unwrap_err() {
                PublishError::Retry { reason, after: Some(after) } if reason.contains("next instance") => {
                    tokio::time::sleep(after).await;
                }
                error => break error,
            }
        };
        let PublishError::Retry { reason, after: Some(after) } = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("waits for one beside it") && after > Duration::from_secs(30), "{reason}");
    }
    assert_eq!(
        (plugin.count("strikes"), plugin.count("traps")),
        (1, 1),
        "it is not tried alone again and again"
    );
    // Another kind of record proves nothing of the function that publishes this kind.
    assert_eq!(plugin.publisher.publish_network_metrics(&operations(3)).await, Ok(vec![]));
    assert_eq!(plugin.publisher.standing().undecided, 1);
    let together = mixed([7, 8], |number| number == 7);
    assert_eq!(rejected(publish(&mut plugin, &together).await), [0]);
    assert_eq!((plugin.count("strikes"), plugin.count("poisoned_records")), (0, 1));
    assert_eq!(plugin.publisher.standing().undecided, 0);
}

#[tokio::test]
async fn a_plugin_that_always_dies_sets_nothing_aside_and_is_quarantined() {
    for rows in [2, 40, 500] {
        let mut plugin = Subject::hostile("config = { do = 'trap' }").await.unwrap();
        let batch = events(rows);
        let mut strikes = 0;
        let reason = loop {
            match publish(&mut plugin, &batch).await.unwrap_err() {
                PublishError::Retry { reason, after } if reason.contains("waits for its next") => {
                    assert_eq!(plugin.status()["state"], "backing-off");
                    tokio::time::sleep(after.unwrap()).await;
                }
                PublishError::Retry { after: Some(_), .. } => {
                    strikes += 1;
                    assert_eq!(
                        plugin.count("strikes"),
                        strikes,
                        "a strike for each batch, however often it dies"
                    );
                }
                PublishError::Hold { reason } => break reason,
                error => panic!("{error:?}"),
            }
        };
        assert_eq!(strikes, 4, "the fifth is too many");
        let begin = "plugin subject: quarantined after 5 instances in a row that published nothing: trapped";
        assert!(
            reason.starts_with(begin) && reason.ends_with("`pressroom plugin reset subject`"),
            "{reason}"
        );
        assert_eq!(plugin.status()["state"], "quarantined");
        assert!(plugin.publisher.standing().quarantined);
        let calls = plugin.count("calls");
        assert!(calls <= 5 * 65, "{calls}");
        assert_eq!(publish(&mut plugin, &batch).await, Err(PublishError::Hold { reason }));
        assert_eq!((plugin.count("calls"), plugin.count("poisoned_records")), (calls, 0), "it is left alone");
        assert!(plugin.publisher.reset());
        assert_eq!((plugin.status()["state"].clone(), plugin.count("strikes")), ("running".into(), 0));
        assert!(matches!(publish(&mut plugin, &batch).await, Err(PublishError::Retry { .. })));
        assert!(plugin.count("calls") > calls, "and asked again");
    }
}

#[tokio::test]
async fn a_plugin_that_cannot_flush_is_quarantined_although_it_publishes() {
    let mut plugin =
        Subject::hostile("config = { do = 'trap-flush' }\nlimits = { strikes = 3 }").await.unwrap();
    let mut deaths = 0;
    let reason = loop {
        plugin.publish_when_due().await.unwrap();
        deaths += 1;
        match plugin.publisher.flush().await.unwrap_err() {
            PublishError::Retry { .. } => assert_eq!(plugin.count("strikes"), deaths),
            error => break error.to_string(),
        }
    };
    assert_eq!(deaths, 3);
    assert!(
        reason.contains("quarantined after 3 instances in a row that could not flush: trapped"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_slow_server_is_no_fault_of_the_plugin_nor_of_a_record() {
    let slow = "config = { do = 'sleep', ms = 3600000 }\nlimits = { call_timeout = '500ms', cpu_per_call = '5m', strikes = 2 }";
    let mut plugin = Subject::hostile(slow).await.unwrap();
    for late in 1..=4 {
        let PublishError::Retry { after, .. } = publish(&mut plugin, &events(8)).await.unwrap_err() else {
            panic!("not to be tried again");
        };
        assert_eq!(after, None, "delivery's own backoff is for slow servers");
        assert_eq!((plugin.count("timeouts"), plugin.count("calls")), (late, late), "nothing is halved");
    }
    assert_eq!((plugin.count("strikes"), plugin.count("traps")), (0, 0));
    assert_eq!(plugin.publisher.standing().undecided, 0);
}

#[tokio::test]
async fn a_search_that_takes_too_long_goes_on_in_the_next_call() {
    // There is time for one attempt in each call.
    let mut config: WasmConfig = toml::from_str("config = { do = 'trap-poison' }").unwrap();
    config.limits.attempt = Duration::from_millis(1);
    let build = HOST.0.factory(config, guests::plugin("hostile"));
    let mut plugin = Subject { publisher: build(Context::detached("subject", "")).await.unwrap() };
    let poison = [5, 6, 30];
    let mut left: Vec<u32> = (0..64).collect();
    let (mut published, mut dead) = (Vec::new(), Vec::new());
    let mut calls = 0;
    while !left.is_empty() {
        calls += 1;
        let answer =
            publish(&mut plugin, &mixed(left.iter().copied(), |number| poison.contains(&number))).await;
        let mut kept = Vec::new();
        match answer {
            Ok(left_out) => {
                let mut fates: std::collections::BTreeMap<u32, Fate> =
                    left_out.into_iter().map(|entry| (entry.row, entry.fate)).collect();
                for (row, number) in (0..).zip(&left) {
                    match fates.remove(&row) {
                        None => published.push(*number),
                        Some(Fate::Reject { .. }) => dead.push(*number),
                        Some(Fate::Retry { .. } | Fate::Wait { .. }) => kept.push(*number),
                    }
                }
                assert_eq!(plugin.publisher.standing().unfinished, !kept.is_empty());
            }
            Err(PublishError::Retry { after, .. }) => {
                // Before anything is published it may still be the plugin.
                tokio::time::sleep(after.unwrap_or_default()).await;
                kept = left;
            }
            error => panic!("{error:?}"),
        }
        left = kept;
    }
    published.sort_unstable();
    dead.sort_unstable();
    assert_eq!(dead, poison);
    assert_eq!(published, (0..64).filter(|number| !poison.contains(number)).collect::<Vec<_>>());
    assert!(calls > 10, "{calls}");
    assert_eq!(&plugin.status()["state"], "running");
}

#[tokio::test]
async fn instances_share_a_batch_and_one_that_dies_costs_its_own_share() {
    let section = "config = { do = 'reject-row', row = 1 }\nlimits = { instances = 4 }";
    let mut plugin = Subject::hostile(section).await.unwrap();
    let rows: Vec<u32> =
        publish(&mut plugin, &events(10)).await.unwrap().iter().map(|entry| entry.row).collect();
    assert_eq!((plugin.count("instances"), plugin.count("calls")), (4, 4));
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    // Shares of three: the second row of each, by its number in the batch. The last share is one row.
    assert_eq!(sorted, [1, 4, 7]);
    // Fewer rows than instances.
    assert_eq!(publish(&mut plugin, &events(1)).await, Ok(vec![]));
    assert_eq!(plugin.count("calls"), 5);
    let section = "config = { do = 'retry-all' }\nlimits = { instances = 4 }";
    let mut plugin = Subject::hostile(section).await.unwrap();
    assert_eq!(publish(&mut plugin, &events(10)).await, Err(PublishError::retry("not now")));
    plugin.publisher.flush().await.unwrap();
    drop(plugin);

    // All of them at once are given up with the call.
    let section = "config = { do = 'sleep', ms = 3600000 }\nlimits = { instances = 4 }";
    let mut plugin = Subject::hostile(section).await.unwrap();
    let batch = events(8);
    let given_up = tokio::time::timeout(Duration::from_secs(3), publish(&mut plugin, &batch)).await;
    assert!(given_up.is_err());
    while plugin.count("instances") > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(plugin.count("strikes"), 0);
}

#[tokio::test]
async fn what_is_lost_before_it_was_flushed_is_said_to_be() {
    let section = "acknowledge = 'flush'\nconfig = { do = 'trap-nth', n = 3 }";
    let mut plugin = Subject::hostile(section).await.unwrap();
    assert!(plugin.publisher.standing().at_flush);
    for _ in 0..2 {
        assert_eq!(publish(&mut plugin, &events(3)).await, Ok(vec![]));
    }
    assert_eq!(plugin.publisher.standing().lost, 0);
    assert_eq!(
        publish(&mut plugin, &events(3)).await,
        Ok(vec![]),
        "this one is published, on another instance"
    );
    assert_eq!(plugin.publisher.standing().lost, 1, "and the two before are lost");
    plugin.says("rows=3 events=3");
    // What has been flushed is not lost with its instance.
    let mut plugin = Subject::hostile(section).await.unwrap();
    for _ in 0..9 {
        assert_eq!(publish(&mut plugin, &events(3)).await, Ok(vec![]));
        plugin.publisher.flush().await.unwrap();
    }
    assert!(plugin.count("traps") > 0);
    assert_eq!(plugin.publisher.standing().lost, 0);
}

#[tokio::test]
async fn a_record_that_kills_at_the_flush_is_found_by_flushing_part_by_part() {
    let section = "acknowledge = 'flush'\nconfig = { do = 'flush-poison' }";
    let mut plugin = Subject::hostile(section).await.unwrap();
    let batch = mixed(0..20, |number| number == 11);
    assert_eq!(publish(&mut plugin, &batch).await, Ok(vec![]));
    let PublishError::Retry { after: Some(after), .. } = plugin.publisher.flush().await.unwrap_err() else {
        panic!("not to be tried again");
    };
    assert_eq!(plugin.publisher.standing().lost, 1);
    tokio::time::sleep(after).await;
    assert_eq!(rejected(publish(&mut plugin, &batch).await), [11]);
    assert_eq!(plugin.publisher.standing().lost, 1, "all else is flushed");
    plugin.publisher.flush().await.unwrap();
    assert_eq!((plugin.count("strikes"), plugin.count("poisoned_records")), (0, 1));
}

#[tokio::test]
async fn one_that_is_to_make_way_asks_for_a_flush_first() {
    let section = "acknowledge = 'flush'\nconfig = { do = 'grow' }\nlimits = { memory = '16MiB' }";
    let mut plugin = Subject::hostile(section).await.unwrap();
    let mut flushes = 0;
    for _ in 0..60 {
        assert_eq!(publish(&mut plugin, &events(3)).await, Ok(vec![]));
        if plugin.publisher.standing().flush_due {
            plugin.publisher.flush().await.unwrap();
            flushes += 1;
        }
    }
    assert!(flushes >= 3, "{flushes}");
    assert_eq!((plugin.count("instances_retired"), plugin.count("traps")), (flushes, 0));
    assert_eq!(plugin.publisher.standing().lost, 0);
}
