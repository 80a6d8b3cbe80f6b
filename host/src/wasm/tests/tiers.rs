//! The two tiers: a new plugin runs at once on its baseline, and on its optimised code when that is ready.

use super::{Context, HostSettings, PluginHost, WasmConfig, events, guests, operations};
use crate::publisher::{PublishError, Publisher};
use serde_json::Value;
use std::path::Path;

/// A host of its own, with a cache.
fn host(dir: &Path) -> PluginHost {
    PluginHost::new(HostSettings { cache_dir: Some(dir.join("cache")), ..HostSettings::default() }).unwrap()
}

async fn build(host: &PluginHost, name: &str, section: &str) -> anyhow::Result<Box<dyn Publisher>> {
    let config: WasmConfig = toml::from_str(section).unwrap();
    host.factory(config, guests::plugin(name))(Context::detached("tiers", "")).await
}

fn status(plugin: &dyn Publisher) -> Value {
    plugin.status().unwrap()()
}

/// Publishes until the optimised code has taken over. Returns the rows published.
async fn until_optimised(plugin: &mut dyn Publisher) -> u64 {
    let mut rows = 0;
    loop {
        assert_eq!(plugin.publish_event_metrics(&events(10)).await, Ok(vec![]));
        rows += 10;
        if status(plugin)["tier"] == "optimised" {
            return rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The rows that an instance that counts has told of, all instances together.
fn told(plugin: &dyn Publisher) -> u64 {
    let log = &status(plugin)["log"];
    let lines = log.as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    let counts =
        lines.filter_map(|line| line.split_once(" events=")?.1.split(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn a_new_plugin_runs_on_its_baseline_until_the_optimised_code_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let first = host(dir.path());
    let turn = first.0.programs.hold_optimising().await;
    let mut plugins = Vec::new();
    for way in ["count-records", "count-columns", "count-encode"] {
        let section = format!("config = {{ do = '{way}' }}");
        let mut plugin = build(&first, "hostile", &section).await.unwrap();
        assert_eq!(plugin.publish_network_metrics(&operations(20)).await, Ok(vec![]), "{way}");
        assert_eq!(plugin.publish_event_metrics(&events(1_000)).await, Ok(vec![]), "{way}");
        let before = status(&*plugin);
        assert_eq!((&before["tier"], &before["cached"]), (&"baseline".into(), &false.into()), "{before:#}");
        assert!(before["baseline_ms"].as_f64().unwrap() > 0.0 && before["optimised_ms"].is_null());
        plugins.push(plugin);
    }
    drop(turn);
    for mut plugin in plugins {
        let rows = 1_000 + until_optimised(&mut *plugin).await;
        plugin.flush().await.unwrap();
        // What the instance on the baseline held back it has handed on before it went.
        assert_eq!(told(&*plugin), rows);
        let after = status(&*plugin);
        assert!(after["optimised_ms"].as_f64().unwrap() > 0.0 && after["compiling"].is_null(), "{after:#}");
        assert_eq!((&after["instances_started"], &after["instances_retired"]), (&2.into(), &1.into()));
        assert_eq!(after["traps"], 0);
    }

    // Where the optimised code is at hand there is no baseline: neither in this host nor in the next.
    let held = || std::fs::read_dir(dir.path().join("cache")).unwrap().count();
    assert_eq!(held(), 1, "the optimised code alone is kept");
    for host in [&first, &host(dir.path())] {
        let plugin = build(host, "hostile", "").await.unwrap();
        let status = status(&*plugin);
        assert_eq!((&status["tier"], &status["cached"]), (&"optimised".into(), &true.into()), "{status:#}");
        assert!(status["baseline_ms"].is_null(), "{status:#}");
        drop(plugin);
        assert_eq!(held(), 1);
    }
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn a_guest_is_bounded_on_its_baseline_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path());
    for (behaviour, compute, cause) in [
        ("spin", "200ms", "ran past its compute bound of 200ms"),
        ("stack-overflow", "5m", "overflowed its stack"),
        ("memory-bomb", "5m", "of memory where its limit is 16MiB"),
        ("trap", "5m", "trapped: "),
        ("panic", "5m", "it panics on purpose"),
    ] {
        let limits =
            format!("limits = {{ memory = '16MiB', cpu_per_call = '{compute}', call_timeout = '10m' }}");
        // Held here, so that no better code comes before the call.
        let _turn = host.0.programs.hold_optimising().await;
        let mut plugin =
            build(&host, "hostile", &format!("config = {{ do = '{behaviour}' }}\n{limits}")).await.unwrap();
        let error = plugin.publish_event_metrics(&events(3)).await.unwrap_err();
        let PublishError::Retry { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.contains(cause), "{behaviour}: {reason}");
        assert_eq!(status(&*plugin)["tier"], "baseline");
    }
}

#[tokio::test]
async fn a_plugin_that_does_not_start_is_not_compiled_for_each_try() {
    // Without a cache on the disk.
    let host = PluginHost::new(HostSettings::default()).unwrap();
    for _ in 0..3 {
        let refused =
            build(&host, "hostile", "config = { do = 'trap-start' }").await.err().unwrap().to_string();
        assert!(refused.contains("did not start"), "{refused}");
    }
    assert_eq!(host.0.programs.compiled_so_far(), 1);
    // Those that trap later do so on the same code.
    let mut plugin = build(&host, "hostile", "config = { do = 'trap' }").await.unwrap();
    for _ in 0..3 {
        plugin.publish_event_metrics(&events(3)).await.unwrap_err();
    }
    assert!(host.0.programs.compiled_so_far() <= 2, "one per tier");
}

#[tokio::test]
async fn nobody_is_let_write_where_compiled_code_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path());
    std::fs::create_dir(dir.path().join("out")).unwrap();
    // A link that came after the section was read leads there as well.
    std::os::unix::fs::symlink(dir.path().join("cache"), dir.path().join("link")).unwrap();
    for (granted, write, how) in [
        (".", true, Some("it holds ")),
        ("cache", true, Some("it decides ")),
        ("link", true, Some("it decides ")),
        ("out", true, None),
        (".", false, None),
    ] {
        let section = format!("grant.dirs = [{{ host = '{granted}', guest = '/out', write = {write} }}]");
        let config: WasmConfig = toml::from_str(&section).unwrap();
        let load =
            host.factory(config, guests::plugin("rollup"))(Context::detached("tiers", dir.path())).await;
        let refused = load.err().map(|error| error.to_string());
        match how {
            Some(how) => {
                assert!(refused.as_ref().is_some_and(|text| text.contains(how)), "{granted}: {refused:?}")
            }
            None => assert_eq!(refused, None, "{granted}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_compiled_is_remembered_and_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("invalid.wasm");
    // Its surface is that of a plugin, its code is not WebAssembly's: it adds a number to nothing.
    let invalid = r#"(component
        (core module $m (func (export "f") i32.const 1 i32.add drop))
        (instance $publisher)
        (export "pressroom:publisher/publisher@0.1.0" (instance $publisher)))"#;
    std::fs::write(&file, wat::parse_str(invalid).unwrap()).unwrap();
    let host = host(dir.path());
    let mut texts = Vec::new();
    for _ in 0..3 {
        let load = host.factory(WasmConfig::default(), file.clone())(Context::detached("invalid", ""));
        texts.push(load.await.err().unwrap().to_string());
    }
    assert!(texts[0].contains("invalid.wasm cannot be compiled: "), "{texts:?}");
    assert!(texts.iter().all(|text| *text == texts[0]), "told once, in the same words: {texts:?}");
    assert!(host.0.programs.compiled_so_far() <= 2, "one per tier");
}
