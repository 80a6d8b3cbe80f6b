//! A Grafana or a Kibana that answers from a script and writes down what it was asked: neither can be had here.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::Value;
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// The path, and the query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Asked {
    /// A header, if there is exactly one.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.get_all(name).iter();
        let first = all.next()?;
        assert!(all.next().is_none(), "{name} stands there twice");
        first.to_str().ok()
    }
}

/// An answer, for a method and a path.
pub(super) struct Answer {
    pub(super) to: (&'static str, &'static str),
    pub(super) status: u16,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(to: (&'static str, &'static str), status: u16, body: &Value) -> Self {
        Self {
            to,
            status,
            headers: &[("content-type", "application/json; charset=UTF-8")],
            body: body.to_string(),
        }
    }
}

/// The server.
pub(super) struct Scripted {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// Answers as the script says, and 404 to everything else.
    pub(super) async fn start(script: Vec<Answer>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (script, written) = (Arc::new(script), asked.clone());
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (script, written) = (script.clone(), written.clone());
            async move {
                let path = uri.path_and_query().map_or_else(String::new, ToString::to_string);
                let answer = script.iter().find(|answer| answer.to == (method.as_str(), path.as_str()));
                let found = answer.map(|answer| {
                    let mut headers = HeaderMap::new();
                    for (name, value) in answer.headers {
                        headers.insert(*name, value.parse().unwrap());
                    }
                    (StatusCode::from_u16(answer.status).unwrap(), headers, answer.body.clone())
                });
                written.lock().unwrap().push(Asked { method, path, headers, body: body.to_vec() });
                found.unwrap_or_else(|| {
                    (StatusCode::NOT_FOUND, HeaderMap::new(), "<html>not here</html>".to_owned())
                })
            }
        };
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    /// What was asked, and is forgotten with that.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}
