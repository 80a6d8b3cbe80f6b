//! Guests that do their worst. After each the plugin's name and the cause are said, the memory is back, and the next
//! call gets a fresh instance.

use super::{Subject, events};
use crate::publisher::{Fate, PublishError};
use std::time::Duration;

/// Little compute, for what computes without end.
const COMPUTING: &str = "limits = { cpu_per_call = '100ms', call_timeout = '20s', memory = '16MiB' }";
/// Little memory, and more compute and time than is needed by what comes to an end.
const WIDE: &str = "limits = { cpu_per_call = '5m', call_timeout = '20s', memory = '16MiB' }";
/// Time enough to enter an instance.
const ENTERED: Duration = Duration::from_secs(3);
/// Little time, for what waits without end.
const WAITING: &str = "limits = { cpu_per_call = '5m', call_timeout = '200ms' }";

/// A batch of three rows that instances die of: as it came, its halves, and the one of these that has two rows in halves.
const ATTEMPTS: u64 = 5;

/// Every call of `behaviour` with these limits fails for `cause`, each on an instance of its own.
async fn every_call_fails(behaviour: &str, limits: &str, cause: &str) -> Subject {
    let mut plugin = Subject::hostile(&format!("config = {{ do = '{behaviour}' }}\n{limits}")).await.unwrap();
    for failures in 1..=3 {
        plugin.fails(cause).await;
        assert_eq!(plugin.count("instances_started"), failures * ATTEMPTS, "{behaviour}");
        assert_eq!(plugin.count("traps"), failures * ATTEMPTS, "{behaviour}");
    }
    plugin
}

/// A plugin that is refused when it is built with these limits, for `cause`.
async fn is_refused(behaviour: &str, limits: &str, cause: &str) {
    let section = format!("config = {{ do = '{behaviour}' }}\n{limits}");
    let refused = Subject::hostile(&section).await.err().unwrap().to_string();
    assert!(refused.contains("hostile.wasm did not start: ") && refused.contains(cause), "{refused}");
}

