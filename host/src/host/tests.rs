//! The wiring: start, reload, shutdown, and the catalogue's own words about wrong configurations.

mod composite;
mod contract;
#[cfg(all(feature = "wasm", unix))]
mod grants;
mod keys;
mod types;

use super::{Host, ReloadError, StartError, check};
use crate::config::Config;
use crate::publisher::{PublishResult, Publisher};
use crate::record::{EventBatch, NetworkBatch};
#[cfg(feature = "elasticsearch")]
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Counting(Arc<AtomicUsize>);

#[async_trait::async_trait]
impl Publisher for Counting {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.0.fetch_add(events.len(), Ordering::SeqCst);
        Ok(Vec::new())
    }
    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.0.fetch_add(operations.len(), Ordering::SeqCst);
        Ok(Vec::new())
    }
}

const PATIENCE: Duration = Duration::from_secs(300);

fn write(dir: &Path, text: &str) -> std::path::PathBuf {
    let file = dir.join("pressroom.toml");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn an_embedded_publisher_gets_everything_and_the_books_close() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counting = seen.clone();
    let host = Host::builder().publisher("mine", move || Counting(counting.clone())).start().await.unwrap();
    let recorder = host.recorder();
    for _ in 0..5_000 {
        recorder.event("resize").task("42").start().complete();
        recorder.network("PUT", "s3.local", 443).task("42").start().finish(1, 2);
    }
    let left_open = recorder.event("resize").task("43").start();
    let closing = host.shutdown(PATIENCE).await;
    left_open.complete();
    assert_eq!(seen.load(Ordering::SeqCst), 10_001);
    assert_eq!((closing.cancelled, closing.dropped(), closing.never_accepted), (1, 0, 0));
    assert!(closing.balanced());
    assert_eq!(closing.publishers[0].books.delivered, 10_001);
}

#[cfg(feature = "server")]
struct Holding;

#[cfg(feature = "server")]
#[async_trait::async_trait]
impl Publisher for Holding {
    async fn publish_event_metrics(&mut self, _: &EventBatch) -> PublishResult {
        Err(crate::publisher::PublishError::hold("the password is wrong\n"))
    }
    async fn publish_network_metrics(&mut self, _: &NetworkBatch) -> PublishResult {
        Ok(Vec::new())
    }
}

#[cfg(feature = "server")]
#[tokio::test(start_paused = true)]
async fn a_host_is_not_ready_while_a_publisher_is_held_and_says_which() {
    let host = Host::builder().publisher("mine", || Holding).start().await.unwrap();
    assert_eq!(super::readiness::reasons(&host.0), [""; 0]);
    host.recorder().event("resize").task("42").start().complete();
    while host.publishers()[0].state != crate::delivery::State::Held {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let reasons = super::readiness::reasons(&host.0);
    assert_eq!(reasons, ["publisher \"mine\" is held: the password is wrong\\n"]);
    host.shutdown(Duration::ZERO).await;
    let reasons = super::readiness::reasons(&host.0);
    assert_eq!(reasons[0], "the host is shutting down");
}

#[tokio::test]
async fn a_changed_file_is_applied_as_a_difference_and_a_wrong_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = "[server]\nenabled = false\n";
    let one = "[publishers.one]\ntype = \"file\"\npath = \"one.jsonl\"\n";
    let file = write(dir.path(), &format!("{server}{one}"));
    let host = Host::builder().config_file(&file).watch(false).start().await.unwrap();
    host.recorder().event("a").start().complete();

    let two = "[publishers.two]\ntype = \"file\"\npath = \"two.jsonl\"\nfrom = \"newest\"\n";
    write(dir.path(), &format!("{server}{one}{two}"));
    let applied = host.reload().await.unwrap();
    assert_eq!(applied.unchanged, ["one".into()]);
    assert_eq!(applied.started, ["two".into()]);
    host.recorder().event("b").start().complete();

    write(dir.path(), &format!("{server}{one}[publishers.two]\ntype = \"fil\"\n"));
    let error = host.reload().await.unwrap_err().to_string();
    assert!(error.contains("publishers.two.type: unknown type, did you mean \"file\"?"), "{error}");
    assert_eq!(host.refused(), Some(error));
    assert_eq!(host.publishers().len(), 2);

    write(dir.path(), &format!("[server]\nenabled = true\n{one}"));
    let error = host.reload().await.unwrap_err();
    assert!(matches!(&error, ReloadError::NeedsRestart(keys) if keys == &["server.enabled"]), "{error}");

    write(dir.path(), &format!("{server}{two}"));
    let applied = host.reload().await.unwrap();
    assert_eq!((applied.removed, applied.unchanged), (vec!["one".into()], vec!["two".into()]));
    assert_eq!(host.refused(), None);

    let closing = host.shutdown(PATIENCE).await;
    assert!(closing.balanced());
    let lines = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap().lines().count();
    assert_eq!((lines("one.jsonl"), lines("two.jsonl")), (2, 1));
}

