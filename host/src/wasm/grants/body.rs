//! What flows through a request: its body out of the guest, and its answer's body into it.
//!
//! Invariant: every chunk is charged to the instance from when the host holds it until it is gone, both directions end
//! at their bound, and the request is under way until both have.

use super::super::limits::{Budget, Charge};
use super::super::settings::Limits;
use super::client;
use super::counts::UnderWay;
use super::echo::Echo;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};

/// Why a body was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    #[error("the request's body is larger than limits.body, {0} bytes")]
    RequestTooLarge(u64),
    #[error("the body does not fit into what is left of limits.memory")]
    Memory,
    #[error("the plugin did not finish the request's body")]
    Unfinished,
    #[error("the plugin took longer for the request's body than limits.call_timeout")]
    Late,
}

impl Cut {
    pub(super) fn error(self) -> Error {
        match self {
            Self::RequestTooLarge(most) => Error::HttpRequestBodySize(Some(most)),
            Self::Memory => Error::InternalError(Some(self.to_string())),
            Self::Unfinished => Error::HttpRequestBodySize(None),
            Self::Late => Error::ConnectionWriteTimeout,
        }
    }
}

/// Bytes and what they are charged to.
struct Charged {
    bytes: Bytes,
    _charge: Charge,
}

/// `bytes`, for which `charge` is held until the last of them is gone.
pub(super) fn with_charge(bytes: Bytes, charge: Charge) -> Bytes {
    Bytes::from_owner(Charged { bytes, _charge: charge })
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn charged(budget: &Arc<Budget>, bytes: Bytes) -> Option<Bytes> {
    let charge = budget.charge(bytes.len())?;
    Some(with_charge(bytes, charge))
}

/// What a request takes, given back when neither of its bodies is any more.
pub(super) type Held = Arc<(UnderWay, Charge)>;

/// The body of a request, as the client sends it.
pub(super) struct Outgoing {
    body: WasiBody,
    budget: Arc<Budget>,
    most: u64,
    sent: u64,
    gone: Arc<AtomicBool>,
    deadline: Pin<Box<Sleep>>,
    held: Held,
}

impl Outgoing {
    /// `gone` says when the instance that writes it is no more.
    pub(super) fn new(
        body: WasiBody,
        budget: &Arc<Budget>,
        limits: &Limits,
        gone: &Arc<AtomicBool>,
        held: &Held,
    ) -> Self {
        Self {
            body,
            budget: budget.clone(),
            most: limits.body.bytes(),
            sent: 0,
            gone: gone.clone(),
            deadline: Box::pin(tokio::time::sleep(limits.call_timeout)),
            held: held.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body.is_end_stream()
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes, Cut> {
        self.sent = self.sent.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.sent > self.most {
            return Err(Cut::RequestTooLarge(self.most));
        }
        charged(&self.budget, bytes).ok_or(Cut::Memory)
    }

    /// All of it at once.
    pub(super) async fn collect(mut self) -> Result<Whole, Cut> {
        let (mut bytes, mut charges) = (Vec::new(), Vec::new());
        while let Some(chunk) = std::future::poll_fn(|context| self.poll_chunk(context)).await {
            let chunk = chunk?;
            charges.push(self.budget.charge(chunk.len()).ok_or(Cut::Memory)?);
            bytes.extend_from_slice(&chunk);
        }
        Ok(Whole { bytes, _charges: charges, _held: self.held })
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                ready!(self.deadline.as_mut().poll(context));
                return Poll::Ready(Some(Err(Cut::Late)));
            };
            return Poll::Ready(match frame {
                // A body ends as well when its writer is dropped: what a trap cut off must not pass for the whole.
                None => self.gone.load(Ordering::Acquire).then_some(Err(Cut::Unfinished)),
                Some(Err(_)) => Some(Err(Cut::Unfinished)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => Some(self.take(bytes)),
                    // Trailers: no server that plugins speak to reads them.
                    Err(_) => continue,
                },
            });
        }
    }
}

impl futures_util::Stream for Outgoing {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(context)
    }
}

/// The whole body of a request.
pub(super) struct Whole {
    bytes: Vec<u8>,
    _charges: Vec<Charge>,
    _held: Held,
}

