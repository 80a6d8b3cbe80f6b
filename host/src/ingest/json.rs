//! JSON records, as `POST /v1/records` takes them: a list, or one object a line.
//!
//! Invariant: rows are independent. One that is wrong is refused with its number, its line and the field; the others
//! are taken, in the order in which they were sent.

mod record;

use super::given::REPLACED;
use super::raw::{Readable, depth, each_item, readable, without_place};
use super::{MAX_DEPTH, MAX_PROBLEMS, MAX_RECORDS, Problem, Unreadable};
use crate::record::{Batch, EventMetrics, NetworkMetrics, Text};
use serde_json::value::RawValue;

/// How the rows stand in the body. What the body begins with has the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `application/json`: a list, one object, or nonetheless lines.
    Json,
    /// `application/x-ndjson`: one object a line, or nonetheless a list.
    Lines,
}

/// What a body held.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The records.
    pub batch: Batch,
    /// The messages for the recorder, in their order.
    pub messages: Vec<Message>,
    /// The rows that were refused.
    pub refused: Problems,
    /// The rows that were taken and are not what was sent: characters were replaced.
    pub altered: Problems,
}

/// Rows about which there is something to tell: all of them counted, the first [`MAX_PROBLEMS`] told.
#[derive(Debug, Default)]
pub struct Problems {
    /// How many.
    pub count: usize,
    /// What.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// Adds one row.
    pub fn add(&mut self, problem: impl FnOnce() -> Problem) {
        self.count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem());
        }
    }
}

/// A message for the recorder, from a sender that sees an event's start and end in different places. It is timed when
/// it arrives.
#[derive(Debug, PartialEq)]
pub struct Message {
    /// Its number in the body, from 0.
    pub row: usize,
    /// The line on which it starts, from 1.
    pub line: usize,
    /// What happened.
    pub step: Step,
    /// The pipeline of the event.
    pub pipeline_id: Option<Text>,
    /// The event's name.
    pub event_name: Text,
    /// The task.
    pub task_id: Text,
}

/// What happened to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It started.
    Start,
    /// It is tried again.
    Retry,
    /// It ended as it should.
    Complete,
    /// It failed, and why.
    Fail(Option<Text>),
    /// It was given up.
    Cancel,
}

/// What a row is.
#[derive(Debug)]
enum Row {
    Event(EventMetrics),
    Operation(NetworkMetrics),
    Message(Message),
}

/// Why a row is refused: the field, where it is one, and what is wrong.
type Wrong = (Option<String>, String);

/// Decodes a body.
///
/// # Errors
///
/// The body as a whole is not JSON of the layout, or holds too many rows. Rows that are wrong are no error.
pub fn decode(body: &[u8], layout: Layout) -> Result<Decoded, Unreadable> {
    let readable = readable(body)?;
    let text = &*readable.text;
    let mut rows = Rows { body: &readable, seen: 0, lines: Lines::new(text), decoded: Decoded::default() };
    match (text.trim_start().as_bytes().first(), layout) {
        (None, _) => {
            let message = "the body is empty; send a JSON list of records, or one record a line".to_owned();
            return Err(Unreadable::Malformed { line: None, message });
        }
        (Some(b'['), _) => rows.list()?,
        // One object over several lines is no NDJSON, but it is JSON.
        (Some(b'{'), Layout::Json) => match serde_json::from_str::<&RawValue>(text) {
            Ok(row) => rows.row(row),
            Err(_) => rows.lines(),
        },
        (Some(_), Layout::Lines) => rows.lines(),
        (Some(_), Layout::Json) => {
            let message = "expected a JSON list of records, or one record a line".to_owned();
            return Err(Unreadable::Malformed { line: Some(1), message });
        }
    }
    if rows.seen > MAX_RECORDS {
        return Err(Unreadable::TooMany);
    }
    Ok(rows.decoded)
}

struct Rows<'a> {
    body: &'a Readable<'a>,
    seen: usize,
    lines: Lines<'a>,
    decoded: Decoded,
}

impl<'a> Rows<'a> {
    fn list(&mut self) -> Result<(), Unreadable> {
        let list = serde_json::from_str::<&RawValue>(&self.body.text)
            .and_then(|list| each_item(list, |row| self.row(row)));
        list.map_err(|error| Unreadable::Malformed {
            line: Some(error.line()),
            message: format!("line {}, column {}: {}", error.line(), error.column(), without_place(&error)),
        })
    }

    fn lines(&mut self) {
        for line in self.body.text.split('\n') {
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            match serde_json::from_str::<&RawValue>(text) {
                Ok(row) => self.row(row),
                Err(error) => {
                    let wrong = format!("column {}: {}", error.column(), without_place(&error));
                    self.refuse(text, (None, wrong));
                }
            }
        }
    }

    fn row(&mut self, raw: &'a RawValue) {
        if self.seen >= MAX_RECORDS {
            self.seen += 1;
            return;
        }
        let row = match record::decode(raw) {
            Ok(row) => row,
            // Within a record attributes may be nested so deep.
            Err((None, _)) if depth(raw.get()) > MAX_DEPTH + 2 => {
                let message = format!("must not be nested deeper than {MAX_DEPTH}");
                return self.refuse(raw.get(), (None, message));
            }
            Err(wrong) => return self.refuse(raw.get(), wrong),
        };
        if self.body.is_altered(raw.get()) {
            let (row, lines) = (self.seen, &mut self.lines);
            self.decoded.altered.add(|| Problem {
                row: Some(row),
                line: Some(lines.of(raw.get())),
                field: None,
                message: REPLACED.to_owned(),
            });
        }
        match row {
            Row::Event(event) => self.decoded.batch.events.push(event),
            Row::Operation(operation) => self.decoded.batch.operations.push(operation),
            Row::Message(message) => {
                let line = self.lines.of(raw.get());
                self.decoded.messages.push(Message { row: self.seen, line, ..message });
            }
        }
        self.seen += 1;
    }

    fn refuse(&mut self, text: &'a str, (field, message): Wrong) {
        let row = self.seen;
        self.seen += 1;
        let lines = &mut self.lines;
        self.decoded.refused.add(|| {
            let line = Some(lines.of(text));
            Problem { row: Some(row), line, field, message }
        });
    }
}

/// Counts lines on the way through the body, once.
struct Lines<'a> {
    body: &'a str,
    counted: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(body: &'a str) -> Self {
        Self { body, counted: 0, line: 1 }
    }

    /// The line on which `part` starts. Parts come in the order of the body, of which they are slices.
    fn of(&mut self, part: &'a str) -> usize {
        let at = (part.as_ptr() as usize).saturating_sub(self.body.as_ptr() as usize);
        if let Some(between) = self.body.as_bytes().get(self.counted..at) {
            self.line += between.iter().filter(|byte| **byte == b'\n').count();
            self.counted = at;
        }
        self.line
    }
}

#[cfg(test)]
mod tests;
