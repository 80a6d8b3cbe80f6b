//! Refusals that concern one index, or the size of a request: the other rows go on.

use super::script::{Reply, Script, item, items_reply};
use super::{again, count, event, events, held, on_bulk, publisher_to, rejected, status};
use crate::publisher::{PublishError, Publisher};
use crate::record::{EventBatch, EventMetrics, Rows, Timestamp};
use serde_json::Value;

const LATE: &str = "p-event-2026.11.23";

/// Some records of a past day, and some of today.
fn mixed() -> EventBatch {
    let today = |number| EventMetrics { start_time: Timestamp::now(), end_time: None, ..event(number) };
    Rows::detached(vec![event(0), today(1), event(2), today(3)])
}

/// A server on which an index refuses everything.
fn refusing(index: &'static str, refusal: Value) -> Script {
    Script::start(on_bulk(move |asked, kept| {
        let answer = |document: (String, String, Value)| match document.0.starts_with(index) {
            true => refusal.clone(),
            false => kept.create(document),
        };
        Some(items_reply(asked.items().into_iter().map(answer).collect()))
    }))
}

#[tokio::test]
async fn an_index_that_refuses_holds_only_its_own_records() {
    for refusal in [
        item(403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/8/index write (api)];"),
        item(429, "cluster_block_exception", "index [x] blocked by: [TOO_MANY_REQUESTS/12/flood];"),
        item(400, "index_closed_exception", "closed"),
        item(404, "index_not_found_exception", "no such index [x] and [action.auto_create_index] is [false]"),
        item(403, "security_exception", "unauthorized on indices [x]"),
        item(503, "unavailable_shards_exception", "primary shard is not active"),
    ] {
        let server = refusing(LATE, refusal);
        let mut publisher = publisher_to(&server, "index_prefix = 'p'");
        let unpublished = publisher.publish_event_metrics(&mixed()).await.unwrap();
        let waits: Vec<_> = held(&unpublished).iter().map(|(row, on, _)| (*row, *on)).collect();
        assert_eq!(
            (waits.as_slice(), unpublished.len()),
            (&[(0, LATE), (2, LATE)][..], 2),
            "{unpublished:?}"
        );
        let waiting = count(&publisher, "held") + count(&publisher, "retried");
        assert_eq!((count(&publisher, "accepted"), waiting), (2, 2));
        // Nor where nothing else is in the call.
        let unpublished = publisher.publish_event_metrics(&events(2)).await.unwrap();
        assert_eq!(held(&unpublished).len(), 2, "{unpublished:?}");
    }
}

#[tokio::test]
async fn late_records_go_where_the_setting_says() {
    let closed = || item(400, "index_closed_exception", "closed");
    let server = refusing(LATE, closed());
    let mut publisher = publisher_to(&server, "index_prefix = 'p'\nlate = 'dead_letter'");
    let unpublished = publisher.publish_event_metrics(&mixed()).await.unwrap();
    let rows: Vec<u32> = rejected(&unpublished).iter().map(|(row, _)| *row).collect();
    assert_eq!((rows, unpublished.len()), (vec![0, 2], 2));
    assert!(rejected(&unpublished)[0].1.contains(LATE), "{unpublished:?}");

    let server = refusing(LATE, closed());
    let mut publisher = publisher_to(&server, "index_prefix = 'p'\nlate = 'today'");
    assert_eq!(publisher.publish_event_metrics(&mixed()).await, Ok(vec![]));
    let indices =
        server.look(|kept| kept.documents.keys().map(|(index, _)| index.clone()).collect::<Vec<_>>());
    assert_eq!(indices.len(), 4);
    assert!(indices.iter().all(|index| index.starts_with("p-event-") && index != LATE), "{indices:?}");

    // What today's index refuses waits, whatever is set.
    for late in ["hold", "dead_letter", "today"] {
        let server = refusing("p-event-", closed());
        let mut publisher = publisher_to(&server, &format!("index_prefix = 'p'\nlate = '{late}'"));
        let today = EventMetrics { start_time: Timestamp::now(), end_time: None, ..event(0) };
        let rows = Rows::detached(vec![today, event(1)]);
        let unpublished = publisher.publish_event_metrics(&rows).await.unwrap();
        let (held, rejected) = (held(&unpublished), rejected(&unpublished));
        assert_eq!(
            (held[0].0, held.len(), rejected.len()),
            match late {
                "dead_letter" => (0, 1, 1),
                _ => (0, 2, 0),
            },
            "{late}: {unpublished:?}"
        );
    }
}

