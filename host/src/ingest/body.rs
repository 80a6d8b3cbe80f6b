//! Receives a request's body: bounded in size, in time, and together with all the others; decompressed if it came so.
//!
//! Invariant: no request makes the host hold more than its bounds, and all of them together no more than
//! [`Memory`] allows, whatever their headers say. Where there is no room, slow senders make it.

mod coding;

use super::cut;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
pub use coding::CODINGS;
use coding::{Coding, Decoder};
use http_body_util::BodyExt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What one body may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes as received.
    pub received: usize,
    /// Bytes when decompressed.
    pub decompressed: usize,
    /// Until the next part of it.
    pub idle: Duration,
    /// Until the end of it.
    pub total: Duration,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong, and what to do.
    pub message: String,
    /// When it may be worth another try.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that another try will not change.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// A refusal for now.
    pub fn for_now(status: StatusCode, message: impl Into<String>, after: Duration) -> Self {
        Self { retry_after: Some(after), ..Self::new(status, message) }
    }
}

/// What a client says of its body's length is believed up to here: it has sent nothing yet.
const MAX_ANNOUNCED: usize = 512 << 10;

/// How long a body waits for others that are being received.
const PATIENCE: Duration = Duration::from_secs(2);

/// The bytes of all bodies that are being received, and of all that are being decompressed, and their bounds: slow
/// senders leave room for what has arrived.
#[derive(Clone)]
pub struct Memory {
    receiving: Arc<Pool>,
    decompressing: Arc<Pool>,
    relief: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Debug)]
struct Pool {
    held: AtomicUsize,
    most: usize,
    /// Some of it was given back.
    freed: Notify,
}

impl Memory {
    /// Room for so many bytes as they are received, and so many as they are decompressed.
    pub fn new(received: usize, decompressed: usize) -> Self {
        let pool = |most| Arc::new(Pool { held: AtomicUsize::new(0), most, freed: Notify::new() });
        Self { receiving: pool(received), decompressing: pool(decompressed), relief: Arc::new(|| {}) }
    }

    /// Calls `relief` where there is no room: it ends a request whose sender is slow, if there is one.
    pub fn with_relief(mut self, relief: impl Fn() + Send + Sync + 'static) -> Self {
        self.relief = Arc::new(relief);
        self
    }
}

