//! Records as a plugin may come to see them: ordinary ones, and those that find the corners.

use crate::record::{EventMetrics, NetworkMetrics, Status, Timestamp};
use uuid::Uuid;

const START: u64 = 1_763_900_000_000_000_000;
/// A text that is long for a name, and of which a batch is some megabytes.
const HUGE: usize = 16 << 10;
/// Letters of one to four bytes, joined ones, right-to-left ones, quotes, a line break and a NUL.
pub(super) const SCRIPTS: &str =
    "naïve 東京 שלום 👩‍🔬 \u{1F680} e\u{301} \"quoted\" back\\slash\nline\ttab\u{0}end";

fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(START << 4, number | 1 << 63)
}

/// An event as pipelines have them.
pub(in super::super) fn event(number: u64) -> EventMetrics {
    let names = ["fetch", "decode", "resize", "upload", "index"];
    let name = names.get(number as usize % names.len()).copied().unwrap_or("fetch");
    let start = START + number * 1_234_567;
    let mut event =
        EventMetrics::started(id(number), name, format!("task-{number:06}"), Timestamp::from_nanos(start));
    event.end_time = Some(Timestamp::from_nanos(start + (number % 97 + 1) * 1_000_003));
    event.pipeline_id = Some("thumbs".into());
    event.process_id = Some(4_242);
    let failed = number % 50 == 49;
    event.status = if failed { Status::Failed } else { Status::Completed };
    event.error = failed.then(|| "no space left on device".into());
    event.retry_count = u32::try_from(number % 3).unwrap_or_default();
    event.attributes.insert("service.name", "thumbnailer");
    event.attributes.insert("size", i64::try_from(number).unwrap_or_default());
    event.attributes.insert("ratio", 0.75);
    event.attributes.insert("cached", number.is_multiple_of(2));
    event
}

/// A network operation as pipelines have them.
pub(in super::super) fn operation(number: u64) -> NetworkMetrics {
    let start = START + number * 1_234_567;
    let task = format!("task-{number:06}");
    let mut operation =
        NetworkMetrics::started(id(number), task, "PUT", "s3.example", 443, Timestamp::from_nanos(start));
    operation.end_time = Some(Timestamp::from_nanos(start + 2_000_000));
    operation.bytes_sent = number << 10;
    operation.bytes_received = 300;
    operation.error = (number % 50 == 49).then(|| "connection reset".into());
    operation.attributes.insert("service.name", "thumbnailer");
    operation
}

/// Rows made by `make`, numbered on from `from`.
pub(in super::super) fn rows<R>(from: u64, rows: u64, make: impl Fn(u64) -> R) -> Vec<R> {
    (from..from + rows).map(make).collect()
}

/// Texts of kilobytes wherever a text may be.
pub(super) fn huge_event(number: u64) -> EventMetrics {
    let text = "x".repeat(HUGE);
    let mut event = EventMetrics::started(id(number), &*text, &*text, Timestamp::from_nanos(START));
    event.end_time = Some(Timestamp::from_nanos(u64::MAX >> 1));
    event.status = Status::Failed;
    event.error = Some(text.clone().into());
    event.retry_count = u32::MAX;
    event.attributes.insert("text", text);
    event
}

/// As [`huge_event`].
pub(super) fn huge_operation(number: u64) -> NetworkMetrics {
    let text = "x".repeat(HUGE);
    let mut operation =
        NetworkMetrics::started(id(number), &*text, &*text, &*text, u16::MAX, Timestamp::from_nanos(START));
    operation.end_time = Some(Timestamp::from_nanos(START));
    operation.bytes_sent = u64::MAX;
    operation.bytes_received = u64::MAX;
    operation.error = Some(text.into());
    operation
}

/// Texts of every script.
pub(super) fn foreign_event(number: u64) -> EventMetrics {
    let mut event = EventMetrics::started(id(number), SCRIPTS, SCRIPTS, Timestamp::from_nanos(START));
    event.end_time = Some(Timestamp::from_nanos(START + 1));
    event.pipeline_id = Some(SCRIPTS.into());
    event.status = Status::Failed;
    event.error = Some(SCRIPTS.into());
    event.attributes.insert(SCRIPTS, SCRIPTS);
    event.attributes.insert("nested", serde_json::json!({ "list": [1, null, "東"] }));
    event
}

/// As [`foreign_event`].
pub(super) fn foreign_operation(number: u64) -> NetworkMetrics {
    let start = Timestamp::from_nanos(START);
    let mut operation = NetworkMetrics::started(id(number), SCRIPTS, SCRIPTS, SCRIPTS, 443, start);
    operation.end_time = Some(Timestamp::from_nanos(START + 1));
    operation.error = Some(SCRIPTS.into());
    operation.attributes.insert(SCRIPTS, SCRIPTS);
    operation
}

/// Whatever may be missing is, and texts that may be empty are.
pub(super) fn bare_event(number: u64) -> EventMetrics {
    let mut event = EventMetrics::started(id(number), "e", "", Timestamp::from_nanos(0));
    event.end_time = None;
    event.status = Status::Cancelled;
    event
}

/// As [`bare_event`].
pub(super) fn bare_operation(number: u64) -> NetworkMetrics {
    NetworkMetrics::started(id(number), "", "", "", 0, Timestamp::from_nanos(0))
}