#[tokio::test]
async fn it_computes_for_ever() {
    let spun = "ran past its compute bound of 100ms";
    every_call_fails("spin", COMPUTING, spun).await;
    every_call_fails("spin-encode", COMPUTING, spun).await;
    every_call_fails("spin-config", COMPUTING, spun).await;
    is_refused("spin-start", COMPUTING, spun).await;
    // At the deadline there is another instance at once.
    let mut plugin = Subject::hostile(
        "config = { do = 'spin' }\nlimits = { cpu_per_call = '500ms', call_timeout = '20s' }",
    )
    .await
    .unwrap();
    plugin.fails("ran past its compute bound of 500ms").await;
    let time = |key: &str| plugin.status()[key].as_f64().unwrap();
    assert!(time("successor_ms") > 0.0 && time("cpu_peak_ms") >= 500.0);
    let (gone, successor) = (time("wall_peak_ms"), time("successor_ms"));
    let figures =
        format!("a deadline of 500 ms: gone after {gone} ms at most, a successor {successor} ms later\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), figures.as_bytes());
    let mut plugin =
        Subject::hostile(&format!("config = {{ do = 'spin-flush' }}\n{COMPUTING}")).await.unwrap();
    plugin.publish().await.unwrap();
    let error = plugin.publisher.flush().await.unwrap_err().to_string();
    assert_eq!(error, format!("plugin subject: {spun}"));
    assert_eq!(plugin.publisher.flush().await, Ok(()), "nothing is held back any more");
}

#[tokio::test]
async fn it_dies() {
    every_call_fails("trap", WIDE, "trapped: wasm `unreachable` instruction executed").await;
    every_call_fails("panic", WIDE, "it panics on purpose").await;
    every_call_fails("exit", WIDE, "exited with status 1").await;
    every_call_fails("stderr", WIDE, "its last words on stderr").await;
    is_refused("trap-start", WIDE, "trapped: wasm `unreachable` instruction executed").await;
    is_refused("start-error", WIDE, "refused to start: it refuses to start").await;
    let mut plugin = Subject::hostile("config = { do = 'trap-flush' }").await.unwrap();
    plugin.publish().await.unwrap();
    let error = plugin.publisher.flush().await.unwrap_err().to_string();
    assert!(error.starts_with("plugin subject: trapped: "), "{error}");
    plugin.publish_when_due().await.unwrap();
}

#[tokio::test]
async fn it_dies_now_and_then() {
    let mut plugin = Subject::hostile("config = { do = 'trap-nth', n = 3 }").await.unwrap();
    for _ in 0..9 {
        assert_eq!(plugin.publish().await, Ok(vec![]), "what dies is tried again at once");
    }
    // Of nine calls the third, fifth, seventh and ninth were an instance's third.
    assert_eq!((plugin.count("traps"), plugin.count("instances_started")), (4, 5));
    assert_eq!((plugin.count("strikes"), plugin.count("poisoned_records")), (0, 0));
}

#[tokio::test]
async fn it_eats_memory_and_stack() {
    let mut plugin = every_call_fails("memory-bomb", WIDE, "of memory where its limit is 16MiB").await;
    let peak = plugin.count("memory_peak_bytes");
    assert!(peak > 0 && peak <= 16 << 20, "{peak}");
    plugin.fails("trapped: wasm `unreachable`").await;
    every_call_fails("stack-overflow", WIDE, "overflowed its stack").await;
}

#[tokio::test]
async fn it_grows_with_every_call_and_is_retired_in_time() {
    let mut plugin = Subject::hostile(&format!("config = {{ do = 'grow' }}\n{WIDE}")).await.unwrap();
    for _ in 0..60 {
        assert_eq!(plugin.publish().await, Ok(vec![]));
    }
    assert_eq!(plugin.count("traps"), 0);
    assert!(plugin.count("instances_retired") >= 3);
    plugin.says("rows=");
}

#[tokio::test]
async fn it_floods_the_log() {
    let plugin = every_call_fails("log-flood", COMPUTING, "ran past its compute bound").await;
    assert!(plugin.count("log_lines_dropped") > 0);
    let mut plugin = Subject::hostile("config = { do = 'huge-log', bytes = 8388608 }").await.unwrap();
    plugin.publish().await.unwrap();
    assert!(plugin.log().iter().all(|line| line.len() < 1_000));
    let mut plugin = Subject::hostile("config = { do = 'huge-log', bytes = 33554432 }").await.unwrap();
    plugin.fails("handed over too much in one call").await;
}

#[tokio::test]
async fn it_lies() {
    let mut plugin = Subject::hostile("config = { do = 'lie-rows' }").await.unwrap();
    let rows: Vec<_> = plugin.publish().await.unwrap().into_iter().map(|entry| entry.row).collect();
    assert_eq!(rows, [0, 0, u32::MAX, u32::MAX], "what means nothing is passed on as that");
    let mut plugin = Subject::hostile("config = { do = 'many-rows', n = 1000 }").await.unwrap();
    assert_eq!(plugin.publish().await.unwrap().len(), 3 * 2 + 16);
    let mut plugin = Subject::hostile("config = { do = 'many-rows', n = 500000 }").await.unwrap();
    plugin.fails("handed over too much in one call").await;
    let mut plugin = Subject::hostile("config = { do = 'giant-error', bytes = 1000000 }").await.unwrap();
    let PublishError::Retry { reason, after: None } = plugin.publish().await.unwrap_err() else { panic!() };
    assert!(reason.ends_with("… (cut, was 1000000 bytes)") && reason.len() < 70_000);
    let mut plugin = Subject::hostile("config = { do = 'giant-error' }").await.unwrap();
    plugin.fails("handed over too much in one call").await;
}

#[tokio::test]
async fn its_answers_arrive() {
    let mut plugin =
        Subject::hostile("config = { do = 'retry-row', row = 2, after_ms = 250 }").await.unwrap();
    let left_out = plugin.publish().await.unwrap();
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].row, 2);
    let after = Some(Duration::from_millis(250));
    assert_eq!(left_out[0].fate, Fate::Retry { reason: "this row later".to_owned(), after });
    let answers = [
        ("retry-all", PublishError::retry("not now")),
        ("reject-all", PublishError::reject("it rejects everything")),
        ("hold", PublishError::hold("it wants to be mended")),
    ];
    for (behaviour, answer) in answers {
        let mut plugin = Subject::hostile(&format!("config = {{ do = '{behaviour}' }}")).await.unwrap();
        assert_eq!(plugin.publish().await, Err(answer));
        assert_eq!(plugin.count("traps"), 0);
    }
    let mut plugin = Subject::hostile("config = { do = 'flush-error' }").await.unwrap();
    assert_eq!(plugin.publisher.flush().await, Err(PublishError::retry("it never flushes")));
}

#[tokio::test]
async fn it_waits_for_ever() {
    let waiting = format!("config = {{ do = 'sleep', ms = 3600000 }}\n{WAITING}");
    let mut plugin = Subject::hostile(&waiting).await.unwrap();
    plugin.fails("ran past its call timeout of 200ms").await;
    assert_eq!((plugin.count("timeouts"), plugin.count("traps"), plugin.count("strikes")), (1, 0, 0));
    is_refused("sleep-start", WAITING, "ran past its call timeout of 200ms").await;
}

