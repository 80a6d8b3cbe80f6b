#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::{EventBatch, Format, NetworkBatch, PublishError};

fn attribute(key: &str, value: &str, kind: u8) -> AttributeRecord {
    AttributeRecord { key: key.into(), value: value.into(), kind }
}

fn events() -> EventBatch<'static> {
    EventBatch::from(vec![
        EventMetrics {
            id: "a".into(),
            event_name: "größe".into(),
            task_id: "42".into(),
            pipeline_id: Some(String::new()),
            process_id: Some(7),
            start_time: 1_000,
            end_time: Some(3_500),
            status: EventStatus::Failed,
            error: Some("disk full".into()),
            retry_count: 2,
            attributes: vec![attribute("region", "eu", 0), attribute("n", "-5", 2)],
        },
        EventMetrics { id: "b".into(), start_time: 9, ..Default::default() },
        EventMetrics {
            event_name: "放".into(),
            attributes: vec![attribute("x", "1", 9)],
            ..Default::default()
        },
    ])
}

#[test]
fn every_field_of_an_event_is_read_from_its_own_row() {
    let batch = events();
    let rows: Vec<_> = batch.rows().collect();
    assert_eq!((batch.len(), rows.len()), (3, 3));
    let first = rows[0];
    assert_eq!((first.row(), first.id(), first.event_name(), first.task_id()), (0, "a", "größe", "42"));
    assert_eq!(
        (first.pipeline_id(), first.process_id(), first.error()),
        (Some(""), Some(7), Some("disk full"))
    );
    assert_eq!((first.start_time(), first.end_time()), (1_000, Some(3_500)));
    assert_eq!(first.duration(), Some(Duration::from_nanos(2_500)));
    assert_eq!((first.status(), first.retry_count()), (EventStatus::Failed, 2));
    let second = rows[1];
    assert_eq!((second.row(), second.id(), second.event_name(), second.pipeline_id()), (1, "b", "", None));
    assert_eq!((second.process_id(), second.end_time(), second.duration()), (None, None, None));
    assert_eq!((second.error(), second.attributes().len()), (None, 0));
    assert_eq!(rows[2].event_name(), "放");
    assert_eq!(rows[2].attribute("x").unwrap().text, "1");
}

#[test]
fn records_come_back_from_rows_as_they_went_in() {
    let batch = events();
    let again = EventBatch::from(batch.records());
    assert_eq!(format!("{:?}", batch.records()), format!("{:?}", again.records()));
    assert_eq!(batch.records()[0].attributes.len(), 2);
}

#[test]
fn every_field_of_an_operation_is_read() {
    let batch = NetworkBatch::from(vec![
        NetworkMetrics::default(),
        NetworkMetrics {
            id: "n".into(),
            task_id: "42".into(),
            operation: "GET".into(),
            host: "s3.local".into(),
            port: 443,
            start_time: 10,
            end_time: Some(5),
            bytes_sent: 1,
            bytes_received: u64::MAX,
            error: Some("reset".into()),
            attributes: vec![attribute("ok", "false", 1)],
        },
    ]);
    let row = batch.rows().next_back().unwrap();
    assert_eq!((row.id(), row.task_id(), row.operation(), row.host()), ("n", "42", "GET", "s3.local"));
    assert_eq!((row.port(), row.bytes_sent(), row.bytes_received()), (443, 1, u64::MAX));
    assert_eq!((row.latency(), row.error()), (Some(Duration::ZERO), Some("reset")));
    assert_eq!(row.attribute("ok").unwrap().value(), Value::Bool(false));
    assert_eq!(format!("{row:?}"), format!("{:?}", batch.records()[1]));
}

#[test]
fn attributes_are_typed_and_what_does_not_parse_is_text() {
    let value = |text, kind| Attribute { key: "k", text, kind }.value();
    assert_eq!(value("true", 1), Value::Bool(true));
    assert_eq!(value("-9223372036854775808", 2), Value::Integer(i64::MIN));
    assert_eq!(value("1.5e3", 3), Value::Float(1500.0));
    assert_eq!(value("-Infinity", 3), Value::Float(f64::NEG_INFINITY));
    assert!(matches!(value("NaN", 3), Value::Float(number) if number.is_nan()));
    assert_eq!(value("[1]", 4), Value::Json("[1]"));
    assert_eq!(value("x", 2), Value::Text("x"));
    assert_eq!(value("x", 200), Value::Text("x"));
}

#[test]
fn columns_that_contradict_themselves_read_as_empty() {
    let mut columns = EventColumns { start_time: vec![1, 2, 3], ..Default::default() };
    columns.event_name = TextColumn { values: "ö".into(), ends: vec![1, 900, 2] };
    columns.error = OptionalTextColumn { present: vec![1], column: TextColumn::default() };
    columns.attributes.ends = vec![4_000_000_000, 3];
    let rows: Vec<_> = columns.rows().collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.event_name().is_empty() && row.attributes().len() == 0));
    assert_eq!((rows[0].error(), rows[1].error()), (Some(""), None));
}

#[test]
fn a_batch_made_by_hand_has_nobody_to_render_it() {
    assert!(matches!(events().encode(Format::JsonLines), Err(PublishError::Hold { .. })));
}
