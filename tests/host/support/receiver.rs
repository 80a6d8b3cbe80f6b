//! A server on loopback that takes whatever it is sent, remembers it, and answers as it is told.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A request that was taken or refused.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method, path and query, as in a log.
    pub what: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// What was answered.
    pub status: u16,
}

/// The server; it ends with the test's runtime.
pub struct Receiver {
    url: String,
    state: Arc<Seen>,
}

struct Seen {
    requests: Mutex<Vec<Received>>,
    /// What is answered before the rest: `(status, body)`.
    first: Mutex<VecDeque<(u16, String)>>,
    then: (u16, String),
}

impl Receiver {
    /// Starts one that answers `first`, in that order, and `then` from there on.
    pub async fn start(first: &[(u16, &str)], then: (u16, &str)) -> Self {
        let own = |(status, body): &(u16, &str)| (*status, (*body).to_owned());
        let state = Arc::new(Seen {
            requests: Mutex::default(),
            first: Mutex::new(first.iter().map(own).collect()),
            then: own(&then),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(receive).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state }
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers the next requests so, before the rest.
    pub fn will_answer(&self, answers: &[(u16, &str)]) {
        let own = answers.iter().map(|(status, body)| (*status, (*body).to_owned()));
        self.state.first.lock().unwrap().extend(own);
    }

    /// What came until now, in its order.
    pub fn received(&self) -> Vec<Received> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The bodies of what it took: those requests that were answered 2xx.
    pub fn taken(&self) -> Vec<String> {
        let taken = self.received().into_iter().filter(|request| (200..300).contains(&request.status));
        taken.map(|request| request.body).collect()
    }
}

async fn receive(
    State(seen): State<Arc<Seen>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let (status, answer) = seen.first.lock().unwrap().pop_front().unwrap_or_else(|| seen.then.clone());
    let body = String::from_utf8(body.to_vec()).unwrap();
    seen.requests.lock().unwrap().push(Received { what: format!("{method} {uri}"), headers, body, status });
    (StatusCode::from_u16(status).unwrap(), answer)
}