#[tokio::test]
async fn waiting_is_not_charged_as_compute() {
    let patient =
        "config = { do = 'sleep', ms = 3000 }\nlimits = { cpu_per_call = '2s', call_timeout = '10m' }";
    let mut plugin = Subject::hostile(patient).await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    // Nor are many waits that are shorter than a tick.
    let patient =
        "config = { do = 'nap', n = 3000, ms = 1 }\nlimits = { cpu_per_call = '2s', call_timeout = '10m' }";
    let mut plugin = Subject::hostile(patient).await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    let peak = plugin.status()["cpu_peak_ms"].as_f64().unwrap();
    assert!(peak > 0.0 && peak < 2_000.0, "{peak}");
}

#[tokio::test]
async fn a_call_that_is_given_up_costs_the_instance() {
    let mut plugin = Subject::hostile("config = { do = 'sleep', ms = 3600000 }").await.unwrap();
    let given_up = tokio::time::timeout(ENTERED, plugin.publish()).await;
    assert!(given_up.is_err());
    assert_eq!(plugin.count("memory_bytes"), 0);
    assert_eq!(plugin.status()["last_error"], "was given up in the middle of a call");
    let given_up = tokio::time::timeout(ENTERED, plugin.publish_when_due()).await;
    assert!(given_up.is_err(), "the next instance was entered");
    assert_eq!(plugin.count("instances_started"), 2);
}

#[tokio::test]
async fn it_reaches_for_what_it_was_not_granted() {
    for (behaviour, tries) in [
        ("open-file", &["open-file", "list-root"][..]),
        ("write-file", &["write-file"]),
        ("sparse-file", &["sparse-file"]),
        ("open-many", &["open-many"]),
        ("read-env", &["read-env", "read-args"]),
        ("sockets", &["tcp-connect", "tcp-listen", "udp-send", "resolve"]),
    ] {
        let mut plugin = Subject::hostile(&format!("config = {{ do = '{behaviour}' }}")).await.unwrap();
        assert_eq!(plugin.publish().await, Ok(vec![]), "{behaviour}");
        for what in tries {
            plugin.says(&format!("{what}: denied"));
        }
    }
}

#[tokio::test]
async fn it_stays_in_its_directory_and_reads_only_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    std::fs::write(dir.path().join("in/there"), "data").unwrap();
    std::fs::write(dir.path().join("secret"), "data").unwrap();
    let grant = "grant = { dirs = [{ host = 'in', guest = '/in' }] }";
    for (config, line) in [
        ("do = 'open-file', path = '/in/there'", "open-file: got 4"),
        ("do = 'open-file', path = '/in/../secret'", "open-file: denied"),
        ("do = 'write-file', path = '/in/there'", "write-file: denied"),
    ] {
        let section = format!("config = {{ {config} }}\n{grant}");
        let mut plugin = Subject::build("hostile", &section, dir.path()).await.unwrap();
        assert_eq!(plugin.publish().await, Ok(vec![]), "{config}");
        plugin.says(line);
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("in/there")).unwrap(), "data");
    let section = format!("config = {{ do = 'open-many', path = '/in/there' }}\n{grant}");
    let mut plugin = Subject::build("hostile", &section, dir.path()).await.unwrap();
    plugin.fails("holds more than 256 handles (files, streams) at once").await;
    plugin.fails("holds more than 256 handles (files, streams) at once").await;
}

#[tokio::test]
async fn it_lists_as_many_directories_at_once_as_its_memory_allows_and_any_number_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let section = "config = { do = 'leak-listings' }\ngrant = { dirs = [{ host = '.', guest = '/in' }] }\n\
                   limits = { memory = '8MiB' }";
    let mut plugin = Subject::build("hostile", section, dir.path()).await.unwrap();
    assert_eq!(plugin.publish().await, Ok(vec![]));
    plugin.says("leak-listings: denied after ");
    assert!(plugin.count("memory_bytes") > 7 << 20, "{}", plugin.count("memory_bytes"));
}

#[tokio::test]
async fn siblings_deliver_while_others_fail() {
    let mut honest = Subject::hostile("").await.unwrap();
    for behaviour in ["trap", "panic", "exit", "spin", "memory-bomb"] {
        let mut bad =
            Subject::hostile(&format!("config = {{ do = '{behaviour}' }}\n{COMPUTING}")).await.unwrap();
        let batch = events(1_024);
        let (bad, good) = tokio::join!(
            bad.publisher.publish_event_metrics(&batch),
            honest.publisher.publish_event_metrics(&batch)
        );
        assert!(bad.is_err());
        assert_eq!(good, Ok(vec![]));
    }
    honest.publisher.flush().await.unwrap();
    honest.says("rows=5120 events=5120");
    assert_eq!(honest.count("instances_started"), 1);
}
