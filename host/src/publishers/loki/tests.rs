//! The publisher against a receiver that answers as Loki does.

use super::*;
use crate::publishers::push::receiver::{Receiver, Reply};
use crate::record::{EventMetrics, NetworkMetrics, Timestamp};
use parking_lot::Mutex;
use prost::Message;
use std::collections::VecDeque;
use uuid::Uuid;
use wire::PushRequest;

/// What was pushed.
pub(crate) struct Kept {
    receiver: Receiver,
    requests: Arc<Mutex<Vec<PushRequest>>>,
}

impl Kept {
    /// Of a receiver that takes everything.
    pub(crate) fn new() -> Self {
        Self::answering(|_| Reply::taken())
    }

    fn answering(mut answer: impl FnMut(&PushRequest) -> Reply + Send + 'static) -> Self {
        let requests: Arc<Mutex<Vec<PushRequest>>> = Arc::default();
        let keeping = requests.clone();
        let receiver = Receiver::new(move |received| {
            assert_eq!(
                (&*received.path, &received.headers["content-type"]),
                (
                    "/loki/api/v1/push",
                    &"application/x-protobuf".parse::<hyper::header::HeaderValue>().unwrap()
                )
            );
            let request = PushRequest::decode(&*received.body).unwrap();
            let reply = answer(&request);
            keeping.lock().push(request);
            reply
        });
        Self { receiver, requests }
    }

    pub(crate) fn url(&self) -> String {
        self.receiver.url("/loki/api/v1/push")
    }

    /// The lines of all requests.
    pub(crate) fn lines(&self) -> Vec<String> {
        let requests = self.requests.lock();
        let entries = requests.iter().flat_map(|request| &request.streams).flat_map(|stream| &stream.entries);
        entries.map(|entry| entry.line.clone()).collect()
    }

    fn streams(&self) -> Vec<wire::Stream> {
        self.requests.lock().iter().flat_map(|request| request.streams.clone()).collect()
    }
}

fn publisher(kept: &Kept, more: &str) -> LokiPublisher {
    let config = toml::from_str(&format!("url = '{}'\ninstance = 'here'\n{more}", kept.url())).unwrap();
    assert_eq!(LokiPublisher::validate(&config), []);
    LokiPublisher::build(config, Context::detached("loki", "")).unwrap()
}

const HOUR: u64 = 3_600_000_000_000;
const START: u64 = 500_000 * HOUR;

/// An event that ended at that time.
fn event(number: u64, end: u64) -> EventMetrics {
    let mut event = EventMetrics::started(
        Uuid::from_u128(number.into()),
        "resize",
        format!("task-{number}"),
        Timestamp::from_nanos(end - 5),
    );
    (event.end_time, event.status) = (Some(Timestamp::from_nanos(end)), Status::Failed);
    event
}

fn events(ends: impl IntoIterator<Item = u64>) -> EventBatch {
    EventBatch::detached((0..).zip(ends).map(|(number, end)| event(number, end)).collect())
}

fn rows(unpublished: &[Unpublished]) -> Vec<(u32, bool)> {
    unpublished.iter().map(|left| (left.row, matches!(left.fate, Fate::Reject { .. }))).collect()
}

