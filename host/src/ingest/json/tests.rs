use super::*;
use crate::record::{Status, Value};
use proptest::prelude::*;

const START: u64 = 1_700_000_000_123_456_789;

fn event(name: &str) -> String {
    format!(
        r#"{{"event_name":"{name}","task_id":"t","start_time":{START},"end_time":"2023-11-14T22:13:21.5Z"}}"#
    )
}

fn lines(body: &str) -> Decoded {
    decode(body.as_bytes(), Layout::Lines).unwrap()
}

/// The one row of `body`, refused: field and message.
fn refused(body: &str) -> (String, String) {
    let decoded = lines(body);
    assert!(decoded.batch.is_empty() && decoded.messages.is_empty(), "{body} was taken");
    assert_eq!(decoded.refused.count, 1, "{body}");
    let problem = decoded.refused.problems.into_iter().next().unwrap();
    (problem.field.unwrap_or_default(), problem.message)
}

/// `event("resize")` with `more` in it.
fn with(more: &str) -> String {
    event("resize").replacen('{', &format!("{{{more},"), 1)
}

#[test]
fn what_is_written_is_read_back() {
    let decoded = lines(&format!(
        r#"{{"type":"event","id":"018bcfe5-687b-7000-8000-000000000001","event_name":"resize","task_id":"42","pipeline_id":"thumbs","process_id":7,"start_time":{START},"end_time":{},"status":"failed","error":"disk full","retry_count":2,"attributes":{{"a":"x","b":true,"c":-1,"d":1.5,"e":[1, {{"f":null}}],"g":18446744073709551617,"h":null}}}}
        {{"type":"network","id":"018bcfe5-687b-7000-8000-000000000002","task_id":"42","operation":"PUT","host":"s3.local","port":443,"start_time":{START},"end_time":{},"bytes_sent":10,"bytes_received":20,"error":"reset"}}"#,
        START + 1,
        START + 2
    ));
    assert_eq!(decoded.refused.count, 0, "{:?}", decoded.refused.problems);
    let event = &decoded.batch.events[0];
    assert_eq!(event.status, Status::Failed);
    assert_eq!(event.attributes.get("e"), Some(&Value::Json(r#"[1,{"f":null}]"#.into())));
    assert_eq!(event.attributes.get("g"), Some(&Value::Json("18446744073709551617".into())));
    assert_eq!(event.attributes.len(), 6);
    let written =
        [serde_json::to_string(event).unwrap(), serde_json::to_string(&decoded.batch.operations[0]).unwrap()];
    let again = decode(format!("[{}]", written.join(",")).as_bytes(), Layout::Json).unwrap();
    assert_eq!(again.batch, decoded.batch);
}

#[test]
fn the_kind_is_inferred_and_ids_sort_by_start() {
    let decoded = lines(&format!(
        "{}\n{}\n{}",
        event("a"),
        event("b").replace("1700000000123456789", "1700000000123956789"),
        r#"{"task_id":"t","operation":"GET","host":"h","start_time":"1970-01-01T00:00:00Z","end_time":"1970-01-01T00:00:01Z"}"#
    ));
    let [first, second] = &decoded.batch.events[..] else { panic!("{decoded:?}") };
    assert_eq!(first.id.get_version_num(), 7);
    assert_eq!(first.start_time.as_nanos(), START);
    assert!(first.id < second.id, "half a millisecond apart: {} {}", first.id, second.id);
    assert!(decoded.batch.operations[0].id < first.id);
    assert_eq!(decoded.batch.operations[0].port, 0);
}

#[test]
fn every_refusal_names_the_field_and_the_way_out() {
    for (body, field, message) in [
        (with(r#""evnt_name":"x""#), "evnt_name", r#"unknown field "evnt_name"; did you mean "event_name"?"#),
        (with(r#""zzz":1"#), "zzz", r#"unknown field "zzz"; known are type, id"#),
        (with(r#""type":"evnt""#), "type", r#"did you mean "event"?"#),
        (with(r#""status":"pending""#), "status", "only finished records are taken"),
        (with(r#""status":"fialed""#), "status", r#"did you mean "failed"?"#),
        (with(r#""status":"completed","error":"x""#), "error", r#"beside the status "completed""#),
        (with(r#""task_id":"u""#), "task_id", "stands here twice"),
        (with(r#""id":"x""#), "id", "must be a UUID"),
        (with(r#""retry_count":-1"#), "retry_count", "must be a whole number of 32 bits, not negative"),
        (with(r#""process_id":"1""#), "process_id", "must be a whole number"),
        (with(r#""attributes":[1]"#), "attributes", "expected an object"),
        (with(&format!(r#""error":"{}""#, "x".repeat(MAX + 1))), "error", "must not be longer than 65536"),
        (with(&format!(r#""attributes":{{"d":{}1{}}}"#, "[".repeat(64), "]".repeat(64))), "", ""),
        (
            with(&format!(r#""attributes":{{"d":{}1{}}}"#, "[".repeat(65), "]".repeat(65))),
            "attributes.d",
            "nested deeper",
        ),
        (with(r#""attributes":{"k":[1e999]}"#), "attributes.k", "number out of range"),
        (event(""), "event_name", "must not be empty"),
        (event(&"n".repeat(1025)), "event_name", "must not be longer than 1024 bytes; it has 1025"),
        (r#"{"event_name":"x","task_id":"t","start_time":1}"#.into(), "end_time", "only finished records"),
        (event("x").replace("2023-11-14T", "yesterday"), "end_time", "must be a time in RFC 3339"),
        (event("x").replace("1700000000123456789", "-5"), "start_time", "nanoseconds since 1970"),
        (event("x").replace("1700000000123456789", "1.5"), "start_time", "nanoseconds since 1970"),
        ("17".into(), "", "expected an object"),
        ("null".into(), "", "expected an object"),
        (r#"{"type":"start","event_name":"x","task_id":"t","error":"e"}"#.into(), "error", "unknown field"),
        (
            r#"{"type":"retry","event_name":"x","task_id":"t","time":1}"#.into(),
            "time",
            "timed when it arrives",
        ),
        (r#"{"type":"end","event_name":"x"}"#.into(), "task_id", "is missing"),
    ] {
        if message.is_empty() {
            assert_eq!(lines(&body).refused.count, 0, "{body}");
            continue;
        }
        let (at, said) = refused(&body);
        assert_eq!(at, field, "{body}: {said}");
        assert!(said.contains(message), "{body}: {said}");
    }
    let many: Vec<_> = (0..513).map(|n| format!(r#""k{n}":{n}"#)).collect();
    let (_, said) = refused(&with(&format!(r#""attributes":{{{}}}"#, many.join(","))));
    assert_eq!(said, "more than 512");
}

#[test]
fn a_time_that_is_off_by_a_power_of_a_thousand_is_refused_with_its_unit() {
    for (time, unit) in [
        ("1796060000", "seconds"),
        ("1796060000.123", "seconds"),
        ("1.79606e9", "seconds"),
        ("1796060000000", "milliseconds"),
        ("1796060000000.5", "milliseconds"),
        ("\"1796060000000\"", "milliseconds"),
        ("1796060000000000", "microseconds"),
    ] {
        for (field, row) in [
            ("start_time", event("x").replace("1700000000123456789", time)),
            ("end_time", event("x").replace("\"2023-11-14T22:13:21.5Z\"", time)),
        ] {
            let (at, said) = refused(&row);
            let hint = format!("looks like {unit}; expected nanoseconds since 1970, or a time in RFC 3339");
            assert!(at == field && said.ends_with(&hint), "{row}: {at}: {said}");
        }
    }
    let of_1970 = event("x").replace("1700000000123456789", "\"1970-01-21T18:54:20Z\"");
    assert_eq!(lines(&of_1970).batch.len(), 1, "a text says what it means");
}

#[test]
fn what_is_not_utf8_is_told_with_its_row() {
    let body = [event("a"), event("x\\ud83d"), event("b"), event("café")].join("\n");
    let mut body = body.into_bytes();
    let at = body.windows(2).position(|pair| pair == "é".as_bytes()).unwrap();
    body[at] = 0xff;
    let decoded = decode(&body, Layout::Lines).unwrap();
    assert_eq!((decoded.batch.len(), decoded.refused.count, decoded.altered.count), (4, 0, 2));
    let places: Vec<_> = decoded.altered.problems.iter().map(|problem| (problem.row, problem.line)).collect();
    assert_eq!(places, [(Some(1), Some(2)), (Some(3), Some(4))]);
    assert_eq!(decoded.altered.problems[0].message, "characters that are not UTF-8 are replaced by U+FFFD");
}

#[test]
fn a_record_whose_end_lies_before_its_start_is_taken() {
    let row = event("x").replace("2023-11-14T22:13:21.5Z", "2023-11-14T22:13:19.5Z");
    let decoded = lines(&row);
    assert_eq!(decoded.refused.count, 0, "{:?}", decoded.refused.problems);
    assert_eq!(decoded.batch.events[0].duration(), Some(std::time::Duration::ZERO));
}

#[test]
fn bytes_are_any_number_of_64_bits() {
    let row = format!(
        r#"{{"task_id":"t","operation":"GET","host":"h","start_time":{START},"end_time":{START},"bytes_received":{}}}"#,
        u64::MAX
    );
    assert_eq!(lines(&row).batch.operations[0].bytes_received, u64::MAX);
}

const MAX: usize = crate::ingest::MAX_ERROR;

#[test]
fn the_valid_rest_of_lines_is_kept() {
    let body = format!("{}\n\n{{\"broken\n{}\r\n{}", event("a"), event("b"), r#"{"type":"event"}"#);
    let decoded = lines(&body);
    let names: Vec<_> = decoded.batch.events.iter().map(|event| event.event_name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let places: Vec<_> = decoded.refused.problems.iter().map(|problem| (problem.row, problem.line)).collect();
    assert_eq!(places, [(Some(1), Some(3)), (Some(3), Some(5))]);
}

#[test]
fn a_list_tells_where_its_grammar_ends_and_refuses_its_rows_one_by_one() {
    let body = format!("[\n{},\n{},\n17]", event("a"), event("b").replace("end_time", "end_tme"));
    let decoded = decode(body.as_bytes(), Layout::Json).unwrap();
    assert_eq!(decoded.batch.len(), 1);
    let places: Vec<_> = decoded.refused.problems.iter().map(|problem| (problem.row, problem.line)).collect();
    assert_eq!(places, [(Some(1), Some(3)), (Some(2), Some(4))]);

    let broken = decode(b"[\n{\"a\":1},\n{\"b\" 2}]", Layout::Json).unwrap_err();
    assert_eq!(broken.to_string(), "line 3, column 6: expected `:`");
    for body in ["", " \n ", "hello", "\"x\""] {
        assert!(decode(body.as_bytes(), Layout::Json).is_err(), "{body:?}");
    }
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(decode(deep.as_bytes(), Layout::Json).unwrap().refused.count, 1);
}

#[test]
fn one_object_over_several_lines_is_a_record_and_messages_keep_their_order() {
    let pretty = event("a").replace(',', ",\n");
    assert_eq!(decode(pretty.as_bytes(), Layout::Json).unwrap().batch.len(), 1);
    let decoded = lines(
        r#"{"type":"start","pipeline_id":"p","event_name":"e","task_id":"t"}
{"type":"retry","event_name":"e","task_id":"t"}
{"type":"end","event_name":"e","task_id":"t","error":"bad"}
{"type":"end","event_name":"e","task_id":"t","status":"cancelled"}"#,
    );
    let steps: Vec<_> = decoded.messages.iter().map(|message| message.step.clone()).collect();
    assert_eq!(steps, [Step::Start, Step::Retry, Step::Fail(Some("bad".into())), Step::Cancel]);
    assert_eq!((decoded.messages[3].row, decoded.messages[3].line), (3, 4));
}

#[test]
fn rows_are_bounded_and_problems_are_counted_beyond_those_told() {
    let decoded = lines(&"{}\n".repeat(250));
    assert_eq!((decoded.refused.count, decoded.refused.problems.len()), (250, MAX_PROBLEMS));
    let body = "0\n".repeat(MAX_RECORDS + 1);
    assert_eq!(decode(body.as_bytes(), Layout::Lines).unwrap_err(), Unreadable::TooMany);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        // The reader of this test rounds longer ones by a unit in the last place.
        any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
        any::<String>().prop_map(Into::into),
    ];
    let key = prop_oneof![
        any::<String>(),
        proptest::sample::select(vec!["type", "event_name", "task_id", "start_time", "end_time", "host"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_row_of_any_json_is_taken_or_refused(rows in proptest::collection::vec(any_json(), 0..8)) {
        let body = serde_json::to_vec(&rows).unwrap();
        let decoded = decode(&body, Layout::Json).unwrap();
        prop_assert_eq!(decoded.batch.len() + decoded.messages.len() + decoded.refused.count, rows.len());
    }

    #[test]
    fn attributes_keep_any_json(value in any_json()) {
        let row = with(&format!(r#""attributes":{{"k":{value}}}"#));
        let decoded = lines(&row);
        let written = serde_json::to_value(&decoded.batch.events[0]).unwrap();
        let back = written.get("attributes").and_then(|attributes| attributes.get("k"));
        prop_assert_eq!(back, (!value.is_null()).then_some(&value));
        prop_assert_eq!(lines(&serde_json::to_string(&decoded.batch.events[0]).unwrap()).batch, decoded.batch);
    }

    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..300), text in "[\\[\\]{}\":,0-9a-z\\\\ \n]{0,80}") {
        for layout in [Layout::Json, Layout::Lines] {
            let _ = decode(&body, layout);
            let _ = decode(text.as_bytes(), layout);
        }
    }
}
