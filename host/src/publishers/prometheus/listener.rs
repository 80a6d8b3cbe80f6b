//! The listener that answers scrapes: HTTP/1 with one path.
//!
//! Invariant: one scrape is rendered at a time and off the runtime's threads; what is rendered and not read is bounded.
//! What is served can be exchanged under the open port; dropping the listener ends it all, a response that is on its way
//! excepted.

use crate::listen::{self, Asked, Guard, Lane, Manners, Peer, Places, RequestBody, Unwritten, accepts_gzip};
use crate::publishers::series::Series;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use parking_lot::RwLock;
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

const MAX_CONNECTIONS: usize = 64;
/// Bytes of scrapes that are rendered and not read.
const MAX_UNREAD: usize = 64 << 20;
/// Also how long a connection may idle between two scrapes: who comes back later connects anew.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);
/// A port may be on its way to being free: a listener that was dropped closes when its task runs next.
const BIND_ATTEMPTS: u32 = 5;
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// What a scrape shows.
pub(super) struct Served {
    pub(super) series: Arc<Series>,
    pub(super) host_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Who may scrape.
    pub(super) guard: Guard,
}

type Exchange = Arc<RwLock<Arc<Served>>>;

/// An open port that answers scrapes until this is dropped.
pub(super) struct Listener {
    address: SocketAddr,
    served: Exchange,
    stop: watch::Sender<bool>,
    /// Its sender lives as long as the socket listens.
    listening: watch::Receiver<()>,
}

impl Listener {
    /// Listens on `address`; port 0 is any free one.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub(super) async fn start(address: SocketAddr, served: Arc<Served>) -> io::Result<Self> {
        let mut attempt = 1;
        let socket = loop {
            match TcpListener::bind(address).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < BIND_ATTEMPTS => {
                    attempt += 1;
                    sleep(BIND_PAUSE).await;
                }
                bound => break bound?,
            }
        };
        let address = socket.local_addr()?;
        let served: Exchange = Arc::new(RwLock::new(served));
        let (stop, stopped) = watch::channel(false);
        let (alive, listening) = watch::channel(());
        let exchange = served.clone();
        tokio::spawn(async move {
            let connections = accept(socket, exchange, stopped).await;
            drop(alive);
            connections.drain(GRACE).await;
        });
        Ok(Self { address, served, stop, listening })
    }

    /// The address it is bound to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is served now.
    pub(super) fn served(&self) -> Arc<Served> {
        self.served.read().clone()
    }

    /// Serves something else from the next scrape on.
    pub(super) fn serve(&self, served: Arc<Served>) {
        *self.served.write() = served;
    }

    /// Returns when the port is free.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        while self.listening.changed().await.is_ok() {}
    }
}

async fn accept(
    socket: TcpListener,
    served: Exchange,
    mut stopped: watch::Receiver<bool>,
) -> listen::Connections {
    let places = Places::new(MAX_CONNECTIONS);
    let lane = Lane::new(places.clone(), 1, MAX_UNREAD);
    let manners = Manners { head: HEADER_TIMEOUT, write: WRITE_TIMEOUT, malformed };
    let answer = move |request, peer| answer(request, peer, served.read().clone(), lane.clone());
    let stopped = async move {
        // An error means that the listener was dropped.
        let _ = stopped.changed().await;
    };
    listen::accept(socket, manners, places, answer, stopped).await
}

fn malformed(status: StatusCode, _: &[u8]) -> (&'static str, Vec<u8>) {
    (TEXT, format!("the head of the request cannot be read: {status}\n").into_bytes())
}

async fn answer(
    request: Request<RequestBody>,
    peer: Peer,
    served: Arc<Served>,
    lane: Lane,
) -> Response<Full<Bytes>> {
    let (parts, _) = request.into_parts();
    if let Err(refused) = served.guard.check(&parts, Asked::default(), peer.remote, peer.local) {
        let mut response = plain(refused.status, format!("{}\n", refused.message));
        if refused.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // A refused client keeps no place.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    peer.known();
    if parts.uri.path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is /metrics and nothing else\n");
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match lane.write(accepts_gzip(&parts.headers), move || render(&served)).await {
        Ok(written) => {
            let mut response = Response::new(Full::new(written.body));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
            if written.gzip {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Err(busy @ Unwritten::Busy) => {
            let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, format!("{busy}\n"));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Err(Unwritten::Failed(error)) => {
            tracing::error!(%error, "cannot render the series for a scrape");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the series cannot be rendered, see the host's log\n")
        }
    }
}

fn render(served: &Served) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&served.series.gather(), &mut text)?;
    text.extend_from_slice((served.host_metrics)().as_bytes());
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    Ok(text)
}

const TEXT: &str = "text/plain; charset=utf-8";

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}
