//! The body of a bulk request: for each record a line that says what to do and the record's own line, to which the
//! time and the duration are added.
//!
//! Invariant: a record's line is copied as the journal's batch has rendered it for everybody; nothing is rendered twice,
//! and nothing is allocated per record, but for attributes that no server could take as they are.

use super::gzip::Packer;
use super::target::Target;
use super::template::DEEPEST;
use crate::record::{JsonLines, NetworkMetrics, Record, Rows, Timestamp, Value};
use std::any::Any;
use std::ops::Range;
use std::time::Duration;

/// What stands around a record's line, in bytes, but for the name of another index.
const AROUND: usize = 160;

/// How a record's attributes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attributes {
    /// As fields, unless they are too deep for that: they overflow the stack of a server that looks at each level in
    /// turn (OpenSearch 3 does, and then never answers).
    Fields,
    /// As one text with their JSON, which every server takes: in `attributes_json`.
    Text,
}

/// In what form the rows of a request are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) attributes: Attributes,
    /// All of them go to the index of this part; absent: each to that of its own time.
    pub(super) part: Option<u64>,
}

impl Form {
    /// As rows are written at first.
    pub(super) const PLAIN: Self = Self { attributes: Attributes::Fields, part: None };
}

/// Which rows of a call go into one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    Range(Range<u32>),
    List(Vec<u32>),
}

impl Numbers {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Range(range) => range.clone().nth(at),
            Self::List(list) => list.get(at).copied(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (range, list) = match self {
            Self::Range(range) => (range.clone(), &[][..]),
            Self::List(list) => (0..0, &list[..]),
        };
        range.chain(list.iter().copied())
    }

    /// Two parts of about the same size; `None` where there is nothing to halve.
    pub(super) fn halves(&self) -> Option<(Self, Self)> {
        let half = self.len() / 2;
        if half == 0 {
            return None;
        }
        Some(match self {
            Self::Range(range) => {
                let middle = range.start + u32::try_from(half).unwrap_or(0);
                (Self::Range(range.start..middle), Self::Range(middle..range.end))
            }
            Self::List(list) => {
                let (first, second) = list.split_at(half);
                (Self::List(first.to_vec()), Self::List(second.to_vec()))
            }
        })
    }
}

/// Cuts all rows into pieces whose bodies are at most `limit` bytes, or of one row.
pub(super) fn cut<R: Record>(lines: &JsonLines<R>, limit: usize) -> Vec<Numbers> {
    let mut pieces = Vec::new();
    let (mut start, mut at, mut bytes) = (0_u32, 0_u32, 0_usize);
    for (_, line) in lines.range(0..lines.len()) {
        let more = line.len() + AROUND;
        if at > start && bytes + more > limit {
            pieces.push(Numbers::Range(start..at));
            (start, bytes) = (at, 0);
        }
        bytes += more;
        at += 1;
    }
    if at > start {
        pieces.push(Numbers::Range(start..at));
    }
    pieces
}

/// The size of the body for these rows, about; it is no more where attributes are fields and all rows are of one day.
pub(super) fn size<R: Record>(lines: &JsonLines<R>, numbers: &Numbers) -> usize {
    let around = |(_, line): (&R, &[u8])| line.len() + AROUND;
    match numbers {
        Numbers::Range(range) => lines.range(range.start as usize..range.end as usize).map(around).sum(),
        Numbers::List(list) => list.iter().filter_map(|at| lines.get(*at as usize)).map(around).sum(),
    }
}

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The index that the request is for: that of the first row. Rows of another one name it.
    pub(super) index: String,
    /// The items whose attributes are a text, counted from 0.
    pub(super) as_text: Vec<usize>,
}

/// Appends the body for these rows.
pub(super) fn write<R: Record>(
    lines: &JsonLines<R>,
    numbers: &Numbers,
    target: &Target,
    form: Form,
    packer: &mut Packer,
) -> Written {
    let mut body = Body { target, form, index: None, other: None, as_text: Vec::new(), items: 0, packer };
    match numbers {
        Numbers::Range(range) => {
            lines
                .range(range.start as usize..range.end as usize)
                .for_each(|(row, line)| body.push(row, line));
        }
        Numbers::List(list) => {
            list.iter().filter_map(|at| lines.get(*at as usize)).for_each(|(row, line)| body.push(row, line));
        }
    }
    Written { index: body.index.map(|(_, index)| index).unwrap_or_default(), as_text: body.as_text }
}

struct Body<'a> {
    target: &'a Target,
    form: Form,
    /// The index of the request.
    index: Option<(u64, String)>,
    /// The last other index.
    other: Option<(u64, String)>,
    as_text: Vec<usize>,
    items: usize,
    packer: &'a mut Packer,
}