#[tokio::test]
async fn a_413_for_everything_is_a_hold_and_no_record_is_at_fault() {
    let server = Script::start(on_bulk(|_, _| Some(Reply::error(413, "x", "I am a proxy"))));
    let mut publisher = publisher_to(&server, "bulk_bytes = '1MiB'");
    for rows in [1_000, 3_000] {
        let before = server.bulks();
        let error = publisher.publish_event_metrics(&events(rows)).await.unwrap_err();
        assert!(
            matches!(&error, PublishError::Hold { reason } if reason.contains("I am a proxy")),
            "{error:?}"
        );
        assert!(server.bulks() - before < 60, "{} requests", server.bulks() - before);
        assert_eq!(count(&publisher, "bulk_bytes"), 1 << 20, "that was no limit");
    }
    // A few alone wait.
    let unpublished = publisher.publish_event_metrics(&events(2)).await.unwrap();
    assert_eq!(held(&unpublished).len(), 2, "{unpublished:?}");
    assert_eq!((count(&publisher, "rejected"), count(&publisher, "held")), (0, 4_002));
    assert_eq!(count(&publisher, "bulk_bytes"), 1 << 20);
}

#[tokio::test]
async fn a_record_that_is_too_large_alone_is_at_fault_only_if_it_is_large() {
    let server = Script::start(on_bulk(|asked, _| {
        (asked.body.len() > 20_000).then(|| Reply::error(413, "x", "too large"))
    }));
    let mut publisher = publisher_to(&server, "bulk_bytes = '1MiB'");
    let rows = (0..100).map(|number| {
        let error = match number {
            7 => Some("x".repeat(30_000).into()),
            8 => Some("x".repeat(70_000).into()),
            _ => None,
        };
        EventMetrics { error, ..event(number) }
    });
    let unpublished = publisher.publish_event_metrics(&Rows::detached(rows.collect())).await.unwrap();
    assert_eq!(count(&publisher, "accepted"), 98);
    assert_eq!(held(&unpublished).iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [7], "{unpublished:?}");
    assert_eq!(rejected(&unpublished).iter().map(|(row, _)| *row).collect::<Vec<_>>(), [8]);
    assert!(again(&unpublished).is_empty());
}

#[tokio::test]
async fn credentials_that_a_server_echoes_are_in_no_answer_and_no_report() {
    for (auth, parts) in [
        (
            "username = 'elastic'\npassword = 'correct-horse'",
            ["correct-horse", "Y29ycmVjdC1ob3", "ZWxhc3RpYzp"],
        ),
        ("api_key_id = 'id-7'\napi_key = 'correct-horse'", ["correct-horse", "NvcnJlY3QtaG9yc2", "aWQtNzpj"]),
        ("api_key = 'aWQtNzpjb3JyZWN0LWhvcnNl'", ["correct-horse", "NvcnJlY3QtaG9yc2", "aWQtNzpj"]),
        ("bearer_token = 'correct-horse-token'", ["correct-horse", "correct", "horse"]),
    ] {
        // Where what is told ends, within a secret: for a request, and for a record.
        for (before, whole) in [(0, true), (495, true), (480, true), (0, false), (495, false), (480, false)] {
            let server = Script::start(on_bulk(move |asked, _| {
                let echo = format!("{}{}", "x".repeat(before), asked.headers["authorization"]);
                Some(match whole {
                    true => Reply::error(401, "security_exception", &echo),
                    false => items_reply(asked.items().iter().map(|_| item(422, "x", &echo)).collect()),
                })
            }));
            let mut publisher = publisher_to(&server, auth);
            let answer = publisher.publish_event_metrics(&events(1)).await;
            let told = format!("{answer:?}{}", status(&publisher));
            assert!(parts.iter().all(|part| !told.contains(part)), "{auth}: {told}");
        }
    }
}
