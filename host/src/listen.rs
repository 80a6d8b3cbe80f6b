//! The listeners' mechanism: accepts connections, bounds what they hold, and closes those that stall when places are
//! short. The server and the scrape listener of the `prometheus` publisher answer through it.
//!
//! Invariants: a client that sends or reads nothing costs at most one place, until another one needs it; a request
//! whose body has arrived is never cut; the host's own delays are not counted against a client.

mod answers;
mod guard;
mod places;
mod stream;

pub use answers::{Lane, Unwritten, Written, accepts_gzip};
pub use guard::{Asked, Guard, GuardSettings, RefusedCounts, Why, share};
pub use places::{Places, Stalled};
pub use stream::RequestBody;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use places::Pulse;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use stream::{Malformed, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;
/// Between two attempts to accept, or to find a place.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that are closed at once where the process is out of descriptors.
const RELIEVED: usize = 32;

/// How a listener treats its connections.
#[derive(Clone)]
pub struct Manners {
    /// For a request's head, from the end of the one before.
    pub head: Duration,
    /// For each 64 KiB of an answer to be read.
    pub write: Duration,
    /// Answers a head that could not be read: the status, and the head's beginning.
    pub malformed: fn(StatusCode, &[u8]) -> (&'static str, Vec<u8>),
}

/// Where a request came from.
#[derive(Clone)]
pub struct Peer {
    /// The address that it was sent to.
    pub local: IpAddr,
    /// The address of the client.
    pub remote: IpAddr,
    pulse: Arc<Pulse>,
}

impl Peer {
    /// The client may ask: its connection is kept longer than a stranger's.
    pub fn known(&self) {
        self.pulse.known();
    }
}

/// Connections that are open after their listener has closed.
pub struct Connections {
    open: JoinSet<()>,
    ending: watch::Sender<bool>,
}

/// Accepts connections until `shutdown`; the listener is closed then. `answer` is called for each request, one at a time
/// for each connection.
pub async fn accept<A, F, B>(
    listener: TcpListener,
    manners: Manners,
    places: Places,
    answer: A,
    shutdown: impl Future<Output = ()>,
) -> Connections
where
    A: Fn(Request<RequestBody>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (ending, ended) = watch::channel(false);
    let mut connections = Connections { open: JoinSet::new(), ending };
    let mut shutdown = std::pin::pin!(shutdown);
    let mut waiting: Option<(TcpStream, IpAddr)> = None;
    loop {
        if let Some((stream, remote)) = waiting.take_if(|_| places.has_room()) {
            let Ok(local) = stream.local_addr() else { continue };
            let place = places.take();
            let peer = Peer { local: local.ip(), remote, pulse: place.pulse() };
            let connection = connection(stream, manners.clone(), peer, answer.clone(), ended.clone());
            connections.open.spawn(async move {
                place.hold(connection).await;
            });
        }
        tokio::select! {
            () = &mut shutdown => return connections,
            // Those that have ended are let go as they end.
            Some(_) = connections.open.join_next() => {}
            () = tokio::time::sleep(PAUSE), if waiting.is_some() => {}
            accepted = listener.accept(), if waiting.is_none() => match accepted {
                Ok((stream, remote)) => waiting = Some((stream, remote.ip())),
                Err(error) => {
                    // As a rule the process is out of descriptors: connections that stall give some back, for files too.
                    let relieved = (0..RELIEVED).filter(|_| places.relieve(Stalled::Any)).count();
                    if relieved == 0 {
                        tracing::warn!(%error, "the listener cannot accept connections; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                    tokio::task::yield_now().await;
                }
            },
        }
    }
}

impl Connections {
    /// Has requests in flight finished, up to `deadline`, and cuts the rest. Returns how many were cut.
    pub async fn drain(mut self, deadline: Duration) -> usize {
        self.ending.send_replace(true);
        let drained =
            tokio::time::timeout(deadline, async { while self.open.join_next().await.is_some() {} });
        if drained.await.is_ok() {
            return 0;
        }
        let cut = self.open.len();
        self.open.shutdown().await;
        cut
    }
}

async fn connection<A, F, B>(
    stream: TcpStream,
    manners: Manners,
    peer: Peer,
    answer: A,
    mut ended: watch::Receiver<bool>,
) where
    A: Fn(Request<RequestBody>, Peer) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Answers are small, and waited for.
    let _ = stream.set_nodelay(true);
    let malformed: Malformed = manners.malformed;
    let stream = TokioIo::new(Stream::new(stream, peer.pulse.clone(), manners.write, malformed));
    let service = service_fn(|request: Request<Incoming>| {
        let pulse = peer.pulse.clone();
        pulse.begin(!request.body().is_end_stream());
        let request = request.map(|body| RequestBody::new(body, pulse.clone()));
        let answer = answer(request, peer.clone());
        async move {
            let mut response = answer.await;
            if pulse.end() {
                // What is left of the body is not read: the client learns that the connection ends.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(manners.head)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(stream, service)
    );
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = async { drop(ended.wait_for(|ended| *ended).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}
