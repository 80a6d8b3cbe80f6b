//! Real plugins, built from `plugins/` and `tests/hostile`, through the contract that delivery uses.

mod bounds;
#[cfg(unix)]
mod dirs;
pub(super) mod guests;
#[cfg(feature = "cli")]
mod held;
mod hostile;
mod http;
mod inject;
pub(super) mod server;
mod sockets;
mod supervision;
mod tiers;

use super::{HostSettings, LoadError, PluginHost, WasmConfig};
use crate::publisher::{Context, Factory, PublishError, PublishResult, Publisher};
use crate::record::{EventBatch, EventMetrics, NetworkBatch, NetworkMetrics, Status, Timestamp};
use serde_json::Value;
use std::path::Path;
use std::sync::LazyLock;

/// One for all tests: each file is compiled once, and its instances are not replaced by better ones meanwhile.
static HOST: LazyLock<(PluginHost, tempfile::TempDir)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = Some(dir.path().join("cache"));
    let settings = HostSettings { cache_dir, baseline: false, ..HostSettings::default() };
    (PluginHost::new(settings).unwrap(), dir)
});

/// Builds the plugin `name` with a section, for tests of other rooms.
pub(crate) fn factory(name: &str, section: &str) -> Factory {
    let config: WasmConfig = toml::from_str(section).unwrap();
    assert_eq!(config.validate(), []);
    HOST.0.factory(config, guests::plugin(name))
}

/// A plugin under test, and what was seen of it.
struct Subject {
    publisher: Box<dyn Publisher>,
}

impl Subject {
    /// Builds the plugin `name` under the label `subject`, with a section.
    async fn build(name: &str, section: &str, base_dir: &Path) -> anyhow::Result<Self> {
        Self::load(&guests::plugin(name), section, base_dir).await
    }

    async fn load(file: &Path, section: &str, base_dir: &Path) -> anyhow::Result<Self> {
        let config: WasmConfig = toml::from_str(section).unwrap();
        assert_eq!(config.validate(), []);
        let build = HOST.0.factory(config, file.to_owned());
        Ok(Self { publisher: build(Context::detached("subject", base_dir)).await? })
    }

    async fn hostile(section: &str) -> anyhow::Result<Self> {
        Self::build("hostile", section, Path::new("")).await
    }

    async fn publish(&mut self) -> PublishResult {
        self.publisher.publish_event_metrics(&events(3)).await
    }

