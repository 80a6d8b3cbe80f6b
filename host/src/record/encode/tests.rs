//! What `wit/0.1/formats.md` promises, and that views are shared.

use super::super::samples::{self, any_event, any_operation};
use super::super::{
    Attributes, EventMetrics, NetworkMetrics, Record, Rows, SharedBatch, Value, ViewGauge, otlp,
};
use super::Format;
use proptest::prelude::*;
use serde_json::{Map, json};
use std::cell::Cell;
use std::sync::Arc;

const DOCUMENT: &str = include_str!("../../../../wit/0.1/formats.md");

/// The first block of code under `### kind` under `` ## `format` `` in the document.
fn block(format: &str, kind: &str) -> &'static str {
    let section = |text: &'static str, heading: &str| {
        let (_, after) = text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?} in formats.md"));
        after
    };
    let format = section(DOCUMENT, &format!("\n## `{format}`\n"));
    let kind = section(format, &format!("\n### {kind}\n"));
    let (_, code) = kind.split_once("\n```").unwrap();
    let (_, code) = code.split_once('\n').unwrap();
    code.split_once("```").unwrap().0
}

fn text<R: Record>(rows: &Rows<R>, format: &str) -> String {
    String::from_utf8(rows.encode(format.parse().unwrap()).to_vec()).unwrap()
}

#[test]
fn the_document_shows_what_is_written() {
    let events = Rows::detached(samples::events());
    let operations = Rows::detached(samples::operations());
    for format in ["json-lines", "line-protocol"] {
        assert_eq!(text(&events, format), block(format, "Events"));
        assert_eq!(text(&operations, format), block(format, "Network operations"));
    }
    // The document breaks the one line of this format after each column.
    let columns = |kind| block("json-columns", kind).replace('\n', "");
    assert_eq!(text(&events, "json-columns"), columns("Events"));
    assert_eq!(text(&operations, "json-columns"), columns("Network operations"));

    let request = |kind| serde_json::from_str::<serde_json::Value>(block("otlp-protobuf", kind)).unwrap();
    assert_eq!(otlp::decode::encoded(&events), request("Events"));
    assert_eq!(otlp::decode::encoded(&operations), request("Network operations"));
}

#[test]
fn the_document_has_every_format() {
    let known = super::UnknownFormat(String::new()).to_string();
    let (_, known) = known.split_once("known are ").unwrap();
    let shown: Vec<&str> =
        DOCUMENT.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    assert_eq!(shown, known.split(", ").collect::<Vec<_>>());
    assert!(shown.iter().all(|format| format.parse::<Format>().is_ok()));
}

#[test]
fn an_unknown_format_is_told_the_known_ones() {
    assert_eq!(
        "xml".parse::<Format>().unwrap_err().to_string(),
        "unknown format \"xml\", known are json-lines, json-columns, line-protocol, otlp-protobuf"
    );
}

fn shared() -> (Arc<SharedBatch>, ViewGauge) {
    let gauge = ViewGauge::default();
    let mut batch = samples::batch();
    for _ in 0..4 {
        batch.events.extend(samples::events());
        batch.operations.extend(samples::operations());
    }
    (Arc::new(SharedBatch::new(0, batch, gauge.clone())), gauge)
}

#[test]
fn a_view_of_a_whole_batch_is_built_once_and_shared() {
    let (batch, gauge) = shared();
    for format in [Format::JsonLines, Format::JsonColumns, Format::LineProtocol, Format::OtlpProtobuf] {
        let view = Rows::<EventMetrics>::all(&batch).encode(format);
        let weight = gauge.bytes();
        let again = Rows::<EventMetrics>::all(&batch).encode(format);
        assert_eq!((view.as_ptr(), view.len()), (again.as_ptr(), again.len()), "{format:?}");
        assert_eq!(gauge.bytes(), weight);
    }
    let columns = Rows::<NetworkMetrics>::all(&batch).columns();
    assert!(Arc::ptr_eq(&columns, &Rows::<NetworkMetrics>::all(&batch).columns()));
}

thread_local! {
    static WRITTEN: Cell<usize> = const { Cell::new(0) };
}

/// Renders a row, and counts that it did.
fn counted(event: &EventMetrics, out: &mut Vec<u8>) {
    WRITTEN.set(WRITTEN.get() + 1);
    super::super::shared::Shelved::write_json_line(event, out);
}

/// How many rows were rendered for `rows`, which must come out as each of them alone would.
fn rendered(rows: &Rows<EventMetrics>) -> usize {
    let before = WRITTEN.get();
    let bytes = rows.row_wise(|shelf| &shelf.json_lines, counted);
    let count = WRITTEN.get() - before;
    let alone: Vec<u8> =
        rows.iter().flat_map(|row| [serde_json::to_vec(row).unwrap(), b"\n".to_vec()].concat()).collect();
    assert_eq!(bytes, alone);
    count
}

#[test]
fn parts_of_a_batch_are_copied_out_of_its_view() {
    let (batch, gauge) = shared();
    let all = Rows::<EventMetrics>::all(&batch);
    assert_eq!(rendered(&all.select([1, 7])), 2, "few rows are rendered alone");
    assert_eq!(gauge.bytes(), 0, "and nothing is kept");
    assert_eq!(rendered(&all.select(5..15)), 15, "for many, all are, and kept");
    assert!(gauge.bytes() > 0);
    for rows in [vec![], vec![0], vec![14], vec![0, 1, 2, 9, 14], (0..15).collect()] {
        assert_eq!(rendered(&all.select(rows)), 0);
    }
    let mut halves = Rows::default();
    halves.push(&batch, 7..15);
    halves.push(&batch, 0..7);
    halves.push(&shared().0, 0..1);
    assert_eq!(rendered(&halves), 1, "only what no batch has rendered is rendered");
    batch.forget_views();
    assert_eq!(rendered(&all), 15);
}