impl Body<'_> {
    fn push<R: Record>(&mut self, row: &R, line: &[u8]) {
        let start = row.start_time();
        let part = self.form.part.unwrap_or_else(|| self.target.part(start));
        let (index, _) = self.index.get_or_insert_with(|| (part, self.target.index(R::KIND, part)));
        let own = *index == part;

        let out = self.packer.out();
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        row.id().as_hyphenated().encode_lower(&mut id);
        out.extend_from_slice(b"{\"create\":{\"_id\":\"");
        out.extend_from_slice(&id);
        if !own {
            if self.other.as_ref().is_none_or(|(other, _)| *other != part) {
                self.other = Some((part, self.target.index(R::KIND, part)));
            }
            if let Some((_, name)) = &self.other {
                // Names of indices have nothing in them that JSON escapes.
                out.extend_from_slice(b"\",\"_index\":\"");
                out.extend_from_slice(name.as_bytes());
            }
        }
        out.extend_from_slice(b"\"}}\n{\"@timestamp\":\"");
        out.extend_from_slice(&Timestamp::render(start));
        if let Some(elapsed) = row.elapsed() {
            out.extend_from_slice(match R::KIND {
                crate::record::Kind::Event => b"\",\"duration_seconds\":".as_slice(),
                crate::record::Kind::Network => b"\",\"latency_seconds\":".as_slice(),
            });
            write_seconds(elapsed, out);
            out.push(b',');
        } else {
            out.extend_from_slice(b"\",");
        }
        let (capped, exact) = match beyond_long(row) {
            None => (None, String::new()),
            Some(operation) => cap(operation),
        };
        out.extend_from_slice(exact.as_bytes());
        let line = capped.as_ref().and_then(|lines| lines.get(0)).map_or(line, |(_, line)| line);
        if self.form.attributes == Attributes::Text || is_deep(row.attributes()) {
            if write_with_text(row, line, out) {
                self.as_text.push(self.items);
            }
        } else {
            out.extend_from_slice(line.get(1..).unwrap_or_default());
        }
        self.items += 1;
        self.packer.row_ends();
    }
}

/// The largest number that a field of type `long` takes.
const MAX_LONG: u64 = i64::MAX as u64;

/// The operation, if it has moved more bytes than a `long` holds.
fn beyond_long<R: Record>(row: &R) -> Option<&NetworkMetrics> {
    let operation = (row as &dyn Any).downcast_ref::<NetworkMetrics>()?;
    (operation.bytes_sent.max(operation.bytes_received) > MAX_LONG).then_some(operation)
}

/// The operation with the largest numbers that fit, and the members that say what they were. (`unsigned_long` is not known to
/// every server, and indices of before have a `long`.)
fn cap(operation: &NetworkMetrics) -> (Option<JsonLines<NetworkMetrics>>, String) {
    let mut capped = operation.clone();
    let mut exact = String::new();
    let counts = [("bytes_sent", &mut capped.bytes_sent), ("bytes_received", &mut capped.bytes_received)];
    for (name, count) in counts.into_iter().filter(|(_, count)| **count > MAX_LONG) {
        exact.push_str(&format!("\"{name}_exact\":\"{count}\","));
        *count = MAX_LONG;
    }
    (Some(Rows::detached(vec![capped]).json_lines()), exact)
}

/// Whether a value of them is nested deeper than a server should be asked to look.
fn is_deep(attributes: &crate::record::Attributes) -> bool {
    attributes.iter().any(|(_, value)| match value {
        Value::Json(json) => json.len() > DEEPEST && depth(json, DEEPEST) > DEEPEST,
        _ => false,
    })
}

