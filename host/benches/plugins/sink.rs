//! Where everything is POSTed to: a server on loopback that reads each body whole, answers 204, and keeps what it has
//! seen by path. It has a thread of its own.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What came under one path.
#[derive(Clone, Default)]
pub struct Seen {
    /// Bytes of bodies.
    pub bytes: u64,
    /// Lines of bodies.
    pub lines: u64,
    /// When the first body was there, whole.
    pub first: Option<Instant>,
}

type All = Arc<Mutex<HashMap<String, Seen>>>;

/// The server; it ends with the process.
pub struct Sink {
    addr: SocketAddr,
    seen: All,
}

impl Sink {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), All::default());
        let kept = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let limit = axum::extract::DefaultBodyLimit::disable();
                axum::serve(listener, Router::new().fallback(take).layer(limit).with_state(kept))
                    .await
                    .unwrap();
            });
        });
        Self { addr, seen }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }

    /// What came under a path.
    pub fn seen(&self, path: &str) -> Seen {
        self.seen.lock().unwrap().get(&format!("/{path}")).cloned().unwrap_or_default()
    }

    /// Waits until something came under a path, and says when.
    pub fn first(&self, path: &str) -> Instant {
        let began = Instant::now();
        loop {
            if let Some(first) = self.seen(path).first {
                return first;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "nothing came to {path}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

async fn take(State(seen): State<All>, uri: Uri, body: Bytes) -> StatusCode {
    let now = Instant::now();
    let lines = body.iter().filter(|byte| **byte == b'\n').count() as u64;
    let mut all = seen.lock().unwrap();
    let seen = all.entry(uri.path().to_owned()).or_default();
    seen.bytes += body.len() as u64;
    seen.lines += lines;
    seen.first.get_or_insert(now);
    StatusCode::NO_CONTENT
}
