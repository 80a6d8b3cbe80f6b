//! Composites: what is wrong with one, and what becomes of a right one.

use super::*;
use crate::publisher::PublishError;
use serde_json::Value;
use std::sync::atomic::AtomicBool;

/// Two lines before each.
const SERVER: &str = "[server]\nenabled = false\n";

const WRONG: &[(&str, &str)] = &[
    (
        "[publishers.a]\ntype = 'composite'\nmembers = ['b', 'zzz']\n[publishers.bb]\ntype = 'stdout'\n",
        "5:12: publishers.a.members[0]: no publisher has the label \"b\", did you mean \"bb\"?\n\
         5:17: publishers.a.members[1]: no publisher has the label \"zzz\"",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmembers = []\n[publishers.b]\ntype = 'composite'\nmode = 'failover'\nmembers = []\n",
        "5:11: publishers.a.members: is empty: name the labels of other publishers\n\
         9:11: publishers.b.members: is empty: name the labels of other publishers",
    ),
    ("[publishers.a]\ntype = 'composite'\n", "3:13: publishers.a.members: is missing"),
    (
        "[publishers.a]\ntype = 'composite'\nmembers = ['a']\n",
        "5:12: publishers.a.members[0]: \"a\" is a member of itself",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'failover'\nmembers = ['x', 'b']\n\
         [publishers.b]\ntype = 'composite'\nmode = 'failover'\nmembers = ['c', 'y']\n\
         [publishers.c]\ntype = 'composite'\nmode = 'failover'\nmembers = ['z', 'a']\n\
         [publishers.x]\ntype = 'stdout'\n[publishers.y]\ntype = 'stdout'\n[publishers.z]\ntype = 'stdout'\n",
        "6:17: publishers.a.members[1]: by way of \"b\", \"a\" is a member of itself\n\
         10:12: publishers.b.members[0]: by way of \"c\", \"b\" is a member of itself\n\
         14:17: publishers.c.members[1]: by way of \"a\", \"c\" is a member of itself",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmembers = ['c', 'd', 'c']\n[publishers.b]\ntype = 'composite'\n\
         members = ['d']\n[publishers.c]\ntype = 'stdout'\n[publishers.d]\ntype = 'stdout'\n",
        "5:22: publishers.a.members[2]: \"c\" is named twice\n\
         8:12: publishers.b.members[0]: \"d\" is a member of [publishers.a] already",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'failover'\nmembers = ['b']\n[publishers.b]\ntype = 'stdout'\n",
        "6:11: publishers.a.members: one member has nothing to fail over to: name another one, or publish to \"b\" itself",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'failover'\nmembers = ['b', 'c']\n[publishers.b]\ntype = 'stdout'\n\
         [publishers.c]\ntype = 'composite'\nmembers = ['d']\n[publishers.d]\ntype = 'stdout'\n",
        "6:17: publishers.a.members[1]: \"c\" has mode = \"all\", of which no failover can be made: name its members \
         here, or give it mode = \"failover\"",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'failover'\nmembers = ['b', 'c']\n\
         [publishers.b]\ntype = 'stdout'\ntimeout = '1s'\noverflow = 'drop_oldest'\nonly = { kind = 'event' }\n\
         [publishers.c]\ntype = 'stdout'\n[publishers.c.retry]\nmax = '1s'\n",
        "10:12: publishers.b.overflow: belongs to the failover that this is a member of: say it at [publishers.a]\n\
         11:1: publishers.b.only: every member of a failover takes the same records: say it at [publishers.a]\n\
         14:15: publishers.c.retry: belongs to the failover that this is a member of: say it at [publishers.a]",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmembers = ['b']\ntimeout = '30s'\nbreaker = { failures = 1 }\n\
         only = { kind = 'event' }\n[publishers.b]\ntype = 'stdout'\n",
        "6:11: publishers.a.timeout: belongs to the members: with mode = \"all\" each is delivered to on its own, and \
         the composite has only `only` of the keys of delivery\n\
         7:1: publishers.a.breaker: only a failover has one: add mode = \"failover\", or remove it",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'failover'\nmembers = ['b', 'c']\n\
         breaker = { failures = 0, initial = '1m', max = '5s', tries = 3 }\n\
         [publishers.b]\ntype = 'stdout'\n[publishers.c]\ntype = 'stdout'\n",
        "7:55: publishers.a.breaker.tries: unknown key, known are failing_for, failures, initial, max",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'failover'\nmembers = ['b', 'c']\n\
         breaker = { failures = 0, initial = '1m', max = '5s' }\n\
         [publishers.b]\ntype = 'stdout'\n[publishers.c]\ntype = 'stdout'\n",
        "7:24: publishers.a.breaker.failures: must be at least 1\n\
         7:37: publishers.a.breaker.initial: 1m is longer than breaker.max, which is 5s",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'any'\nmembers = ['b', 7]\n[publishers.b]\ntype = 'stdout'\n",
        "5:8: publishers.a.mode: unknown value \"any\", known are all, failover\n\
         6:17: publishers.a.members[1]: expected a string, found integer 7",
    ),
    (
        "[publishers.a]\ntype = 'composite'\nmembers = ['dropped', 'b']\n[publishers.b]\ntype = 'stdout'\n",
        "5:12: publishers.a.members[0]: \"dropped\" is a plugin that runs without a section: to make it a member add \
         [publishers.dropped] with type = \"wasm\" and plugin = \"dropped\"",
    ),
    #[cfg(feature = "wasm")]
    (
        "[publishers.a]\ntype = 'composite'\nmode = 'failover'\nmembers = ['b', 'c']\n[publishers.b]\ntype = 'stdout'\n\
         [publishers.c]\ntype = 'wasm'\nplugin = 'x'\nacknowledge = 'flush'\n",
        "12:15: publishers.c.acknowledge: a member of a failover is asked for rows one call at a time: it must be \
         \"publish\"",
    ),
];

