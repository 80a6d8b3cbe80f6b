//! The body of a bulk request: for each record a line that says what to do and the record's own line, to which the
//! time and the duration are added.
//!
//! Invariant: a record's line is copied as the journal's batch has rendered it for everybody; nothing is rendered twice,
//! and nothing is allocated per record.

use super::target::Target;
use crate::record::{JsonLines, Record, Timestamp};
use std::ops::Range;
use std::time::Duration;

/// What stands around a record's line, in bytes, but for the name of another index.
const AROUND: usize = 160;

/// How a record's attributes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attributes {
    /// As fields.
    Fields,
    /// As one text with their JSON, which every server takes: in `attributes_json`.
    Text,
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

/// The size of the body for these rows, about and at most.
pub(super) fn size<R: Record>(lines: &JsonLines<R>, numbers: &Numbers) -> usize {
    let around = |(_, line): (&R, &[u8])| line.len() + AROUND;
    match numbers {
        Numbers::Range(range) => lines.range(range.start as usize..range.end as usize).map(around).sum(),
        Numbers::List(list) => list.iter().filter_map(|at| lines.get(*at as usize)).map(around).sum(),
    }
}

/// Appends the body for these rows, and says which index the request is for: that of the first row. Rows of another
/// one name it.
pub(super) fn write<R: Record>(
    lines: &JsonLines<R>,
    numbers: &Numbers,
    target: &Target,
    attributes: Attributes,
    out: &mut Vec<u8>,
) -> String {
    let mut body = Body { target, attributes, index: None, other: None, out };
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
    body.index.map(|(_, index)| index).unwrap_or_default()
}

struct Body<'a> {
    target: &'a Target,
    attributes: Attributes,
    /// The index of the request.
    index: Option<(u64, String)>,
    /// The last other index.
    other: Option<(u64, String)>,
    out: &'a mut Vec<u8>,
}

impl Body<'_> {
    fn push<R: Record>(&mut self, row: &R, line: &[u8]) {
        let start = row.start_time();
        let part = self.target.part(start);
        let (index, _) = self.index.get_or_insert_with(|| (part, self.target.index(R::KIND, part)));
        let own = *index == part;

        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        row.id().as_hyphenated().encode_lower(&mut id);
        self.out.extend_from_slice(b"{\"create\":{\"_id\":\"");
        self.out.extend_from_slice(&id);
        if !own {
            if self.other.as_ref().is_none_or(|(other, _)| *other != part) {
                self.other = Some((part, self.target.index(R::KIND, part)));
            }
            if let Some((_, name)) = &self.other {
                // Names of indices have nothing in them that JSON escapes.
                self.out.extend_from_slice(b"\",\"_index\":\"");
                self.out.extend_from_slice(name.as_bytes());
            }
        }
        self.out.extend_from_slice(b"\"}}\n{\"@timestamp\":\"");
        self.out.extend_from_slice(&Timestamp::render(start));
        if let Some(elapsed) = row.elapsed() {
            self.out.extend_from_slice(match R::KIND {
                crate::record::Kind::Event => b"\",\"duration_seconds\":".as_slice(),
                crate::record::Kind::Network => b"\",\"latency_seconds\":".as_slice(),
            });
            write_seconds(elapsed, self.out);
            self.out.push(b',');
        } else {
            self.out.extend_from_slice(b"\",");
        }
        match self.attributes {
            Attributes::Fields => self.out.extend_from_slice(line.get(1..).unwrap_or_default()),
            Attributes::Text => write_with_text(row, line, self.out),
        }
    }
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

/// Appends the line, from its second byte, with the attributes as a text. They are the last member of it.
fn write_with_text<R: Record>(row: &R, line: &[u8], out: &mut Vec<u8>) {
    let json = serde_json::to_string(row.attributes()).unwrap_or_default();
    let before = line.strip_suffix(b"}\n").and_then(|line| line.strip_suffix(json.as_bytes()));
    let before = before.and_then(|line| line.strip_suffix(b",\"attributes\":"));
    match (before.and_then(|before| before.get(1..)), serde_json::to_string(&json)) {
        (Some(before), Ok(text)) => {
            out.extend_from_slice(before);
            out.extend_from_slice(b",\"attributes_json\":");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"}\n");
        }
        // It has none.
        _ => out.extend_from_slice(line.get(1..).unwrap_or_default()),
    }
}
