//! A plugin whose instances die, in a running host: of a record, of everything, and before they have flushed.

use crate::support::{Folder, PATIENCE, event, events, guest, until};
use serde_json::{Value, json};
use std::process::Stdio;

const ARCHIVE: &str = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";

fn section(behaviour: &str, more: &str) -> String {
    format!(
        "{ARCHIVE}[publishers.bad]\ntype = \"wasm\"\nplugin = \"hostile\"\nconfig = {{ {behaviour} }}\n\
         retry = {{ hold = \"100ms\" }}\n{more}"
    )
}

fn poison(number: u64) -> Value {
    let mut event = event(number);
    event["event_name"] = json!("poison");
    event
}

/// The ids and reasons of the dead letters.
fn letters(folder: &Folder) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder.path("dead-letters.jsonl")).unwrap_or_default();
    let letter = |line: &str| {
        let letter: Value = serde_json::from_str(line).unwrap();
        assert_eq!(letter["publisher"], "bad");
        (letter["record"]["id"].as_str().unwrap().to_owned(), letter["reason"].as_str().unwrap().to_owned())
    };
    text.lines().map(letter).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kills_becomes_a_dead_letter_and_nothing_else_does() {
    let folder = Folder::new(&section("do = \"trap-poison\"", "[publishers.bad.limits]\ninstances = 2\n"));
    folder.drop_in("hostile", &guest("hostile"));
    let running = folder.start().await;
    let mixed: Value =
        (0..1_000).map(|number| if number % 300 == 7 { poison(number) } else { event(number) }).collect();
    running.api.post(&mixed).await;
    let status = running.api.until("bad", "done", |status| status["books"]["backlog"] == 0).await;
    assert_eq!((&status["books"]["delivered"], &status["books"]["dead_lettered"]), (&996.into(), &4.into()));

    // One that comes alone waits for the next record.
    running.api.post(&json!([poison(1_000)])).await;
    let status = running.api.until("bad", "undecided", |status| status["state"] == "retrying").await;
    assert_eq!((&status["books"]["backlog"], &status["books"]["dead_lettered"]), (&1.into(), &4.into()));
    running.api.post(&events(1_001..1_002)).await;
    let status = running.api.until("bad", "decided", |status| status["books"]["backlog"] == 0).await;
    assert_eq!((&status["books"]["delivered"], &status["books"]["dead_lettered"]), (&997.into(), &5.into()));
    let detail = &status["detail"];
    assert_eq!((&detail["state"], &detail["strikes"]), (&"running".into(), &0.into()));
    assert_eq!(detail["poisoned_records"], 5);
    let mut dead = letters(&folder);
    dead.sort();
    let expected: Vec<String> =
        [7, 307, 607, 907, 1_000].map(|number| crate::support::id(number).to_string()).into();
    assert_eq!(dead.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), expected);
    for (_, reason) in &dead {
        assert!(
            reason.starts_with("plugin bad: dies of this record: trapped: wasm `unreachable`"),
            "{reason}"
        );
    }
    running.api.until_delivered("archive", 1_002).await;
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
}