#[test]
fn what_is_wrong_with_composites_is_said_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    std::fs::write(dir.path().join("plugins/dropped.wasm"), "").unwrap();
    let mut differences = String::new();
    for (text, expected) in WRONG {
        let file = write(dir.path(), &format!("{SERVER}{text}"));
        let said = check(&file).unwrap_err().to_string();
        let said = said.replace(&format!("{}:", file.display()), "");
        if said != *expected {
            differences += &format!("{text}expected\n{expected}\nand was told\n{said}\n\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[tokio::test]
async fn a_composite_gives_its_filter_to_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"
        [server]
        enabled = false
        [publishers.failures]
        type = "composite"
        members = ["inner", "all"]
        only = { status = "failed" }
        [publishers.inner]
        type = "composite"
        members = ["events"]
        only = { kind = "event" }
        [publishers.events]
        type = "file"
        path = "events.jsonl"
        [publishers.all]
        type = "file"
        path = "all.jsonl"
    "#;
    let config = Config::parse(text, dir.path(), "pressroom.toml").unwrap();
    let host = Host::builder().config(config).watch(false).start().await.unwrap();
    let recorder = host.recorder();
    recorder.event("a").start().complete();
    recorder.event("a").start().fail("broken");
    recorder.network("GET", "h", 1).start().fail("refused", 0, 0);
    let closing = host.shutdown(PATIENCE).await;
    let books =
        |label: &str| closing.publishers.iter().find(|account| &*account.label == label).unwrap().books;
    assert_eq!(closing.publishers.len(), 2, "a composite has no books of its own");
    assert_eq!((books("events").delivered, books("events").filtered), (1, 2));
    assert_eq!((books("all").delivered, books("all").filtered), (2, 1));
}

/// One that is down until it is told otherwise.
#[derive(Clone, Default)]
struct Remote {
    up: Arc<AtomicBool>,
    rows: Arc<AtomicUsize>,
}

impl Remote {
    fn take(&self, rows: usize) -> PublishResult {
        if !self.up.load(Ordering::SeqCst) {
            return Err(PublishError::hold("the remote is down"));
        }
        self.rows.fetch_add(rows, Ordering::SeqCst);
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl Publisher for Remote {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.take(events.len())
    }
    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.take(operations.len())
    }
}

async fn host(dir: &Path, text: &str, remote: &Remote) -> Result<Host, StartError> {
    let file = write(dir, &format!("{SERVER}{text}"));
    let remote = remote.clone();
    Host::builder().publisher("remote", move || remote.clone()).config_file(file).watch(false).start().await
}

async fn until_delivered(host: &Host, label: &str, count: u64) -> crate::delivery::PublisherStatus {
    let wait = async {
        loop {
            let status = host.publishers().into_iter().find(|status| &*status.label == label).unwrap();
            assert!(status.books.balance());
            if status.books.delivered == count {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{:?}", host.publishers()))
}

fn lines(dir: &Path, name: &str) -> usize {
    std::fs::read_to_string(dir.join(name)).map_or(0, |text| text.lines().count())
}

const NESTED: &str = r#"
    [publishers.failures]
    type = "composite"
    members = ["safe"]
    only = { status = "failed" }
    [publishers.safe]
    type = "composite"
    mode = "failover"
    members = ["inner", "last"]
    only = { kind = "event" }
    batch = { max_age = "1ms" }
    [publishers.inner]
    type = "composite"
    mode = "failover"
    members = ["remote", "spare"]
    [publishers.remote]
    type = "embedded"
    timeout = "1s"
    [publishers.spare]
    type = "file"
    path = "spare.jsonl"
    [publishers.last]
    type = "file"
    path = "last.jsonl"
"#;

#[tokio::test]
async fn a_failover_is_one_delivery_of_members_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Remote::default();
    let host = host(dir.path(), NESTED, &remote).await.unwrap();
    host.recorder().event("a").start().fail("broken");
    host.recorder().event("a").start().complete();
    host.recorder().network("GET", "h", 1).start().fail("refused", 0, 0);
    let status = until_delivered(&host, "safe", 1).await;
    assert_eq!((host.publishers().len(), &*status.kind), (1, "composite"));
    assert_eq!(status.books.filtered, 2, "its own filter, and that of the composite around it");
    let detail = status.detail.unwrap();
    let labels = |detail: &Value| {
        let members = detail["members"].as_array().unwrap();
        members
            .iter()
            .map(|member| format!("{} {}", member["label"], member["state"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(&detail), ["inner active", "last standby"]);
    assert_eq!(labels(&detail["members"][0]["detail"]), ["remote held", "spare active"]);

    let metrics = host.metrics();
    for line in [
        "pressroom_failover_member_records_total{member=\"inner\",outcome=\"delivered\",publisher=\"safe\"} 1",
        "pressroom_failover_member_records_total{member=\"spare\",outcome=\"delivered\",publisher=\"safe\"} 1",
        "pressroom_failover_member_records_total{member=\"remote\",outcome=\"delivered\",publisher=\"safe\"} 0",
        "pressroom_failover_member_failed_attempts_total{member=\"remote\",publisher=\"safe\"} 1",
        "pressroom_failover_member_up{member=\"remote\",publisher=\"safe\"} 0",
        "pressroom_failover_member_up{member=\"last\",publisher=\"safe\"} 1",
        "pressroom_failover_member_active{member=\"spare\",publisher=\"safe\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let closing = host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.publishers.len() == 1, "{closing:?}");
    assert_eq!((lines(dir.path(), "spare.jsonl"), lines(dir.path(), "last.jsonl")), (1, 0));
}

#[tokio::test]
async fn a_reload_touches_only_the_member_that_changed() {
    let dir = tempfile::tempdir().unwrap();
    let remote = Remote::default();
    let host = host(dir.path(), NESTED, &remote).await.unwrap();
    let record = || host.recorder().event("a").start().fail("broken");
    record();
    until_delivered(&host, "safe", 1).await;
    assert_eq!(host.reload().await.unwrap().unchanged, ["safe".into()]);

    // Another file for the spare: the remote stays on hold, and is not asked again.
    write(dir.path(), &format!("{SERVER}{}", NESTED.replace("spare.jsonl", "other.jsonl")));
    assert_eq!(host.reload().await.unwrap().replaced, ["safe".into()]);
    record();
    let status = until_delivered(&host, "safe", 2).await;
    let detail = status.detail.unwrap();
    let inner = &detail["members"][0]["detail"]["members"];
    assert_eq!((&inner[0]["state"], &inner[0]["attempts"]), (&"held".into(), &1.into()), "{inner:#}");
    assert_eq!((&inner[1]["delivered"], &detail["members"][0]["delivered"]), (&2.into(), &2.into()));

    // The remote is mended, which its section tells.
    remote.up.store(true, Ordering::SeqCst);
    let mended = NESTED.replace("timeout = \"1s\"", "timeout = \"2s\"");
    write(dir.path(), &format!("{SERVER}{mended}"));
    host.reload().await.unwrap();
    record();
    until_delivered(&host, "safe", 3).await;
    assert_eq!(remote.rows.load(Ordering::SeqCst), 1);

    // One that leaves the failover is delivered to on its own, and the file goes on where it was.
    let apart = mended
        .replace("\"inner\", \"last\"", "\"inner\", \"spare\"")
        .replace("\"remote\", \"spare\"", "\"remote\", \"last\"");
    write(dir.path(), &format!("{SERVER}{apart}"));
    assert_eq!(host.reload().await.unwrap().replaced, ["safe".into()]);
    let closing = host.shutdown(PATIENCE).await;
    assert!(closing.balanced() && closing.dropped() == 0, "{closing:?}");
    assert_eq!((lines(dir.path(), "spare.jsonl"), lines(dir.path(), "other.jsonl")), (1, 1));
}

#[tokio::test]
async fn a_mistake_of_one_member_is_loud_and_what_cannot_be_opened_is_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("taken")).unwrap();
    let remote = Remote { up: Arc::new(true.into()), ..Remote::default() };
    let text = |first: &str, then: &str| {
        format!(
            "[publishers.safe]\ntype = \"composite\"\nmode = \"failover\"\nmembers = [\"remote\", \"spare\"]\n\
             [publishers.remote]\ntype = {first}\n[publishers.spare]\ntype = \"file\"\npath = \"{then}\"\n"
        )
    };
    // A file that cannot be had leaves the other one.
    let running = host(dir.path(), &text("\"embedded\"", "taken"), &remote).await.unwrap();
    running.recorder().event("a").start().complete();
    until_delivered(&running, "safe", 1).await;
    assert!(running.shutdown(PATIENCE).await.balanced());
    assert_eq!(remote.rows.load(Ordering::SeqCst), 1);
    // Two leave nothing: as with one that is no member, the host does not start.
    let both = text("\"file\"\npath = \"taken\"", "taken");
    let error = host(dir.path(), &both, &remote).await.unwrap_err().to_string();
    assert!(error.starts_with("publisher \"safe\": no member can be opened: remote: "), "{error}");
}

#[tokio::test]
async fn a_publisher_of_the_program_needs_a_section_to_be_a_member() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[publishers.safe]\ntype = \"composite\"\nmode = \"failover\"\nmembers = [\"spare\", \"remote\"]\n\
                [publishers.spare]\ntype = \"stdout\"\n";
    let error = host(dir.path(), text, &Remote::default()).await.unwrap_err().to_string();
    let expected = "6:21: publishers.safe.members[1]: \"remote\" comes with the program and has no section: add \
                    [publishers.remote] with type = \"embedded\"";
    assert!(error.ends_with(expected), "{error}");
}
