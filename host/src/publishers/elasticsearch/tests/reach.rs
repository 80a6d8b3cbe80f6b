//! Hosts that do not answer, and a successor that goes on.

use super::super::ElasticsearchPublisher;
use super::script::{Reply, Script};
use super::{count, events, on_bulk, on_nth_bulk, publish_all, publisher, publisher_to, status};
use crate::publisher::{PublishError, Publisher};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn state(publisher: &ElasticsearchPublisher, host: usize) -> Value {
    status(publisher)["hosts"][host]["state"].clone()
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_host_that_is_ill_costs_no_attempt_and_gets_work_again_when_it_is_well() {
    for illness in [Reply::Torn, Reply::error(503, "x", "no master"), Reply::error(502, "x", "bad gateway")] {
        let ill = Arc::new(AtomicBool::new(true));
        let (is_ill, with) = (ill.clone(), illness.clone());
        let first = Script::start(move |_, _| is_ill.load(Ordering::Relaxed).then(|| with.clone()));
        let second = Script::start(|_, _| None);
        let mut publisher = publisher(&[first.url(), second.url()], "");
        for _ in 0..4 {
            assert_eq!(publisher.publish_event_metrics(&events(2)).await, Ok(vec![]), "{illness:?}");
        }
        assert_eq!((state(&publisher, 0), state(&publisher, 1)), (json!("down"), json!("up")));
        assert!(first.bulks() <= 1, "it is left alone");
        ill.store(false, Ordering::Relaxed);
        // It is asked whether it lives after a second at most, by whoever has something to publish.
        while first.bulks() < 2 {
            assert_eq!(publisher.publish_event_metrics(&events(2)).await, Ok(vec![]));
            tokio::task::yield_now().await;
        }
        assert_eq!((state(&publisher, 0), state(&publisher, 1)), (json!("up"), json!("up")));
        let probed =
            first.look(|kept| kept.asked.iter().any(|asked| asked.path.starts_with("/_cluster/health")));
        assert!(probed, "it was asked before it got work");
        assert_eq!(count(&publisher, "retried"), 0);
    }
}

#[tokio::test]
async fn a_host_that_says_nothing_is_left_alone_after_one_call() {
    let silent = Script::start(on_bulk(|_, _| Some(Reply::Silence)));
    let other = Script::start(|_, _| None);
    let mut publisher = publisher(&[silent.url(), other.url()], "");
    publisher.open(None).await.unwrap();
    let rows = events(2);
    while silent.bulks() == 0 {
        let call = publisher.publish_event_metrics(&rows);
        tokio::pin!(call);
        loop {
            tokio::select! {
                _ = &mut call => break,
                () = tokio::task::yield_now() => if silent.bulks() > 0 { break },
            }
        }
    }
    assert_eq!(status(&publisher)["hosts"][0]["reason"], "no answer in time");
    for _ in 0..4 {
        assert_eq!(publisher.publish_event_metrics(&rows).await, Ok(vec![]));
    }
    assert_eq!(silent.bulks(), 1);
}

#[tokio::test]
async fn if_nobody_answers_it_is_a_retry_that_says_why() {
    let mut alone = publisher(&[nowhere()], "");
    // A server that is down does not keep the host from starting.
    alone.open(None).await.unwrap();
    let error = alone.publish_event_metrics(&events(2)).await.unwrap_err();
    let PublishError::Retry { reason, after: None } = error else { panic!("{error:?}") };
    assert!(reason.starts_with("the server does not answer") && reason.contains("refused"), "{reason}");
    assert!(!reason.contains("http://"), "{reason}");

    let server = Script::start(|_, _| Some(Reply::error(503, "x", "no master")));
    let mut both = publisher(&[nowhere(), server.url()], "install_template = false");
    let error = both.publish_event_metrics(&events(2)).await.unwrap_err();
    assert!(matches!(&error, PublishError::Retry { .. }), "{error:?}");
    let reason = error.to_string();
    assert!(reason.contains("none of the 2 hosts") && reason.contains("no master"), "{reason}");
    assert_eq!(count(&both, "retried"), 2);
}

#[tokio::test]
async fn a_host_that_dies_in_the_middle_of_a_call_is_followed_by_the_next() {
    let dying = Script::start(on_nth_bulk(|nth, asked, kept| {
        // It has kept the second request, and does not live to say so.
        (nth >= 2).then(|| {
            kept.answer(asked);
            Reply::Torn
        })
    }));
    let other = Script::start(|_, _| None);
    let hosts = [dying.url(), other.url()];
    let mut publisher = publisher(&hosts, "bulk_bytes = '64KiB'\nin_flight = 2");
    assert_eq!(publish_all(&mut publisher, events(2_000)).await, 1);
    // Here the two are clusters of their own: together they have everything.
    let ids = |server: &Script| {
        server.look(|kept| kept.documents.keys().map(|(_, id)| id.clone()).collect::<Vec<_>>())
    };
    let mut all: Vec<_> = ids(&dying).into_iter().chain(ids(&other)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2_000);
    assert_eq!(count(&publisher, "accepted") + count(&publisher, "duplicates"), 2_000);
}

#[tokio::test]
async fn a_successor_goes_on_with_counts_connections_and_what_is_known() {
    let server = Script::start(|_, _| None);
    let mut before = publisher_to(&server, "");
    before.open(None).await.unwrap();
    assert_eq!(before.publish_event_metrics(&events(3)).await, Ok(vec![]));
    let asked = |server: &Script| server.look(|kept| (kept.asked.len(), kept.connections));
    let (questions, connections) = asked(&server);

    // Another password is no reason for other connections, nor to install templates again.
    let mut after = publisher_to(&server, "username = 'a'\npassword = 'b-is-for-basic'\nbulk_bytes = '2MiB'");
    after.open(Some(&mut before)).await.unwrap();
    assert_eq!(after.publish_event_metrics(&events(5)).await, Ok(vec![]));
    assert_eq!((count(&after, "accepted"), count(&after, "duplicates")), (5, 3));
    assert_eq!(count(&after, "bulk_bytes"), 2 << 20);
    let templates = server.look(|kept| {
        let new = kept.asked.iter().skip(questions);
        new.filter(|asked| asked.path.contains("_index_template")).count()
    });
    assert_eq!((templates, asked(&server).1), (0, connections));

    // Other names are other templates.
    let mut renamed = publisher_to(&server, "index_prefix = 'other'");
    renamed.open(Some(&mut after)).await.unwrap();
    assert!(server.look(|kept| kept.templates.contains_key("other-event")));
}
