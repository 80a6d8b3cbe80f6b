//! The work of every decoder is linear in what was sent, whatever its shape.

use super::*;
use crate::ingest::json::{self as records, Layout};
use std::time::{Duration, Instant};

/// The name of a shape, the smaller number of parts, and the body of that many parts.
type Shape<'a> = (&'a str, usize, &'a dyn Fn(usize) -> Vec<u8>);

/// The CPU time of this thread; where the system does not tell it, the time that passed.
fn cpu(began: Instant) -> Duration {
    // The system brings it up to date when the thread gives way.
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

/// What one run takes, by as many as can be measured.
fn each(work: &dyn Fn()) -> f64 {
    let began = Instant::now();
    let before = cpu(began);
    for runs in 1..=u32::MAX {
        work();
        let spent = cpu(began).saturating_sub(before);
        if spent > Duration::from_millis(60) {
            return spent.as_secs_f64() / f64::from(runs);
        }
    }
    unreachable!("work takes time");
}

/// Compares the work for `n` with that for eight times as much: 8 if it is linear, 64 if it is quadratic.
fn assert_linear(what: &str, n: usize, body: impl Fn(usize) -> Vec<u8>, decode: impl Fn(&[u8])) {
    let (few, many) = (body(n), body(8 * n));
    let ratio = each(&|| decode(&many)) / each(&|| decode(&few));
    assert!(ratio < 26.0, "{what}: eight times as much takes {ratio:.1} times as long");
}

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{}{}", open.repeat(depth), close.repeat(depth))
}

