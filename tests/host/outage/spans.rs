//! What nobody else holds: spans that OpenTelemetry's SDK sends, 500 a second, while the search server is away for 400
//! seconds. (Without `tests/run --all`: for 20.)

use super::{config, knows_that_it_is_away, meanwhile};
use crate::support::servers::{Needs, Search};
use crate::support::{Api, Folder, MUCH_PATIENCE, Process, python, root, say, skipped};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const PER_SECOND: u64 = 500;
/// Spans before the outage and after it, at least.
const AROUND: u64 = 2_500;

/// Sends spans until it is asked to end.
fn client(python: &Path, url: &str) -> Process {
    let mut client = Command::new(python);
    client.arg(root().join("tests/clients/otel_stream.py")).arg(url);
    Process::start(client.arg(PER_SECOND.to_string()))
}

/// A figure of the host's own metrics.
async fn metric(api: &Api, name: &str) -> f64 {
    let text = api.get("/metrics").await.unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_span_that_comes_while_a_search_server_is_away_arrives_once() {
    let Some(python) = python() else {
        return skipped("OpenTelemetry's SDK for Python is not installed");
    };
    Search::any(Needs::Nothing, async |server| {
        let folder = Folder::new("");
        let (mut host, api) = Process::host(&folder, &config(server)).await;
        let away = meanwhile(20, 400) * PER_SECOND;
        let mut client = client(&python, api.url());
        let has =
            |of: &'static str, count: u64| move |status: &Value| status["books"][of].as_u64() >= Some(count);
        api.until("search", "has delivered some", has("delivered", AROUND)).await;
        server.stop().await;
        api.until("search", "knows that it is away", knows_that_it_is_away).await;
        let accepted = async || api.publisher("search").await["books"]["accepted"].as_u64().unwrap();
        let enough = has("accepted", accepted().await + away);
        let held = api.until_within(MUCH_PATIENCE, "search", "has got enough to hold", enough).await;
        let bytes = metric(&api, "pressroom_journal_bytes").await;
        let records = metric(&api, "pressroom_journal_records").await;
        assert_eq!(held["books"]["dropped"]["overflow"], 0, "{held:#}");
        server.start_again().await;
        let enough = has("accepted", accepted().await + AROUND);
        api.until("search", "has got some more", enough).await;

        client.terminate();
        let ended = client.ended_within(MUCH_PATIENCE).await;
        let output = client.output();
        assert!(ended.success(), "{ended}: {output}");
        let sent: Value =
            serde_json::from_str(output.lines().rfind(|line| line.starts_with('{')).unwrap()).unwrap();
        let mut ids: Vec<_> =
            sent["span_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        let spans = ids.len() as u64;
        assert_eq!((&sent["exported"], &sent["failed"]), (&spans.into(), &0.into()), "the SDK's own account");
        let arrived = has("delivered", spans);
        let status =
            api.until_within(MUCH_PATIENCE, "search", &format!("has delivered {spans}"), arrived).await;
        assert_eq!(status["books"]["accepted"], spans, "{status:#}");
        let memory = host.most_memory();
        host.terminate();
        let ended = host.ended().await;
        assert!(ended.success(), "{ended}: {}", host.output());

        let indices = format!("{}-*", server.prefix());
        assert_eq!(server.count(&indices).await, spans);
        let there = server.attributes(&indices, "span_id").await;
        assert!(there.values().all(|times| *times == 1), "a span is there twice");
        ids.sort_unstable();
        assert!(there.keys().eq(ids), "other spans than were sent");
        let each = bytes / records;
        say(&format!(
            "{:?} was away while {away} spans came, {PER_SECOND} a second. {spans} were sent in {:.0} s, and \
             each is there once; {} came again, since no answer had come.\n\
             At the end of the outage the journal held {records} records in {:.1} MiB: {each:.0} bytes each, \
             so that {:.0} fit into 256 MiB. The host used at most {} MiB.",
            server.kind(),
            sent["seconds"].as_f64().unwrap(),
            status["detail"]["duplicates"],
            bytes / f64::from(1 << 20),
            f64::from(256 << 20) / each,
            memory >> 20,
        ));
    })
    .await;
}
