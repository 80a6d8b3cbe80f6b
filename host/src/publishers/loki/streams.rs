//! Records as lines of Loki's streams.
//!
//! Invariant: the labels of a stream have few values whatever the records say; a line is the record's JSON, rendered
//! once for whoever wants it.

use super::wire::{Entry, Pair, Time};
use crate::record::{Format, Record, Rows, Status, Timestamp};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// Services beyond so many share the streams of `other`: what they are called comes from outside.
const MAX_SERVICES: usize = 100;
const OTHER: &str = "other";
const MAX_VALUE_BYTES: usize = 256;

/// The entries of a push span no longer: Loki refuses what is more than an hour behind the newest entry of its stream,
/// and what it took once must not be refused when it is sent again.
const MAX_SPAN: Duration = Duration::from_secs(30 * 60);
/// And are no more than that, though a single line may be: Loki's parts talk in messages of 4 MiB.
const MAX_BYTES: usize = 1 << 20;

/// The labels of every stream, and the services that have streams of their own.
pub(super) struct Streams {
    common: BTreeMap<String, String>,
    services: BTreeSet<String>,
}

/// A record as a line.
pub(super) struct Line {
    /// The record's row in the batch.
    pub(super) row: u32,
    at: Timestamp,
    text: Bytes,
    metadata: Vec<Pair>,
}

/// Lines of one stream, in the order of their times. A push has no more than one stream: of several Loki (3.7.8, seen)
/// forgets what it refused of one when the next one went well, and answers 204.
pub(super) struct Portion {
    pub(super) labels: String,
    pub(super) lines: Vec<Line>,
}

impl Streams {
    pub(super) fn new(common: BTreeMap<String, String>) -> Self {
        Self { common, services: BTreeSet::new() }
    }

    /// The records of a batch, cut into what goes into one push each.
    pub(super) fn portions<R: Record>(&mut self, rows: &Rows<R>) -> Vec<Portion> {
        let mut streams: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        let mut text = rows.encode(Format::JsonLines);
        for (row, record) in (0..).zip(rows.iter()) {
            let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
            let line = text.split_to(end);
            if !text.is_empty() {
                let _newline = text.split_to(1);
            }
            let at = record.start_time().after(record.elapsed().unwrap_or_default());
            let line = Line { row, at, text: line, metadata: ids(record) };
            streams.entry(self.labels(record)).or_default().push(line);
        }
        streams.into_iter().flat_map(|(labels, lines)| cut(&labels, lines)).collect()
    }

    fn labels<R: Record>(&mut self, record: &R) -> String {
        let service =
            record.attributes().get("service.name").map(|value| value.as_text()).unwrap_or_default();
        let end = service.floor_char_boundary(MAX_VALUE_BYTES);
        let mut service = service.get(..end).unwrap_or_default();
        if !service.is_empty() && !self.services.contains(service) {
            if self.services.len() < MAX_SERVICES {
                self.services.insert(service.to_owned());
            } else {
                service = OTHER;
            }
        }
        let own = [("kind", R::KIND.as_str()), ("level", level(record.status())), ("service", service)];
        let common = self.common.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: BTreeMap<_, _> = common.chain(own).filter(|(_, value)| !value.is_empty()).collect();
        let mut labels = String::new();
        for (name, value) in all {
            let separator = if labels.is_empty() { '{' } else { ',' };
            let _ = write!(labels, "{separator}{name}=\"{}\"", Quoted(value));
        }
        labels.push('}');
        labels
    }
}

fn level(status: Status) -> &'static str {
    match status {
        Status::Failed => "error",
        Status::Cancelled => "warn",
        Status::Completed | Status::Pending => "info",
    }
}

/// What is another in every record: to be found by, but no label.
fn ids<R: Record>(record: &R) -> Vec<Pair> {
    let pair = |name: &str, value: String| Pair { name: name.to_owned(), value };
    let mut ids = vec![pair("id", record.id().to_string()), pair("task_id", record.task_id().to_owned())];
    ids.extend(record.pipeline_id().map(|id| pair("pipeline_id", id.to_owned())));
    for name in ["trace_id", "span_id"] {
        let id = record.attributes().get(name).map(|id| id.as_text().into_owned());
        ids.extend(id.map(|id| pair(name, id)));
    }
    ids.retain(|id| !id.value.is_empty());
    ids
}

/// Lines of a stream, cut where they are too many or too far apart. The oldest go first: what is too old is refused
/// then for its own sake, and not for what came before it.
fn cut(labels: &str, mut lines: Vec<Line>) -> Vec<Portion> {
    lines.sort_by_key(|line| line.at);
    let mut portions: Vec<Portion> = Vec::new();
    let (mut bytes, mut first) = (0, Timestamp::default());
    for line in lines {
        bytes += line.bytes();
        match portions.last_mut() {
            Some(portion) if bytes <= MAX_BYTES && line.at.since(first) <= MAX_SPAN => {
                portion.lines.push(line)
            }
            _ => {
                (bytes, first) = (line.bytes(), line.at);
                portions.push(Portion { labels: labels.to_owned(), lines: vec![line] });
            }
        }
    }
    portions
}

impl Line {
    fn bytes(&self) -> usize {
        let metadata = self.metadata.iter().map(|pair| pair.name.len() + pair.value.len());
        self.text.len() + metadata.sum::<usize>()
    }

    pub(super) fn entry(&self) -> Entry {
        let nanos = self.at.as_nanos();
        let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        Entry {
            timestamp: Some(Time {
                seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
                nanos: i32::try_from(nanos).unwrap_or_default(),
            }),
            line: String::from_utf8_lossy(&self.text).into_owned(),
            metadata: self.metadata.clone(),
        }
    }
}

/// A label's value between the quotes of LogQL.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c)),
            c => f.write_char(c),
        })
    }
}
