//! A server that takes what it is sent, and answers as it was told.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The path, with the query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// An answer: a status, and a number of seconds for `Retry-After`.
pub type Answer = (u16, Option<u64>);

/// The server. It ends with the test.
#[derive(Clone, Default)]
pub struct Sink {
    received: Arc<Mutex<Vec<Received>>>,
    /// The next answers; 200 when there are none left.
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Sink {
    /// Starts one, and gives its address.
    pub async fn start() -> (Self, String) {
        let sink = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(take).with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (sink, url)
    }

    /// Answers the next requests so.
    pub fn will_answer(&self, answers: &[Answer]) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// What has arrived until now.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn take(
    State(sink): State<Sink>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, &'static str) {
    let body = String::from_utf8(body.to_vec()).unwrap();
    sink.received.lock().unwrap().push(Received { path: uri.to_string(), headers, body });
    let (status, after) = sink.answers.lock().unwrap().pop_front().unwrap_or((200, None));
    let mut headers = HeaderMap::new();
    if let Some(after) = after {
        headers.insert("retry-after", after.into());
    }
    (StatusCode::from_u16(status).unwrap(), headers, "so be it")
}
