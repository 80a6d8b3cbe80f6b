//! What a plugin's author does: begin one, build it, check it, run it in a host; in every language there are tools for.
//! And what authors have built before: plugins of every published version of the contract.

use crate::support::authors::{component, has_js, has_python, plugin, target, text};
use crate::support::{
    Folder, MUCH_PATIENCE, Receiver, Running, event, events, fixture, has_c, has_go, id, root,
};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::path::{Path, PathBuf};

/// What `pressroom plugin new` writes in `language`, and what `build` makes of it.
fn forwarder(language: &str) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("forward-it");
    let new = plugin(&["new", "--lang", language, "forward-it", "--path", dir.to_str().unwrap()]);
    assert!(new.status.success(), "{}", text(&new));
    assert!(dir.join("README.md").is_file() && dir.join("pressroom.toml").is_file());
    component(&format!("forward-it-{language}"), &dir)
}

/// A section that runs `name`, granted to post to `url`.
fn posting(name: &str, url: &str) -> String {
    format!(
        "[publishers.{name}]\ntype = \"wasm\"\nplugin = \"{name}\"\nconfig = {{ url = \"{url}/records\" }}\n\
         grant.http = [\"POST {url}/records\"]\nbatch = {{ max_age = \"20ms\" }}\nretry = {{ initial = \"20ms\", max = \"100ms\" }}\n"
    )
}

/// A host that runs `component` as `name` by `section`. An interpreter takes its time to be compiled: once for all runs.
async fn running(folder: &Folder, section: &str, name: &str, component: &Path) -> Running {
    let cache = target().join("tests-plugins/.cache");
    folder.write_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[plugins]\ndebounce = \"100ms\"\ncompile_timeout = \"10m\"\n\
         cache_dir = '{}'\n{section}",
        cache.display()
    ));
    std::fs::create_dir_all(folder.path("out")).unwrap();
    folder.drop_in(name, &std::fs::read(component).unwrap());
    let running = folder.start().await;
    running.api.until_within(MUCH_PATIENCE, name, "runs", |status| status["state"] == "running").await;
    running
}

