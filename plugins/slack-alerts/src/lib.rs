//! A plugin that tells people in Slack what failed: a digest at every flush, so that a thousand failures are one message.
//!
//! What came is held until a flush has told it. With `acknowledge = "flush"` the host keeps those rows until then, and a
//! lost instance loses none.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod digest;

use digest::Digest;
use pressroom_plugin::{
    EventBatch, EventStatus, NetworkBatch, PublishError, PublishResult, Publisher, config, http,
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    url: String,
    channel: Option<String>,
    max_names: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: "https://slack.com/api/chat.postMessage".to_owned(), channel: None, max_names: 10 }
    }
}

#[derive(Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    text: String,
}

/// What Slack's API answers with status 200, whatever became of it.
#[derive(Deserialize)]
struct Verdict {
    ok: bool,
    #[serde(default)]
    error: String,
}

struct Alerts {
    settings: Settings,
    digest: Digest,
}

impl Alerts {
    fn start() -> Result<Self, String> {
        let settings: Settings = config::load()?;
        if settings.channel.is_none() && settings.url == Settings::default().url {
            return Err("config: \"channel\" is missing, such as #ops".to_owned());
        }
        Ok(Self { digest: Digest::new(settings.max_names), settings })
    }

    fn body(&self) -> Result<Vec<u8>, PublishError> {
        let message = Message { channel: self.settings.channel.as_deref(), text: self.digest.message() };
        serde_json::to_vec(&message).map_err(|cause| PublishError::reject(cause.to_string()))
    }
}

/// What the answer means. An incoming webhook answers `ok` in plain text, or a status that is none of 2xx.
fn told(answer: http::Response) -> Result<(), PublishError> {
    let answer = answer.accepted()?;
    match serde_json::from_slice::<Verdict>(&answer.body) {
        Ok(Verdict { ok: false, error }) => {
            let reason = format!("Slack answered {error}");
            let later =
                ["ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"];
            Err(if later.contains(&&*error) {
                PublishError::retry(reason)
            } else {
                PublishError::hold(reason)
            })
        }
        _ => Ok(()),
    }
}

impl Publisher for Alerts {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        for event in events.rows().filter(|event| event.status() == EventStatus::Failed) {
            self.digest.add(event.event_name(), event.task_id(), event.error().unwrap_or("no reason given"));
        }
        Ok(Vec::new())
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        for row in operations.rows() {
            if let Some(error) = row.error() {
                let name = format!("{} {}", row.operation(), row.host());
                self.digest.add(&name, row.task_id(), error);
            }
        }
        Ok(Vec::new())
    }

    fn flush(&mut self) -> Result<(), PublishError> {
        if self.digest.is_empty() {
            return Ok(());
        }
        let json = [("content-type", "application/json; charset=utf-8")];
        told(http::post(&self.settings.url, &json, &self.body()?)?)?;
        self.digest.clear();
        Ok(())
    }
}

pressroom_plugin::export!(Alerts, Alerts::start);

#[cfg(test)]
mod tests {
    use super::*;
    use pressroom_plugin::EventMetrics;

    fn answer(status: u16, body: &str) -> http::Response {
        http::Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn what_slack_refuses_is_told_to_people_or_comes_again() {
        assert_eq!(told(answer(200, "ok")), Ok(()));
        assert_eq!(told(answer(200, "{\"ok\":true,\"ts\":\"1\"}")), Ok(()));
        let refused = |error: &str| told(answer(200, &format!("{{\"ok\":false,\"error\":\"{error}\"}}")));
        assert_eq!(refused("ratelimited"), Err(PublishError::retry("Slack answered ratelimited")));
        assert_eq!(refused("channel_not_found"), Err(PublishError::hold("Slack answered channel_not_found")));
        assert!(matches!(told(answer(429, "")), Err(PublishError::Retry { .. })));
    }

    #[test]
    fn only_failures_are_told() {
        let event = |status| EventMetrics { event_name: "resize".into(), status, ..Default::default() };
        let mut alerts = Alerts { settings: Settings::default(), digest: Digest::new(10) };
        let batch =
            vec![event(EventStatus::Completed), event(EventStatus::Failed), event(EventStatus::Cancelled)];
        assert_eq!(alerts.publish_event_metrics(&batch.into()), Ok(vec![]));
        assert!(
            alerts.digest.message().starts_with("*1 failed*\n• 1 × resize"),
            "{}",
            alerts.digest.message()
        );
        alerts.settings.channel = Some("#ops".into());
        let body: serde_json::Value = serde_json::from_slice(&alerts.body().unwrap()).unwrap();
        assert_eq!(body["channel"], "#ops");
        // Outside of a host there is no network: what was not told is kept.
        assert!(alerts.flush().is_err() && !alerts.digest.is_empty());
    }
}
