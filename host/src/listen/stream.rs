//! A connection's bytes: notes how its client keeps up, gives an answer that says what is wrong to a head that could
//! not be read, and lets a client that still sends read the answer.

use super::places::Pulse;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Answers a head that could not be read.
pub(super) type Malformed = fn(StatusCode, &[u8]) -> (&'static str, Vec<u8>);

/// Bytes of a head that are kept, to say what is wrong with it.
const KEPT: usize = 4 << 10;
/// What a client may still send after its last answer, and for how long: a connection that is closed before takes the
/// answer along.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER: usize = 4 << 20;

/// A TCP stream that ends with a client that does not read what it asked for.
pub(super) struct Stream {
    stream: TcpStream,
    pulse: Arc<Pulse>,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    malformed: Malformed,
    /// The beginning of the head that is being read.
    head: Vec<u8>,
    /// Everything that was to be written has been.
    flushed: bool,
    /// What is written in place of an answer without a body, and how much of it was.
    own: Option<(Vec<u8>, usize)>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Stream {
    pub(super) fn new(
        stream: TcpStream,
        pulse: Arc<Pulse>,
        patience: Duration,
        malformed: Malformed,
    ) -> Self {
        let (head, flushed) = (Vec::new(), true);
        Self { stream, pulse, patience, waiting: None, malformed, head, flushed, own: None, lingering: None }
    }

    /// Fails once the client has read too little for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let deadline = self.pulse.unread() + self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(waiting.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // The client has gone on since the deadline was set.
            waiting.as_mut().reset(deadline);
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &poll {
            self.flushed = false;
            self.pulse.written(*bytes);
        }
        self.watch(cx, poll)
    }

    /// Takes the place of an answer that hyper gives by itself, without a body, to a head that it cannot read.
    fn replace(&mut self, written: &[u8]) -> bool {
        if !self.flushed || !self.pulse.owes_nothing() || self.own.is_some() {
            return false;
        }
        let status = written.strip_prefix(b"HTTP/1.1 4").and_then(|rest| rest.get(..2));
        let status =
            status.and_then(|rest| StatusCode::from_bytes(&[b'4', *rest.first()?, *rest.get(1)?]).ok());
        let Some(mut status) = status else { return false };
        if status == StatusCode::BAD_REQUEST && says_transfer_encoding(&self.head) {
            status = StatusCode::NOT_IMPLEMENTED;
        }
        let (content_type, body) = (self.malformed)(status, &self.head);
        let mut own = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        own.extend_from_slice(&body);
        self.own = Some((own, 0));
        self.pulse.close();
        true
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((own, at)) = &mut self.own {
            let rest = own.get(*at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let poll = Pin::new(&mut self.stream).poll_write(cx, rest);
            if let Poll::Ready(Ok(bytes)) = &poll {
                *at += bytes;
            }
            ready!(self.wrote(cx, poll))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether a head has the header that says how its body is encoded. (`chunked` alone is read, and never gets here.)
fn says_transfer_encoding(head: &[u8]) -> bool {
    let name = b"transfer-encoding:";
    head.split(|byte| *byte == b'\n').any(|line| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && line
                .get(name.len()..)
                .is_some_and(|value| !value.trim_ascii().eq_ignore_ascii_case(b"chunked"))
    })
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        let read = into.filled().get(before..).unwrap_or_default();
        match self.pulse.reads_head() {
            Some(another) => {
                if another {
                    self.head.clear();
                }
                let most = KEPT.saturating_sub(self.head.len()).min(read.len());
                self.head.extend_from_slice(read.get(..most).unwrap_or_default());
            }
            None => self.pulse.moved(read.len()),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replace(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|first| self.replace(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        self.flushed = true;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        if !self.pulse.is_closing() {
            return Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.lingering = Some((Box::pin(tokio::time::sleep(LINGER)), 0));
        }
        let this = &mut *self;
        let mut scratch = [0_u8; 4096];
        while let Some((over, read)) = &mut this.lingering {
            let mut buffer = ReadBuf::new(&mut scratch);
            if over.as_mut().poll(cx).is_ready() {
                break;
            }
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() && *read < MAX_LINGER => *read += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A request's body, which notes whether the host waits for its client.
pub struct RequestBody {
    body: Incoming,
    pulse: Arc<Pulse>,
    /// Since when the host has been at work on the part that came last.
    since: Option<Instant>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, pulse: Arc<Pulse>) -> Self {
        Self { body, pulse, since: Some(Instant::now()) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(since) = self.since.take() {
            self.pulse.awaits(since.elapsed());
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.pulse.received(frame.is_none() || self.body.is_end_stream());
        self.since = Some(Instant::now());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
