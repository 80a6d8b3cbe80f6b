use super::super::samples::{any_event, any_operation};
use super::super::{Attributes, EventMetrics, Format, NetworkMetrics, Rows, Timestamp, Value};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A line as InfluxDB reads it.
#[derive(Debug, PartialEq)]
struct Line {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: BTreeMap<String, Field>,
    timestamp: i64,
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

/// Takes up to an unescaped one of `ends`: a backslash escapes `,`, `=` and blank, and is itself before anything else.
fn name(rest: &mut &str, ends: &[char]) -> String {
    let mut name = String::new();
    let mut chars = rest.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match (char, chars.peek()) {
            ('\\', Some((_, escaped @ (',' | '=' | ' ')))) => {
                name.push(*escaped);
                chars.next();
            }
            (end, _) if ends.contains(&end) => {
                *rest = &rest[at..];
                return name;
            }
            (other, _) => name.push(other),
        }
    }
    panic!("no {ends:?} after {name:?}");
}

fn take(rest: &mut &str, expected: char) {
    assert!(rest.starts_with(expected), "{expected:?} expected at {rest:?}");
    *rest = &rest[expected.len_utf8()..];
}

fn quoted(rest: &mut &str) -> String {
    take(rest, '"');
    let mut text = String::new();
    let mut chars = rest.char_indices();
    loop {
        match chars.next().unwrap() {
            (_, '\\') => text.push(match chars.next().unwrap().1 {
                'n' => '\n',
                'r' => '\r',
                other => other,
            }),
            (at, '"') => {
                *rest = &rest[at + 1..];
                return text;
            }
            (_, other) => text.push(other),
        }
    }
}

fn parse(mut rest: &str) -> Line {
    let measurement = name(&mut rest, &[',', ' ']);
    let mut tags = Vec::new();
    while rest.starts_with(',') {
        take(&mut rest, ',');
        let key = name(&mut rest, &['=']);
        take(&mut rest, '=');
        tags.push((key, name(&mut rest, &[',', ' '])));
    }
    let mut fields = BTreeMap::new();
    let mut separator = ' ';
    loop {
        take(&mut rest, separator);
        separator = ',';
        let key = name(&mut rest, &['=']);
        take(&mut rest, '=');
        let value = if rest.starts_with('"') {
            Field::Text(quoted(&mut rest))
        } else {
            let end = rest.find([',', ' ']).unwrap();
            let (text, after) = rest.split_at(end);
            rest = after;
            match (text, text.strip_suffix('i')) {
                ("true", _) => Field::Bool(true),
                ("false", _) => Field::Bool(false),
                (_, Some(integer)) => Field::Integer(integer.parse().unwrap()),
                (float, None) => Field::Float(float.parse().unwrap()),
            }
        };
        fields.insert(key, value);
        if rest.starts_with(' ') {
            take(&mut rest, ' ');
            return Line { measurement, tags, fields, timestamp: rest.parse().unwrap() };
        }
    }
}

fn lines<R: super::super::Record>(rows: &Rows<R>) -> Vec<Line> {
    let bytes = rows.encode(Format::LineProtocol);
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    assert!(!text.contains('\r'));
    text.split_terminator('\n').map(parse).collect()
}

/// What a name that cannot be written as it is becomes.
fn written(name: &str) -> String {
    name.trim_end_matches('\\').replace('\n', "\\n").replace('\r', "\\r")
}

