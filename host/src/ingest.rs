//! What comes in over the network: JSON records and OTLP traces, decoded into records.
//!
//! Invariant: what is sent in is data. A row, a span or an attribute that cannot be read is left out, counted and
//! named; it never costs its neighbours, never panics, and never makes the host hold more than a bounded multiple of
//! what was received. The decoders are pure: they know bytes and records, no socket and no collector.
//!
//! How spans become records is told in `MAPPING.md` beside this file.

pub mod body;
mod given;
pub mod json;
pub mod otlp;
mod raw;
mod walk;

use serde::Serialize;

/// Records in one request, at most.
pub const MAX_RECORDS: usize = 100_000;
/// Bytes of a name, an identifier or a host, at most.
pub const MAX_NAME: usize = 1024;
/// Bytes of an error's text, at most: it may be an attribute's value.
pub const MAX_ERROR: usize = MAX_VALUE;
/// Attributes of one record, at most.
pub const MAX_ATTRIBUTES: usize = 512;
/// Bytes of an attribute's key, at most.
pub const MAX_KEY: usize = 256;
/// Bytes of an attribute's value, at most: of a text as it is, of a list or an object as compact JSON.
pub const MAX_VALUE: usize = 64 * 1024;
/// Lists and objects within each other in an attribute's value, at most.
pub const MAX_DEPTH: usize = 64;
/// Bytes that the spans of one request have of their resources, at most, all copies together.
pub const MAX_COPIED: usize = 128 << 20;
/// Problems that are told one by one; the others are counted.
pub const MAX_PROBLEMS: usize = 100;

/// Why a row was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The row's number, from 0; absent where the body as a whole is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<usize>,
    /// The line on which it starts, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

/// A request that was refused as a whole: nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what it says it is.
    #[error("{message}")]
    Malformed {
        /// The line of the mistake, from 1, where there are lines.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// It holds more than [`MAX_RECORDS`].
    #[error("more than {MAX_RECORDS} records in one request; send them in several")]
    TooMany,
    /// Its spans have copies of their resource's attributes that are larger than [`MAX_COPIED`].
    #[error(
        "the copies that spans have of their resource's attributes are larger than {MAX_COPIED} bytes; send the spans in several requests"
    )]
    Copies,
}

/// `text`, at most `bytes` of it, cut between two characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// The unit in which a number of nanoseconds since 1970 was probably meant, if that is another one: in that unit it lies
/// between 1980 and 2100, as nanoseconds in the first weeks of 1970.
fn unit_of(nanos: u64) -> Option<&'static str> {
    const SECONDS: std::ops::Range<u64> = 315_532_800..4_102_444_800;
    let units = [(1, "seconds"), (1_000, "milliseconds"), (1_000_000, "microseconds")];
    units.into_iter().find(|(unit, _)| SECONDS.contains(&(nanos / unit))).map(|(_, name)| name)
}

/// What is wrong with a time of which [`unit_of`] knows another unit.
fn not_nanoseconds(token: &str, unit: &str) -> String {
    format!("{} looks like {unit}; expected nanoseconds since 1970", cut(token, 32))
}

/// The first bytes of every id: the start time, so that ids sort by it. 48 bits of milliseconds, as in UUID version 7,
/// then 12 bits of the millisecond's fraction; what follows is the caller's.
fn id_bytes(start: crate::record::Timestamp, rest: u64) -> [u8; 16] {
    let (millis, fraction) = (start.as_nanos() / 1_000_000, start.as_nanos() % 1_000_000);
    // Version and variant are written over what stands here.
    let high = (millis << 16) | (fraction * 4_096 / 1_000_000);
    ((u128::from(high) << 64) | u128::from(rest)).to_be_bytes()
}
