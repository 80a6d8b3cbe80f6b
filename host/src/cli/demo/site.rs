//! The demonstration's own loopback server: serves the pipeline's files, and is busy now and then.
//!
//! Invariant: it serves the files that it was given, by number, to this machine, and nothing else.

use super::files::Source;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Every so many requests are answered 503: the client has to try again.
const BUSY_EVERY: u64 = 9;
/// Every so many answers take [`DELAY`] longer.
const SLOW_EVERY: u64 = 37;
const DELAY: Duration = Duration::from_millis(150);
/// The longest request that is read.
const MAX_REQUEST: usize = 8 << 10;

/// A server that answers until it is dropped.
pub(super) struct Site {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Site {
    pub(super) async fn start(sources: Arc<[Source]>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(async move {
            // An error of `accept` is one of the connection, or passes.
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let (sources, requests) = (sources.clone(), requests.clone());
                tokio::spawn(async move {
                    // A client that leaves is its own affair.
                    let _ = answer(stream, &sources, &requests).await;
                });
            }
        });
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, sources: &[Source], requests: &AtomicU64) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_REQUEST {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
    if number.is_multiple_of(SLOW_EVERY) {
        tokio::time::sleep(DELAY).await;
    }
    let (status, body) = match wanted(&head, sources) {
        None => ("404 Not Found", Vec::new()),
        Some(source) if source.busy || number.is_multiple_of(BUSY_EVERY) => {
            ("503 Service Unavailable", Vec::new())
        }
        Some(source) => match tokio::fs::read(&source.path).await {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        },
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// The file that `GET /files/NUMBER` names.
fn wanted<'s>(head: &[u8], sources: &'s [Source]) -> Option<&'s Source> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let path = line.strip_prefix("GET /files/")?.split(' ').next()?;
    sources.get(path.parse::<usize>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_were_given_are_served() {
        let sources = [Source { name: "a".into(), path: "a".into(), busy: false }];
        assert!(wanted(b"GET /files/0 HTTP/1.1\r\n\r\n", &sources).is_some());
        for request in ["GET /files/1", "GET /files/../a", "GET /a", "POST /files/0", "", "GET /files/-1"] {
            assert!(wanted(request.as_bytes(), &sources).is_none(), "{request}");
        }
    }
}
