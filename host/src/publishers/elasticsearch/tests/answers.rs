//! What becomes of rows, answer by answer.

use super::script::{Reply, Script, item, items_reply};
use super::{
    again, count, event, events, meeting, on_bulk, on_nth_bulk, publish_all, publisher_to, rejected, status,
};
use crate::publisher::{PublishError, Publisher};
use crate::record::{Rows, Timestamp, Value as Attribute};
use serde_json::{Value, json};
use std::time::Duration;

/// Small requests: every row of `events` is about 330 bytes of a body, and 64 KiB the least that can be configured.
const ROWS: u32 = 1_000;
const SMALL: &str = "bulk_bytes = '64KiB'";

#[tokio::test]
async fn an_answer_that_lies_or_is_torn_loses_nothing_and_doubles_nothing() {
    let created = |count: usize| vec![json!({ "create": { "status": 201 } }); count];
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"items\":[{\"create\":{\"status\":201}},";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n22\r\n{\"items\":[{\"create\":{\"status\":201}}";
    let lies = [
        Reply::Torn,
        Reply::Bytes(half.to_owned()),
        Reply::Bytes(chunked.to_owned()),
        Reply::Bytes("HTTP/1.1 200 OK\r\nconte".to_owned()),
        Reply::Bytes("what?\r\n\r\n".to_owned()),
        items_reply(created(2)),
        items_reply(created(4)),
        items_reply(Vec::new()),
        Reply::Json(200, json!({ "took": 1, "errors": false })),
        Reply::Json(200, json!({ "errors": false, "items": "all of them" })),
        Reply::Json(200, json!("<html>")),
        Reply::Json(200, json!([])),
    ];
    for lie in lies {
        // It may have kept the documents before, or not.
        for keeps in [true, false] {
            let told = lie.clone();
            let server = Script::start(on_nth_bulk(move |nth, asked, kept| {
                if nth > 1 {
                    return None;
                }
                if keeps {
                    kept.answer(asked);
                }
                Some(told.clone())
            }));
            let mut publisher = publisher_to(&server, "");
            let error = publisher.publish_event_metrics(&events(3)).await.unwrap_err();
            assert!(matches!(error, PublishError::Retry { .. }), "{lie:?}: {error:?}");
            assert_eq!((count(&publisher, "accepted"), count(&publisher, "retried")), (0, 3), "{lie:?}");
            assert_eq!(publisher.publish_event_metrics(&events(3)).await, Ok(vec![]));
            let arrived = (count(&publisher, "accepted"), count(&publisher, "duplicates"));
            assert_eq!(arrived, if keeps { (0, 3) } else { (3, 0) }, "{lie:?}");
            assert_eq!(server.look(|kept| kept.documents.len()), 3);
        }
    }
}

#[tokio::test]
async fn a_lie_about_one_request_is_not_one_about_the_others() {
    let server = Script::start(on_nth_bulk(|nth, _, _| (nth == 2).then(|| items_reply(Vec::new()))));
    let mut publisher = publisher_to(&server, &format!("{SMALL}\nin_flight = 1"));
    let unpublished = publisher.publish_event_metrics(&events(ROWS)).await.unwrap();
    let retried = again(&unpublished);
    assert_eq!(retried.len() as u64, count(&publisher, "retried"));
    assert_eq!(count(&publisher, "accepted"), u64::from(ROWS) - retried.len() as u64);
    assert!(retried.windows(2).all(|pair| pair[1] == pair[0] + 1), "the rows of one request");
    assert_eq!(server.look(|kept| kept.documents.len()), ROWS as usize - retried.len());
}

#[tokio::test]
async fn advice_of_the_server_is_handed_on() {
    let later = |status| Reply::With(status, "retry-after", "7".to_owned(), json!({ "error": "not now" }));
    for status in [429, 500, 502, 503, 504] {
        let server = Script::start(on_bulk(move |_, _| Some(later(status))));
        let mut publisher = publisher_to(&server, "");
        let error = publisher.publish_event_metrics(&events(2)).await.unwrap_err();
        let PublishError::Retry { reason, after } = error else { panic!("{status}: {error:?}") };
        assert_eq!(after, Some(Duration::from_secs(7)), "{status}");
        assert!(reason.contains(&status.to_string()) && reason.contains("not now"), "{reason}");
        assert_eq!(count(&publisher, "retried"), 2);
    }
    // For the items that are to come again, and only for these.
    let server = Script::start(on_bulk(|asked, kept| {
        let mut items: Vec<Value> = asked.items().into_iter().map(|document| kept.create(document)).collect();
        items[1] = item(429, "es_rejected_execution_exception", "the queue is full");
        Some(Reply::With(200, "retry-after", "7".to_owned(), json!({ "items": items })))
    }));
    let mut publisher = publisher_to(&server, "");
    let unpublished = publisher.publish_event_metrics(&events(3)).await.unwrap();
    let reason = "429: es_rejected_execution_exception: the queue is full".to_owned();
    let fate = crate::publisher::Fate::Retry { reason, after: Some(Duration::from_secs(7)) };
    assert_eq!(unpublished, [crate::publisher::Unpublished { row: 1, fate }]);
}

#[tokio::test]
async fn every_fate_of_an_item_is_counted_once() {
    let server = Script::start(on_bulk(|asked, kept| {
        let answer = |(at, document)| match at % 7 {
            0..=2 => kept.create(document),
            3 => item(409, "version_conflict_engine_exception", "it is there"),
            4 => item([429, 500, 502, 503, 504][at / 7 % 5], "some_exception", "later"),
            5 => item(400, "mapper_parsing_exception", "failed to parse field [task_id] of type [double]"),
            _ => item(422, "some_exception", "never"),
        };
        Some(items_reply(asked.items().into_iter().enumerate().map(answer).collect()))
    }));
    let mut publisher = publisher_to(&server, "");
    let unpublished = publisher.publish_event_metrics(&events(700)).await.unwrap();
    assert_eq!((again(&unpublished).len(), rejected(&unpublished).len()), (100, 200));
    let rows: Vec<u32> = unpublished.iter().map(|row| row.row).collect();
    assert!(rows.is_sorted(), "{rows:?}");
    let counted = ["accepted", "duplicates", "retried", "rejected", "held", "attributes_as_text"];
    assert_eq!(counted.map(|of| count(&publisher, of)), [300, 100, 100, 200, 0, 0]);
    assert_eq!(count(&publisher, "requests") as usize, server.bulks());
    let (row, reason) = rejected(&unpublished)[0];
    assert!(row % 7 == 5 && reason.ends_with("failed to parse field [task_id] of type [double]"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_taken_as_fields_is_taken_as_text_or_refused_for_good() {
    let server = Script::start(on_bulk(|asked, kept| {
        let answer = |document: (String, String, Value)| match &document.2 {
            fields if fields["attributes"]["bad"] == 1 => item(400, "document_parsing_exception", "[1:2] no"),
            text if text["attributes_json"] == "{\"bad\":1,\"worse\":1}" => item(400, "x", "not this either"),
            _ => kept.create(document),
        };
        Some(items_reply(asked.items().into_iter().map(answer).collect()))
    }));
    let mut publisher = publisher_to(&server, "");
    let mut rows: Vec<_> = (0..5).map(event).collect();
    rows[1].attributes = [("bad", Attribute::from(1))].into_iter().collect();
    rows[3].attributes = [("bad", Attribute::from(1)), ("worse", 1.into())].into_iter().collect();
    let unpublished = publisher.publish_event_metrics(&Rows::detached(rows)).await.unwrap();
    assert_eq!(rejected(&unpublished), [(3, "400: x: not this either")]);
    assert_eq!((count(&publisher, "accepted"), count(&publisher, "attributes_as_text")), (4, 1));
    let ids = server
        .look(|kept| kept.documents.values().map(|it| it["attributes_json"].clone()).collect::<Vec<_>>());
    assert_eq!(ids, [Value::Null, "{\"bad\":1}".into(), Value::Null, Value::Null]);
}

#[tokio::test]
async fn requests_are_under_way_at_once_and_the_outcome_is_in_order() {
    let met = meeting();
    let other = met.clone();
    // The first is answered only when there is a second one, which so is answered first.
    let server = Script::start(on_nth_bulk(move |nth, asked, kept| match nth {
        1 => {
            let mut items: Vec<Value> =
                asked.items().into_iter().map(|document| kept.create(document)).collect();
            items[0] = item(429, "x", "later");
            Some(Reply::When(met.clone(), Box::new(items_reply(items))))
        }
        2 => {
            other.notify_one();
            let items = asked.items().into_iter().map(|_| item(429, "x", "later")).collect();
            Some(items_reply(items))
        }
        _ => None,
    }));
    let mut publisher = publisher_to(&server, &format!("{SMALL}\nin_flight = 2"));
    let unpublished = publisher.publish_event_metrics(&events(ROWS)).await.unwrap();
    let rows = again(&unpublished);
    assert!(rows.is_sorted() && rows[0] == 0, "{rows:?}");
    assert_eq!(count(&publisher, "accepted") + rows.len() as u64, u64::from(ROWS));
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_half_known() {
    for in_flight in [1, 3] {
        // Every third request is kept, and not answered, until nobody waits any more.
        let server = Script::start(on_nth_bulk(|nth, asked, kept| {
            (nth <= 3).then(|| {
                kept.answer(asked);
                if nth == 3 { Reply::Silence } else { items_reply(Vec::new()) }
            })
        }));
        let mut publisher = publisher_to(&server, &format!("{SMALL}\nin_flight = {in_flight}"));
        let rows = events(ROWS);
        let given_up = {
            let call = publisher.publish_event_metrics(&rows);
            tokio::pin!(call);
            loop {
                tokio::select! {
                    done = &mut call => break done.is_ok(),
                    () = tokio::task::yield_now() => if server.bulks() >= 3 { break false },
                }
            }
        };
        assert!(!given_up);
        assert_eq!(count(&publisher, "accepted"), 0, "nobody was told");
        publish_all(&mut publisher, rows).await;
        assert_eq!(server.look(|kept| kept.documents.len()), ROWS as usize);
        let arrived = count(&publisher, "accepted") + count(&publisher, "duplicates");
        assert_eq!(arrived, u64::from(ROWS));
        assert!(count(&publisher, "duplicates") > 0);
    }
}

#[tokio::test]
async fn a_row_that_spoils_its_request_is_found_and_refused_alone() {
    let spoilt = |asked: &super::Asked| asked.body.contains("0000-000000000155\"");
    let server = Script::start(on_bulk(move |asked, _| {
        spoilt(asked).then(|| Reply::error(400, "parse_exception", "cannot read this"))
    }));
    let mut publisher = publisher_to(&server, "");
    let unpublished = publisher.publish_event_metrics(&events(ROWS)).await.unwrap();
    let refused = rejected(&unpublished);
    assert_eq!((refused.len(), refused[0].0), (1, 0x155));
    assert!(refused[0].1.contains("cannot read this"), "{refused:?}");
    assert_eq!(count(&publisher, "accepted"), u64::from(ROWS) - 1);
}

#[tokio::test]
async fn a_server_that_refuses_every_request_is_a_hold_and_no_record_is_at_fault() {
    for rows in [1, 2, ROWS] {
        let server =
            Script::start(on_bulk(|_, _| Some(Reply::error(400, "parse_exception", "I am a proxy"))));
        let mut publisher = publisher_to(&server, "");
        let error = publisher.publish_event_metrics(&events(rows)).await.unwrap_err();
        assert!(
            matches!(&error, PublishError::Hold { reason } if reason.contains("I am a proxy")),
            "{error:?}"
        );
        assert!(server.bulks() < 50, "{} requests", server.bulks());
        assert_eq!((count(&publisher, "held"), count(&publisher, "rejected")), (u64::from(rows), 0));
    }
}

#[tokio::test]
async fn what_a_person_must_mend_is_a_hold() {
    let cases = [
        (Reply::error(401, "security_exception", "who?"), "credentials"),
        (Reply::error(403, "security_exception", "not you"), "credentials"),
        (Reply::error(404, "x", "no such path"), "`hosts`"),
        (Reply::error(405, "x", "no such method"), "`hosts`"),
        (Reply::With(301, "location", "https://elsewhere/".to_owned(), Value::Null), "sends elsewhere"),
    ];
    for (reply, told) in cases {
        let server = Script::start(on_bulk(move |_, _| Some(reply.clone())));
        let mut publisher = publisher_to(&server, "");
        let error = publisher.publish_event_metrics(&events(3)).await.unwrap_err();
        assert!(matches!(&error, PublishError::Hold { reason } if reason.contains(told)), "{error:?}");
        assert_eq!((count(&publisher, "held"), server.bulks()), (3, 1));
    }
}

#[tokio::test]
async fn what_was_done_before_a_hold_is_settled_first() {
    let server = Script::start(on_nth_bulk(|nth, _, _| (nth > 1).then(|| Reply::error(401, "x", "expired"))));
    let mut publisher = publisher_to(&server, &format!("{SMALL}\nin_flight = 1"));
    let rows = events(ROWS);
    let unpublished = publisher.publish_event_metrics(&rows).await.unwrap();
    let left = rows.select(again(&unpublished));
    assert_eq!(left.len() as u64, u64::from(ROWS) - count(&publisher, "accepted"));
    assert!(left.len() < ROWS as usize && rejected(&unpublished).is_empty());
    let error = publisher.publish_event_metrics(&left).await.unwrap_err();
    assert!(matches!(error, PublishError::Hold { .. }), "{error:?}");
    assert_eq!(server.bulks(), 3, "after a refusal nothing more is sent");
}

#[tokio::test]
async fn a_limit_of_the_server_is_learnt() {
    let server = Script::start(on_bulk(|asked, _| {
        (asked.body.len() > 20_000).then(|| Reply::error(413, "x", "too large"))
    }));
    let mut publisher = publisher_to(&server, "bulk_bytes = '1MiB'");
    assert_eq!(publisher.publish_event_metrics(&events(ROWS)).await, Ok(vec![]));
    let limit = count(&publisher, "bulk_bytes");
    assert!((5_000..=20_000).contains(&limit), "{limit}");
    let before = server.bulks();
    let rows = Rows::detached((ROWS..2 * ROWS).map(event).collect());
    assert_eq!(publisher.publish_event_metrics(&rows).await, Ok(vec![]));
    let refused = server.look(|kept| {
        let bulks = kept.asked.iter().filter(|asked| asked.is_bulk());
        bulks.skip(before).filter(|asked| asked.body.len() > 20_000).count()
    });
    assert_eq!(refused, 0, "it is not tried again");
    assert_eq!(count(&publisher, "accepted"), 2 * u64::from(ROWS));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let long = "x".repeat(100_000);
    let server = Script::start(on_bulk(move |asked, _| {
        let items = asked.items();
        (items.len() > 10).then(|| items_reply(items.iter().map(|_| item(429, "x", &long)).collect()))
    }));
    let mut publisher = publisher_to(&server, "");
    assert_eq!(publisher.publish_event_metrics(&events(100)).await, Ok(vec![]));
    assert_eq!(count(&publisher, "accepted"), 100, "asked in parts, it answers shortly");
}

#[tokio::test]
async fn records_of_many_days_go_each_to_its_own_in_one_request() {
    let server = Script::start(|_, _| None);
    let mut publisher = publisher_to(&server, "index_prefix = 'p'");
    let rows = (0..40).map(|number| {
        let mut event = event(number);
        event.start_time = Timestamp::from_nanos(super::NOON - 86_400_000_000_000 * u64::from(number % 4));
        event.end_time = Some(event.start_time);
        event
    });
    assert_eq!(publisher.publish_event_metrics(&Rows::detached(rows.collect())).await, Ok(vec![]));
    assert_eq!(server.bulks(), 1);
    let indices =
        server.look(|kept| kept.documents.keys().map(|(index, _)| index.clone()).collect::<Vec<_>>());
    for day in ["20", "21", "22", "23"] {
        let index = format!("p-event-2026.11.{day}");
        assert_eq!(indices.iter().filter(|found| **found == index).count(), 10, "{index}");
    }
    assert_eq!(status(&publisher)["templates"], "ready");
}
