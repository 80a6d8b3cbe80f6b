//! From a file that is dropped into the plugin directory of a running host to the first record that it has published:
//! noticed, read, checked, compiled or taken from the cache, started, and POSTed to loopback.

use super::author::BINARY;
use super::forward::section;
use super::sink::Sink;
use super::support::median;
use pressroom::host::Host;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

/// Milliseconds, cold and with the compiled code in the cache: the median of five each.
pub struct Reach {
    pub cold: f64,
    pub cached: f64,
}

/// Drops `file` into a host, each time into a fresh one: `ROUNDS` times without a cache, `ROUNDS` times with it.
pub async fn measure(file: &Path, language: &str, sink: &Sink) -> Reach {
    let mut reach = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        for (at, state) in ["cold", "cached"].into_iter().enumerate() {
            let path = format!("{language}-{state}-{round}");
            reach[at].push(drop_in(dir.path(), file, &sink.url(&path), || sink.first(&path)).await);
        }
    }
    let [cold, cached] = reach.map(median);
    Reach { cold, cached }
}

/// Whether optimised code lies in the cache.
fn is_optimised(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir.join("cache")) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("-optimised-"))
}

/// Milliseconds from the drop to the arrival.
async fn drop_in(dir: &Path, file: &Path, url: &str, arrived: impl FnOnce() -> Instant + Send) -> f64 {
    let plugins = dir.join("plugins");
    let _ = std::fs::remove_dir_all(&plugins);
    std::fs::create_dir(&plugins).unwrap();
    let config = format!(
        "[plugins]\ncache_dir = \"cache\"\n[publishers.dropped]\ntype = \"wasm\"\nplugin = \"dropped\"\n{}",
        section(url)
    );
    std::fs::write(dir.join("pressroom.toml"), config).unwrap();
    std::fs::copy(file, dir.join("dropped.new")).unwrap();
    let builder = Host::builder().config_file(dir.join("pressroom.toml")).compiler(BINARY);
    let host = builder.start().await.unwrap();
    host.recorder().event("waits").task("1").start().complete();
    // It waits in the journal by now, and the host for nothing but the file.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let dropped = Instant::now();
    std::fs::rename(dir.join("dropped.new"), plugins.join("dropped.wasm")).unwrap();
    let arrived = tokio::task::block_in_place(arrived);
    // Later starts find what is in the cache by then.
    let most = Instant::now() + Duration::from_secs(120);
    while !is_optimised(dir) && Instant::now() < most {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let closing = host.shutdown(Duration::from_secs(10)).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    (arrived - dropped).as_secs_f64() * 1_000.0
}