fn tags<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected
        .into_iter()
        .map(|(key, value)| (key.to_owned(), written(value)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn clamp(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn assert_attributes(line: &Line, attributes: &Attributes, own: usize) {
    let mut expected = BTreeMap::new();
    for (key, value) in attributes.iter() {
        let field = match value {
            Value::Text(text) => Field::Text(text.to_string()),
            Value::Json(json) => Field::Text(json.to_string()),
            Value::Bool(value) => Field::Bool(*value),
            Value::Integer(number) => Field::Integer(*number),
            Value::Float(number) if number.is_finite() => Field::Float(*number),
            Value::Float(_) => continue,
        };
        expected.insert(written(&format!("attr.{key}")), field);
    }
    for (key, field) in &expected {
        assert_eq!(line.fields.get(key), Some(field), "{key:?}");
    }
    assert_eq!(line.fields.len(), own + expected.len());
}

proptest! {
    #[test]
    fn a_parser_reads_events_back(events in proptest::collection::vec(any_event(), 1..4)) {
        let lines = lines(&Rows::detached(events.clone()));
        prop_assert_eq!(lines.len(), events.len());
        for (line, event) in lines.iter().zip(&events) {
            prop_assert_eq!(&line.measurement, "pressroom_event");
            let pipeline = event.pipeline_id.as_deref().unwrap_or_default();
            let expected =
                [("event_name", &*event.event_name), ("pipeline_id", pipeline), ("status", event.status.as_str())];
            prop_assert_eq!(&line.tags, &tags(expected));
            prop_assert_eq!(line.timestamp, clamp(event.start_time.as_nanos()));
            let mut own = BTreeMap::from([
                ("id", Field::Text(event.id.to_string())),
                ("task_id", Field::Text(event.task_id.to_string())),
                ("retry_count", Field::Integer(event.retry_count.into())),
            ]);
            own.extend(event.process_id.map(|id| ("process_id", Field::Integer(id.into()))));
            own.extend(event.error.as_ref().map(|text| ("error", Field::Text(text.to_string()))));
            own.extend(event.duration().map(|time| ("duration_seconds", Field::Float(super::seconds(time)))));
            for (key, field) in &own {
                prop_assert_eq!(line.fields.get(*key), Some(field));
            }
            assert_attributes(line, &event.attributes, own.len());
        }
    }

    #[test]
    fn a_parser_reads_operations_back(operations in proptest::collection::vec(any_operation(), 1..4)) {
        let lines = lines(&Rows::detached(operations.clone()));
        prop_assert_eq!(lines.len(), operations.len());
        for (line, operation) in lines.iter().zip(&operations) {
            prop_assert_eq!(&line.measurement, "pressroom_network");
            let port = operation.port.to_string();
            let expected = [("host", &*operation.host), ("operation", &*operation.operation), ("port", &*port)];
            prop_assert_eq!(&line.tags, &tags(expected));
            let mut own = BTreeMap::from([
                ("id", Field::Text(operation.id.to_string())),
                ("task_id", Field::Text(operation.task_id.to_string())),
                ("bytes_sent", Field::Integer(clamp(operation.bytes_sent))),
                ("bytes_received", Field::Integer(clamp(operation.bytes_received))),
            ]);
            own.extend(operation.error.as_ref().map(|text| ("error", Field::Text(text.to_string()))));
            own.extend(operation.latency().map(|time| ("latency_seconds", Field::Float(super::seconds(time)))));
            for (key, field) in &own {
                prop_assert_eq!(line.fields.get(*key), Some(field));
            }
            assert_attributes(line, &operation.attributes, own.len());
        }
    }
}

#[test]
fn what_the_protocol_cannot_hold_is_left_out_or_bounded() {
    let mut event = EventMetrics::started(Uuid::nil(), "a\\", "", Timestamp::from_nanos(u64::MAX));
    event.pipeline_id = Some("\\".into());
    event.attributes = [("x", f64::NAN), ("y", f64::INFINITY)].into_iter().collect();
    let mut out = Vec::new();
    super::write_event(&event, &mut out);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "pressroom_event,event_name=a,status=pending id=\"00000000-0000-0000-0000-000000000000\",task_id=\"\",\
         retry_count=0i 9223372036854775807\n"
    );

    let mut operation = NetworkMetrics::started(Uuid::nil(), "t", "", "", 0, Timestamp::from_nanos(7));
    operation.bytes_sent = u64::MAX;
    let mut out = Vec::new();
    super::write_operation(&operation, &mut out);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "pressroom_network,port=0 id=\"00000000-0000-0000-0000-000000000000\",task_id=\"t\",\
         bytes_sent=9223372036854775807i,bytes_received=0i 7\n"
    );
}