/// Runs `pressroom plugin reset`.
async fn reset(label: &str, url: &str) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pressroom"));
    command.args(["plugin", "reset", label, "--url", url]).env_remove("PRESSROOM_TOKEN");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_always_dies_is_quarantined_until_it_is_reset_or_changes() {
    let dying = section("do = \"trap\"", "");
    let folder = Folder::new(&dying);
    folder.drop_in("hostile", &guest("hostile"));
    let running = folder.start().await;
    let api = &running.api;
    api.post(&events(0..100)).await;
    let quarantined = |status: &Value| status["state"] == "quarantined";
    let status = api.until("bad", "in quarantine", quarantined).await;
    let reason = status["reason"].as_str().unwrap();
    assert!(
        reason.contains("quarantined after 5 instances in a row that published nothing: trapped")
            && reason.ends_with("`pressroom plugin reset bad`"),
        "{reason}"
    );
    let metrics = running.host.metrics();
    for line in [
        "pressroom_plugin_quarantined{publisher=\"bad\"} 1",
        "pressroom_publisher_state{publisher=\"bad\",state=\"quarantined\"} 1",
        "pressroom_plugin_strikes{publisher=\"bad\"} 5",
    ] {
        assert!(metrics.lines().any(|said| said == line), "no {line} in {metrics}");
    }
    api.until_delivered("archive", 100).await;

    // A change that is none of its own changes nothing for it.
    let calls = status["detail"]["calls"].as_u64().unwrap();
    folder.configure(&format!("{dying}[publishers.more]\ntype = \"file\"\npath = \"more.jsonl\"\n"));
    api.until("more", "running", |status| status["state"] == "running").await;
    let status = api.publisher("bad").await;
    assert!(quarantined(&status) && status["detail"]["calls"] == calls, "{status:#}");

    let (code, said) = reset("nobody", api.url()).await;
    assert!(code == Some(1) && said.contains("no publisher runs under the label \"nobody\""), "{said}");
    let (code, said) = reset("archive", api.url()).await;
    assert!(code == Some(1) && said.contains("\"archive\" runs no plugin now"), "{said}");
    assert_eq!(reset("bad", api.url()).await, (Some(0), "bad is asked again\n".to_owned()));
    let asked = |status: &Value| status["detail"]["calls"].as_u64() > Some(calls) && quarantined(status);
    api.until("bad", "asked again, and in quarantine again", asked).await;
    running.host.reset_plugin("bad").await.unwrap();
    let books = &api.publisher("bad").await["books"];
    assert_eq!((&books["backlog"], &books["dead_lettered"]), (&100.into(), &0.into()));

    folder.configure(&section("do = \"once\"", ""));
    let status = api.until_delivered("bad", 100).await;
    assert_eq!(status["detail"]["strikes"], 0);
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    assert_eq!(letters(&folder), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_instance_takes_along_before_it_has_flushed_is_published_again() {
    let more = "acknowledge = \"flush\"\nflush_interval = \"300ms\"\nbatch = { max_records = 50 }\n";
    let folder = Folder::new(&section("do = \"trap-nth\", n = 4", more));
    folder.drop_in("hostile", &guest("hostile"));
    let running = folder.start().await;
    for first in (0..2_000).step_by(200) {
        running.api.post(&events(first..first + 200)).await;
    }
    let status = running.api.until_delivered("bad", 2_000).await;
    assert!(status["detail"]["traps"].as_u64() > Some(0), "{status:#}");
    assert_eq!((&status["detail"]["strikes"], &status["books"]["dead_lettered"]), (&0.into(), &0.into()));
    // What is held back when the host ends is flushed.
    running.api.post(&events(2_000..2_010)).await;
    running.api.until_delivered("archive", 2_010).await;
    until("it is handed over", || async {
        let held = running.api.publisher("bad").await;
        (held["attempts"].as_u64() > status["attempts"].as_u64()).then_some(())
    })
    .await;
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_answered_are_not_lost_with_the_network_calls_that_kill() {
    let folder = Folder::new(&format!(
        "{ARCHIVE}[publishers.bad]\ntype = \"wasm\"\nplugin = \"hostile\"\n\
         config = {{ do = \"trap-operations\" }}\nacknowledge = \"flush\"\nflush_interval = \"1h\"\n\
         limits = {{ strikes = 100000 }}\nretry = {{ max = \"100ms\", max_age = \"2s\" }}\n"
    ));
    folder.drop_in("hostile", &guest("hostile"));
    let running = folder.start().await;
    let operation = |number: u64| {
        json!({
            "type": "network", "id": crate::support::id(number), "task_id": "task", "operation": "PUT",
            "host": "s3.local", "port": 443, "start_time": "2026-11-23T11:14:44.25Z",
            "end_time": "2026-11-23T11:14:44.75Z", "bytes_sent": 1, "bytes_received": 1,
        })
    };
    let mixed: Value =
        (0..549).map(|number| if number < 540 { event(number) } else { operation(number) }).collect();
    running.api.post(&mixed).await;
    let status = running.api.until("bad", "done", |status| status["books"]["backlog"] == 0).await;
    let books = &status["books"];
    assert_eq!((&books["delivered"], &books["dead_lettered"]), (&540.into(), &9.into()), "{status:#}");
    // What one instance flushed is all that was flushed.
    let log = status["detail"]["log"].to_string();
    assert_eq!(log.matches("events=").count(), log.matches("events=540 operations=0").count(), "{log}");
    let mut dead: Vec<String> = letters(&folder).into_iter().map(|(id, _)| id).collect();
    dead.sort();
    let operations: Vec<String> = (540..549).map(|number| crate::support::id(number).to_string()).collect();
    assert_eq!(dead, operations);
    let closing = running.host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
}
