//! What a thousand instances of a plugin keep resident once each has published.

use super::support::records::event;
use pressroom::publisher::{Context, Publisher};
use pressroom::record::EventBatch;
use pressroom::wasm::{PluginHost, WasmConfig};
use std::path::Path;

const INSTANCES: usize = 1_000;
const ROWS: u32 = 1_024;

/// MiB that this process has grown by.
pub async fn measure(host: &PluginHost, file: &Path) -> f64 {
    let events: Vec<_> = (0..ROWS).map(event).collect();
    let factory = host.factory(WasmConfig::default(), file.to_owned());
    let mut living: Vec<Box<dyn Publisher>> = Vec::with_capacity(INSTANCES);
    // The first one pays for the code, and for what the host keeps for all.
    publish(&mut *factory(Context::detached("first", ".")).await.unwrap(), &events).await;
    let before = resident();
    for number in 0..INSTANCES {
        let mut plugin = factory(Context::detached(&format!("plugin-{number}"), ".")).await.unwrap();
        publish(&mut *plugin, &events).await;
        living.push(plugin);
    }
    let after = resident();
    assert_eq!(living.len(), INSTANCES);
    (after - before) / 1_048_576.0
}

async fn publish(plugin: &mut dyn Publisher, events: &[pressroom::record::EventMetrics]) {
    let outcome = plugin.publish_event_metrics(&EventBatch::detached(events.to_vec())).await;
    assert_eq!(outcome, Ok(Vec::new()));
}

/// Bytes that this process has resident.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1_024.0
}
