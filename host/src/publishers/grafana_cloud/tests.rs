//! The publisher as delivery sees it: settings, hand-over, states and ends.

pub(crate) mod store;

use super::*;
use crate::publishers::push::receiver::Reply;
use crate::record::{EventMetrics, NetworkMetrics, Status as Ended};
use prometheus::{Encoder, TextEncoder};
use std::borrow::Cow;
use std::collections::BTreeMap;
use store::{Store, Treatment, is_stale};
use uuid::Uuid;

const COUNT: &str = "event_duration_seconds_count";

fn config(store: &Store, more: &str) -> GrafanaCloudConfig {
    let text =
        format!("url = '{}'\nuser = 7\napi_key = 'glc_hush'\npush_interval = '10ms'\n{more}", store.url());
    let config: GrafanaCloudConfig = toml::from_str(&text).unwrap();
    assert_eq!(config.problems(), []);
    config
}

fn build(config: GrafanaCloudConfig) -> GrafanaCloudPublisher {
    GrafanaCloudPublisher::build(config, Context::detached("cloud", "")).unwrap()
}

async fn opened(config: GrafanaCloudConfig) -> GrafanaCloudPublisher {
    let mut publisher = build(config);
    publisher.open(None).await.unwrap();
    publisher
}

async fn succeeded(mut old: GrafanaCloudPublisher, config: GrafanaCloudConfig) -> GrafanaCloudPublisher {
    let mut new = build(config);
    new.open(Some(&mut old)).await.unwrap();
    new
}

fn event(name: &str) -> EventMetrics {
    let start = Timestamp::from_nanos(1);
    let mut event = EventMetrics::started(Uuid::nil(), name, "task", start);
    (event.end_time, event.status) = (Some(start.after(Duration::from_millis(20))), Ended::Completed);
    event
}

async fn publish(publisher: &mut GrafanaCloudPublisher, names: &[&str]) {
    let events = EventBatch::detached(names.iter().map(|name| event(name)).collect());
    assert_eq!(publisher.publish_event_metrics(&events).await, Ok(Vec::new()));
}

/// Waits, without blocking the loop that is waited for.
async fn until(store: &Store, what: &str, so: impl Fn(&Store) -> bool) {
    let wait = async {
        while !so(store) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), wait).await.unwrap_or_else(|_| panic!("never {what}"));
}

async fn until_counted(store: &Store, count: f64) {
    until(store, &format!("{count} events"), |store| store.increase(COUNT, &[]) == count).await;
}