    /// Publishes, waiting for the next instance as long as the plugin's publisher says.
    async fn publish_when_due(&mut self) -> PublishResult {
        loop {
            match self.publish().await {
                Err(PublishError::Retry { reason, after: Some(after) })
                    if reason.contains("waits for its next") =>
                {
                    tokio::time::sleep(after).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// A call must fail for `cause`, in words that name the plugin, and leave nothing behind.
    async fn fails(&mut self, cause: &str) {
        let error = self.publish_when_due().await.unwrap_err();
        let PublishError::Retry { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.starts_with("plugin subject: ") && reason.contains(cause), "{reason}");
        assert!(reason.len() < 8 << 10, "a reason of {} bytes", reason.len());
        assert_eq!(self.count("memory_bytes"), 0, "its memory is back");
        let told = self.status()["last_error"].as_str().unwrap().to_owned();
        assert!(reason.ends_with(&told), "{reason} / {told}");
    }

    fn status(&self) -> Value {
        self.publisher.status().unwrap()()
    }

    fn count(&self, key: &str) -> u64 {
        self.status()[key].as_u64().unwrap()
    }

    fn log(&self) -> Vec<String> {
        let log = &self.status()["log"];
        log.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    fn says(&self, text: &str) {
        assert!(self.log().iter().any(|line| line.contains(text)), "no \"{text}\" in {:#?}", self.log());
    }
}

fn event(number: u32) -> EventMetrics {
    let start = Timestamp::from_nanos(1_700_000_000_000_000_000 + u64::from(number));
    let mut event = EventMetrics::started(
        uuid::Uuid::from_u128(number.into()),
        format!("resize-{}", number % 7),
        format!("a task with a longer name than fits in place {number}"),
        start,
    );
    event.end_time = Some(Timestamp::from_nanos(start.as_nanos() + 5_000_000));
    event.status = if number.is_multiple_of(3) { Status::Failed } else { Status::Completed };
    event.error = number.is_multiple_of(3).then(|| "dîsk full".into());
    event.pipeline_id = number.is_multiple_of(2).then(|| "thumbs".into());
    event.process_id = Some(number);
    event.retry_count = number % 4;
    event.attributes.insert("region", "eu");
    event.attributes.insert("size", i64::from(number));
    event
}

fn operation(number: u32) -> NetworkMetrics {
    let start = Timestamp::from_nanos(1_700_000_000_000_000_000 + u64::from(number));
    let mut operation =
        NetworkMetrics::started(uuid::Uuid::from_u128(number.into()), "task", "PUT", "s3.local", 443, start);
    operation.end_time = Some(Timestamp::from_nanos(start.as_nanos() + 1));
    operation.bytes_sent = u64::from(number) << 20;
    operation.bytes_received = 3;
    operation.error = number.is_multiple_of(5).then(|| "reset".into());
    operation.attributes.insert("zone", true);
    operation
}

fn events(rows: u32) -> EventBatch {
    EventBatch::detached((0..rows).map(event).collect())
}

fn operations(rows: u32) -> NetworkBatch {
    NetworkBatch::detached((0..rows).map(operation).collect())
}

#[tokio::test]
async fn every_view_hands_over_every_field_of_every_row() {
    let mut seen = Vec::new();
    for way in ["count-records", "count-columns"] {
        let mut plugin = Subject::hostile(&format!("config = {{ do = '{way}' }}")).await.unwrap();
        // Parts of batches take another way to the views than whole ones.
        let part = events(1_024).select([1, 2, 3, 700]);
        for batch in [events(1_024), part] {
            assert_eq!(plugin.publisher.publish_event_metrics(&batch).await, Ok(vec![]));
        }
        assert_eq!(plugin.publisher.publish_network_metrics(&operations(100)).await, Ok(vec![]));
        plugin.publisher.flush().await.unwrap();
        plugin.says("rows=1128 events=1028 operations=100 bytes=");
        seen.push(plugin.log());
        assert_eq!(plugin.count("calls"), 3);
        assert_eq!(plugin.count("instances_started"), 1);
        assert_eq!(plugin.count("traps"), 0);
    }
    assert_eq!(seen[0], seen[1], "the views agree");
}

#[tokio::test]
async fn encoded_views_are_those_that_native_publishers_write() {
    let (events, operations) = (events(1_024), operations(10));
    for format in ["json-lines", "line-protocol", "json-columns", "otlp-protobuf"] {
        let section = format!("config = {{ do = 'count-encode', format = '{format}' }}");
        let mut plugin = Subject::hostile(&section).await.unwrap();
        assert_eq!(plugin.publisher.publish_event_metrics(&events).await, Ok(vec![]));
        assert_eq!(plugin.publisher.publish_network_metrics(&operations).await, Ok(vec![]));
        plugin.publisher.flush().await.unwrap();
        let parsed = format.parse().unwrap();
        let bytes = events.encode(parsed).len() + operations.encode(parsed).len();
        plugin.says(&format!("bytes={bytes}"));
    }
    let mut plugin = Subject::hostile("config = { do = 'count-encode', format = 'yaml' }").await.unwrap();
    let refused = plugin.publish().await.unwrap_err().to_string();
    assert!(refused.contains("json-columns"), "{refused}");
    assert_eq!(plugin.count("traps"), 0);
}

#[tokio::test]
async fn lines_are_written_to_a_granted_directory_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let section = "config = { dir = '/out', file = 'all.jsonl' }\ngrant = { dirs = [{ host = 'spool', guest = '/out', write = true }] }";
    let missing = Subject::build("ndjson", section, dir.path()).await.err().unwrap().to_string();
    let spool = dir.path().join("spool");
    assert!(
        missing.contains(&format!("the granted directory {} cannot be opened", spool.display())),
        "{missing}"
    );

    std::fs::create_dir(&spool).unwrap();
    let mut plugin = Subject::build("ndjson", section, dir.path()).await.unwrap();
    let (events, operations) = (events(50), operations(7));
    assert_eq!(plugin.publisher.publish_event_metrics(&events).await, Ok(vec![]));
    assert_eq!(plugin.publisher.publish_network_metrics(&operations).await, Ok(vec![]));
    plugin.publisher.flush().await.unwrap();
    let format = "json-lines".parse().unwrap();
    let expected = [events.encode(format), operations.encode(format)].concat();
    assert_eq!(std::fs::read(spool.join("all.jsonl")).unwrap(), expected);
}

#[tokio::test]
async fn a_variable_is_there_when_granted_and_its_absence_is_named() {
    let mut plugin =
        Subject::hostile("config = { do = 'read-env' }\ngrant = { env = ['CARGO_PKG_NAME'] }").await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says(r#"read-env: got [("CARGO_PKG_NAME", "pressroom")]"#);
    plugin.says("read-args: denied");
    let unset =
        Subject::hostile("grant = { env = ['PRESSROOM_IS_NOT_SET'] }").await.err().unwrap().to_string();
    assert!(unset.contains("the granted variable PRESSROOM_IS_NOT_SET is not set"), "{unset}");
}

#[tokio::test]
async fn the_cache_is_used_by_another_host() {
    let dir = tempfile::tempdir().unwrap();
    let mut cached = Vec::new();
    for _ in 0..2 {
        let cache_dir = Some(dir.path().join("deep/cache"));
        let settings = HostSettings { cache_dir, baseline: false, ..HostSettings::default() };
        let host = PluginHost::new(settings).unwrap();
        let build = host.factory(WasmConfig::default(), guests::plugin("rollup"));
        let plugin = build(Context::detached("rollup", "")).await.unwrap();
        let status = plugin.status().unwrap()();
        cached.push(status["cached"].as_bool().unwrap());
        assert_eq!(status["digest"], super::digest(guests::plugin("rollup")).unwrap());
        assert_eq!(status["interface"], "0.1.0");
    }
    assert_eq!(cached, [false, true]);
}

#[tokio::test]
async fn a_rollup_reads_columns_and_reports_at_flush() {
    let mut plugin = Subject::build("rollup", "", Path::new("")).await.unwrap();
    assert_eq!(plugin.publisher.publish_event_metrics(&events(700)).await, Ok(vec![]));
    assert_eq!(plugin.publisher.publish_network_metrics(&operations(30)).await, Ok(vec![]));
    plugin.publisher.flush().await.unwrap();
    plugin.says("resize-3");
    plugin.says("PUT");
}

#[tokio::test]
async fn functions_of_another_type_are_refused_before_anything_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.wasm");
    let wrong = r#"(component
        (core module $m (func (export "f") unreachable))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $publisher
            (export "publish-event-metrics" (func $f))
            (export "publish-network-metrics" (func $f)))
        (export "pressroom:publisher/publisher@0.1.0" (instance $publisher)))"#;
    std::fs::write(&file, wat::parse_str(wrong).unwrap()).unwrap();
    let refused = Subject::load(&file, "", dir.path()).await.err().unwrap();
    assert!(matches!(refused.downcast_ref(), Some(LoadError::Link { .. })), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains(
            "wrong.wasm does not fit the contract pressroom:publisher@0.1.0: publish-event-metrics"
        ),
        "{text}"
    );
    assert!(text.ends_with("build it against wit/0.1/publisher.wit of this host"), "{text}");

    let lacking = wrong.replace(r#"(export "publish-network-metrics" (func $f))"#, "");
    std::fs::write(&file, wat::parse_str(lacking).unwrap()).unwrap();
    let text = Subject::load(&file, "", dir.path()).await.err().unwrap().to_string();
    assert!(text.contains("does not export publish-network-metrics"), "{text}");

    let real = std::fs::read(guests::plugin("hostile")).unwrap();
    for part in [real.len() / 3, real.len() - 100] {
        std::fs::write(&file, &real[..part]).unwrap();
        let text = Subject::load(&file, "", dir.path()).await.err().unwrap().to_string();
        assert!(text.contains("wrong.wasm is truncated or damaged: "), "{text}");
    }
}

#[tokio::test]
async fn a_pinned_plugin_runs_and_another_in_its_place_does_not() {
    let digest = super::digest(guests::plugin("hostile")).unwrap();
    let mut plugin = Subject::hostile(&format!("sha256 = '{digest}'")).await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    let refused =
        Subject::build("rollup", &format!("sha256 = '{digest}'"), Path::new("")).await.err().unwrap();
    assert!(refused.to_string().contains("pins sha256"), "{refused}");
}

#[tokio::test]
async fn a_stranger_spinning_on_the_same_thread_holds_up_nobody() {
    let spin = "config = { do = 'spin' }\nlimits = { cpu_per_call = '5m', call_timeout = '10m' }";
    let mut spinning = Subject::hostile(spin).await.unwrap();
    let mut honest = Subject::hostile("").await.unwrap();
    let batch = events(3);
    let spin = spinning.publisher.publish_event_metrics(&batch);
    let work = async {
        for _ in 0..20 {
            assert_eq!(honest.publish().await, Ok(vec![]));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        outcome = spin => panic!("the spinning one ended first: {outcome:?}"),
        () = work => {}
    }
}
