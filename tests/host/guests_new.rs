//! A plugin in Go or C, begun by `pressroom plugin new`, built as it is, and run: it forwards.

use crate::support::{Folder, Receiver, begun, events, has_c, has_go};
use std::time::Duration;

async fn forwards(language: &str) {
    let plugin = begun(language, "my-plugin");
    // At first the server is busy, and then it refuses.
    let server = Receiver::start(&[(503, "größer als erlaubt")], (200, "thank you")).await;
    let url = format!("{}/records?of=tests", server.url());
    let grant = format!("grant = {{ http = [\"POST {}/records\"] }}\n", server.url());
    let section = format!(
        "[publishers.my-plugin]\ntype = \"wasm\"\nretry = {{ max = \"200ms\" }}\nconfig = {{ url = \"{url}\" }}\n"
    );
    let folder = Folder::new(&format!("{section}{grant}"));
    folder.drop_in("my-plugin", &plugin);
    let running = folder.start().await;
    running.api.post(&events(0..1_000)).await;
    running.api.until_delivered("my-plugin", 1_000).await;
    let lines: Vec<_> = server.taken().concat().lines().map(ToOwned::to_owned).collect();
    assert_eq!(lines.len(), 1_000);
    for (number, line) in lines.iter().enumerate() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["task_id"], format!("task-{number}"));
    }
    for request in server.received() {
        assert_eq!(request.what, "POST /records?of=tests");
        assert_eq!(request.headers["content-type"], "application/x-ndjson");
    }
    assert!(running.host.shutdown(Duration::from_secs(10)).await.balanced());

    // Without the grant it holds, and a refusal makes dead letters, with the server's words.
    let folder = Folder::new(&section);
    folder.drop_in("my-plugin", &plugin);
    let running = folder.start().await;
    running.api.post(&events(0..1)).await;
    let held = running.api.until("my-plugin", "holds", |status| !status["last_error"].is_null()).await;
    assert!(held["last_error"].as_str().unwrap().contains("not granted"), "{held:#}");
    assert_eq!(held["books"]["backlog"], 1, "{held:#}");
    assert!(running.host.shutdown(Duration::from_secs(10)).await.balanced());

    let server = Receiver::start(&[], (422, "größer als erlaubt")).await;
    let section = section.replace(&url, &format!("{}/records", server.url()));
    let grant = format!("grant = {{ http = [\"POST {}/records\"] }}\n", server.url());
    let folder = Folder::new(&format!("{section}{grant}"));
    folder.drop_in("my-plugin", &plugin);
    let running = folder.start().await;
    running.api.post(&events(0..1)).await;
    let refused = running.api.until("my-plugin", "gives up", |status| status["books"]["dead_lettered"] == 1).await;
    assert!(refused.to_string().contains("the server answered 422: größer als erlaubt"), "{refused:#}");
    assert!(running.host.shutdown(Duration::from_secs(10)).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_begun_in_go_forwards() {
    if has_go() {
        forwards("go").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_begun_in_c_forwards() {
    if has_c() {
        forwards("c").await;
    }
}
