//! Records for tests: those that `wit/0.1/formats.md` shows, and any at all.

use super::{Attributes, Batch, EventMetrics, NetworkMetrics, Record, Status, Text, Timestamp, Value};
use super::{Rule, RuleId};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::{Uuid, uuid};

const START: u64 = 1_795_432_484_250_000_000; // 2026-11-23T11:14:44.25Z

/// The events of the document.
pub(super) fn events() -> Vec<EventMetrics> {
    let mut first = EventMetrics::started(
        uuid!("01a2081d-8d9a-7000-8000-000000000001"),
        "resize",
        "42",
        Timestamp::from_nanos(START),
    );
    first.pipeline_id = Some("thumbs".into());
    first.process_id = Some(4711);
    first.end_time = Some(Timestamp::from_nanos(START + 1_500_000_000));
    first.status = Status::Completed;
    first.retry_count = 2;
    first.attributes = [
        ("service.name", Value::from("imaging")),
        ("region", "eu".into()),
        ("cached", false.into()),
        ("width", 640.into()),
        ("ratio", 1.5.into()),
        ("tags", Value::Json(r#"["a",{"b":null}]"#.into())),
    ]
    .into_iter()
    .collect();

    let mut second = EventMetrics::started(
        uuid!("01a2081d-8d9a-7000-8000-000000000002"),
        "store, copy=2",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        Timestamp::from_nanos(START + 1),
    );
    second.end_time = Some(Timestamp::from_nanos(START + 250_000_001));
    second.status = Status::Failed;
    second.error = Some("no \"space\"\nleft on C:\\".into());
    second.attributes = [
        ("service.name", Value::from("imaging")),
        ("span_id", "00f067aa0ba902b7".into()),
        ("parent_span_id", "53995c3f42cd8ad8".into()),
        ("exception.type", "IOError".into()),
        ("load", f64::NAN.into()),
    ]
    .into_iter()
    .collect();

    let mut third = EventMetrics::started(
        uuid!("01a2081d-8d9a-7000-8000-000000000003"),
        "notify",
        "42",
        Timestamp::from_nanos(START + 2),
    );
    third.end_time = Some(Timestamp::from_nanos(START + 2));
    third.status = Status::Cancelled;
    vec![first, second, third]
}

/// The network operations of the document.
pub(super) fn operations() -> Vec<NetworkMetrics> {
    let mut first = NetworkMetrics::started(
        uuid!("01a2081d-8d9a-7000-8000-000000000004"),
        "42",
        "PUT",
        "s3.local",
        443,
        Timestamp::from_nanos(START),
    );
    first.end_time = Some(Timestamp::from_nanos(START + 12_500_000));
    first.bytes_sent = 1_048_576;
    first.bytes_received = 512;
    first.attributes =
        [("service.name", Value::from("imaging")), ("url.path", "/t/42".into())].into_iter().collect();

    let mut second = NetworkMetrics::started(
        uuid!("01a2081d-8d9a-7000-8000-000000000005"),
        "43",
        "remote call",
        "::1",
        0,
        Timestamp::from_nanos(START + 1),
    );
    second.end_time = Some(Timestamp::from_nanos(START + 30_000_000_001));
    second.error = Some("timed out".into());
    vec![first, second]
}

/// Both.
pub(super) fn batch() -> Batch {
    Batch { events: events(), operations: operations() }
}

/// Texts with everything in them that some format gives a meaning to.
pub(super) fn any_text() -> impl Strategy<Value = Text> {
    prop_oneof![
        "[a-z]{0,8}".prop_map(Text::from),
        "[a-z ,=\"\\\\\n\r\t\u{0}{}\\[\\]é\u{2028}😀-]{0,16}".prop_map(Text::from),
        ".{0,40}".prop_map(Text::from),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any_text().prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Float),
        Just(Value::Float(f64::INFINITY)),
        Just(Value::Float(f64::NAN)),
        any_text().prop_map(|text| Value::Json(
            serde_json::to_string_pretty(&serde_json::json!([{ "k": text.as_str() }, null])).unwrap().into()
        )),
        any_text().prop_map(|text| Value::Json(text.as_str().into())),
    ]
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    proptest::collection::vec((any_text(), any_value()), 0..4)
        .prop_map(|entries| entries.into_iter().collect())
}

fn any_status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Pending), Just(Status::Completed), Just(Status::Failed), Just(Status::Cancelled)]
}

/// Any event.
pub(super) fn any_event() -> impl Strategy<Value = EventMetrics> {
    let texts = (any_text(), any_text(), proptest::option::of(any_text()), proptest::option::of(any_text()));
    let numbers = (any::<u128>(), proptest::option::of(any::<u32>()), any::<u32>());
    let times = (any::<u64>(), proptest::option::of(any::<u64>()));
    (texts, numbers, times, any_status(), any_attributes()).prop_map(
        |(
            (name, task, pipeline_id, error),
            (id, process_id, retry_count),
            (start, end),
            status,
            attributes,
        )| {
            EventMetrics {
                end_time: end.map(Timestamp::from_nanos),
                pipeline_id,
                process_id,
                status,
                error,
                retry_count,
                attributes,
                ..EventMetrics::started(Uuid::from_u128(id), name, task, Timestamp::from_nanos(start))
            }
        },
    )
}

/// Any network operation.
pub(super) fn any_operation() -> impl Strategy<Value = NetworkMetrics> {
    let texts = (any_text(), any_text(), any_text(), proptest::option::of(any_text()));
    let numbers = (any::<u128>(), any::<u16>(), any::<u64>(), any::<u64>());
    let times = (any::<u64>(), proptest::option::of(any::<u64>()));
    (texts, numbers, times, any_attributes()).prop_map(
        |(
            (task, operation, host, error),
            (id, port, bytes_sent, bytes_received),
            (start, end),
            attributes,
        )| {
            NetworkMetrics {
                end_time: end.map(Timestamp::from_nanos),
                bytes_sent,
                bytes_received,
                error,
                attributes,
                ..NetworkMetrics::started(
                    Uuid::from_u128(id),
                    task,
                    operation,
                    host,
                    port,
                    Timestamp::from_nanos(start),
                )
            }
        },
    )
}

/// A rule by the record's id, as a number, that counts how often it is asked.
pub(super) struct When {
    id: RuleId,
    admits: fn(u128) -> bool,
    pub(super) asked: AtomicUsize,
}

impl When {
    pub(super) fn new(admits: fn(u128) -> bool) -> Self {
        Self { id: RuleId::unique(), admits, asked: AtomicUsize::new(0) }
    }
}

impl Rule for When {
    fn id(&self) -> RuleId {
        self.id
    }
    fn admits<R: Record>(&self, record: &R) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        (self.admits)(record.id().as_u128())
    }
}
