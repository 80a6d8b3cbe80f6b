//! A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url".

use pressroom_plugin::{EventBatch, Format, NetworkBatch, PublishError, PublishResult, Publisher, config, http};
use std::time::Duration;

#[derive(Default)]
struct Forwarder;

impl Publisher for Forwarder {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        forward(&events.encode(Format::JsonLines)?) // rendered by the host, at native speed
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        forward(&operations.encode(Format::JsonLines)?)
    }
}

fn forward(lines: &[u8]) -> PublishResult {
    let url = config::get("url")
        .ok_or_else(|| PublishError::hold("config: \"url\" is missing: where to forward to"))?;
    let answer = http::post(&url, &[("content-type", "application/x-ndjson")], lines)
        .map_err(|cause| PublishError::retry(format!("no answer from {url}: {cause}")))?;
    match answer.status {
        200..300 => Ok(vec![]), // no row was left out: the host forgets them all
        status => Err(refused(status, answer.header("retry-after"))),
    }
}

/// What is to become of a batch that the server did not take.
fn refused(status: u16, retry_after: Option<&str>) -> PublishError {
    let reason = format!("the server answered {status}");
    match status {
        401 | 403 => PublishError::hold(format!("{reason}: is the credential right?")),
        429 | 500.. => match retry_after.and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => PublishError::retry_after(reason, Duration::from_secs(seconds)),
            None => PublishError::retry(reason),
        },
        _ => PublishError::reject(reason),
    }
}

pressroom_plugin::export!(Forwarder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_becomes_of_the_batch() {
        assert!(matches!(refused(403, None), PublishError::Hold(_)));
        assert!(matches!(refused(404, None), PublishError::Reject(_)));
        assert_eq!(
            refused(503, Some("2")),
            PublishError::retry_after("the server answered 503", Duration::from_secs(2))
        );
    }
}