/// What a new plugin in `language` does: it forwards both kinds, and a server's answers mean what they say.
async fn forwards(language: &str) {
    let component = forwarder(language);
    let sink = Receiver::start(&[], (200, "thank you")).await;
    let url = sink.url();
    let folder = Folder::new("");
    let running = running(&folder, &posting("forward-it", url), "forward-it", &component).await;

    sink.will_answer(&[(503, "so be it"), (429, "so be it"), (200, "so be it")]);
    running.api.post(&json!([event(0)])).await;
    let status = running.api.until_delivered("forward-it", 1).await;
    assert_eq!(status["failed_attempts"], 2, "{status:#}");
    let seen = sink.received();
    assert_eq!(seen.len(), 3, "{seen:?}");
    for request in &seen {
        assert_eq!((request.what.as_str(), request.body.lines().count()), ("POST /records", 1));
        assert_eq!(request.headers["content-type"], "application/x-ndjson");
        let record: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(record["id"], id(0).to_string());
    }

    // For good: it is a dead letter, and the next one is delivered.
    sink.will_answer(&[(400, "so be it")]);
    running.api.post(&json!([event(1)])).await;
    running.api.until("forward-it", "sets it aside", |status| status["books"]["dead_lettered"] == 1).await;
    let network = json!([{ "type": "network", "id": id(2), "task_id": "t", "operation": "PUT", "host": "h", "port": 1,
        "start_time": "2026-11-23T11:14:44Z", "end_time": "2026-11-23T11:14:45Z", "bytes_sent": 7 }]);
    running.api.post(&network).await;
    running.api.until_delivered("forward-it", 2).await;
    assert!(sink.received().last().unwrap().body.contains("\"type\":\"network\""));

    // Somebody has to mend something: it is held, and says so.
    sink.will_answer(&[(401, "so be it")]);
    running.api.post(&json!([event(3)])).await;
    let held = running.api.until("forward-it", "holds", |status| status["state"] == "held").await;
    assert!(held["last_error"].as_str().unwrap().contains("401"), "{held:#}");

    // Without any grant every call comes to an orderly end.
    let checked = plugin(&["check", component.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("grant.http must name what it may reach"), "{}", text(&checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_in_rust_forwards() {
    forwards("rust").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_in_python_forwards() {
    if has_python() {
        forwards("python").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_in_javascript_forwards() {
    if has_js() {
        forwards("js").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_in_go_forwards() {
    if has_go() {
        forwards("go").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_plugin_in_c_forwards() {
    if has_c() {
        forwards("c").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_writes_whole_rows_and_mends_what_was_torn() {
    if !has_python() {
        return;
    }
    let component = component("csv", &root().join("plugins/csv"));
    let folder = Folder::new("");
    let section = "[publishers.csv]\ntype = \"wasm\"\nplugin = \"csv\"\nconfig = { delimiter = \";\" }\n\
         batch = { max_age = \"20ms\" }\ngrant.dirs = [{ host = \"out\", guest = \"/out\", write = true }]\n";
    std::fs::create_dir(folder.path("out")).unwrap();
    std::fs::write(folder.path("out/events.csv"), "a;heading\nwhole;row\ntorn;ro").unwrap();
    let running = running(&folder, section, "csv", &component).await;
    let mut odd = event(0);
    odd["status"] = json!("failed");
    odd["error"] = json!("two\nlines; \"quoted\"");
    odd["attributes"] = json!({ "größe": 7 });
    running.api.post(&json!([odd, event(1)])).await;
    running.api.until_delivered("csv", 2).await;
    let csv = std::fs::read_to_string(folder.path("out/events.csv")).unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(&lines[..2], ["a;heading", "whole;row"]);
    let first = format!(
        "{};step;task-0;;;2026-11-23T11:14:44.250000000Z;2026-11-23T11:14:44.750000000Z;0.5;failed;\
         \"two\\nlines; \"\"quoted\"\"\";0;\"{{\"\"größe\"\": 7}}\"",
        id(0)
    );
    assert_eq!(lines[2], first);
    assert!(lines[3].starts_with(&id(1).to_string()) && lines.len() == 4 && csv.ends_with('\n'), "{csv}");
    let network = json!([{ "type": "network", "id": id(2), "task_id": "t", "operation": "PUT", "host": "h", "port": 1,
        "start_time": "2026-11-23T11:14:44Z", "end_time": "2026-11-23T11:14:45Z" }]);
    running.api.post(&network).await;
    running.api.until_delivered("csv", 3).await;
    let operations = std::fs::read_to_string(folder.path("out/operations.csv")).unwrap();
    assert!(operations.starts_with("id;task_id;operation;host;port;start_time;"), "{operations}");
    assert_eq!(operations.lines().count(), 2);

    // Without its directory it holds what comes, and says what to grant.
    let checked = plugin(&["check", component.to_str().unwrap()]);
    let said = text(&checked);
    assert!(
        checked.status.success() && said.contains("grant.dirs must give \"/out\" with write = true"),
        "{said}"
    );
}

/// The HMAC of `body` in hexadecimal.
fn signed(key: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_posts_json_that_the_host_signs() {
    if !has_js() {
        return;
    }
    let component = component("webhook", &root().join("plugins/webhook"));
    let sink = Receiver::start(&[], (200, "thank you")).await;
    let url = sink.url();
    let section = posting("webhook", url).replace(" }\ngrant", ", headers = { x-team = \"blue\" } }\ngrant");
    // The host signs what the plugin posts, and the plugin never sees the key.
    let inject = format!(
        "grant.inject = [{{ to = \"{url}\", bearer = \"opensesame\" }}, {{ to = \"{url}\", hmac = {{ header = \
         \"x-signature\", secret = \"the-key\", prefix = \"sha256=\" }} }}]\n"
    );
    let section = section.replace("batch = ", &format!("{inject}batch = "));
    let folder = Folder::new("");
    let running = running(&folder, &section, "webhook", &component).await;
    running.api.post(&events(0..3)).await;
    running.api.until_delivered("webhook", 3).await;
    let records: Vec<Value> = sink
        .received()
        .iter()
        .flat_map(|request| {
            assert_eq!(request.headers["content-type"], "application/json");
            assert_eq!(request.headers["x-team"], "blue");
            assert_eq!(request.headers["authorization"], "Bearer opensesame");
            assert_eq!(
                request.headers["x-signature"],
                format!("sha256={}", signed("the-key", &request.body))
            );
            let body: Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!(body["kind"], "events");
            body["records"].as_array().unwrap().clone()
        })
        .collect();
    assert_eq!(records.len(), 3);
    assert_eq!(records[2]["id"], id(2).to_string());
    sink.will_answer(&[(500, "so be it"), (422, "so be it")]);
    running.api.post(&json!([event(3)])).await;
    let status =
        running.api.until("webhook", "sets it aside", |status| status["books"]["dead_lettered"] == 1).await;
    assert_eq!(status["failed_attempts"], 2, "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_every_published_version_still_publish() {
    let frozen = root().join("tests/fixtures/0.1/stateful.wasm");
    let folder = Folder::new("");
    let section = "[publishers.stateful]\ntype = \"wasm\"\nplugin = \"stateful\"\nconfig = { name = \"frozen\" }\n\
         batch = { max_age = \"20ms\" }\nflush_interval = \"100ms\"\n";
    let running = running(&folder, section, "stateful", &frozen).await;
    let mut bad = event(3);
    bad["task_id"] = json!("bad");
    let network = json!({ "type": "network", "id": id(4), "task_id": "t", "operation": "PUT", "host": "h", "port": 1,
        "start_time": "2026-11-23T11:14:44Z", "end_time": "2026-11-23T11:14:45Z" });
    running.api.post(&json!([event(0), event(1), event(2), bad, network])).await;
    running.api.until_delivered("stateful", 4).await;
    let is_set_aside = |status: &Value| status["books"]["dead_lettered"] == 1;
    let status = running.api.until("stateful", "has set one record aside", is_set_aside).await;
    assert_eq!(status["detail"]["interface"], "0.1.0");
    let seen =
        |status: &Value| status["detail"]["log"].to_string().contains("frozen: 4 events, 1 operations");
    running.api.until("stateful", "says at its flush what it has seen", seen).await;
}

#[test]
fn a_version_to_come_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("next.wasm");
    std::fs::write(&file, fixture("future-version.wat")).unwrap();
    for command in ["check", "inspect"] {
        let refused = plugin(&[command, file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused);
        assert!(said.contains("pressroom:publisher@9.9.0, and this host knows 0.1.0"), "{command}: {said}");
    }
}

#[test]
fn check_tells_a_plugin_that_traps_and_bench_and_inspect_tell_what_one_is() {
    let frozen = root().join("tests/fixtures/0.1/stateful.wasm");
    let frozen = frozen.to_str().unwrap();
    let unsettled = plugin(&["check", frozen]);
    assert_eq!(unsettled.status.code(), Some(1));
    assert!(text(&unsettled).contains("config: \"name\" is missing"), "{}", text(&unsettled));

    let folder = Folder::new(
        "[publishers.one]\ntype = \"wasm\"\nplugin = \"stateful\"\nconfig = { name = \"one\" }\n\
         [publishers.two]\ntype = \"wasm\"\nplugin = \"stateful\"\nconfig = { name = \"two\", refuse = 1 }\n\
         [publishers.bad]\ntype = \"wasm\"\nplugin = \"hostile\"\nconfig = { do = \"trap\" }\n",
    );
    let config = folder.path("pressroom.toml");
    let config = config.to_str().unwrap();
    let ambiguous = plugin(&["check", frozen, "--config", config]);
    assert_eq!(ambiguous.status.code(), Some(2));
    assert!(text(&ambiguous).contains("several sections run stateful; say which with --publisher"));
    let passes = plugin(&["check", frozen, "--config", config, "--publisher", "two"]);
    let said = text(&passes);
    assert!(passes.status.success(), "{said}");
    for line in
        ["ok     1,024 events", "published 1,024", "answered hold: once", "nothing held back", "passes"]
    {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }

    folder.drop_in("hostile", &crate::support::guest("hostile"));
    let hostile = folder.plugin("hostile");
    let fails = plugin(&["check", hostile.to_str().unwrap(), "--config", config]);
    let said = text(&fails);
    assert_eq!(fails.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED one event") && said.contains("unreachable"), "{said}");

    let measured = plugin(&["bench", frozen, "--config", config, "--publisher", "one", "--seconds", "1"]);
    let said = text(&measured);
    assert!(measured.status.success() && said.contains("NS PER RECORD") && said.contains("MiB"), "{said}");
    let described = plugin(&["inspect", "--json", frozen]);
    let described: Value = serde_json::from_slice(&described.stdout).unwrap();
    assert_eq!((&described["language"], &described["interface"]), (&json!("Rust"), &json!("0.1.0")));
}
