//! An index that refuses: its records wait, and the others go on.

use super::{assert_holds, count, dead_letters, event_of, host, operation};
use crate::support::servers::{Needs, Search};
use crate::support::{event, id};
use reqwest::Method;
use serde_json::{Value, json};

/// The index of a day that is past.
fn late(server: &Search) -> String {
    format!("{}-event-2026.11.20", server.prefix())
}

#[tokio::test(flavor = "multi_thread")]
async fn late_records_for_a_blocked_or_closed_index_wait_and_the_rest_is_published() {
    Search::each(Needs::Nothing, async |server| {
        let (folder, running) = host(server, "").await;
        running.api.post(&json!([event_of("2026-11-20", 0)])).await;
        running.api.until_delivered("search", 1).await;
        let index = late(server);
        let block = |on: bool| json!({ "index.blocks.write": on });
        let read_only = |on: bool| json!({ "index.blocks.read_only": on });
        let mut delivered = 1;
        for (number, refuse, take) in [
            (1, Some(block(true)), Some(block(false))),
            (2, None, None),
            (3, Some(read_only(true)), Some(read_only(false))),
        ] {
            match &refuse {
                Some(settings) => server.put_settings(&index, settings).await,
                None => drop(server.send(Method::POST, &format!("/{index}/_close"), None).await),
            }
            let first = number * 1_000;
            let mut records: Vec<Value> =
                (first..first + 100).map(|number| event_of("2026-11-20", number)).collect();
            records.extend((first + 100..first + 200).map(event));
            records.extend((first + 200..first + 300).map(operation));
            running.api.post(&records.into()).await;
            // What comes later goes on as well.
            running.api.until_delivered("search", delivered + 200).await;
            running.api.post(&(first + 300..first + 400).map(event).collect()).await;
            let status = running.api.until_delivered("search", delivered + 300).await;
            assert_eq!(
                (&status["state"], &status["books"]["backlog"]),
                (&json!("held"), &json!(100)),
                "{status:#}"
            );
            assert!(status["reason"].as_str().unwrap().contains(&index), "{status:#}");
            match &take {
                Some(settings) => server.put_settings(&index, settings).await,
                None => drop(server.send(Method::POST, &format!("/{index}/_open"), None).await),
            }
            let status = running.api.until_delivered("search", delivered + 400).await;
            assert_eq!(status["state"], "running", "{status:#}");
            delivered += 400;
        }
        assert_eq!(server.count(&format!("{}-*", server.prefix())).await, delivered);
        assert!(dead_letters(&folder).is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_records_become_dead_letters_or_go_to_today_where_that_is_set() {
    Search::each(Needs::Nothing, async |server| {
        let index = late(server);
        server.put(&format!("/{index}"), &json!({ "settings": { "index.blocks.write": true } })).await;
        let records = || (0..10).map(|number| event_of("2026-11-20", number)).collect::<Vec<_>>();
        {
            let (folder, running) = host(server, "late = \"dead_letter\"").await;
            running.api.post(&records().into()).await;
            let status =
                running.api.until("search", "is done", |it| it["books"]["dead_lettered"] == 10).await;
            assert_eq!(status["state"], "running", "{status:#}");
            assert!(dead_letters(&folder)[0]["reason"].as_str().unwrap().contains(&index));
        }
        let (folder, running) = host(server, "late = \"today\"").await;
        running.api.post(&records().into()).await;
        running.api.until_delivered("search", 10).await;
        assert_holds(server, &format!("{}-event-*,-{index}", server.prefix()), 0..10).await;
        assert!(dead_letters(&folder).is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_beyond_what_a_long_holds_are_stored() {
    Search::each(Needs::Nothing, async |server| {
        let (folder, running) = host(server, "").await;
        let mut record = operation(7);
        (record["bytes_sent"], record["bytes_received"]) =
            (9_223_372_036_854_775_808_u64.into(), u64::MAX.into());
        running.api.post(&json!([record, operation(8)])).await;
        let status = running.api.until_delivered("search", 2).await;
        assert_eq!(count(&status, "accepted"), 2, "{status:#}");
        assert!(dead_letters(&folder).is_empty());
        let index = format!("{}-network-2026.11.23", server.prefix());
        let found = server.get(&format!("/{index}/_doc/{}", id(7))).await["_source"].clone();
        assert_eq!((&found["bytes_sent"], &found["bytes_received"]), (&json!(i64::MAX), &json!(i64::MAX)));
        assert_eq!(found["bytes_received_exact"], u64::MAX.to_string());
        let exact = json!({ "query": { "term": { "bytes_sent_exact": "9223372036854775808" } } });
        assert_eq!(server.search(&index, &exact).await["hits"]["hits"][0]["_id"], id(7).to_string());
    })
    .await;
}
