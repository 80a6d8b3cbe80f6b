//! The listener that answers scrapes: HTTP/1 with one path.
//!
//! Invariant: connections, their headers and their lives are bounded, one scrape is rendered at a time and off the
//! runtime's threads. What is served can be exchanged under the open port; dropping the listener ends it all, a
//! response that is on its way excepted.

use crate::publishers::series::Series;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

const MAX_CONNECTIONS: usize = 64;
/// Also how long a connection may idle between two scrapes: who comes back later connects anew.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
const MAX_BUFFER: usize = 32 * 1024;
/// However slowly a response is read.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(5);
/// A port may be on its way to being free: a listener that was dropped closes when its task runs next.
const BIND_ATTEMPTS: u32 = 5;
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// What a scrape shows.
pub(super) struct Served {
    pub(super) series: Arc<Series>,
    pub(super) host_metrics: Arc<dyn Fn() -> String + Send + Sync>,
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
            accept(&socket, &exchange, stopped).await;
            drop(socket);
            drop(alive);
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

async fn accept(socket: &TcpListener, served: &Exchange, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let rendering = Arc::new(Semaphore::new(1));
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            _ = stopped.changed() => return,
        };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (served, rendering, stopped) = (served.clone(), rendering.clone(), stopped.clone());
                tokio::spawn(async move {
                    converse(stream, served, rendering, stopped).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, as a rule: asking again at once would spin.
                tracing::warn!(%error, "cannot accept a connection of a scrape");
                sleep(BIND_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    served: Exchange,
    rendering: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let (served, rendering) = (served.clone(), rendering.clone());
        async move { Ok::<_, Infallible>(answer(&request, &served, &rendering).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of a scrape ended early");
            }
            return;
        }
        _ = stopped.changed() => {}
        () = sleep(MAX_CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}

async fn answer(
    request: &Request<Incoming>,
    served: &Exchange,
    rendering: &Semaphore,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is /metrics and nothing else\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let _turn = rendering.acquire().await;
    let current = served.read().clone();
    match tokio::task::spawn_blocking(move || render(&current)).await {
        Ok(Ok(text)) => {
            let mut response = Response::new(Full::new(text.into()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
            response
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot render the series for a scrape");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the series cannot be rendered, see the host's log\n")
        }
        Err(error) => {
            tracing::error!(%error, "rendering the series for a scrape did not end");
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

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