#[tokio::test]
async fn records_are_lines_of_few_streams_and_their_ids_are_not_labels() {
    let kept = Kept::new();
    let mut publisher = publisher(&kept, "external_labels = { cluster = 'eu' }");
    let mut first = event(1, START + 2);
    first.error = Some("disk\nfull".into());
    first.pipeline_id = Some("thumbs".into());
    first.attributes.insert("service.name", "a\"b\\c\n");
    first.attributes.insert("trace_id", "4bf92f");
    let mut second = event(2, START);
    second.attributes.insert("service.name", "a\"b\\c\n");
    let mut third = event(3, START);
    third.status = Status::Completed;
    publisher.publish_event_metrics(&EventBatch::detached(vec![first, second, third])).await.unwrap();
    let mut operation =
        NetworkMetrics::started(Uuid::nil(), "t", "PUT", "s3", 443, Timestamp::from_nanos(START));
    operation.end_time = Some(Timestamp::from_nanos(START + 1_000_000_007));
    operation.error = Some("reset".into());
    publisher.publish_network_metrics(&NetworkBatch::detached(vec![operation])).await.unwrap();

    let streams = kept.streams();
    let labels: Vec<_> = streams.iter().map(|stream| stream.labels.as_str()).collect();
    let common = r#"cluster="eu",instance="here",job="pressroom""#;
    assert_eq!(
        labels,
        [
            format!(r#"{{{common},kind="event",level="error",service="a\"b\\c\u000a"}}"#),
            format!(r#"{{{common},kind="event",level="info"}}"#),
            format!(r#"{{{common},kind="network",level="error"}}"#),
        ]
    );
    // In the order of their times, at which they ended.
    let entries = &streams[0].entries;
    assert_eq!(entries.len(), 2);
    assert!(entries[0].timestamp.unwrap().nanos < entries[1].timestamp.unwrap().nanos);
    let line: serde_json::Value = serde_json::from_str(&entries[1].line).unwrap();
    assert_eq!((&line["type"], &line["error"]), (&"event".into(), &"disk\nfull".into()));
    let metadata: Vec<_> = entries[1].metadata.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
    let id = "00000000-0000-0000-0000-000000000001";
    let expected = [("id", id), ("task_id", "task-1"), ("pipeline_id", "thumbs"), ("trace_id", "4bf92f")];
    assert_eq!(metadata, expected);
    let at = streams[2].entries[0].timestamp.unwrap();
    assert_eq!((at.seconds, at.nanos), ((START / 1_000_000_000 + 1) as i64, 7));
}

#[tokio::test]
async fn what_is_refused_alone_is_set_aside_and_the_rest_is_there() {
    // As Loki does it: it takes what is not too old, and answers for the whole.
    let too_old = |request: &PushRequest| {
        let entries = request.streams.iter().flat_map(|stream| &stream.entries);
        entries.filter(|entry| entry.timestamp.unwrap().nanos % 10 == 3).count()
    };
    let kept = Kept::answering(move |request| match too_old(request) {
        0 => Reply::taken(),
        _ => Reply::say(400, "entry has timestamp too old"),
    });
    let mut publisher = publisher(&kept, "");
    let batch = events((0..100).map(|number| START + number));
    let unpublished = publisher.publish_event_metrics(&batch).await.unwrap();
    let refused: Vec<_> = (0..100).filter(|row| row % 10 == 3).map(|row| (row, true)).collect();
    assert_eq!(rows(&unpublished), refused);
    let Fate::Reject { reason } = &unpublished[0].fate else { panic!("{unpublished:?}") };
    assert!(reason.contains("timestamp too old"), "{reason}");
    // Everything that may stay was in a request that was taken whole.
    let whole =
        kept.requests.lock().iter().filter(|request| too_old(request) == 0).cloned().collect::<Vec<_>>();
    let taken: usize =
        whole.iter().flat_map(|request| &request.streams).map(|stream| stream.entries.len()).sum();
    assert_eq!(taken, 90);
}

#[tokio::test]
async fn what_cannot_go_on_keeps_what_is_not_settled() {
    for (reply, whole, part) in [
        (Reply::say(429, "slower"), "retry", false),
        (Reply::say(500, ""), "retry", false),
        (Reply::say(401, ""), "hold", false),
        (Reply::say(404, ""), "hold", false),
        (Reply::say(400, "all of it"), "reject", true),
    ] {
        // Nothing was settled: the answer is for the whole batch.
        let script: Arc<Mutex<VecDeque<Reply>>> = Arc::default();
        let answers = script.clone();
        let kept = Kept::answering(move |_| answers.lock().pop_front().unwrap_or_else(Reply::taken));
        let mut publisher = publisher(&kept, "");
        script.lock().extend(std::iter::repeat_n(reply.clone(), 20));
        let result = publisher.publish_event_metrics(&events([START, START + 1])).await;
        let found = match &result {
            Err(PublishError::Retry { .. }) => "retry",
            Err(PublishError::Hold { .. }) => "hold",
            Ok(unpublished) if rows(unpublished) == [(0, true), (1, true)] => "reject",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, whole, "{reply:?}");
        // Some of it was: two hours are two requests, and only the second one's row is left.
        script.lock().clear();
        script.lock().extend([Reply::taken(), reply.clone()]);
        let unpublished = publisher.publish_event_metrics(&events([START + 2 * HOUR, START])).await.unwrap();
        assert_eq!(rows(&unpublished), [(0, part)], "{reply:?}");
    }
    let kept = Kept::answering(|_| Reply::Say(429, vec![("retry-after", "9".to_owned())], String::new()));
    let error = publisher(&kept, "").publish_event_metrics(&events([START])).await.unwrap_err();
    assert!(matches!(error, PublishError::Retry { after: Some(after), .. } if after.as_secs() == 9));
}

#[tokio::test]
async fn a_push_is_bounded_in_bytes_and_in_time() {
    let kept = Kept::new();
    let mut publisher = publisher(&kept, "");
    let mut batch: Vec<_> = (0..40).map(|number| event(number, START + number)).collect();
    for event in &mut batch {
        event.error = Some("x".repeat(100_000).into());
    }
    batch.extend((40..44).map(|number| event(number, START + number * HOUR / 4)));
    publisher.publish_event_metrics(&EventBatch::detached(batch)).await.unwrap();
    let requests = kept.requests.lock();
    assert!(requests.iter().all(|request| request.encoded_len() < 1_100_000));
    let counts: Vec<_> = requests.iter().map(|request| request.streams[0].entries.len()).collect();
    assert_eq!(counts, [10, 10, 10, 10, 3, 1]);
}

#[tokio::test]
async fn services_beyond_a_bound_share_a_stream() {
    let kept = Kept::new();
    let mut publisher = publisher(&kept, "");
    let batch = (0..150).map(|number| {
        let mut event = event(number, START + number);
        event.attributes.insert("service.name", format!("service-{number:03}"));
        event
    });
    publisher.publish_event_metrics(&EventBatch::detached(batch.collect())).await.unwrap();
    let streams = kept.streams();
    assert_eq!(streams.len(), 101);
    let other = streams.iter().find(|stream| stream.labels.contains("service=\"other\"")).unwrap();
    assert_eq!(other.entries.len(), 50);
    assert!(other.entries[0].line.contains("service-100"), "the line says what it was");
}

#[test]
fn every_problem_of_the_settings_is_named() {
    let many: String = (0..10).map(|number| format!("label_{number} = 'x', ")).collect();
    let config = format!("url = 'loki'\nuser = 'a'\njob = ''\nexternal_labels = {{ level = 'x', {many} }}");
    let problems = LokiPublisher::validate(&toml::from_str(&config).unwrap());
    let keys: Vec<_> = problems.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["url", "user", "job", "external_labels", "external_labels.level"], "{problems:#?}");
}

#[tokio::test]
async fn a_413_for_everything_is_a_hold_and_no_line_is_at_fault() {
    let kept = Kept::answering(|_| Reply::say(413, "I am a proxy"));
    let mut publisher = publisher(&kept, "");
    let many = events((0..100).map(|number| START + number));
    let error = publisher.publish_event_metrics(&many).await.unwrap_err();
    assert!(matches!(&error, PublishError::Hold { reason } if reason.contains("I am a proxy")), "{error:?}");
    assert!(kept.requests.lock().len() < 30, "{} requests", kept.requests.lock().len());
    let few = publisher.publish_event_metrics(&events([START])).await.unwrap();
    assert!(
        matches!(&few[0].fate, Fate::Wait { reason, hold: true, .. } if reason.contains("I am a proxy")),
        "{few:?}"
    );
}
