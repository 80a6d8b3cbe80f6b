//! Outages of real servers, while records keep coming: nothing is lost, nothing is doubled, the books close, and nobody
//! has to help.
//!
//! What is set is where the server is, and the index's name: all else is as it is by default. How long a server is away
//! is counted in records that came meanwhile, at 500 a second. With `tests/run --all` that is a minute for each of the
//! servers, and 400 seconds for one.

mod failover;
mod series;
mod spans;
mod stream;

use crate::support::servers::{Needs, Search, everything};
use crate::support::{Folder, PATIENCE, Process, id, say};
use serde_json::{Value, json};
use stream::Stream;

/// A publisher `search` that is told where, and under which name.
fn config(server: &Search) -> String {
    format!(
        "[publishers.search]\ntype = \"elasticsearch\"\nhosts = [\"{}\"]\nindex_prefix = \"{}\"\n",
        server.url(),
        server.prefix()
    )
}

/// How many records come while a server is away: `long` is for a run of everything.
fn meanwhile(short: u64, long: u64) -> u64 {
    if everything() { long } else { short }
}

/// Whether a publisher says that its server is away.
fn knows_that_it_is_away(status: &Value) -> bool {
    status["state"] == "retrying"
        && status["reason"].as_str().is_some_and(|reason| reason.contains("does not answer"))
        && status["detail"]["hosts"][0]["state"] == "down"
}

/// Waits until all that was sent is delivered, and compares each id with what the indices hold.
async fn assert_arrived(server: &Search, mut stream: Stream) -> Value {
    let sent = stream.end().await;
    let status = stream.until_delivered(sent).await;
    assert_eq!((&status["books"]["accepted"], &status["state"]), (&json!(sent), &json!("running")));
    let there = server.ids(&format!("{}-*", server.prefix())).await;
    assert!(there.values().all(|times| *times == 1), "a record is there twice, on {:?}", server.kind());
    assert!(there.into_keys().eq((0..sent).map(|number| id(number).to_string())), "of {sent}");
    assert!(!stream.folder().path("dead-letters.jsonl").exists());
    let count = |of: &str| status["detail"][of].as_u64().unwrap();
    let (kind, again) = (server.kind(), count("duplicates"));
    assert_eq!(count("accepted") + again, sent, "{status:#}");
    say(&format!(
        "{kind:?}: {sent} records are there, each once; {again} came again, since no answer had come"
    ));
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_server_that_was_stopped_for_a_while_gets_everything_once() {
    Search::each(Needs::Nothing, async |server| {
        let stream = Stream::start("search", &config(server)).await;
        stream.until_delivered(1_000).await;
        server.stop().await;
        stream.until("knows that it is away", knows_that_it_is_away).await;
        stream.until_more(meanwhile(1_000, 30_000)).await;
        server.start_again().await;
        stream.until_more(1_000).await;
        let status = assert_arrived(server, stream).await;
        assert!(status["failed_attempts"].as_u64().unwrap() > 0, "{status:#}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_server_that_is_killed_in_the_middle_of_requests_gets_everything_once() {
    Search::each(Needs::Nothing, async |server| {
        let stream = Stream::start("search", &config(server)).await;
        stream.until_delivered(1_000).await;
        for _ in 0..meanwhile(1, 5) {
            stream.until_busy().await;
            server.kill();
            stream.until("knows that it is away", knows_that_it_is_away).await;
            server.start_again().await;
        }
        stream.until_more(1_000).await;
        assert_arrived(server, stream).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_server_whose_disk_is_full_gets_everything_once_when_there_is_room() {
    Search::each(Needs::Nothing, async |server| {
        let stream = Stream::start("search", &config(server)).await;
        stream.until_delivered(1_000).await;
        // What the flood-stage watermark does to the indices on a full disk.
        let indices = format!("{}-*", server.prefix());
        server.put_settings(&indices, &json!({ "index.blocks.read_only_allow_delete": true })).await;
        let is_full = |status: &Value| {
            let reason = status["reason"].as_str().unwrap_or_default();
            status["state"] == "retrying" && reason.contains("cluster_block_exception")
        };
        stream.until("knows that it is full", is_full).await;
        let full = stream.status().await["books"]["delivered"].clone();
        stream.until_more(meanwhile(1_000, 30_000)).await;
        let status = stream.status().await;
        assert_eq!(status["books"]["delivered"], full, "what is refused is not delivered: {status:#}");
        server.put_settings(&indices, &json!({ "index.blocks.read_only_allow_delete": null })).await;
        stream.until_more(1_000).await;
        let status = assert_arrived(server, stream).await;
        assert_eq!(status["detail"]["duplicates"], 0, "it answered each time: none is sent twice");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_ends_while_its_search_server_is_away_says_what_was_left() {
    Search::any(Needs::Nothing, async |server| {
        let folder = Folder::new("");
        let shutdown = "[shutdown]\ntimeout = \"1s\"\n";
        let (mut host, api) = Process::host(&folder, &format!("{}{shutdown}", config(server))).await;
        api.post(&crate::support::events(0..1_000)).await;
        api.until_delivered("search", 1_000).await;
        server.kill();
        api.post(&crate::support::events(1_000..1_789)).await;
        api.until("search", "knows that it is away", knows_that_it_is_away).await;
        host.terminate();
        let ended = host.ended_within(PATIENCE).await;
        let output = host.output();
        assert_eq!(ended.code(), Some(1), "{output}");
        let account = output.lines().find(|line| line.trim_start().starts_with("search "));
        let account: Vec<_> = account.unwrap_or_else(|| panic!("{output}")).split_whitespace().collect();
        // Accepted, delivered, filtered, dead letters, dropped, left.
        assert_eq!(account, ["search", "1,789", "1,000", "0", "0", "789", "0", "balance"], "{output}");
        let lost = "789 records could not be published before shutdown.timeout was over, and are lost";
        assert!(output.contains(lost), "{output}");
        server.start_again().await;
        let there = server.ids(&format!("{}-*", server.prefix())).await;
        assert!(there.into_keys().eq((0..1_000).map(|number| id(number).to_string())));
    })
    .await;
}
