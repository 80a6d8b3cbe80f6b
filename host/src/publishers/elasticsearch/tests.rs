//! The publisher against a server that does what no real one can be made to do.

mod answers;
mod auth;
mod indices;
mod reach;
mod script;
mod setup;
mod wrong;

pub(crate) use script::{Asked, Kept, Reply, Script, item, items_reply};

use super::{ElasticsearchConfig, ElasticsearchPublisher};
use crate::publisher::{Context, Fate, Publisher, PublisherType, Unpublished};
use crate::record::{EventBatch, EventMetrics, Rows, Status, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const NOON: u64 = 1_795_435_200_000_000_000;

fn config(hosts: &[String], more: &str) -> ElasticsearchConfig {
    toml::from_str(&format!("hosts = {hosts:?}\n{more}")).unwrap()
}

/// A publisher to these hosts, not opened.
fn publisher(hosts: &[String], more: &str) -> ElasticsearchPublisher {
    let config = config(hosts, more);
    assert_eq!(ElasticsearchPublisher::validate(&config), []);
    ElasticsearchPublisher::build(config, Context::detached("search", "")).unwrap()
}

fn publisher_to(server: &Script, more: &str) -> ElasticsearchPublisher {
    publisher(&[server.url()], more)
}

fn event(number: u32) -> EventMetrics {
    let start = Timestamp::from_nanos(NOON + u64::from(number));
    let mut event = EventMetrics::started(Uuid::from_u128(number.into()), "resize", "42", start);
    event.end_time = Some(start.after(Duration::from_millis(5)));
    event.status = Status::Completed;
    event
}

fn events(count: u32) -> EventBatch {
    Rows::detached((0..count).map(event).collect())
}

fn status(publisher: &ElasticsearchPublisher) -> Value {
    publisher.status().unwrap()()
}

fn count(publisher: &ElasticsearchPublisher, of: &str) -> u64 {
    status(publisher)[of].as_u64().unwrap()
}

/// The rows that are to come again.
fn again(unpublished: &[Unpublished]) -> Vec<u32> {
    let retries = unpublished.iter().filter(|row| matches!(row.fate, Fate::Retry { .. }));
    retries.map(|row| row.row).collect()
}

/// The rows that never will be published, each with its reason.
fn rejected(unpublished: &[Unpublished]) -> Vec<(u32, &str)> {
    let rejected = unpublished.iter().filter_map(|row| match &row.fate {
        Fate::Reject { reason } => Some((row.row, reason.as_str())),
        _ => None,
    });
    rejected.collect()
}

/// The rows that wait beside the others, each with what for.
fn held(unpublished: &[Unpublished]) -> Vec<(u32, &str, &str)> {
    let held = unpublished.iter().filter_map(|row| match &row.fate {
        Fate::Wait { on, reason, .. } => Some((row.row, &**on, reason.as_str())),
        _ => None,
    });
    held.collect()
}

/// Publishes what is left until nothing is, as delivery does, and says how many calls that took.
async fn publish_all(publisher: &mut ElasticsearchPublisher, rows: EventBatch) -> usize {
    let mut left = rows;
    for call in 1..1_000 {
        match publisher.publish_event_metrics(&left).await {
            Ok(unpublished) => {
                assert!(rejected(&unpublished).is_empty(), "{unpublished:?}");
                left = left.select(again(&unpublished));
            }
            Err(error) => assert!(matches!(error, crate::publisher::PublishError::Retry { .. }), "{error:?}"),
        }
        if left.is_empty() {
            return call;
        }
    }
    panic!("it never came to an end: {}", status(publisher));
}

/// What is not about bulk requests is answered as a real server does.
fn on_bulk(
    mut act: impl FnMut(&Asked, &mut Kept) -> Option<Reply> + Send + 'static,
) -> impl FnMut(&Asked, &mut Kept) -> Option<Reply> + Send + 'static {
    move |asked, kept| asked.is_bulk().then(|| act(asked, kept)).flatten()
}

/// The same, told how many bulk requests there have been, this one included.
fn on_nth_bulk(
    mut act: impl FnMut(usize, &Asked, &mut Kept) -> Option<Reply> + Send + 'static,
) -> impl FnMut(&Asked, &mut Kept) -> Option<Reply> + Send + 'static {
    let mut nth = 0;
    on_bulk(move |asked, kept| {
        nth += 1;
        act(nth, asked, kept)
    })
}

/// Something that servers agree on when they have met.
fn meeting() -> Arc<tokio::sync::Notify> {
    Arc::default()
}
