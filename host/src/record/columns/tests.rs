use super::super::samples::{any_event, any_operation};
use super::super::{Rows, Value};
use super::{AttributeColumns, OptionalTextColumn, TextColumn};
use proptest::prelude::*;

fn texts(column: &TextColumn) -> Vec<&str> {
    let starts = std::iter::once(0).chain(column.ends.iter().copied());
    starts.zip(column.ends.iter()).map(|(start, end)| &column.values[start as usize..*end as usize]).collect()
}

fn optional_texts(column: &OptionalTextColumn) -> Vec<Option<&str>> {
    texts(&column.column)
        .into_iter()
        .zip(column.present.iter())
        .map(|(text, present)| match present {
            1 => Some(text),
            _ => {
                assert_eq!((*present, text), (0, ""));
                None
            }
        })
        .collect()
}

fn attributes(columns: &AttributeColumns) -> Vec<Vec<(&str, &str, u8)>> {
    let (keys, values) = (texts(&columns.keys), texts(&columns.values));
    let starts = std::iter::once(0).chain(columns.ends.iter().copied());
    starts
        .zip(columns.ends.iter())
        .map(|(start, end)| {
            (start as usize..*end as usize).map(|at| (keys[at], values[at], columns.kinds[at])).collect()
        })
        .collect()
}

fn attributes_of(row: &super::Attributes) -> Vec<(&str, String, u8)> {
    row.iter().map(|(key, value)| (key, value.as_text().into_owned(), value.kind())).collect()
}

macro_rules! assert_columns {
    ($rows:expr, $actual:expr, $field:expr) => {
        let actual = $actual.into_iter().collect::<Vec<_>>();
        prop_assert_eq!(actual, $rows.iter().map($field).collect::<Vec<_>>());
    };
}

proptest! {
    #[test]
    fn columns_of_events_agree_with_the_rows(rows in proptest::collection::vec(any_event(), 0..6)) {
        let columns = Rows::detached(rows.clone()).columns();
        assert_columns!(rows, texts(&columns.id), |row| row.id.to_string());
        assert_columns!(rows, texts(&columns.event_name), |row| row.event_name.as_str());
        assert_columns!(rows, texts(&columns.task_id), |row| row.task_id.as_str());
        assert_columns!(rows, optional_texts(&columns.pipeline_id), |row| row.pipeline_id.as_deref());
        assert_columns!(rows, columns.process_id.iter().copied(), |row| row.process_id.unwrap_or(0));
        assert_columns!(rows, columns.start_time.iter().copied(), |row| row.start_time.as_nanos());
        assert_columns!(rows, columns.end_time.iter().copied(), |row| row.end_time.map_or(0, |end| end.as_nanos()));
        assert_columns!(rows, columns.status.iter().copied(), |row| row.status as u8);
        assert_columns!(rows, optional_texts(&columns.error), |row| row.error.as_deref());
        assert_columns!(rows, columns.retry_count.iter().copied(), |row| row.retry_count);
        for (actual, row) in attributes(&columns.attributes).into_iter().zip(&rows) {
            let expected = attributes_of(&row.attributes);
            prop_assert!(actual.into_iter().eq(expected.iter().map(|(key, value, kind)| (*key, value.as_str(), *kind))));
        }
        prop_assert_eq!(columns.attributes.ends.len(), rows.len());
    }

    #[test]
    fn columns_of_operations_agree_with_the_rows(rows in proptest::collection::vec(any_operation(), 0..6)) {
        let columns = Rows::detached(rows.clone()).columns();
        assert_columns!(rows, texts(&columns.id), |row| row.id.to_string());
        assert_columns!(rows, texts(&columns.task_id), |row| row.task_id.as_str());
        assert_columns!(rows, texts(&columns.operation), |row| row.operation.as_str());
        assert_columns!(rows, texts(&columns.host), |row| row.host.as_str());
        assert_columns!(rows, columns.port.iter().copied(), |row| row.port);
        assert_columns!(rows, columns.start_time.iter().copied(), |row| row.start_time.as_nanos());
        assert_columns!(rows, columns.end_time.iter().copied(), |row| row.end_time.map_or(0, |end| end.as_nanos()));
        assert_columns!(rows, columns.bytes_sent.iter().copied(), |row| row.bytes_sent);
        assert_columns!(rows, columns.bytes_received.iter().copied(), |row| row.bytes_received);
        assert_columns!(rows, optional_texts(&columns.error), |row| row.error.as_deref());
        prop_assert_eq!(columns.attributes.ends.len(), rows.len());
        prop_assert_eq!(
            columns.attributes.kinds.len(),
            rows.iter().map(|row| row.attributes.len()).sum::<usize>()
        );
    }
}

#[test]
fn every_kind_of_value_is_readable_as_text() {
    let readable = [
        (Value::from("a"), "a", 0),
        (true.into(), "true", 1),
        ((-7).into(), "-7", 2),
        (1.5.into(), "1.5", 3),
        (f64::NAN.into(), "NaN", 3),
        (f64::NEG_INFINITY.into(), "-Infinity", 3),
        (Value::Json("[1]".into()), "[1]", 4),
    ];
    for (value, text, kind) in readable {
        assert_eq!((value.as_text().as_ref(), value.kind()), (text, kind));
    }
}
