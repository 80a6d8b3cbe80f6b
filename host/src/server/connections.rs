//! Accepts connections and carries requests to the router: as many as are allowed, no slower than is allowed.

use super::guard::Guard;
use super::{ServerSettings, Timeouts, answer, harden};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tower_service::Service;

/// The bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;

pub(super) async fn serve(
    listener: TcpListener,
    settings: &ServerSettings,
    guard: Arc<Guard>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let timeouts = settings.timeouts;
    let places = Arc::new(Semaphore::new(settings.max_connections.max(1)));
    let (ending, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            // Those that have ended are let go as they end.
            Some(_) = connections.join_next() => {}
            (accepted, place) = accept => match accepted {
                Ok((stream, _)) => {
                    let (guard, router, ended) = (guard.clone(), router.clone(), ended.clone());
                    connections.spawn(async move {
                        connection(stream, timeouts, guard, router, ended).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // As a rule the process is out of descriptors; connections that end give some back.
                    tracing::warn!(%error, "the server cannot accept connections; trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    ending.send_replace(true);
    let drained =
        tokio::time::timeout(timeouts.drain, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(connections = connections.len(), "requests in flight were cut off by the shutdown");
        connections.shutdown().await;
    }
}

async fn connection(
    stream: TcpStream,
    timeouts: Timeouts,
    guard: Arc<Guard>,
    router: Router,
    mut ended: watch::Receiver<bool>,
) {
    let Ok(local) = stream.local_addr() else { return };
    // Answers are small, and waited for.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Patient { stream, patience: timeouts.write, waiting: None });
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        handle(guard.clone(), router.clone(), local.ip(), request)
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.head)
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

async fn handle(
    guard: Arc<Guard>,
    mut router: Router,
    local: IpAddr,
    request: Request<hyper::body::Incoming>,
) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let response = match guard.check(&parts, local) {
        Ok(()) => router.call(Request::from_parts(parts, Body::new(body))).await?,
        Err(refusal) => answer(&refusal),
    };
    Ok(harden(response))
}

/// A stream that ends with a client that does not read what it asked for.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
