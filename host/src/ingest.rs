//! What comes in over the network: JSON records and OTLP traces, decoded into records.
//!
//! Invariant: what is sent in is data. A row, a span or an attribute that cannot be read is left out, counted and
//! named; it never costs its neighbours, never panics, and never makes the host hold more than a bounded multiple of
//! what was received. The decoders are pure: they know bytes and records, no socket and no collector.
//!
//! How spans become records is told in `MAPPING.md` beside this file.

pub mod body;
pub mod json;
pub mod otlp;
mod raw;

use serde::Serialize;

/// Records in one request, at most.
pub const MAX_RECORDS: usize = 100_000;
/// Bytes of a name, an identifier or a host, at most.
pub const MAX_NAME: usize = 1024;
/// Bytes of an error's text, at most.
pub const MAX_ERROR: usize = 64 * 1024;
/// Attributes of one record, at most.
pub const MAX_ATTRIBUTES: usize = 256;
/// Bytes of an attribute's key, at most.
pub const MAX_KEY: usize = 256;
/// Bytes of an attribute's value, at most.
pub const MAX_VALUE: usize = 64 * 1024;
/// Lists and objects within each other in one record, at most.
pub const MAX_DEPTH: usize = 64;
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
}

/// `text`, at most `bytes` of it, cut between two characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// The first bytes of every id: the start time, so that ids sort by it. 48 bits of milliseconds, as in UUID version 7,
/// then 12 bits of the millisecond's fraction; what follows is the caller's.
fn id_bytes(start: crate::record::Timestamp, rest: u64) -> [u8; 16] {
    let (millis, fraction) = (start.as_nanos() / 1_000_000, start.as_nanos() % 1_000_000);
    // Version and variant are written over what stands here.
    let high = (millis << 16) | (fraction * 4_096 / 1_000_000);
    ((u128::from(high) << 64) | u128::from(rest)).to_be_bytes()
}
