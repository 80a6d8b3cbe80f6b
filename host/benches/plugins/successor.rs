//! From the deadline of a call that computes for ever to a fresh instance that has published.

use super::support::median;
use super::support::records::event;
use pressroom::publisher::Context;
use pressroom::record::EventBatch;
use pressroom::wasm::{PluginHost, WasmConfig};
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// What a call may compute.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// Milliseconds from the call that will not end until its successor has published: the median of five.
pub async fn measure(host: &PluginHost, file: &Path) -> f64 {
    let section = "config = { do = 'spin-poison' }\nlimits = { cpu_per_call = '1s' }";
    let config: WasmConfig = toml::from_str(section).unwrap();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let factory = host.factory(config.clone(), file.to_owned());
        let mut plugin = factory(Context::detached("spins", ".")).await.unwrap();
        let mut poison = event(1);
        poison.event_name = "poison".into();
        let began = Instant::now();
        let failed = plugin.publish_event_metrics(&EventBatch::detached(vec![poison])).await;
        assert!(failed.is_err(), "it does not spin");
        // What delivery does next is its own; here it is a batch without poison, as soon as it is taken.
        let healthy = EventBatch::detached(vec![event(2)]);
        while plugin.publish_event_metrics(&healthy).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    median(took)
}
