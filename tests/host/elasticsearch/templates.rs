//! Index templates are installed, brought up to date, and never taken from somebody else.

use super::{host, search};
use crate::support::servers::{Needs, Search};
use crate::support::{Folder, PATIENCE, events};
use serde_json::{Value, json};

async fn template(server: &Search, name: &str) -> Value {
    let mut found = server.get(&format!("/_index_template/{name}")).await;
    let mut template = found["index_templates"][0]["index_template"].take();
    for at in ["created_date_millis", "created_date", "modified_date_millis", "modified_date"] {
        template.as_object_mut().unwrap().remove(at);
    }
    template
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_brought_up_to_date_and_a_newer_one_or_somebody_elses_stays() {
    Search::each(Needs::Nothing, async |server| {
        let prefix = server.prefix().to_owned();
        let names = [format!("{prefix}-event"), format!("{prefix}-network")];
        let (folder, running) = host(server, "").await;
        let ours = template(server, &names[0]).await;
        assert_eq!((&ours["priority"], &ours["_meta"]["managed_by"]), (&json!(501), &json!("pressroom")));
        let version = ours["version"].as_u64().unwrap();
        running.host.shutdown(PATIENCE).await;

        let other = |version: u64, by: &str, kind: &str| {
            json!({
                "index_patterns": [format!("{prefix}-{kind}-*")], "priority": 501, "version": version,
                "_meta": { "managed_by": by }, "template": { "mappings": { "properties": { "id": { "type": "keyword" } } } },
            })
        };
        // An older one goes, a newer one stays.
        server.put(&format!("/_index_template/{}", names[0]), &other(version - 1, "pressroom", "event")).await;
        server.put(&format!("/_index_template/{}", names[1]), &other(version + 1, "pressroom", "network")).await;
        let running = folder.start().await;
        assert_eq!(template(server, &names[0]).await, ours);
        assert_eq!(template(server, &names[1]).await["version"], version + 1);
        let notes = running.api.until_running("search").await["detail"]["notes"].to_string();
        assert!(notes.contains("newer Pressroom") && !notes.contains(&names[0]), "{notes}");
        running.host.shutdown(PATIENCE).await;

        // Somebody else's stays, whatever its version.
        server.put(&format!("/_index_template/{}", names[0]), &other(0, "somebody", "event")).await;
        let running = folder.start().await;
        assert_eq!(template(server, &names[0]).await["version"], 0);
        let notes = running.api.until_running("search").await["detail"]["notes"].to_string();
        assert!(notes.contains(&format!("{} is somebody else's", names[0])), "{notes}");

        // What comes of it is told, too: the server guesses.
        running.api.post(&events(0..10)).await;
        running.api.until_delivered("search", 10).await;
        let guessed = |status: &Value| status["detail"]["notes"].to_string().contains("event_name is text, not keyword");
        running.api.until("search", "says what the server has guessed", guessed).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_the_server_refuses_is_a_hold_and_one_can_do_without() {
    Search::each(Needs::Nothing, async |server| {
        // Of the same priority and for the same indices: a server takes one of them.
        let name = format!("{}-rival", server.prefix());
        let pattern = format!("{}-event-*", server.prefix());
        server
            .put(
                &format!("/_index_template/{name}"),
                &json!({ "index_patterns": [pattern], "priority": 501 }),
            )
            .await;
        let (folder, running) = host(server, "").await;
        running.api.post(&events(0..10)).await;
        let held =
            |status: &Value| status["state"] == "held" && status["reason"].as_str().unwrap().contains(&name);
        let status = running.api.until("search", "is on hold", held).await;
        assert_eq!(
            (&status["detail"]["templates"], &status["books"]["backlog"]),
            (&json!("missing"), &json!(10))
        );

        folder.configure(&search(server, "install_template = false"));
        running.host.reload().await.unwrap();
        running.api.until_delivered("search", 10).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_on_a_server_without_such_is_told_and_harmless() {
    Search::each(Needs::Nothing, async |server| {
        let (_folder, running) = host(server, "lifecycle = \"thirty-days\"").await;
        running.api.post(&events(0..10)).await;
        let status = running.api.until_delivered("search", 10).await;
        let notes = status["detail"]["notes"].to_string();
        assert!(notes.contains("no index lifecycle management"), "{notes}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later_gets_templates_before_records() {
    Search::each(Needs::Nothing, async |server| {
        server.stop().await;
        let folder = Folder::new(&search(server, ""));
        let running = folder.start().await;
        running.api.post(&events(0..100)).await;
        let retries =
            |status: &Value| status["state"] == "retrying" && status["detail"]["templates"] == "missing";
        running.api.until("search", "retries", retries).await;
        server.start_again().await;
        running.api.until_delivered("search", 100).await;
        let index = format!("{}-event-2026.11.23", server.prefix());
        let mapping = server.get(&format!("/{index}/_mapping")).await;
        assert_eq!(mapping[&index]["mappings"]["properties"]["duration_seconds"]["type"], "double");
        super::assert_holds(server, &index, 0..100).await;
    })
    .await;
}