fn attributes(value: &str) -> Vec<u8> {
    json_span(&format!(r#","attributes":[{{"key":"k","value":{value}}}]"#)).into_bytes()
}

#[test]
fn otlp_json_takes_linear_time_for_every_shape() {
    const MAP: &str = r#"{"kvlistValue":{"values":[{"key":"k","value":"#;
    const LIST: &str = r#"{"arrayValue":{"values":["#;
    let shapes: [Shape<'_>; 8] = [
        ("maps in maps", 2_000, &|n| {
            attributes(&format!(r#"{}{{"intValue":1}}{}"#, MAP.repeat(n), "}]}}".repeat(n)))
        }),
        ("lists in lists", 2_000, &|n| attributes(&nested(LIST, "]}}", n))),
        ("maps whose keys come last", 2_000, &|n| {
            let (open, close) = (r#"{"kvlistValue":{"values":[{"value":"#, r#","key":"k"}]}}"#);
            attributes(&format!("{}{{}}{}", open.repeat(n), close.repeat(n)))
        }),
        ("many lists of the deepest that is taken", 20, &|n| {
            let deep = format!("{}{}", LIST.repeat(64), "]}}".repeat(64));
            let list: Vec<_> = (0..n).map(|k| format!(r#"{{"key":"k{k}","value":{deep}}}"#)).collect();
            json_span(&format!(r#","attributes":[{}]"#, list.join(","))).into_bytes()
        }),
        ("many values in one list", 2_000, &|n| {
            attributes(&format!("{LIST}{}]}}}}", vec![r#"{"intValue":1}"#; n].join(",")))
        }),
        ("many fields in one value", 2_000, &|n| {
            attributes(&format!("{{{}}}", vec![r#""arrayValue":{"values":[{}]}"#; n].join(",")))
        }),
        ("unknown fields, nested", 2_000, &|n| {
            json_span(&format!(r#","x":{}"#, nested("[", "]", n))).into_bytes()
        }),
        ("requests in requests", 2_000, &|n| nested(r#"{"resourceSpans":["#, "]}", n).into_bytes()),
    ];
    for (what, n, body) in shapes {
        assert_linear(what, n, body, |body| {
            let _ = decode(body, Encoding::Json);
        });
    }
}

#[test]
fn otlp_protobuf_takes_linear_time_for_every_shape() {
    let list = |value: Wire| Wire::default().message(5, Wire::default().message(1, value));
    let map = |value: Wire| {
        Wire::default()
            .message(6, Wire::default().message(1, Wire::default().bytes(1, "k").message(2, value)))
    };
    // To wrap takes quadratic time itself: it is done once.
    let deep = |n: usize, wrap: &dyn Fn(Wire) -> Wire| {
        request([span("n", 1).attribute("k", (0..n).fold(Wire::default(), |value, _| wrap(value)))])
    };
    let shapes: [Shape<'_>; 5] = [
        ("lists in lists", 300, &|n| deep(n, &list)),
        ("maps in maps", 300, &|n| deep(n, &map)),
        ("many attributes", 1_000, &|n| {
            request([(0..n).fold(span("n", 1), |span, k| span.integer(&format!("key {k}"), 1))])
        }),
        ("the same attributes again", 1_000, &|n| {
            request([(0..n).fold(span("n", 1), |span, k| span.integer(&format!("key {}", k % 400), 1))])
        }),
        ("exceptions", 1_000, &|n| {
            let exception = Wire::default().bytes(2, "exception").message(3, Wire::default().bytes(1, "k"));
            request([(0..n).fold(span("n", 1), |span, _| span.message(11, exception.clone()))])
        }),
    ];
    for (what, n, body) in shapes {
        assert_linear(what, n, body, |body| {
            let _ = decode(body, Encoding::Protobuf);
        });
    }
}

#[test]
fn records_take_linear_time_for_every_shape() {
    let row = |attributes: &str| {
        format!(
            r#"{{"event_name":"e","task_id":"t","start_time":{START},"end_time":{START},"attributes":{attributes}}}"#
        )
    };
    let shapes: [Shape<'_>; 7] = [
        ("lists in lists", 20_000, &|n| row(&format!(r#"{{"k":{}}}"#, nested("[", "]", n))).into_bytes()),
        ("objects in objects", 10_000, &|n| {
            row(&format!(r#"{{"k":{}1{}}}"#, r#"{"k":"#.repeat(n), "}".repeat(n))).into_bytes()
        }),
        ("many attributes", 2_000, &|n| {
            let all: Vec<_> = (0..n).map(|k| format!(r#""key {k}":1"#)).collect();
            row(&format!("{{{}}}", all.join(","))).into_bytes()
        }),
        ("rows", 200, &|n| vec![row(r#"{"k":[1]}"#); n].join("\n").into_bytes()),
        ("rows that are refused", 1_000, &|n| vec!["{\"x\":[]}"; n].join("\n").into_bytes()),
        ("lines that are no JSON", 1_000, &|n| vec!["{\"x\":"; n].join("\n").into_bytes()),
        ("halves of characters", 2_000, &|n| {
            row(&format!(r#"{{"k":"{}"}}"#, r"\ud83d".repeat(n))).into_bytes()
        }),
    ];
    for (what, n, body) in shapes {
        for layout in [Layout::Json, Layout::Lines] {
            assert_linear(what, n, body, |body| {
                let _ = records::decode(body, layout);
            });
        }
    }
}

#[test]
fn what_is_nested_too_deep_costs_its_attribute_alone() {
    const MAP: &str = r#"{"kvlistValue":{"values":[{"key":"k","value":"#;
    let deep = format!("{}{{}}{}", MAP.repeat(20_000), "}]}}".repeat(20_000));
    let body = json_span(&format!(
        r#","attributes":[{{"key":"deep","value":{deep}}},{{"key":"kept","value":{{"intValue":1}}}}]"#
    ));
    let decoded = json(&body);
    assert_eq!(only_event(&decoded).attributes.get("kept"), Some(&Value::Integer(1)));
    assert_eq!(
        decoded.omitted.message(),
        "1 attribute was left out: span \"n\", attribute \"deep\": nested deeper than 64"
    );
    let as_deep_as_can_be = |depth: usize| {
        let list = r#"{"arrayValue":{"values":["#;
        json_span(&format!(
            r#","attributes":[{{"key":"k","value":{}{}}}]"#,
            list.repeat(depth),
            "]}}".repeat(depth)
        ))
    };
    assert_eq!(json(&as_deep_as_can_be(64)).omitted.attributes, 0);
    assert_eq!(json(&as_deep_as_can_be(65)).omitted.attributes, 1);
}
