//! Answers that are too large to be written on the runtime's threads: so many at a time, and so many bytes of all of
//! them together, until their clients have read them.
//!
//! Invariant: the bytes of an answer count against the bound until the last of them has gone to the client's socket.

use super::places::{Places, Stalled};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT_ENCODING, HeaderMap};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a question waits for its turn, and its answer for room.
const PATIENCE: Duration = Duration::from_secs(10);
/// What one permit stands for.
const UNIT: usize = 1 << 10;
/// Shorter answers gain nothing by compression.
const LEAST_COMPRESSED: usize = 1 << 10;

/// Answers of one kind. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Lane {
    places: Places,
    turns: Arc<Semaphore>,
    room: Arc<Semaphore>,
    units: u32,
}

/// An answer.
#[derive(Debug)]
pub struct Written {
    /// Its bytes.
    pub body: Bytes,
    /// Whether they are compressed.
    pub gzip: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// Too many are under way.
    #[error("too many answers are being written or read; ask again")]
    Busy,
    /// It could not be written.
    #[error("{0}")]
    Failed(String),
}

/// The bytes of an answer, and the room that they take.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Lane {
    /// So many `turns` to write at a time, and `most` bytes of answers that are written and not read. (One that is larger
    /// alone is answered when there is no other.)
    pub fn new(places: Places, turns: usize, most: usize) -> Self {
        let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(units as usize));
        Self { places, turns: Arc::new(Semaphore::new(turns)), room, units }
    }

    /// Has `write` write an answer, away from the runtime's threads, compressed if `gzip` says that the client takes it.
    ///
    /// # Errors
    ///
    /// There is neither a turn nor room, or `write` failed.
    pub async fn write<E: std::fmt::Display>(
        &self,
        gzip: bool,
        write: impl FnOnce() -> Result<Vec<u8>, E> + Send + 'static,
    ) -> Result<Written, Unwritten> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Unwritten::Busy)?;
        let work = move || {
            let bytes = write().map_err(|error| Unwritten::Failed(error.to_string()))?;
            if gzip && bytes.len() >= LEAST_COMPRESSED {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
                let compressed = compressed.map_err(|error| Unwritten::Failed(error.to_string()))?;
                return Ok((compressed, true));
            }
            Ok((bytes, false))
        };
        let written = tokio::task::spawn_blocking(work).await;
        let (mut bytes, gzip) = written.map_err(|error| Unwritten::Failed(error.to_string()))??;
        bytes.shrink_to_fit();
        let units = u32::try_from(bytes.len().div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        let room = self.places.admit(&self.room, units, Stalled::Reader, PATIENCE).await;
        let room = room.ok_or(Unwritten::Busy)?;
        // Held until there is room: what is written and has none is as little as there are turns.
        drop(turn);
        Ok(Written { body: Bytes::from_owner(Held { bytes, _room: room }), gzip })
    }
}

/// Whether the client takes a gzip body.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let (mut named, mut any) = (None, None);
    for coding in values.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let taken =
            quality.is_none_or(|quality| quality.trim().parse().is_ok_and(|quality: f32| quality > 0.0));
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            named = Some(taken);
        } else if name == "*" {
            any = Some(taken);
        }
    }
    named.or(any).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn gzip_is_taken_where_the_client_says_so() {
        for (value, taken) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("GZIP", true),
            ("*", true),
            ("x-gzip", true),
            ("gzip;q=0", false),
            ("gzip;q=0.0, *", false),
            ("*;q=0", false),
            ("br, zstd", false),
            ("identity", false),
            ("gzipped", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepts_gzip(&headers), taken, "{value:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