/// A part of a pool, given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Held {
    fn of(pool: &Arc<Pool>) -> Self {
        Self { pool: pool.clone(), bytes: 0 }
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let most = self.pool.most;
        let grown = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        if self.pool.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_err() {
            let message = "too much is being received at once; send again";
            return Err(Refusal::for_now(StatusCode::SERVICE_UNAVAILABLE, message, Duration::from_secs(1)));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// As [`Held::grow`], after a while in which others end.
    async fn grow_in_time(&mut self, bytes: usize, relief: &(dyn Fn() + Send + Sync)) -> Result<(), Refusal> {
        if self.grow(bytes).is_ok() {
            return Ok(());
        }
        let pool = self.pool.clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut freed = std::pin::pin!(pool.freed.notified());
            // Registered before the try, so that nothing that is given back between the two is missed.
            freed.as_mut().enable();
            match self.grow(bytes) {
                Err(_) if Instant::now() < deadline => relief(),
                grown => return grown,
            }
            // Senders that are quick enough now may be too slow soon.
            let look = deadline.min(Instant::now() + Duration::from_millis(100));
            let _ = tokio::time::timeout_at(look, freed).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.pool.freed.notify_waiters();
    }
}

/// A body as it was received.
#[derive(Debug)]
pub struct Received {
    bytes: Bytes,
    coding: Option<Coding>,
    /// What it takes decompressed.
    held: Held,
    /// What it takes as it is.
    _received: Held,
}

/// Receives a body.
///
/// # Errors
///
/// It is too large, too slow, compressed in a way that is not known, or the sender went away.
pub async fn receive(
    headers: &HeaderMap,
    body: Body,
    bounds: Bounds,
    memory: &Memory,
) -> Result<Received, Refusal> {
    let coding = coding(headers)?;
    let too_large = || {
        let message =
            format!("the body is larger than {} bytes; send it in several requests", bounds.received);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if body.size_hint().lower() > bounds.received as u64 {
        return Err(too_large());
    }
    let slow = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    let deadline = Instant::now() + bounds.total;
    let mut body = std::pin::pin!(body);
    let mut held = Held::of(&memory.receiving);
    // Room for what was announced, but no more than has to be believed.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut bytes = BytesMut::with_capacity(announced.min(MAX_ANNOUNCED));
    loop {
        let by = deadline.min(Instant::now() + bounds.idle);
        let frame = match tokio::time::timeout_at(by, body.frame()).await.map_err(|_| slow())? {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let message = format!("the body could not be received: {error}");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bounds.received {
            return Err(too_large());
        }
        held.grow_in_time(data.len(), &*memory.relief).await?;
        bytes.extend_from_slice(&data);
    }
    let decompressed = Held::of(&memory.decompressing);
    Ok(Received { bytes: bytes.freeze(), coding, held: decompressed, _received: held })
}

/// The one content coding that was applied to the body, if any.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Refusal> {
    let mut found = None;
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    for name in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
        if name.is_empty() || name == "identity" {
            continue;
        }
        match Coding::named(&name) {
            Some(coding) if found.is_none() => found = Some(coding),
            known => {
                let what = if known.is_some() { "a second content-encoding, " } else { "content-encoding " };
                let message =
                    format!("{what}{:?}, is not supported; send one of {CODINGS}, or none", cut(&name, 32));
                return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
        }
    }
    Ok(found)
}

/// Bytes that are decoded where they are received: they take a few milliseconds, and to hand them to another thread costs
/// more than it is worth, and memory: each thread keeps some of what it has freed.
const SMALL: usize = 512 << 10;
/// As [`SMALL`], of what is compressed: it is decompressed there, too.
const SMALL_COMPRESSED: usize = 16 << 10;

impl Received {
    /// Decompresses the body as far as that takes no time that other requests would notice: a little body may be a lot. It
    /// is no more than `most` bytes and one.
    ///
    /// # Errors
    ///
    /// It cannot be decompressed.
    pub fn open(self, most: usize) -> Result<Opened, Refusal> {
        let Self { bytes, coding, held, _received } = self;
        let Some(coding) = coding else {
            let is_large = bytes.len() > SMALL;
            return Ok(Opened { body: bytes, rest: None, is_large, held, _received });
        };
        let is_small = bytes.len() <= SMALL_COMPRESSED;
        let decoder = coding.decoder(bytes).map_err(|error| garbled(coding, &error))?;
        let mut rest = Rest { coding, decoder, out: Vec::new(), ended: false };
        let mut opened = Opened { body: Bytes::new(), rest: None, is_large: true, held, _received };
        if is_small {
            rest.read(most.min(SMALL / 2), &mut opened.held)?;
        }
        opened.is_large = !rest.ended;
        opened.rest = Some(rest);
        Ok(opened)
    }
}

/// A body that is being decompressed.
#[derive(Debug)]
pub struct Opened {
    body: Bytes,
    rest: Option<Rest>,
    is_large: bool,
    /// What it takes decompressed.
    held: Held,
    /// What it takes as it came.
    _received: Held,
}

impl Opened {
    /// Whether it takes long enough to decode, some milliseconds, that other requests would notice.
    pub fn is_large(&self) -> bool {
        self.is_large
    }

    /// Hands the decompressed body to `decode`.
    ///
    /// # Errors
    ///
    /// It cannot be decompressed within `most` bytes, or `decode` says so.
    pub fn decode<T>(
        mut self,
        most: usize,
        decode: impl FnOnce(&[u8]) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let Some(mut rest) = self.rest.take() else { return decode(&self.body) };
        rest.read(most, &mut self.held)?;
        if !rest.ended || rest.out.len() > most {
            let message = format!("the body is larger than {most} bytes when it is decompressed");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        decode(&rest.out)
    }
}

/// What a body was decompressed to until now.
#[derive(Debug)]
struct Rest {
    coding: Coding,
    decoder: Decoder,
    out: Vec<u8>,
    ended: bool,
}

impl Rest {
    /// Decompresses up to `most` bytes in all, and tells by [`Rest::ended`] whether that is all there is.
    fn read(&mut self, most: usize, held: &mut Held) -> Result<(), Refusal> {
        while !self.ended && self.out.len() <= most {
            // In steps, so that a small body that claims to be a large one takes what it is.
            let step = self.out.len().clamp(64 << 10, 4 << 20).min(most + 1 - self.out.len());
            held.grow(step)?;
            let read = (&mut self.decoder).take(step as u64).read_to_end(&mut self.out);
            self.ended = read.map_err(|error| garbled(self.coding, &error))? < step;
        }
        Ok(())
    }
}

fn garbled(coding: Coding, error: &std::io::Error) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not {}: {error}", coding.name()))
}

#[cfg(test)]
mod tests;
