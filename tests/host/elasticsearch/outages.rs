//! What a server refuses, for now or for good, and what comes of it: retry, hold, dead letter, or another host.

use super::{assert_holds, count, dead_letters, event_of, host, search};
use crate::support::servers::{Needs, Search};
use crate::support::{Folder, event, events, free_port, id};
use serde_json::{Value, json};

/// How a label stands.
fn stands(status: &Value, state: &str, because: &str) -> bool {
    status["state"] == state && status["reason"].as_str().is_some_and(|reason| reason.contains(because))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_room_gets_its_items_again_and_the_others_pass() {
    Search::each(Needs::Nothing, async |server| {
        let (folder, running) = host(server, "").await;
        let full = format!("{}-event-2026.11.22", server.prefix());
        running.api.post(&json!([event_of("2026-11-22", 0)])).await;
        running.api.until_delivered("search", 1).await;
        // What the flood-stage watermark does to an index on a full disk.
        server.put_settings(&full, &json!({ "index.blocks.read_only_allow_delete": true })).await;
        let days = ["2026-11-22", "2026-11-23"];
        running.api.post(&(1..101).map(|number| event_of(days[number as usize % 2], number)).collect()).await;
        let status = running
            .api
            .until("search", "retries", |status| stands(status, "retrying", "cluster_block_exception"))
            .await;
        assert_eq!((&status["books"]["delivered"], &status["books"]["backlog"]), (&json!(51), &json!(50)));
        assert_eq!((count(&status, "accepted"), count(&status, "duplicates")), (51, 0));
        assert!(count(&status, "retried") >= 50);
        server.put_settings(&full, &json!({ "index.blocks.read_only_allow_delete": Value::Null })).await;
        let status = running.api.until_delivered("search", 101).await;
        assert_eq!(
            (count(&status, "accepted"), count(&status, "duplicates")),
            (101, 0),
            "none was sent twice"
        );
        assert_holds(server, &format!("{}-event-*", server.prefix()), 0..101).await;
        assert!(dead_letters(&folder).is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_fit_its_index_is_a_dead_letter_with_the_servers_reason() {
    Search::each(Needs::Nothing, async |server| {
        let index = format!("{}-event-2026.11.23", server.prefix());
        let numbers_only = json!({ "mappings": { "properties": { "task_id": { "type": "double" } } } });
        server.put(&format!("/{index}"), &numbers_only).await;
        let (folder, running) = host(server, "").await;
        let records = (0..20).map(|number| {
            let mut record = event(number);
            record["task_id"] = if number < 15 { "42".into() } else { format!("task-{number}").into() };
            record["attributes"] = json!({ "region": "eu" });
            record
        });
        running.api.post(&records.collect()).await;
        let status = running
            .api
            .until("search", "has set some aside", |status| status["books"]["dead_lettered"] == 5)
            .await;
        assert_eq!(status["books"]["delivered"], 15);
        assert_eq!((count(&status, "accepted"), count(&status, "rejected")), (15, 5));
        assert_holds(server, &index, 0..15).await;
        let letters = dead_letters(&folder);
        let set_aside: Vec<_> = letters.iter().map(|letter| letter["record"]["id"].clone()).collect();
        assert_eq!(set_aside, (15..20).map(|number| id(number).to_string()).collect::<Vec<_>>());
        for letter in &letters {
            let reason = letter["reason"].as_str().unwrap();
            assert!(reason.starts_with("400") && reason.contains("task_id"), "{reason}");
        }
        // And the cause is told as what it is.
        let told = format!("{index} was made without our template");
        let noted = |status: &Value| {
            let notes = status["detail"]["notes"].to_string();
            notes.contains(&told) && notes.contains("task_id is double, not keyword")
        };
        running.api.until("search", "says what is wrong with the index", noted).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_must_not_be_made_is_a_hold() {
    Search::each(Needs::Nothing, async |server| {
        let (folder, running) = host(server, "").await;
        let allow = async |value: Value| {
            server
                .put("/_cluster/settings", &json!({ "persistent": { "action.auto_create_index": value } }))
                .await;
        };
        allow("false".into()).await;
        running.api.post(&events(0..50)).await;
        let held = |status: &Value| stands(status, "held", "index_not_found_exception");
        let status = running.api.until("search", "is on hold", held).await;
        assert_eq!(status["books"]["backlog"], 50);
        allow(Value::Null).await;
        running.api.until_delivered("search", 50).await;
        // No more shards in this cluster: a refusal that says nothing of the records.
        let shards = async |value: Value| {
            server
                .put("/_cluster/settings", &json!({ "persistent": { "cluster.max_shards_per_node": value } }))
                .await;
        };
        shards(1.into()).await;
        running.api.post(&(50..60).map(|number| event_of("2026-11-30", number)).collect()).await;
        let held = |status: &Value| stands(status, "held", "shards");
        running.api.until("search", "is on hold for want of shards", held).await;
        shards(Value::Null).await;
        running.api.until_delivered("search", 60).await;
        assert_holds(server, &format!("{}-event-*", server.prefix()), 0..60).await;
        assert!(dead_letters(&folder).is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_an_unknown_authority_are_holds_until_they_are_mended() {
    Search::each(Needs::Guard, async |server| {
        let (user, password) = server.credentials().unwrap();
        let wrong = format!("username = \"{user}\"\npassword = \"not-this-one\"");
        let (folder, running) = host(server, &wrong).await;
        running.api.post(&events(0..500)).await;
        let held = |status: &Value| stands(status, "held", "401");
        let status = running.api.until("search", "is on hold", held).await;
        assert_eq!(status["books"]["backlog"], 500);
        assert!(!format!("{status}").contains("not-this-one"));

        // An authority that nobody knows: told as that, and not as a server that is down.
        let right = format!("username = \"{user}\"\npassword = \"{password}\"");
        let without_ca: String = search(server, &right)
            .lines()
            .filter(|line| !line.starts_with("ca_file"))
            .fold(String::new(), |text, line| text + line + "\n");
        folder.configure(&without_ca);
        running.host.reload().await.unwrap();
        running.api.post(&events(500..600)).await;
        running.api.until("search", "is on hold", |status| stands(status, "held", "ca_file")).await;

        folder.configure(&search(server, &right));
        running.host.reload().await.unwrap();
        let status = running.api.until_delivered("search", 600).await;
        assert_eq!((count(&status, "accepted"), count(&status, "duplicates")), (600, 0));
        assert_holds(server, &format!("{}-event-*", server.prefix()), 0..600).await;
        assert!(dead_letters(&folder).is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_sent_in_parts_and_a_record_that_is_is_set_aside() {
    Search::each(Needs::Guard, async |server| {
        for (gzip, first) in [(true, 0), (false, 10_000)] {
            let (folder, running) = host(server, &format!("gzip = {gzip}")).await;
            let mut records: Vec<Value> = (first..first + 9_000).map(event).collect();
            let long = (0..20).map(|number| (format!("text{number}"), "x".repeat(60_000).into()));
            records[4_500]["attributes"] = Value::Object(long.collect());
            running.api.post(&records.into()).await;
            let done = |status: &Value| status["books"]["backlog"] == 0;
            let status = running.api.until("search", "is done", done).await;
            assert_eq!(
                (&status["books"]["delivered"], &status["books"]["dead_lettered"]),
                (&json!(8_999), &json!(1))
            );
            assert!(count(&status, "bulk_bytes") <= 1 << 20, "{status:#}");
            assert_eq!(count(&status, "accepted"), 8_999);
            let letters = dead_letters(&folder);
            assert_eq!(letters[0]["record"]["id"], id(first + 4_500).to_string());
            assert!(letters[0]["reason"].as_str().unwrap().contains("413"), "{}", letters[0]["reason"]);
        }
        assert_eq!(server.count(&format!("{}-event-*", server.prefix())).await, 17_998);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_dead_costs_nothing() {
    Search::each(Needs::Nothing, async |server| {
        let dead = free_port();
        let hosts = format!("hosts = [\"http://127.0.0.1:{dead}\", \"{}\"]", server.url());
        let folder = Folder::new(&search(server, &hosts));
        let running = folder.start().await;
        for first in (0..1_000).step_by(100) {
            running.api.post(&events(first..first + 100)).await;
            running.api.until_delivered("search", first + 100).await;
        }
        let status = running.api.publisher("search").await;
        assert_eq!((&status["failed_attempts"], count(&status, "retried")), (&json!(0), 0), "{status:#}");
        let hosts = &status["detail"]["hosts"];
        assert_eq!((&hosts[0]["state"], &hosts[1]["state"]), (&json!("down"), &json!("up")));
        assert!(hosts[0]["reason"].as_str().unwrap().contains("refused"), "{hosts}");
        assert_holds(server, &format!("{}-event-*", server.prefix()), 0..1_000).await;
    })
    .await;
}
