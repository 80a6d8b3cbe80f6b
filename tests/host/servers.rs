//! The real servers are there and have what the tests want of them: so a test that fails on one fails for its own reason.

use crate::support::servers::{Loki, Metrics, Needs, Search, everything};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_search_server_is_read_only_when_told_so_and_keeps_what_it_has() {
    Search::each(Needs::Nothing, async |server| {
        let index = format!("{}-kept", server.prefix());
        let document = json!({ "took": 0.25 });
        let create = async |server: &Search, id: u32| {
            server.send(Method::PUT, &format!("/{index}/_create/{id}"), Some(&document)).await.0
        };
        assert_eq!(create(server, 1).await, 201, "on {:?}", server.kind());
        assert_eq!(create(server, 1).await, 409);
        server.put_settings(&index, &json!({ "index.blocks.read_only_allow_delete": true })).await;
        assert_eq!(create(server, 2).await, 429);
        server.put_settings(&index, &json!({ "index.blocks.read_only_allow_delete": Value::Null })).await;
        assert_eq!(create(server, 2).await, 201);
        if everything() {
            let url = server.url().to_owned();
            server.kill();
            server.start_again().await;
            server.stop().await;
            server.start_again().await;
            assert_eq!(server.url(), url);
        }
        let ids: Vec<_> = server.ids(&index).await.into_iter().collect();
        assert_eq!(ids, [("1".to_owned(), 1), ("2".to_owned(), 1)]);
        let found = server.search(&index, &json!({ "query": { "ids": { "values": ["2"] } } })).await;
        assert_eq!(found["hits"]["hits"][0]["_source"], document);
        assert_eq!(server.count(&index).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_search_server_that_is_to_have_data_streams_has_them() {
    Search::each(Needs::DataStreams, async |server| {
        let name = server.prefix();
        let template = json!({ "index_patterns": [name], "data_stream": {}, "priority": 900 });
        server.put(&format!("/_index_template/{name}"), &template).await;
        let document = json!({ "@timestamp": "2026-11-23T11:14:44Z" });
        server.put(&format!("/{name}/_create/1"), &document).await;
        assert_eq!(server.get(&format!("/_data_stream/{name}")).await["data_streams"][0]["name"], name);
    })
    .await;
}

#[tokio::test]
async fn a_guarded_search_server_lets_in_who_knows_the_password_and_no_body_above_its_bound() {
    Search::each(Needs::Guard, async |server| {
        assert!(server.url().starts_with("https://"));
        let ca = reqwest::Certificate::from_pem(&std::fs::read(server.ca().unwrap()).unwrap()).unwrap();
        let stranger = reqwest::Client::builder().add_root_certificate(ca).build().unwrap();
        let (user, _) = server.credentials().unwrap();
        let refused = stranger.get(server.url()).basic_auth(user, Some("a guess")).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        // The authority is the test's own: nobody else trusts it.
        assert!(reqwest::get(server.url()).await.is_err());
        let body = json!({ "text": "x".repeat(1 << 20) });
        let path = format!("/{}/_create/1", server.prefix());
        assert_eq!(server.send(Method::PUT, &path, Some(&body)).await.0, 413);
    })
    .await;
}

#[tokio::test]
async fn the_servers_of_metrics_and_of_log_lines_come_back() {
    if let Some(mut receiver) = Metrics::receiver().await {
        receiver.kill();
        receiver.start_again().await;
        assert!(receiver.promql.query("vector(1)", "").await.is_some());
        let (user, password) = receiver.login().unwrap();
        let client = reqwest::Client::new();
        for (password, status) in [(password, 400), ("a guess", 401)] {
            let write = client.post(receiver.write_url()).basic_auth(user, Some(password));
            assert_eq!(write.send().await.unwrap().status(), status, "an empty write");
        }
    }
    if let Some(mut victoria) = Metrics::victoria().await {
        victoria.stop().await;
        victoria.start_again().await;
        assert!(victoria.promql.api().get("/metrics").await.is_some());
    }
    if let Some(mut loki) = Loki::start().await {
        assert!(loki.url().starts_with("http://"));
        loki.stop().await;
        loki.start_again().await;
        assert_eq!(loki.query("{service=\"nobody\"}").await, Some(vec![]));
    }
}
