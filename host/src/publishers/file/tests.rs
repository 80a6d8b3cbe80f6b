use super::*;
use crate::record::{EventMetrics, NetworkMetrics, Status, Timestamp};
use parking_lot::Mutex;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::task;
use tempfile::TempDir;
use uuid::Uuid;

fn events(name: &str) -> EventBatch {
    let mut event = EventMetrics::started(Uuid::nil(), name, "task-1", Timestamp::from_nanos(5));
    event.end_time = Some(Timestamp::from_nanos(9));
    event.status = Status::Completed;
    EventBatch::detached(vec![event])
}

fn line(name: &str) -> String {
    String::from_utf8(events(name).encode(Format::JsonLines).to_vec()).unwrap()
}

fn config(path: impl Into<PathBuf>) -> FileConfig {
    FileConfig { path: path.into(), max_size: None, max_age: None, keep: None }
}

fn built(dir: &TempDir, config: FileConfig) -> FilePublisher {
    FilePublisher::build(config, Context::detached("archive", dir.path())).unwrap()
}

async fn opened(dir: &TempDir, config: FileConfig) -> FilePublisher {
    let mut publisher = built(dir, config);
    publisher.open(None).await.unwrap();
    publisher
}

async fn publish(publisher: &mut FilePublisher, name: &str) {
    assert_eq!(publisher.publish_event_metrics(&events(name)).await.unwrap(), []);
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The rotated files, the oldest first.
fn rotated(dir: &TempDir) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.file_name() != Some("events.jsonl".as_ref()));
    found.sort();
    found
}

#[tokio::test]
async fn records_are_appended_as_lines() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a/b/events.jsonl");
    let mut publisher = built(&dir, config("a/b/events.jsonl"));
    assert!(!path.exists(), "building takes nothing");
    publisher.open(None).await.unwrap();
    publish(&mut publisher, "a").await;
    let mut put =
        NetworkMetrics::started(Uuid::nil(), "task-1", "PUT", "s3.local", 443, Timestamp::from_nanos(5));
    put.end_time = Some(Timestamp::from_nanos(9));
    let put = NetworkBatch::detached(vec![put]);
    publisher.publish_network_metrics(&put).await.unwrap();
    publisher.flush().await.unwrap();
    drop(publisher);

    let mut publisher = opened(&dir, config("a/b/events.jsonl")).await;
    publish(&mut publisher, "b").await;
    let put = String::from_utf8(put.encode(Format::JsonLines).to_vec()).unwrap();
    assert_eq!(text(&path), line("a") + &put + &line("b"));
    let status = publisher.status().unwrap()();
    assert_eq!(status["size"], fs::metadata(&path).unwrap().len());
}

/// Polls an attempt once, which starts its write or waits for the one before, and gives it up.
fn give_up(publisher: &mut FilePublisher, name: &str) {
    let batch = events(name);
    let mut attempt = publisher.publish_event_metrics(&batch);
    assert!(attempt.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())).is_pending());
}

#[test]
fn an_attempt_that_was_given_up_leaves_nothing_twice() {
    // The one blocking thread is busy until it is told otherwise: no attempt ends before it is given up.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let busy = || {
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || wait.recv());
        go_on
    };
    runtime.block_on(async {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut old = opened(&dir, config("events.jsonl")).await;
        publish(&mut old, "a").await;
        let go_on = busy();
        for _ in 0..3 {
            give_up(&mut old, "b");
        }
        drop(go_on);
        publish(&mut old, "b").await;
        assert_eq!(text(&path), line("a") + &line("b"));

        // A successor undoes what its predecessor was in the middle of.
        let go_on = busy();
        give_up(&mut old, "c");
        drop(go_on);
        let mut new = built(&dir, config("events.jsonl"));
        new.open(Some(&mut old)).await.unwrap();
        drop(old);
        publish(&mut new, "c").await;
        assert_eq!(text(&path), line("a") + &line("b") + &line("c"));
    });
}