/// How deep JSON is nested; beyond `most` it is not looked at.
fn depth(json: &str, most: usize) -> usize {
    let (mut depth, mut deepest, mut bytes) = (0_usize, 0, json.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
                if deepest > most {
                    break;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            // A text: brackets in it are none.
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Appends seconds, to the nanosecond: the number that a float reads from it is the one that formats have.
fn write_seconds(elapsed: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(elapsed.as_secs()).as_bytes());
    let mut nanos = elapsed.subsec_nanos();
    let mut digits = *b".000000000";
    for digit in digits.iter_mut().skip(1).rev() {
        *digit = b'0' + u8::try_from(nanos % 10).unwrap_or(0);
        nanos /= 10;
    }
    // `.0` at least: a server that guesses the type of a field should guess a float.
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count().min(digits.len() - 2);
    out.extend_from_slice(digits.get(..digits.len() - zeros).unwrap_or(&digits));
}

/// Appends the line, from its second byte, with the attributes as a text. They are the last member of it. False if there
/// are none.
fn write_with_text<R: Record>(row: &R, line: &[u8], out: &mut Vec<u8>) -> bool {
    let json = serde_json::to_string(row.attributes()).unwrap_or_default();
    let before = line.strip_suffix(b"}\n").and_then(|line| line.strip_suffix(json.as_bytes()));
    let before = before.and_then(|line| line.strip_suffix(b",\"attributes\":"));
    match (before.and_then(|before| before.get(1..)), serde_json::to_string(&json)) {
        (Some(before), Ok(text)) => {
            out.extend_from_slice(before);
            out.extend_from_slice(b",\"attributes_json\":");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"}\n");
            true
        }
        _ => {
            out.extend_from_slice(line.get(1..).unwrap_or_default());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventMetrics, Status, Value};
    use proptest::prelude::*;
    use uuid::Uuid;

    const NOON: u64 = 1_795_435_200_000_000_000;
    const DAY: u64 = 86_400_000_000_000;

    fn event(number: u128, start: u64) -> EventMetrics {
        let start = Timestamp::from_nanos(start);
        let mut event = EventMetrics::started(Uuid::from_u128(number), "resize", "42", start);
        event.end_time = Some(start.after(Duration::from_nanos(1_500_000_001)));
        event.status = Status::Completed;
        event
    }

    fn target() -> Target {
        Target::Daily { prefix: "p".to_owned() }
    }

    fn body(rows: &Rows<EventMetrics>, attributes: Attributes) -> (Written, Vec<serde_json::Value>) {
        let lines = rows.json_lines();
        let (all, mut packer) = (Numbers::Range(0..lines.len() as u32), Packer::new(false, 0));
        let form = Form { attributes, ..Form::PLAIN };
        let written = write(&lines, &all, &target(), form, &mut packer);
        let text = String::from_utf8(packer.finish().1.into()).unwrap();
        assert!(text.ends_with('\n'));
        assert!(text.len() <= size(&lines, &all) || !written.as_text.is_empty());
        (written, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[test]
    fn a_record_is_a_line_that_says_what_to_do_and_its_own_with_time_and_duration() {
        let rows = Rows::detached(vec![event(7, NOON), event(8, NOON + DAY), event(9, NOON)]);
        let (written, lines) = body(&rows, Attributes::Fields);
        assert_eq!(written, Written { index: "p-event-2026.11.23".to_owned(), as_text: Vec::new() });
        assert_eq!(lines.len(), 6);
        let id = |number: u128| Uuid::from_u128(number).to_string();
        assert_eq!(lines[0], serde_json::json!({ "create": { "_id": id(7) } }));
        let other = serde_json::json!({ "create": { "_id": id(8), "_index": "p-event-2026.11.24" } });
        assert_eq!(lines[2], other);
        assert_eq!(lines[4], serde_json::json!({ "create": { "_id": id(9) } }));
        let mut expected = serde_json::to_value(event(7, NOON)).unwrap();
        expected["@timestamp"] = "2026-11-23T12:00:00.000000000Z".into();
        expected["duration_seconds"] = 1.500_000_001.into();
        assert_eq!(lines[1], expected);
    }

    #[test]
    fn an_operation_has_a_latency_and_what_has_not_ended_has_none() {
        let mut operation =
            NetworkMetrics::started(Uuid::nil(), "42", "PUT", "s3.local", 443, Timestamp::from_nanos(NOON));
        let line = |operation: &NetworkMetrics| {
            let lines = Rows::detached(vec![operation.clone()]).json_lines();
            let mut packer = Packer::new(false, 0);
            let written = write(&lines, &Numbers::List(vec![0]), &target(), Form::PLAIN, &mut packer);
            let out = packer.finish().1;
            assert_eq!(written.index, "p-network-2026.11.23");
            serde_json::from_slice::<serde_json::Value>(out.split(|byte| *byte == b'\n').nth(1).unwrap())
                .unwrap()
        };
        assert_eq!(line(&operation)["latency_seconds"], serde_json::Value::Null);
        operation.end_time = Some(Timestamp::from_nanos(NOON + 12_500_000));
        assert_eq!(line(&operation)["latency_seconds"], 0.0125);
    }

    #[test]
    fn bytes_beyond_what_a_long_holds_are_capped_and_said_exactly() {
        let mut operation =
            NetworkMetrics::started(Uuid::nil(), "42", "PUT", "s3.local", 443, Timestamp::from_nanos(NOON));
        operation.end_time = Some(operation.start_time);
        (operation.bytes_sent, operation.bytes_received) = (i64::MAX as u64, u64::MAX);
        operation.attributes = [("a", Value::from(1))].into_iter().collect();
        for attributes in [Attributes::Fields, Attributes::Text] {
            let lines = Rows::detached(vec![operation.clone()]).json_lines();
            let (form, mut packer) = (Form { attributes, ..Form::PLAIN }, Packer::new(false, 0));
            let written = write(&lines, &Numbers::Range(0..1), &target(), form, &mut packer);
            let out = packer.finish().1;
            let line: serde_json::Value =
                serde_json::from_slice(out.split(|byte| *byte == b'\n').nth(1).unwrap()).unwrap();
            assert_eq!((&line["bytes_sent"], &line["bytes_received"]), (&i64::MAX.into(), &i64::MAX.into()));
            assert_eq!(line["bytes_received_exact"], "18446744073709551615");
            assert_eq!(line["bytes_sent_exact"], serde_json::Value::Null, "it fits");
            assert_eq!(written.as_text.len(), usize::from(attributes == Attributes::Text));
            assert!(line["attributes"]["a"] == 1 || line["attributes_json"] == "{\"a\":1}");
        }
    }

    #[test]
    fn attributes_as_a_text_are_their_json() {
        let mut with = event(1, NOON);
        with.attributes =
            [("a\"b", Value::from("}\n")), ("n", 1.5.into()), ("j", Value::Json("[1,{}]".into()))]
                .into_iter()
                .collect();
        let json = serde_json::to_value(&with).unwrap()["attributes"].clone();
        let rows = Rows::detached(vec![with, event(2, NOON)]);
        assert!(body(&rows, Attributes::Fields).0.as_text.is_empty());
        let (written, lines) = body(&rows, Attributes::Text);
        assert_eq!(written.as_text, [0]);
        let text = lines[1]["attributes_json"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), json);
        assert_eq!(lines[1]["attributes"], serde_json::Value::Null);
        assert_eq!(lines[1]["event_name"], "resize");
        assert_eq!(lines[3]["attributes_json"], serde_json::Value::Null);
    }

    #[test]
    fn attributes_that_are_too_deep_are_a_text_from_the_start() {
        let with = |levels: usize, text: &str| {
            let mut event = event(1, NOON);
            let json = format!("{}{text}{}", "[{\"a\":".repeat(levels / 2), "}]".repeat(levels / 2));
            event.attributes = [("a", Value::from(1)), ("j", Value::Json(json.into()))].into_iter().collect();
            event
        };
        let brackets = format!("\"\\\"{}\"", "{".repeat(100));
        let rows = [with(DEEPEST, &brackets), with(DEEPEST + 2, "1"), with(100_000, "1"), event(2, NOON)];
        let (written, lines) = body(&Rows::detached(rows.into()), Attributes::Fields);
        assert_eq!(written.as_text, [1, 2]);
        assert_eq!(lines[1]["attributes"]["a"], 1);
        assert!(lines[3]["attributes_json"].as_str().unwrap().starts_with("{\"a\":1,\"j\":[{"));
    }

    #[test]
    fn pieces_are_in_order_and_no_larger_than_they_may_be() {
        let mut events: Vec<_> = (0..1_000).map(|number| event(number, NOON)).collect();
        events[500].attributes = [("long", Value::from("x".repeat(50_000)))].into_iter().collect();
        let lines = Rows::detached(events).json_lines();
        let pieces = cut(&lines, 10_000);
        let numbers: Vec<u32> = pieces.iter().flat_map(Numbers::iter).collect();
        assert!(numbers.into_iter().eq(0..1_000));
        for piece in &pieces {
            assert!(size(&lines, piece) <= 10_000 || *piece == Numbers::Range(500..501), "{piece:?}");
        }
        assert!(cut(&Rows::<EventMetrics>::default().json_lines(), 10_000).is_empty());
    }

    #[test]
    fn halves_are_all_of_it() {
        for numbers in [Numbers::Range(3..10), Numbers::List(vec![1, 5, 9])] {
            let (first, second) = numbers.halves().unwrap();
            assert!(first.iter().chain(second.iter()).eq(numbers.iter()));
            assert!(first.len().abs_diff(second.len()) <= 1);
        }
        assert!(Numbers::Range(4..5).halves().is_none() && Numbers::List(Vec::new()).halves().is_none());
    }

    proptest! {
        #[test]
        fn seconds_are_those_that_formats_have(nanos in prop_oneof![0..1_u64 << 53, 0..10_000_000_000_u64]) {
            let elapsed = Duration::from_nanos(nanos);
            let mut text = Vec::new();
            write_seconds(elapsed, &mut text);
            let text = std::str::from_utf8(&text).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), nanos as f64 / 1e9);
            prop_assert!(!text.ends_with("00") && text.contains('.'));
        }
    }
}
