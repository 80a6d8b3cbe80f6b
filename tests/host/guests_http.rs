//! The plugins in Rust that speak HTTP: `slack-alerts` against a server of the test's own, `influx` against a real
//! VictoriaMetrics.

use crate::support::servers::Metrics;
use crate::support::{Folder, PATIENCE, Receiver, event, guest, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

fn failed(number: u64, name: &str) -> Value {
    let mut event = event(number);
    event["event_name"] = name.into();
    event["status"] = "failed".into();
    event["error"] = "disk <full>".into();
    event
}

/// How many failures a message tells of.
fn told(body: &str) -> u64 {
    let message: Value = serde_json::from_str(body).unwrap();
    assert_eq!(message["channel"], "#ops");
    let text = message["text"].as_str().unwrap();
    assert!(text.contains(" × ") && text.contains("disk &lt;full&gt;"), "{text}");
    text.strip_prefix('*').unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_is_told_of_every_failure_once_and_of_nothing_else() {
    let busy = (200, "{\"ok\":false,\"error\":\"ratelimited\"}");
    let slack = Receiver::start(&[(503, "later"), busy], (200, "{\"ok\":true}")).await;
    let url = format!("{}/api/chat.postMessage", slack.url());
    let folder = Folder::new(&format!(
        "[publishers.alerts]\ntype = \"wasm\"\nplugin = \"slack-alerts\"\nonly = {{ status = [\"failed\"] }}\n\
         flush_interval = \"100ms\"\nacknowledge = \"flush\"\nconfig = {{ url = \"{url}\", channel = \"#ops\" }}\n\
         [publishers.alerts.grant]\nhttp = [\"POST {url}\"]\n\
         inject = [{{ to = \"{}\", bearer = \"xoxb-of-the-tests\" }}]\n",
        slack.url()
    ));
    folder.drop_in("slack-alerts", &guest("slack_alerts"));
    let running = folder.start().await;
    let api = &running.api;
    let names = ["resize", "store"];
    let failures: Value = (0..60).map(|number| failed(number, names[(number % 2) as usize])).collect();
    api.post(&failures).await;
    api.post(&(100..200).map(event).collect()).await;
    // What it could not tell at first it tells later, and what came meanwhile with it; until then it is not delivered.
    let all = || async {
        let delivered = api.publisher("alerts").await["books"]["delivered"].as_u64().unwrap();
        let said: u64 = slack.received().iter().skip(2).map(|request| told(&request.body)).sum();
        assert!(delivered <= said, "{delivered} are delivered, and {said} were told");
        (said == 60).then_some(())
    };
    until("all is told, each once", all).await;
    api.until_delivered("alerts", 60).await;
    for request in slack.received() {
        assert_eq!(request.what, "POST /api/chat.postMessage");
        assert_eq!(request.headers["authorization"], "Bearer xoxb-of-the-tests");
        assert!(request.headers["content-type"].to_str().unwrap().starts_with("application/json"));
    }
    let status = api.publisher("alerts").await;
    assert!(!status.to_string().contains("xoxb"), "{status:#}");
    assert_eq!(status["books"]["filtered"], 100, "{status:#}");
    assert_eq!(status["books"]["delivered"], 60, "{status:#}");
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_slack_is_not_asked_and_the_operator_is_told() {
    let slack = Receiver::start(&[], (200, "ok")).await;
    let folder = Folder::new(&format!(
        "[publishers.alerts]\ntype = \"wasm\"\nplugin = \"slack-alerts\"\nflush_interval = \"100ms\"\n\
         config = {{ url = \"{}/services/T0\" }}\n",
        slack.url()
    ));
    folder.drop_in("slack-alerts", &guest("slack_alerts"));
    let running = folder.start().await;
    running.api.post(&Value::from(vec![failed(1, "resize")])).await;
    let denied =
        running.api.until("alerts", "is denied", |status| status.to_string().contains("not granted")).await;
    assert!(slack.received().is_empty(), "{denied:#}");
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_has_every_point_that_influx_wrote_through_an_outage() {
    let Some(mut victoria) = Metrics::victoria().await else { return };
    let url = format!("{}/write", victoria.promql.api().url());
    let folder = Folder::new(&format!(
        "[publishers.influx]\ntype = \"wasm\"\nplugin = \"influx\"\nconfig = {{ url = \"{url}?db=pressroom\" }}\nretry = {{ max = \"200ms\" }}\n\
         grant = {{ http = [\"POST {url}\"] }}\n"
    ));
    folder.drop_in("influx", &guest("influx"));
    let running = folder.start().await;
    let api = &running.api;
    api.post(&points(0..300)).await;
    api.until_delivered("influx", 300).await;
    victoria.stop().await;
    api.post(&points(300..400)).await;
    api.until("influx", "is refused", |status| !status["last_error"].is_null()).await;
    victoria.start_again().await;
    api.until_delivered("influx", 400).await;
    let names = [("resize", 200.0), ("store", 200.0)];
    let wanted: BTreeMap<_, _> = names.map(|(name, count)| (name.to_owned(), count)).into();
    let counts = "sum by (event_name) (count_over_time(pressroom_event_duration_seconds[1d]))";
    victoria.promql.until(counts, "event_name", &wanted).await;
    let sums = "sum by (event_name) (sum_over_time(pressroom_event_duration_seconds[1d]))";
    let wanted: BTreeMap<_, _> = names.map(|(name, _)| (name.to_owned(), 50.0)).into();
    victoria.promql.until(sums, "event_name", &wanted).await;
    assert!(running.host.shutdown(PATIENCE).await.balanced());
}

/// Events of a quarter of a second each, a millisecond apart, an hour ago.
fn points(numbers: std::ops::Range<u64>) -> Value {
    let begin = std::time::SystemTime::now() - Duration::from_secs(3_600);
    let at = |millis| pressroom::record::Timestamp::from(begin + Duration::from_millis(millis)).to_string();
    let point = |number| {
        let mut event = event(number);
        event["event_name"] = ["resize", "store"][(number % 2) as usize].into();
        event["start_time"] = at(number).into();
        event["end_time"] = at(number + 250).into();
        event
    };
    numbers.map(point).collect()
}
