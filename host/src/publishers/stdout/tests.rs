use super::*;
use crate::record::{EventMetrics, Status, Timestamp};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::task;
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

fn publisher(target: impl Write + Send + 'static) -> StdoutPublisher {
    StdoutPublisher::to(Box::new(target), Context::detached("console", "."))
}

/// Writes as the script says: so many bytes, or an error; everything once the script has ended.
#[derive(Clone, Default)]
struct Scripted {
    out: Arc<Mutex<Vec<u8>>>,
    script: Arc<Mutex<VecDeque<Result<usize, ErrorKind>>>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.script.lock().pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
        self.out.lock().extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Scripted {
    fn text(&self) -> String {
        String::from_utf8(self.out.lock().clone()).unwrap()
    }
}

#[tokio::test]
async fn lines_reach_a_reader() {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut publisher = publisher(writer);
    publisher.open(None).await.unwrap();
    publisher.publish_event_metrics(&events("a")).await.unwrap();
    publisher.publish_event_metrics(&events("b")).await.unwrap();
    drop(publisher);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, line("a") + &line("b"));
}

#[tokio::test]
async fn a_reader_that_is_gone_is_a_hold() {
    let (reader, writer) = io::pipe().unwrap();
    let mut publisher = publisher(writer);
    drop(reader);
    for _ in 0..2 {
        let Err(PublishError::Hold { reason }) = publisher.publish_event_metrics(&events("a")).await else {
            panic!("a broken pipe must be a hold");
        };
        assert!(reason.contains("[publishers.console]"), "{reason}");
    }
}

#[tokio::test]
async fn a_failed_attempt_is_completed_by_the_next() {
    let target = Scripted::default();
    target.script.lock().extend([Ok(7), Err(ErrorKind::Interrupted), Ok(3), Err(ErrorKind::WouldBlock)]);
    let mut publisher = publisher(target.clone());
    let failed = publisher.publish_event_metrics(&events("a")).await;
    assert!(matches!(failed, Err(PublishError::Retry { .. })), "{failed:?}");
    assert_eq!(target.text(), line("a")[..10]);
    publisher.publish_event_metrics(&events("a")).await.unwrap();
    publisher.publish_event_metrics(&events("a")).await.unwrap();
    assert_eq!(target.text(), line("a").repeat(2));
}

#[tokio::test]
async fn a_torn_line_is_ended_before_another_batch() {
    let target = Scripted::default();
    target.script.lock().extend([Ok(7), Err(ErrorKind::WouldBlock), Err(ErrorKind::WouldBlock)]);
    let mut publisher = publisher(target.clone());
    for name in ["a", "b"] {
        publisher.publish_event_metrics(&events(name)).await.unwrap_err();
    }
    publisher.publish_event_metrics(&events("b")).await.unwrap();
    assert_eq!(target.text(), format!("{}\n{}", &line("a")[..7], line("b")));
}

#[tokio::test]
async fn an_attempt_that_was_given_up_is_not_written_twice() {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut old = publisher(writer.try_clone().unwrap());
    {
        // The first poll starts the write, which waits for its turn; then the caller is gone.
        let _turn = TURN.lock();
        let batch = events("a");
        let mut given_up = old.publish_event_metrics(&batch);
        assert!(given_up.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())).is_pending());
    }
    // A successor knows of it too.
    let mut new = publisher(writer);
    new.open(Some(&mut old)).await.unwrap();
    drop(old);
    new.publish_event_metrics(&events("a")).await.unwrap();
    drop(new);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, line("a"));
}

#[tokio::test]
async fn the_real_one_can_be_built() {
    let config: StdoutConfig = toml::from_str("").unwrap();
    assert!(toml::from_str::<StdoutConfig>("path = \"x\"").is_err());
    let mut publisher = StdoutPublisher::build(config, Context::detached("console", ".")).unwrap();
    publisher.open(None).await.unwrap();
    publisher.flush().await.unwrap();
}