async fn until_stalled(publisher: &GrafanaCloudPublisher) -> Stalled {
    let stall = publisher.stall().unwrap();
    loop {
        if let Some(stall) = stall() {
            return stall;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type Stalled = crate::publisher::Stall;

#[test]
fn what_is_pushed_is_what_a_scrape_would_show() {
    let config: GrafanaCloudConfig =
        toml::from_str("url = 'http://x/y'\nlabels = ['region', 'Zone']\nbuckets = [1e-7, 0.5, 1, 2.5e9]")
            .unwrap();
    let publisher = build(config);
    let odd = |name: &str, region: &str| {
        let mut event = event(name);
        event.attributes.insert("region", region);
        event.attributes.insert("Zone", "a\"b\\c\nd");
        event
    };
    let events = vec![odd("resize", "eu"), odd("resize", ""), odd("store", "é"), event("store")];
    publisher.series.fold_events(&EventBatch::detached(events));
    let mut operation =
        NetworkMetrics::started(Uuid::nil(), "task", "PUT", "s3.local", 443, Timestamp::from_nanos(1));
    operation.end_time = Some(Timestamp::from_nanos(1_500_000_001));
    (operation.bytes_sent, operation.error) = (1 << 40, Some("reset".into()));
    publisher.series.fold_operations(&NetworkBatch::detached(vec![operation]));

    let families = publisher.series.gather();
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text).unwrap();
    let (scraped, described) = exposition::read(std::str::from_utf8(&text).unwrap());
    let (pushed, descriptions) = groups::of_families(&families);
    let all = |groups: Vec<groups::Group>| -> BTreeMap<_, _> {
        let series = groups.iter().flat_map(|group| {
            let owned = |(name, value): (&str, Cow<'_, str>)| (name.to_owned(), value.into_owned());
            let labels = group.identity.series().map(|series| series.labels(&[]).into_iter().map(owned));
            let labels = labels.map(Vec::from_iter);
            labels.zip(&group.values).map(|(labels, value)| (labels, value.to_string())).collect::<Vec<_>>()
        });
        series.collect()
    };
    assert_eq!(descriptions, described);
    let (scraped, pushed) = (all(scraped), all(pushed));
    assert!(pushed.len() > 40);
    assert_eq!(pushed, scraped);
    // Names are sorted as bytes: capitals stand before the underscore.
    assert!(pushed.keys().any(|labels| labels[0].0 == "Zone"));
}

#[tokio::test]
async fn a_batch_is_pushed_by_itself_and_the_end_is_told() {
    let store = Store::new();
    let mut publisher = opened(config(&store, "external_labels = { cluster = 'eu' }")).await;
    publish(&mut publisher, &["a", "b"]).await;
    until_counted(&store, 2.0).await;
    publish(&mut publisher, &["a"]).await;
    publisher.flush().await.unwrap();
    publisher.close().await.unwrap();
    let labels = [("cluster", "eu"), ("job", "pressroom"), ("event_name", "a")];
    assert_eq!((store.increase(COUNT, &labels), store.alive()), (2.0, 0));
    let samples = store.samples(COUNT, &labels).concat();
    let ends: Vec<_> = samples.iter().map(|(_, value)| is_stale(*value)).collect();
    assert!(matches!(ends[..], [.., false, true]) && !ends[..ends.len() - 1].contains(&true));
    let report = publisher.status().unwrap()();
    assert_eq!((&report["job"], &report["push"]["failed_pushes"]), (&"pressroom".into(), &0.into()));
    assert!(report["instance"].as_str().unwrap().len() > 9);
}

#[tokio::test]
async fn one_that_is_dropped_pushes_no_more() {
    let store = Store::new();
    let mut publisher = opened(config(&store, "")).await;
    publish(&mut publisher, &["a"]).await;
    until_counted(&store, 1.0).await;
    let task = publisher.pusher.as_ref().unwrap().is_running();
    drop(publisher);
    until(&store, "the loop has ended", |_| !task()).await;
    let requests = store.requests().len();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(store.requests().len(), requests);
}

#[tokio::test]
async fn a_successor_goes_on_where_the_other_was() {
    let store = Store::new();
    let mut first = opened(config(&store, "")).await;
    publish(&mut first, &["a", "a"]).await;
    until_counted(&store, 2.0).await;
    publish(&mut first, &["a", "b"]).await;
    let mut second = succeeded(first, config(&store, "org_slug = 'acme'")).await;
    publish(&mut second, &["b"]).await;
    until_counted(&store, 5.0).await;
    let zeros = |name: &str| {
        let samples = store.samples(COUNT, &[("event_name", name)]).concat();
        samples.iter().filter(|(_, value)| *value == 0.0 || is_stale(*value)).count()
    };
    assert_eq!((zeros("a"), zeros("b")), (1, 1), "it has begun once, and has not ended");
    second.close().await.unwrap();
    assert_eq!(store.alive(), 0);
}

#[tokio::test]
async fn a_wrong_password_holds_until_a_successor_has_the_right_one() {
    let store = Store::new();
    store.treat([Treatment::Refuse(Reply::say(401, "who are you"))]);
    let mut first = opened(config(&store, "")).await;
    publish(&mut first, &["a"]).await;
    let stall = until_stalled(&first).await;
    assert!(matches!(&stall.error, PublishError::Hold { reason } if reason.contains("`api_key` is wrong")));
    publish(&mut first, &["a", "b"]).await;
    store.treat([Treatment::Take]);
    let second = succeeded(first, config(&store, "")).await;
    until_counted(&store, 3.0).await;
    until(&store, "all is well", |_| second.stall().unwrap()().is_none()).await;
}

#[tokio::test]
async fn other_labels_of_everything_are_other_series_and_the_old_ones_end() {
    let store = Store::new();
    let mut first = opened(config(&store, "instance = 'one'")).await;
    publish(&mut first, &["a", "a"]).await;
    until_counted(&store, 2.0).await;
    publish(&mut first, &["a"]).await;
    let mut second = succeeded(first, config(&store, "instance = 'two'")).await;
    let of = |instance| store.samples(COUNT, &[("event_name", "a"), ("instance", instance)]).concat();
    until(&store, "the other instance is there", |_| !of("two").is_empty()).await;
    // What was counted before shows at once, and is not counted again as if it had just happened.
    let values: Vec<_> = of("one").iter().map(|(_, value)| *value).collect();
    assert!(matches!(values[..], [.., last, end] if last == 3.0 && is_stale(end)), "{values:?}");
    assert_eq!(of("two")[0].1, 3.0);
    publish(&mut second, &["a"]).await;
    until_counted(&store, 4.0).await;
}

#[tokio::test]
async fn other_buckets_are_other_series_of_the_same_name_and_nothing_is_counted_twice() {
    let store = Store::new();
    let mut first = opened(config(&store, "buckets = [0.1, 1]")).await;
    publish(&mut first, &["a"]).await;
    until_counted(&store, 1.0).await;
    publish(&mut first, &["a"]).await;
    let mut second = succeeded(first, config(&store, "buckets = [0.1, 5]")).await;
    // More than there was before: only a zero between them tells that the count began anew.
    publish(&mut second, &["a", "a", "a"]).await;
    until_counted(&store, 5.0).await;
    let bucket = |le: &str| store.samples("event_duration_seconds_bucket", &[("le", le)]).concat();
    until(&store, "the old bucket has ended", |_| is_stale(bucket("1").last().unwrap().1)).await;
    assert_eq!(store.increase("event_duration_seconds_bucket", &[("le", "0.1")]), 5.0);
    assert!(!bucket("5").is_empty());
}

#[tokio::test]
async fn a_receiver_that_asks_for_patience_gets_it() {
    let store = Store::new();
    let patience = Reply::Say(429, vec![("retry-after", "1".to_owned())], "too much".to_owned());
    store.treat([Treatment::Refuse(patience), Treatment::Take]);
    let mut publisher = opened(config(&store, "")).await;
    publish(&mut publisher, &["a"]).await;
    until_counted(&store, 1.0).await;
    let times = store.times();
    assert!(times[1] - times[0] >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_keep_a_successor_or_an_end_waiting() {
    let hung = Store::new();
    hung.treat([Treatment::Refuse(Reply::Hang)]);
    let store = Store::new();
    let mut first = opened(config(&hung, "")).await;
    publish(&mut first, &["a"]).await;
    until(&hung, "it hangs", |store| !store.requests().is_empty()).await;
    let began = tokio::time::Instant::now();
    let second = succeeded(first, config(&store, "")).await;
    until_counted(&store, 1.0).await;
    // Whatever waits for the receiver waits until the request times out.
    assert!(began.elapsed() < super::REQUEST_TIMEOUT, "{:?}", began.elapsed());

    let mut third = succeeded(second, config(&hung, "")).await;
    until(&hung, "it hangs again", |store| store.requests().len() > 1).await;
    let given_up = tokio::time::timeout(Duration::from_millis(100), third.close()).await;
    assert!(given_up.is_err());
    drop(third);
}

#[test]
fn every_problem_of_the_settings_is_named_and_no_key_is_shown() {
    let text = r#"
        url = "prometheus"
        api_key = "glc_hush"
        push_interval = "5m"
        job = ""
        instance = ""
        external_labels = { cluster = "", "a-b" = "x", __name = "x", job = "x", le = "x", Zone_1 = "y" }
        labels = ["job", "Zone.1"]
        buckets = []
        max_series = 1
        idle_expiry = "0s"
    "#;
    let config: GrafanaCloudConfig = toml::from_str(text).unwrap();
    let problems = config.problems();
    let keys: Vec<_> = problems.iter().map(|(key, _)| key.as_str()).collect();
    let expected = [
        "url",
        "api_key",
        "buckets",
        "max_series",
        "idle_expiry",
        "push_interval",
        "job",
        "instance",
        "labels",
        "external_labels.Zone_1",
        "external_labels.__name",
        "external_labels.a-b",
        "external_labels.cluster",
        "external_labels.job",
        "external_labels.le",
    ];
    assert_eq!(keys, expected, "{problems:#?}");
    assert!(!format!("{config:?}").contains("hush"));
    assert!(toml::from_str::<GrafanaCloudConfig>("url = 'http://x/y'\nuser = true").is_err());
    let config: GrafanaCloudConfig =
        toml::from_str("url = 'http://x/y'\nuser = 123456\napi_key = 'x'").unwrap();
    assert_eq!((config.user.as_deref(), config.push_interval.as_secs()), (Some("123456"), 60));
    // Unique to the process, the same for its life, and another one for another publisher.
    assert_eq!(config.instance("a"), config.instance("a"));
    assert_ne!(config.instance("a"), config.instance("b"));
}