#[tokio::test]
async fn a_half_written_batch_is_cut_off_before_anything_else() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("events.jsonl");
    let mut publisher = opened(&dir, config("events.jsonl")).await;
    publish(&mut publisher, "a").await;
    // As a write that failed in the middle leaves it.
    publisher.writer.idle().unwrap().append(b"{\"type\":\"ev").unwrap();
    publisher.flush().await.unwrap();
    assert_eq!(text(&path), line("a"));
    publish(&mut publisher, "b").await;
    assert_eq!(text(&path), line("a") + &line("b"));
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_a_whole_one_completed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("events.jsonl");
    let torn = "{\"type\":\"event\",\"id\":\"".to_owned() + &"x".repeat(200_000);
    for (left, kept) in [
        (line("a") + "{\"type\":\"ev", line("a")),
        (line("a") + &torn, line("a")),
        (line("a") + "\0\0\0\0", line("a")),
        ("{".to_owned(), String::new()),
        (line("a") + line("b").trim_end(), line("a") + &line("b")),
        (line("a"), line("a")),
        (String::new(), String::new()),
    ] {
        fs::write(&path, &left).unwrap();
        let mut publisher = opened(&dir, config("events.jsonl")).await;
        assert_eq!(text(&path), kept, "of {left:.40}");
        publish(&mut publisher, "z").await;
        assert_eq!(text(&path), kept + &line("z"));
    }
}

#[tokio::test]
async fn what_somebody_else_wrote_is_not_cut() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("thesis.txt");
    fs::write(&path, "chapter one\nit was a dark").unwrap();
    let error = built(&dir, config("thesis.txt")).open(None).await.unwrap_err().to_string();
    assert!(
        error.contains("its last line is no JSON") && error.ends_with("`path` of [publishers.archive]"),
        "{error}"
    );
    assert_eq!(text(&path), "chapter one\nit was a dark");
}

#[tokio::test]
async fn a_full_disk_is_a_retry() {
    let device = Path::new("/dev/full");
    let dir = TempDir::new().unwrap();
    let mut publisher = opened(&dir, config(device)).await;
    for _ in 0..2 {
        let Err(PublishError::Retry { reason, .. }) = publisher.publish_event_metrics(&events("a")).await
        else {
            panic!("a full disk must be a retry");
        };
        assert!(reason.starts_with("cannot write to /dev/full: No space left"), "{reason}");
    }
    publisher.flush().await.unwrap();
}

#[tokio::test]
async fn what_a_person_must_mend_is_a_hold() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("plain"), "").unwrap();
    fs::create_dir(dir.path().join("directory")).unwrap();
    for (path, why) in
        [("plain/events.jsonl", "cannot create the directory"), ("directory", "it is a directory")]
    {
        let mut publisher = built(&dir, config(path));
        let error = publisher.open(None).await.unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("[publishers.archive]"), "{error}");
        let held = publisher.publish_event_metrics(&events("a")).await;
        assert!(matches!(held, Err(PublishError::Hold { .. })), "{held:?}");
    }
    // Once mended, it goes on by itself.
    let mut publisher = built(&dir, config("directory"));
    publisher.open(None).await.unwrap_err();
    fs::remove_dir(dir.path().join("directory")).unwrap();
    publish(&mut publisher, "a").await;
    assert_eq!(text(&dir.path().join("directory")), line("a"));
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_anew() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("logs/events.jsonl");
    let mut publisher = opened(&dir, config("logs/events.jsonl")).await;
    publish(&mut publisher, "a").await;
    fs::rename(&path, dir.path().join("moved")).unwrap();
    publish(&mut publisher, "b").await;
    assert_eq!((text(&dir.path().join("moved")), text(&path)), (line("a"), line("b")));
    fs::remove_dir_all(dir.path().join("logs")).unwrap();
    publish(&mut publisher, "c").await;
    assert_eq!(text(&path), line("c"));
    // As `copytruncate` does it.
    fs::File::create(&path).unwrap();
    publish(&mut publisher, "d").await;
    assert_eq!(text(&path), line("d"));
}

#[tokio::test]
async fn two_publishers_never_share_a_file() {
    let dir = TempDir::new().unwrap();
    let mut first = opened(&dir, config("events.jsonl")).await;
    let mut second = built(&dir, config("./events.jsonl"));
    let error = second.open(None).await.unwrap_err().to_string();
    assert!(error.contains("has locked it: give each a file of its own"), "{error}");
    // An error leaves the predecessor as it was; a successor takes the file over, under another name of it too.
    publish(&mut first, "a").await;
    second.open(Some(&mut first)).await.unwrap();
    let refused = first.publish_event_metrics(&events("x")).await;
    assert!(matches!(refused, Err(PublishError::Hold { .. })), "{refused:?}");
    drop(first);
    publish(&mut second, "b").await;
    assert_eq!(text(&dir.path().join("events.jsonl")), line("a") + &line("b"));
    drop(second);
    opened(&dir, config("events.jsonl")).await;
}