impl Whole {
    /// As the client sends it: nothing, if it is empty.
    pub(super) fn into_body(self) -> Option<reqwest::Body> {
        (!self.bytes.is_empty()).then(|| Bytes::from_owner(self).into())
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads what is left of a denied request's body, so that the guest that writes it sees the denial and no broken pipe.
/// It ends when the guest finishes the body, or is gone.
pub(super) fn drain(mut body: WasiBody) {
    if !body.is_end_stream() {
        tokio::spawn(async move {
            while let Some(Ok(_)) =
                std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
            {}
        });
    }
}

/// The body of an answer, as the guest reads it.
pub(super) struct Incoming {
    body: reqwest::Body,
    budget: Arc<Budget>,
    left: u64,
    most: u64,
    between_bytes: Duration,
    patience: Pin<Box<Sleep>>,
    waiting: bool,
    echo: Option<Echo>,
    ended: bool,
    _held: Held,
}

impl Incoming {
    pub(super) fn new(
        body: reqwest::Body,
        budget: &Arc<Budget>,
        limits: &Limits,
        between_bytes: Duration,
        echo: Option<Echo>,
        held: Held,
    ) -> Self {
        let most = limits.body.bytes();
        Self {
            body,
            budget: budget.clone(),
            left: most,
            most,
            between_bytes,
            patience: Box::pin(tokio::time::sleep(between_bytes)),
            waiting: false,
            echo,
            ended: false,
            _held: held,
        }
    }

    /// What of a chunk may be handed on.
    fn take(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(length).ok_or(Error::HttpResponseBodySize(Some(self.most)))?;
        let bytes = match &mut self.echo {
            Some(echo) => echo.pass(bytes).map_err(|_| client::echoed())?,
            None => bytes,
        };
        charged(&self.budget, bytes).ok_or_else(|| Cut::Memory.error())
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    // Counted from when somebody waits, not from when the last bytes came.
                    if !std::mem::replace(&mut this.waiting, true) {
                        this.patience.as_mut().reset(tokio::time::Instant::now() + this.between_bytes);
                    }
                    ready!(this.patience.as_mut().poll(context));
                    this.ended = true;
                    return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
                }
            };
            this.waiting = false;
            let taken = match frame {
                None => {
                    this.ended = true;
                    match this.echo.take().map(Echo::rest) {
                        Some(rest) if !rest.is_empty() => {
                            charged(&this.budget, rest).ok_or_else(|| Cut::Memory.error())
                        }
                        _ => return Poll::Ready(None),
                    }
                }
                Some(Err(cause)) => Err(client::error(&cause)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.take(bytes),
                    // Trailers: left out, for they would have to be looked through as well.
                    Err(_) => continue,
                },
            };
            match taken {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::limits::MemoryGauge;
    use super::super::counts::{Counts, Slots};
    use super::{Budget, Cut, Limits, Outgoing, Whole};
    use http_body_util::{BodyExt, Full, StreamBody};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use wasmtime_wasi_http::WasiBody;

    async fn collected(body: WasiBody, gone: bool) -> Result<Whole, Cut> {
        let budget = Budget::new(1 << 20, Arc::new(MemoryGauge::default()));
        let slots = Slots::new(Arc::new(Counts::default()), 1);
        let held = Arc::new((slots.take().unwrap(), budget.charge(1).unwrap()));
        let gone = Arc::new(AtomicBool::new(gone));
        Outgoing::new(body, &budget, &Limits::default(), &gone, &held).collect().await
    }

    #[tokio::test]
    async fn a_body_whose_writer_is_gone_is_not_whole() {
        let body = || Full::from("half").map_err(|never| match never {}).boxed_unsync();
        assert_eq!(collected(body(), false).await.unwrap().as_ref(), b"half");
        assert_eq!(collected(body(), true).await.err(), Some(Cut::Unfinished));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_cut() {
        let began = tokio::time::Instant::now();
        let body = StreamBody::new(futures_util::stream::pending()).boxed_unsync();
        assert_eq!(collected(body, false).await.err(), Some(Cut::Late));
        assert_eq!(began.elapsed().as_secs(), Limits::default().call_timeout.as_secs());
    }
}
