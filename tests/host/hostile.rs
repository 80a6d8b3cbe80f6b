//! Plugins that do their worst in a running host: it answers, says which plugin and why, the publisher beside delivers
//! everything, and the books close.

use crate::support::{Api, Folder, Process, another_version, events, fixture, guest, until};
use serde_json::Value;
use std::time::Duration;

const ARCHIVE: &str = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";

/// A way to misbehave, and the words that must be in the reason.
const HOSTILE: &[(&str, &str)] = &[
    ("spin", "ran past its compute bound of 200ms"),
    ("trap", "wasm `unreachable` instruction executed"),
    ("panic", "it panics on purpose"),
    ("memory-bomb", "of memory where its limit is 16MiB"),
    ("stack-overflow", "overflowed its stack"),
    ("log-flood", "ran past its compute bound of 200ms"),
];

/// A section for the plugin `plugin` under `label` that behaves as `behaviour`.
fn section(label: &str, plugin: &str, behaviour: &str) -> String {
    format!(
        "[publishers.{label}]\ntype = \"wasm\"\nplugin = \"{plugin}\"\nconfig = {{ do = \"{behaviour}\" }}\n\
         limits = {{ cpu_per_call = \"200ms\", memory = \"16MiB\" }}\nretry = {{ max = \"1s\" }}\n"
    )
}

/// Files that are no plugins, and the words that must be in the reason: such that no file's name has them.
fn not_plugins() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = guest("hostile");
    vec![
        (
            "wrong-world",
            fixture("other-world.wat"),
            "is of another world: it exports example:hello/greetings@1.2.3, not ",
        ),
        ("wrong-type", fixture("wrong-type.wat"), "publish-event-metrics"),
        ("from-the-future", fixture("future-version.wat"), "is built against pressroom:publisher@9.9.0, "),
        ("core-module", fixture("core-module.wat"), "is a core WebAssembly module, not a component; "),
        ("truncated", whole[..whole.len() / 2].to_vec(), "truncated.wasm is truncated or damaged: "),
        ("not-wasm", b"#!/bin/sh\necho this is no plugin\n".to_vec(), "not-wasm.wasm is not WebAssembly; "),
        ("empty", Vec::new(), "empty.wasm is empty; "),
    ]
}

/// Waits until what is wrong with `label` is said, and fails unless the plugin and the `cause` are named.
async fn is_blamed(api: &Api, label: &str, plugin: &str, cause: &str) {
    let status = api.until(label, "failed", |status| !status["last_error"].is_null()).await;
    let reason = status["last_error"].as_str().unwrap();
    assert!(reason.contains(plugin) && reason.contains(cause), "{label}: {reason:?} lacks {cause:?}");
    assert_ne!(status["state"], "running", "{label}");
    let plugins = api.report("plugins").await;
    let text = plugins.to_string();
    assert!(text.contains(plugin), "{plugin} is not in {plugins:#}");
    assert!(said(&plugins, cause), "{cause:?} is not in {plugins:#}");
}

/// Whether `words` stand in a text of `report`.
fn said(report: &Value, words: &str) -> bool {
    match report {
        Value::String(text) => text.contains(words),
        Value::Array(items) => items.iter().any(|item| said(item, words)),
        Value::Object(fields) => fields.values().any(|field| said(field, words)),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_misbehaves_harms_nobody() {
    let plugin = guest("hostile");
    for (behaviour, cause) in HOSTILE {
        let folder = Folder::new(&format!("{ARCHIVE}{}", section("bad", "hostile", behaviour)));
        folder.drop_in("hostile", &plugin);
        let running = folder.start().await;
        running.api.post(&events(0..500)).await;
        is_blamed(&running.api, "bad", "bad", cause).await;
        running.api.post(&events(500..1_000)).await;
        let status = running.api.until_delivered("archive", 1_000).await;
        assert_eq!(status["failed_attempts"], 0);
        let bad = running.api.publisher("bad").await;
        assert_eq!(bad["books"]["accepted"], 1_000, "{behaviour}");
        assert_eq!(bad["books"]["delivered"], 0, "{behaviour}");
        let closing = running.host.shutdown(Duration::from_secs(3)).await;
        assert!(closing.balanced(), "{behaviour}: {closing:?}");
        folder.assert_holds("archive.jsonl", 0..1_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_plugin_is_refused_with_its_name_and_the_cause() {
    let folder = Folder::new(&format!("{ARCHIVE}{}", section("good", "good", "once")));
    folder.drop_in("good", &guest("hostile"));
    let running = folder.start().await;
    for (name, bytes, cause) in not_plugins() {
        folder.drop_in(name, &bytes);
        running.api.until(name, "failed", |status| status["state"] == "failed").await;
        is_blamed(&running.api, name, &format!("{name}.wasm"), cause).await;
    }
    running.api.post(&events(0..1_000)).await;
    running.api.until_delivered("archive", 1_000).await;
    running.api.until_delivered("good", 1_000).await;
    for (name, ..) in not_plugins() {
        std::fs::remove_file(folder.plugin(name)).unwrap();
        let gone = || async { running.api.publisher(name).await.is_null().then_some(()) };
        until(&format!("{name} is forgotten"), gone).await;
    }
    let closing = running.host.shutdown(Duration::from_secs(10)).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    folder.assert_holds("archive.jsonl", 0..1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_them_at_once_under_the_command() {
    let plugin = guest("hostile");
    let folder = Folder::new("");
    let mut config = ARCHIVE.to_owned();
    for (behaviour, _) in HOSTILE {
        config += &section(behaviour, behaviour, behaviour);
        folder.drop_in(behaviour, &another_version(&plugin, behaviour));
    }
    for (name, bytes, _) in not_plugins() {
        config += &section(name, name, "once");
        folder.drop_in(name, &bytes);
    }
    let (mut process, api) = Process::host(&folder, &format!("{config}[shutdown]\ntimeout = \"2s\"\n")).await;
    for first in (0..5_000).step_by(500) {
        api.post(&events(first..first + 500)).await;
    }
    for (behaviour, cause) in HOSTILE {
        is_blamed(&api, behaviour, behaviour, cause).await;
    }
    for (name, _, cause) in not_plugins() {
        is_blamed(&api, name, name, cause).await;
    }
    api.until_delivered("archive", 5_000).await;
    let metrics = api.report("metrics?limit=1").await;
    assert_eq!(metrics["totals"]["events"]["count"], 5_000, "{metrics:#}");
    process.terminate();
    let ended = process.ended().await;
    // A guest may panic, the host must not.
    let panics = |line: &&str| line.contains("panicked at") && !line.contains("hostile/src/die.rs");
    assert_eq!(process.output().lines().find(panics), None);
    // What the plugins did not take is lost at the end, and that is said.
    assert_eq!(ended.code(), Some(1), "{}", process.output());
    assert!(process.output().contains("could not be published"), "{}", process.output());
    folder.assert_holds("archive.jsonl", 0..5_000);
}
