//! A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url".

use pressroom_plugin::{EventBatch, Format, NetworkBatch, PublishError, PublishResult, Publisher, config, http};

#[derive(Default)]
struct Forwarder;

impl Publisher for Forwarder {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        // Rendered by the host, at native speed.
        forward(&url()?, &events.encode(Format::JsonLines)?)
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        forward(&url()?, &operations.encode(Format::JsonLines)?)
    }
}

fn url() -> Result<String, PublishError> {
    config::get("url").ok_or_else(|| PublishError::hold("config: \"url\" is missing: where to forward to"))
}

fn forward(url: &str, lines: &[u8]) -> PublishResult {
    let answer = http::post(url, &[("content-type", "application/x-ndjson")], lines)?;
    // 429 and 5xx are retried, when the server says; 401, 403 and 404 are held; any other refusal is for good.
    answer.accepted()?;
    Ok(vec![]) // no row was left out: the host forgets them all
}

pressroom_plugin::export!(Forwarder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_a_batch_is_held() {
        let events = EventBatch::from(vec![]);
        assert!(matches!(Forwarder.publish_event_metrics(&events), Err(PublishError::Hold { .. })));
    }
}
