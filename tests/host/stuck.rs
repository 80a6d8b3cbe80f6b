//! What does not answer holds up nothing else: a log that is not read, a standard output that is not read, a file of dead
//! letters that hangs.

use crate::support::{Api, Folder, PATIENCE, events, free_port, until};
use pressroom::publisher::{Fate, PublishError, PublishResult, Publisher, Unpublished};
use pressroom::record::{EventBatch, NetworkBatch};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// `pressroom run` whose output is read by nothing.
struct Unread {
    child: tokio::process::Child,
    api: Api,
}

impl Unread {
    async fn host(folder: &Folder, config: &str) -> Self {
        let port = free_port();
        folder.write_config(&format!("[server]\nlisten = \"127.0.0.1:{port}\"\n{config}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
        command.args(["run", "--config", "pressroom.toml"]).current_dir(folder.path(""));
        // The child keeps its ends of the pipes, and this test never reads the others.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.env_remove("RUST_LOG");
        let child = command.spawn().unwrap();
        let api = Api::new(format!("http://127.0.0.1:{port}"));
        until("it is ready", || api.get("/readyz")).await;
        Self { child, api }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    async fn terminated(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("SIGTERM ends it").unwrap()
    }
}

/// A figure of `/metrics`.
fn figure(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nothing_reads_stops_neither_posts_nor_health_nor_sigterm_and_what_is_lost_is_counted() {
    let folder = Folder::new("");
    let config = "[publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";
    let mut host = Unread::host(&folder, config).await;
    // Each is a line of the log, and together they are far beyond what a pipe and the bound take.
    let key = "k".repeat(200);
    let wrong: String = (0..10_000).map(|number| format!("{key}{number} = 1\n")).collect();
    folder.write_config(&wrong);
    host.signal("HUP");
    until("lines are lost", || async {
        let metrics = host.api.get("/metrics").await?;
        (figure(&metrics, "pressroom_log_lines_lost_total ") > 1_000).then_some(())
    })
    .await;
    for batch in 0..20 {
        let batch = events(batch * 100..(batch + 1) * 100);
        assert!(host.api.send(&batch).await.unwrap().status().is_success());
        assert!(host.api.get("/healthz").await.is_some());
    }
    host.api.until_delivered("archive", 2_000).await;
    assert!(host.terminated().await.success());
    folder.assert_holds("archive.jsonl", 0..2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_output_that_nothing_reads_holds_up_its_publisher_alone_and_not_the_end() {
    let folder = Folder::new("");
    let config = "[shutdown]\ntimeout = \"1s\"\n[publishers.lines]\ntype = \"stdout\"\n\
                  [publishers.archive]\ntype = \"file\"\npath = \"archive.jsonl\"\n";
    let mut host = Unread::host(&folder, config).await;
    for batch in 0..10 {
        let batch = events(batch * 1_000..(batch + 1) * 1_000);
        assert!(host.api.send(&batch).await.unwrap().status().is_success());
    }
    host.api.until_delivered("archive", 10_000).await;
    assert_eq!(host.terminated().await.code(), Some(1), "what was not read is lost, and that is said");
    folder.assert_holds("archive.jsonl", 0..10_000);
}

/// Refuses the multiples of a hundred, of which there are 99 below ten thousand.
struct Picky;

#[async_trait::async_trait]
impl Publisher for Picky {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        let refused = events.iter().enumerate().filter(|(_, event)| event.task_id.ends_with("00"));
        let refused = refused.map(|(row, _)| Unpublished {
            row: u32::try_from(row).unwrap(),
            fate: Fate::Reject { reason: "x".repeat(5_000) },
        });
        Ok(refused.collect())
    }

    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        Err(PublishError::reject("none are sent"))
    }
}

/// A terminal that nothing reads: after some 64 KiB a write to it waits for ever. It is there as long as the process.
fn a_file_that_hangs() -> (Child, String) {
    let script = "import os, pty, sys; print(os.ttyname(pty.openpty()[1]), flush=True); sys.stdin.read()";
    let mut command = std::process::Command::new("python3");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut name = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut name).unwrap();
    (child, name.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_hang_hold_up_neither_the_rest_nor_the_end_and_readiness_says_so() {
    let (mut terminal, path) = a_file_that_hangs();
    let folder = Folder::new(&format!("[dead_letters]\npath = \"{path}\"\n"));
    let running = folder.start_with(pressroom::host::Host::builder().publisher("picky", || Picky)).await;
    for batch in 0..10 {
        let batch = events(batch * 1_000..(batch + 1) * 1_000);
        assert!(running.api.send(&batch).await.unwrap().status().is_success());
    }
    let status = running
        .api
        .until("picky", "has delivered the rest", |status| status["books"]["delivered"] == 9_901)
        .await;
    assert_eq!(status["state"], "running");
    let waiting = status["refused_waiting"].as_u64().unwrap();
    assert_eq!(status["books"]["backlog"], waiting, "{status:#}");
    let ready = format!("{}/readyz", running.api.url());
    let not_ready = until("it is not ready", || async {
        let answer = reqwest::get(&ready).await.unwrap();
        let refused = answer.status() == 503;
        let text = answer.text().await.unwrap();
        refused.then_some(text)
    })
    .await;
    assert!(not_ready.starts_with("not ready: dead letters cannot be written: no answer"), "{not_ready}");
    let closing =
        tokio::time::timeout(PATIENCE, running.host.shutdown(Duration::from_secs(1))).await.unwrap();
    assert!(closing.balanced());
    let books = closing.publishers[0].books;
    assert_eq!((books.delivered, books.backlog), (9_901, 0));
    assert_eq!(books.dead_lettered + books.dropped.shutdown, 99);
    assert!(books.dropped.shutdown > 0);
    terminal.kill().unwrap();
    terminal.wait().unwrap();
}

/// Names of files that do what they can to whoever looks at them.
fn hostile_names() -> Vec<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt;
    let names: [&[u8]; 7] = [
        b"x\xff.wasm",
        b"x\xfe.wasm",
        b"esc\x1b]0;title\x07\x1b[2J.wasm",
        b"line\nforged by a file.wasm",
        "c1\u{9b}31m.wasm".as_bytes(),
        "bidi\u{202e}\u{2066}.wasm".as_bytes(),
        "separator\u{2028}\u{200b}.wasm".as_bytes(),
    ];
    names.map(|name| std::ffi::OsString::from_vec(name.to_vec())).into()
}

/// Fails if `text`, which is `what`, could steer a terminal or forge a line.
fn assert_tame(what: &str, text: &str) {
    let acts = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(acts), "{what}: {text:?}");
    assert!(text.lines().all(|line| !line.starts_with("forged")), "{what}: {text}");
}

/// What `pressroom` prints on both of its outputs.
async fn said(folder: &Folder, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
    command.args(arguments).current_dir(folder.path("")).env_remove("RUST_LOG").stdin(Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("what is printed is UTF-8");
    (text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_reaches_no_output_as_it_is() {
    let hostile = "\u{1b}]0;t\u{7}\nforged\u{9b}2J\u{202e}\u{2028}\u{200b}";
    let folder = Folder::new("");
    for name in hostile_names() {
        std::fs::write(folder.path("plugins").join(name), "no plugin").unwrap();
    }
    let (process, api) = crate::support::Process::host(&folder, "").await;
    let mut failed = crate::support::event(1);
    for key in ["event_name", "task_id", "error"] {
        failed[key] = hostile.into();
    }
    failed["status"] = "failed".into();
    failed["attributes"] = serde_json::json!({ hostile: hostile });
    assert!(api.send(&Value::Array(vec![failed])).await.unwrap().status().is_success());
    let url = ["--url", api.url()];
    until("the record is in the reports", || async {
        let report: Value = serde_json::from_str(&api.get("/v1/report/failed-events").await?).unwrap();
        report["events"]["rows"].get(0).map(|_| ())
    })
    .await;

    let plugins: Value = serde_json::from_str(&api.get("/v1/report/plugins").await.unwrap()).unwrap();
    let plugins = plugins.as_array().unwrap();
    assert_eq!(plugins.len(), hostile_names().len(), "{plugins:#?}");
    let names: Vec<_> = plugins.iter().map(|plugin| plugin["plugin"].as_str().unwrap()).collect();
    assert!(names.contains(&"x\\xff") && names.contains(&"x\\xfe"), "{names:?}");
    for question in ["metrics", "failed-events", "publishers", "plugins"] {
        for more in [&[][..], &["--json"]] {
            let arguments = [&["report", question][..], &url, more].concat();
            let (out, err) = said(&folder, &arguments).await;
            assert_tame(question, &out);
            assert_eq!(err, "", "{question}");
            if !more.is_empty() {
                serde_json::from_str::<Value>(&out).unwrap();
            }
        }
    }
    for path in ["/metrics", "/readyz", "/healthz"] {
        assert_tame(path, &api.get(path).await.unwrap());
    }
    let log = process.output();
    assert!(log.contains("x\\xff.wasm") && log.contains("line\\nforged by a file.wasm"), "{log}");
    assert_tame("the log", &log);

    let (out, err) = said(&folder, &["check"]).await;
    assert!(out.contains("x\\xff: its name is not UTF-8"), "{out}");
    assert_tame("check", &(out + &err));
    for name in hostile_names() {
        let file = folder.path("plugins").join(name);
        for action in ["inspect", "check"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
            command.args(["plugin", action]).arg(&file).current_dir(folder.path("")).stdin(Stdio::null());
            let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
            for text in [output.stdout, output.stderr] {
                assert_tame(action, &String::from_utf8(text).unwrap());
            }
        }
    }
    let (out, err) = said(&folder, &["plugin", "lock"]).await;
    assert_tame("plugin lock", &(out + &err));

    // A configuration is from outside, too.
    folder.write_config(
        "\"\\u001b[2J\\u202e\" = 1\n[publishers.\"\\u001b[2J\\nforged\"]\ntype = \"\\u009b31m\\u2028\"\n",
    );
    let (out, err) = said(&folder, &["check"]).await;
    assert!(out.contains("unknown type"), "{out}");
    assert_tame("check of a wrong configuration", &(out + &err));
    let refused = until("the change is refused in the log", || async {
        let log = process.output();
        log.contains("unknown type").then_some(log)
    })
    .await;
    assert_tame("the log", &refused);
}