#[tokio::test]
async fn it_is_rotated_by_size_and_the_newest_are_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("events.jsonl");
    let max_size = Some(ByteSize(line("a").len() as u64 * 2));
    let mut publisher = opened(&dir, FileConfig { max_size, keep: Some(2), ..config("events.jsonl") }).await;
    // Not ours: neither counted nor removed.
    fs::write(dir.path().join("events.jsonl.1"), "").unwrap();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        publish(&mut publisher, name).await;
    }
    assert_eq!(text(&path), line("g"));
    let texts: Vec<String> = rotated(&dir).iter().map(|path| text(path)).collect();
    assert_eq!(texts, [String::new(), line("c") + &line("d"), line("e") + &line("f")]);
    assert_eq!(publisher.status().unwrap()()["rotated"], 3);
}

#[tokio::test]
async fn it_is_rotated_by_age_and_names_never_clash() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("events.jsonl");
    let time = Arc::new(Mutex::new(SystemTime::now() + Duration::from_secs(3_600)));
    let clock = time.clone();
    let mut publisher = FilePublisher::with_clock(
        FileConfig { max_age: Some(Duration::from_secs(60)), ..config("events.jsonl") },
        Context::detached("archive", dir.path()),
        Arc::new(move || *clock.lock()),
    );
    publisher.open(None).await.unwrap();
    *time.lock() += Duration::from_secs(61);
    publisher.flush().await.unwrap();
    assert_eq!(rotated(&dir).len(), 0, "an empty file stays");
    publish(&mut publisher, "a").await;
    publisher.flush().await.unwrap();
    assert_eq!(rotated(&dir).len(), 1, "a quiet file is rotated at a flush");
    assert_eq!(text(&path), "");
    publish(&mut publisher, "b").await;
    *time.lock() += Duration::from_secs(61);
    publish(&mut publisher, "c").await;
    assert_eq!(text(&path), line("c"));

    // The clock is set back: what is rotated now still sorts last.
    *time.lock() -= Duration::from_secs(100_000);
    publisher.writer.idle().unwrap().flush().unwrap();
    drop(publisher);
    super::rotation::rotate(&path, *time.lock()).unwrap();
    let texts: Vec<String> = rotated(&dir).iter().map(|path| text(path)).collect();
    assert_eq!(texts, [line("a"), line("b"), line("c")]);
}

#[cfg(unix)]
#[tokio::test]
async fn behind_a_link_the_file_itself_is_rotated() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("volume")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("volume/real.jsonl"), dir.path().join("events.jsonl"))
        .unwrap();
    let mut publisher =
        opened(&dir, FileConfig { max_size: Some(ByteSize(1)), ..config("events.jsonl") }).await;
    publish(&mut publisher, "a").await;
    publish(&mut publisher, "b").await;
    assert_eq!(fs::read_dir(dir.path().join("volume")).unwrap().count(), 2);
    assert_eq!(text(&dir.path().join("volume/real.jsonl")), line("b"));
}

#[tokio::test]
async fn lines_of_another_writer_stay_where_nothing_failed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("events.jsonl");
    let mut publisher = opened(&dir, config("events.jsonl")).await;
    publish(&mut publisher, "a").await;
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{}\n").unwrap();
    publish(&mut publisher, "b").await;
    assert_eq!(text(&path), line("a") + "{}\n" + &line("b"));
}

#[test]
fn settings_are_strict() {
    let config: FileConfig =
        toml::from_str("path = \"events.jsonl\"\nmax_size = \"100MiB\"\nmax_age = \"1d\"\nkeep = 7").unwrap();
    assert_eq!(
        (config.max_size, config.max_age),
        (Some(ByteSize::mib(100)), Some(Duration::from_secs(86_400)))
    );
    assert!(FilePublisher::validate(&config).is_empty());
    let config: FileConfig = toml::from_str("path = \"..\"\nmax_size = 0\nmax_age = \"0s\"").unwrap();
    let keys: Vec<_> = FilePublisher::validate(&config).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["path", "max_size", "max_age"]);
    let config: FileConfig = toml::from_str("path = \"x\"\nkeep = 1").unwrap();
    assert_eq!(FilePublisher::validate(&config).len(), 1);
    for wrong in ["", "path = \"x\"\nmax_size = \"big\"", "path = \"x\"\nformat = \"csv\""] {
        assert!(toml::from_str::<FileConfig>(wrong).is_err(), "{wrong}");
    }
}
