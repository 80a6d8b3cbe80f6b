//! A service that embeds Pressroom: it records what it does, has a publisher of its own, and asks for a report.
//!
//! Run it with `cargo run --example embed`.
#![allow(clippy::print_stdout)]

use pressroom::host::{Closing, Host};
use pressroom::publisher::{PublishResult, Publisher};
use pressroom::record::{EventBatch, NetworkBatch};
use std::time::Duration;

/// Publishes to wherever this service likes: here it counts.
#[derive(Default)]
struct Count {
    events: usize,
    operations: usize,
}

#[async_trait::async_trait]
impl Publisher for Count {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.events += events.len();
        println!("published {} events", self.events);
        Ok(Vec::new())
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.operations += operations.len();
        println!("published {} network operations", self.operations);
        Ok(Vec::new())
    }
}

/// Does the service's work, and gives the host's final account.
pub async fn serve() -> anyhow::Result<Closing> {
    let host = Host::builder().publisher("count", Count::default).start().await?;
    let recorder = host.recorder();
    for task in ["41", "42", "43"] {
        let event = recorder.event("resize").task(task).pipeline("thumbs").start();
        let put = recorder.network("PUT", "s3.local", 443).task(task).start();
        put.finish(20_480, 312);
        match task {
            "42" => event.fail("disk full"),
            _ => event.complete(),
        }
    }
    for failed in host.report().failed_events().events.rows {
        println!("failed: {}", serde_json::to_string(&failed)?);
    }
    Ok(host.shutdown(Duration::from_secs(10)).await)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let closing = serve().await?;
    println!("balanced: {}, dropped: {}", closing.balanced(), closing.dropped());
    Ok(())
}
