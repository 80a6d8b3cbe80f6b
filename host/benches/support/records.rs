//! The records that are published.

use pressroom::record::{EventMetrics, Status, Timestamp};
use uuid::Uuid;

/// An event with three attributes: nine texts in all, beside its id.
pub fn event(number: u32) -> EventMetrics {
    let start = Timestamp::from_nanos(1_763_900_000_000_000_000 + u64::from(number) * 1_234_567);
    let id = Uuid::from_u64_pair(start.as_nanos() << 4, u64::from(number) | 1 << 63);
    let names = ["fetch", "decode", "resize", "upload", "index"];
    let name = names[number as usize % names.len()];
    let mut event = EventMetrics::started(id, name, format!("task-{number:06}"), start);
    event.end_time = Some(Timestamp::from_nanos(start.as_nanos() + u64::from(number % 97) * 1_000_003));
    event.pipeline_id = Some("thumbs".into());
    event.process_id = Some(4_242);
    event.status = if number.is_multiple_of(50) { Status::Failed } else { Status::Completed };
    event.error = number.is_multiple_of(50).then(|| "no space left on device".into());
    event.retry_count = number % 3;
    event.attributes.insert("service.name", "thumbnailer");
    event.attributes.insert("region", "eu-central-1");
    event.attributes.insert("object.key", format!("photos/2026/11/{number}.jpg"));
    event
}
