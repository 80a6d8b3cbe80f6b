//! A receiver of remote writes that is away: its counters are right when it is back, and never fell.

use super::meanwhile;
use super::stream::Stream;
use crate::remote_write::assert_nothing_was_refused;
use crate::support::servers::{Metrics, everything};
use crate::support::{MUCH_PATIENCE, until_or};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_was_stopped_for_a_while_has_counted_everything_once() {
    let Some(mut server) = Metrics::receiver().await else { return };
    let (user, password) = server.login().unwrap();
    // A minute, if nothing is said.
    let interval = if everything() { "" } else { "push_interval = \"1s\"\n" };
    let mut stream = Stream::start(
        "cloud",
        &format!(
            "[publishers.cloud]\ntype = \"grafana-cloud\"\nurl = \"{}\"\nuser = \"{user}\"\napi_key = \"{password}\"\n\
             {interval}",
            server.write_url()
        ),
    )
    .await;
    until(&server, "sum(event_duration_seconds_count) > bool 0", 1).await;
    server.stop().await;
    stream.until("knows that it is away", |status: &Value| status["state"] == "retrying").await;
    stream.until_more(meanwhile(1_000, 60_000)).await;
    server.start_again().await;
    stream.until_more(1_000).await;
    let sent = stream.end().await;
    stream.until_delivered(sent).await;
    // Of five records one is a network operation.
    until(&server, "sum(event_duration_seconds_count)", sent / 5 * 4).await;
    until(&server, "sum(network_latency_seconds_count)", sent / 5).await;
    let resets =
        "sum(resets(event_duration_seconds_count[30m])) + sum(resets(network_latency_seconds_count[30m]))";
    until(&server, resets, 0).await;
    assert_nothing_was_refused(&server).await;
}

/// Waits until PromQL gives this number.
async fn until(server: &Metrics, query: &str, wanted: u64) {
    let wanted = BTreeMap::from([(String::new(), wanted as f64)]);
    let last = Mutex::new(None);
    let look = || async {
        let found = server.promql.query(query, "").await;
        let there = (found.as_ref() == Some(&wanted)).then_some(());
        *last.lock().unwrap() = found;
        there
    };
    let more = || format!("{:?}", last.lock().unwrap());
    until_or(&format!("{query} is {wanted:?}"), MUCH_PATIENCE, look, more).await;
}