#[cfg(feature = "grafana-cloud")]
#[tokio::test]
async fn what_a_type_leaves_out_by_itself_it_gets_where_its_section_says_so() {
    // Nobody is there, and nobody needs to be.
    let url = "url = \"http://127.0.0.1:1/loki/api/v1/push\"";
    let text = format!(
        "[server]\nenabled = false\n[publishers.failed]\ntype = \"loki\"\n{url}\n[publishers.all]\ntype = \
         \"loki\"\nonly = {{}}\n{url}\n[publishers.one]\ntype = \"loki\"\nonly = {{ kind = \"network\" }}\n{url}\n"
    );
    let config = Config::parse(&text, Path::new(""), "pressroom.toml").unwrap();
    let host = Host::builder().config(config).watch(false).start().await.unwrap();
    let recorder = host.recorder();
    recorder.event("a").start().complete();
    recorder.event("a").start().fail("broken");
    recorder.network("GET", "h", 1).start().finish(0, 0);
    let closing = host.shutdown(Duration::from_millis(100)).await;
    let filtered = |label: &str| {
        closing.publishers.iter().find(|account| &*account.label == label).unwrap().books.filtered
    };
    assert_eq!((filtered("failed"), filtered("all"), filtered("one")), (2, 0, 2));
}

#[cfg(feature = "elasticsearch")]
#[test]
fn a_type_has_its_own_size_of_batches_where_its_section_says_nothing_of_it() {
    let search = "type = \"elasticsearch\"\nhosts = [\"http://127.0.0.1:1\"]\n";
    let text = format!(
        "[publishers.silent]\n{search}[publishers.says]\n{search}batch = {{ max_records = 7 }}\n[publishers.other]\ntype = \
         \"stdout\"\n"
    );
    let config = Config::parse(&text, Path::new(""), "pressroom.toml").unwrap();
    let mut problems = crate::config::Problems::new();
    let entries = super::catalog::Catalog::new(BTreeMap::new()).read(&config, &mut problems);
    problems.into_result().unwrap();
    let sizes: BTreeMap<_, _> = entries
        .iter()
        .map(|entry| (entry.section.label.as_str(), &entry.section.delivery.batch))
        .map(|(label, batch)| (label, (batch.max_records, batch.max_bytes.bytes())))
        .collect();
    assert_eq!(sizes["silent"], (4_096, 8 << 20));
    assert_eq!(sizes["says"], (7, 8 << 20), "each key counts for itself");
    assert_eq!(sizes["other"], (1_024, 4 << 20));
}

#[tokio::test]
async fn a_host_does_not_start_without_what_its_configuration_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("taken")).unwrap();
    let file =
        write(dir.path(), "[server]\nenabled = false\n[publishers.one]\ntype = \"file\"\npath = \"taken\"\n");
    let error = Host::builder().config_file(&file).start().await.unwrap_err();
    assert!(matches!(error, StartError::Publishers(_)));
    assert!(error.to_string().starts_with("publisher \"one\": "), "{error}");
}

#[test]
fn wrong_publishers_are_told_all_at_once() {
    let cases = [
        #[cfg(feature = "prometheus")]
        (
            "[publishers.a]\ntype = \"prometeus\"\n",
            "2:8: publishers.a.type: unknown type, did you mean \"prometheus\"?",
        ),
        ("[publishers.a]\ntype = \"kafka\"\n", "2:8: publishers.a.type: unknown type, known are composite, "),
        (
            "[publishers.a]\ntype = \"file\"\npath = \"x\"\nmax_sise = \"1MiB\"\n",
            "4:1: publishers.a.max_sise: unknown key, did you mean \"max_size\"?",
        ),
        #[cfg(feature = "wasm")]
        (
            "[publishers.a]\ntype = \"wasm\"\n",
            "publishers.a.plugin: missing: name the plugin, plugins/NAME.wasm",
        ),
        #[cfg(feature = "wasm")]
        (
            "[publishers.a]\ntype = \"wasm\"\nplugin = \"a\"\ngrant.dirs = [{ host = \".\", guest = \"/out\", write = true }]\n",
            "publishers.a.grant.dirs.0.host: no plugin may write to ",
        ),
        (
            "[publishers.a]\ntype = \"embedded\"\n",
            "publishers.a.type: no publisher of this label comes with the program",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in cases {
        let file = write(dir.path(), text);
        let error = check(&file).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
    let all: String =
        "[publishers.a]\ntype = \"x\"\n[publishers.b]\ntype = \"wasm\"\n[server]\nlisten = 5\n".into();
    let error = check(write(dir.path(), &all)).unwrap_err();
    assert_eq!(error.problems().len(), 3, "{error}");
}