#[test]
fn a_batch_without_rows_of_a_kind_is_rendered_as_such() {
    let none = Rows::<EventMetrics>::default();
    assert_eq!(text(&none, "json-lines") + &text(&none, "line-protocol") + &text(&none, "otlp-protobuf"), "");
    let columns: Map<String, serde_json::Value> = serde_json::from_str(&text(&none, "json-columns")).unwrap();
    assert!(columns.values().all(|column| *column == json!([])));
}

/// An attribute as JSON has it; floats to the precision to which the parser of these tests reads them.
fn assert_value(actual: &serde_json::Value, expected: &Value) {
    match expected {
        Value::Text(text) => assert_eq!(actual, text.as_str()),
        Value::Bool(value) => assert_eq!(actual, value),
        Value::Integer(number) => assert_eq!(actual, number),
        Value::Float(number) if number.is_finite() => {
            let read = actual.as_f64().unwrap();
            assert!((read - number).abs() <= number.abs() * 1e-15, "{read} is not {number}");
        }
        Value::Float(number) if number.is_nan() => assert_eq!(actual, "NaN"),
        Value::Float(number) => assert_eq!(actual, if *number > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Json(json) => match serde_json::from_str::<serde_json::Value>(json) {
            Ok(value) => assert_eq!(*actual, value),
            Err(_) => assert_eq!(actual, &**json),
        },
    }
}

fn assert_attributes(actual: Option<&serde_json::Value>, expected: &Attributes) {
    let none = Map::new();
    let actual = actual.map_or(&none, |actual| actual.as_object().unwrap());
    assert_eq!(actual.len(), expected.len());
    for (key, value) in expected.iter() {
        assert_value(&actual[key], value);
    }
}

/// Checks both JSON formats against `fields`, which gives a row's members in order, null where absent.
fn assert_json<R: Record>(rows: Vec<R>, fields: fn(&R) -> Vec<(&'static str, serde_json::Value)>)
where
    super::super::Batch: FromIterator<R>,
{
    let rows = Rows::detached(rows);
    let lines = text(&rows, "json-lines");
    assert_eq!(lines.split_inclusive('\n').count(), rows.len());
    assert!(!lines.contains('\r'));
    let columns: Map<String, serde_json::Value> = serde_json::from_str(&text(&rows, "json-columns")).unwrap();
    for (at, (line, row)) in lines.lines().zip(rows.iter()).enumerate() {
        assert_eq!(line, serde_json::to_string(row).unwrap(), "reports and lines have one form");
        let mut line: Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert_eq!(line.remove("type").unwrap(), R::KIND.as_str());
        assert_attributes(line.remove("attributes").as_ref(), row.attributes());
        assert_attributes(Some(&columns["attributes"][at]), row.attributes());
        let mut expected = fields(row);
        for (name, value) in &expected {
            assert_eq!(columns[*name][at], *value, "{name}");
        }
        let elapsed = if R::KIND.as_str() == "event" { "duration_seconds" } else { "latency_seconds" };
        match row.elapsed() {
            Some(time) => {
                let seconds = columns[elapsed][at].as_f64().unwrap();
                assert!((seconds - time.as_secs_f64()).abs() <= seconds * 1e-15);
            }
            None => assert!(columns[elapsed][at].is_null()),
        }
        assert_eq!(columns.len(), expected.len() + 2);
        expected.retain(|(_, value)| !value.is_null());
        let expected: Map<_, _> =
            expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(line, expected);
    }
    assert!(columns.values().all(|column| column.as_array().unwrap().len() == rows.len()));
}

proptest! {
    #[test]
    fn json_of_events_has_every_field(rows in proptest::collection::vec(any_event(), 0..5)) {
        assert_json(rows, |row| {
            vec![
                ("id", json!(row.id.to_string())),
                ("event_name", json!(row.event_name.as_str())),
                ("task_id", json!(row.task_id.as_str())),
                ("pipeline_id", json!(row.pipeline_id.as_deref())),
                ("process_id", json!(row.process_id)),
                ("start_time", json!(row.start_time.to_string())),
                ("end_time", json!(row.end_time.map(|end| end.to_string()))),
                ("status", json!(row.status.as_str())),
                ("error", json!(row.error.as_deref())),
                ("retry_count", json!(row.retry_count)),
            ]
        });
    }

    #[test]
    fn json_of_operations_has_every_field(rows in proptest::collection::vec(any_operation(), 0..5)) {
        assert_json(rows, |row| {
            vec![
                ("id", json!(row.id.to_string())),
                ("task_id", json!(row.task_id.as_str())),
                ("operation", json!(row.operation.as_str())),
                ("host", json!(row.host.as_str())),
                ("port", json!(row.port)),
                ("start_time", json!(row.start_time.to_string())),
                ("end_time", json!(row.end_time.map(|end| end.to_string()))),
                ("bytes_sent", json!(row.bytes_sent)),
                ("bytes_received", json!(row.bytes_received)),
                ("error", json!(row.error.as_deref())),
            ]
        });
    }
}
