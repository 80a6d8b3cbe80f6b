//! The host's own HTTP: ingest, reports, health.
//!
//! Invariants: nobody reaches a handler whose `Host`, `Origin` and token have not been checked (browsers reach
//! loopback, so loopback alone is no protection); everything that a stranger can make the host hold or wait for is
//! bounded: connections, headers, bodies, decompressed sizes, time. The server reads reports, hands records to the
//! collector and resets plugins; it changes nothing else.

mod connections;
mod counts;
mod guard;
mod ingest;
mod reports;

use crate::collector::Collector;
use crate::ingest::body::{Bounds, Memory, Refusal};
use crate::recorder::Recorder;
use crate::registry::ResetError;
use crate::report::{Exposition, Reports};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
pub use counts::IngestCounts;
use futures_util::future::BoxFuture;
use guard::Guard;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How the server is set up.
#[derive(Clone)]
pub struct ServerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer token that every request but health must carry.
    pub token: Option<String>,
    /// Further `Host` names that are answered, with or without a port.
    pub hosts: Vec<String>,
    /// Bytes of a body as received.
    pub max_body: usize,
    /// Bytes of a body when decompressed.
    pub max_decompressed: usize,
    /// Connections at a time; others wait.
    pub max_connections: usize,
    /// Whether it may listen on another address than loopback without a token.
    pub allow_without_token: bool,
    /// How long it waits for whom.
    pub timeouts: Timeouts,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4680)),
            token: None,
            hosts: Vec::new(),
            max_body: 16 << 20,
            max_decompressed: 64 << 20,
            max_connections: 1024,
            allow_without_token: false,
            timeouts: Timeouts::default(),
        }
    }
}

impl std::fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSettings")
            .field("listen", &self.listen)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// How long the server waits for whom.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a request's head, from the end of the one before.
    pub head: Duration,
    /// For the next part of a body.
    pub body_idle: Duration,
    /// For the whole of a body.
    pub body: Duration,
    /// For a client that does not read its answer.
    pub write: Duration,
    /// At shutdown, for requests in flight.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            body_idle: Duration::from_secs(10),
            body: Duration::from_secs(60),
            write: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// What the server answers with.
#[derive(Clone)]
pub struct Services {
    /// Takes the records that come in.
    pub collector: Collector,
    /// Follows the messages that come in.
    pub recorder: Recorder,
    /// Answers questions.
    pub reports: Reports,
    /// The publishers and their state.
    pub publishers: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The plugins and their state.
    pub plugins: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Has the plugin of a label forget what is held against it.
    pub reset_plugin: Arc<dyn Fn(String) -> BoxFuture<'static, Result<(), ResetError>> + Send + Sync>,
    /// The host's own metrics in the text exposition format.
    pub host_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether the host is ready, or why not.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Other machines could reach it, and anyone may ask.
    #[error(
        "server.listen is {0}, which other machines can reach: set server.token, or server.allow_without_token = true"
    )]
    TokenRequired(SocketAddr),
    /// The token is no secret, or no header can carry it.
    #[error("server.token must be visible ASCII characters, at least one")]
    UnusableToken,
    /// The address cannot be had.
    #[error("cannot listen on server.listen = \"{listen}\"; is another host running there?")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// The host's own HTTP.
#[derive(Debug)]
pub struct Server(());

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct BoundServer {
    listener: TcpListener,
    local_addr: SocketAddr,
    settings: ServerSettings,
    counts: IngestCounts,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    ///
    /// The settings are unsafe, or the address cannot be had.
    pub async fn bind(settings: ServerSettings) -> Result<BoundServer, BindError> {
        let listen = settings.listen;
        match &settings.token {
            Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err(BindError::UnusableToken);
            }
            None if !listen.ip().to_canonical().is_loopback() && !settings.allow_without_token => {
                return Err(BindError::TokenRequired(listen));
            }
            _ => {}
        }
        let failed = |source| BindError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        Ok(BoundServer { listener, local_addr, settings, counts: IngestCounts::default() })
    }
}

impl BoundServer {
    /// Where it listens: with the port that was given to it, if it asked for any.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it has taken and refused, for the host's own metrics. The handle lives on.
    pub fn counts(&self) -> IngestCounts {
        self.counts.clone()
    }

    /// Answers until `shutdown`; then requests in flight are finished, up to a deadline, and the rest is cut off.
    pub async fn serve(self, services: Services, shutdown: impl Future<Output = ()>) {
        let Self { listener, settings, counts, .. } = self;
        let guard = Arc::new(Guard::new(settings.token.as_deref(), &settings.hosts));
        let router = router(services, counts, &settings);
        connections::serve(listener, &settings, guard, router, shutdown).await;
    }
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    services: Services,
    counts: IngestCounts,
    bounds: Bounds,
    memory: Memory,
    /// Bodies that are decoded at a time: each may take many times what was received.
    decoding: Arc<Semaphore>,
    /// Reports that are written at a time.
    reporting: Arc<Semaphore>,
}

fn router(services: Services, counts: IngestCounts, settings: &ServerSettings) -> Router {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let shared = Shared {
        services,
        counts,
        bounds: Bounds {
            received: settings.max_body,
            decompressed: settings.max_decompressed,
            idle: settings.timeouts.body_idle,
            total: settings.timeouts.body,
        },
        memory: Memory::new(
            settings.max_body.saturating_mul(8).saturating_add(2 * settings.max_decompressed),
        ),
        decoding: Arc::new(Semaphore::new(threads)),
        reporting: Arc::new(Semaphore::new(2)),
    };
    Router::new()
        .route("/", get(|| async { ([(header::CONTENT_TYPE, TEXT)], INDEX) }))
        .route("/v1/records", post(ingest::records))
        .route("/v1/traces", post(ingest::traces))
        .nest("/v1/report", reports::router())
        .route("/v1/plugins/{label}/reset", post(reset))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            answer(&Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is"))
        })
        .with_state(shared)
}

const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "\
pressroom

POST /v1/records                            records as JSON: a list, or one a line; gzip
POST /v1/traces                             OTLP/HTTP: protobuf or JSON; gzip
GET  /v1/report/metrics                     everything, by name
GET  /v1/report/failed-events
GET  /v1/report/slow-events?threshold=2s
GET  /v1/report/retry-stats
GET  /v1/report/failed-network-operations
GET  /v1/report/slow-network-operations?threshold=2s
GET  /v1/report/publishers
GET  /v1/report/plugins
POST /v1/plugins/LABEL/reset                ends a plugin's quarantine
GET  /metrics                               the host's own, for Prometheus
GET  /healthz, /readyz

Reports take ?limit=N, the rows that are listed.
";

async fn ready(State(shared): State<Shared>) -> Response {
    match (shared.services.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn reset(State(shared): State<Shared>, Path(label): Path<String>) -> Response {
    match (shared.services.reset_plugin)(label.clone()).await {
        Ok(()) => axum::Json(serde_json::json!({ "plugin": label, "reset": true })).into_response(),
        Err(error) => answer(&Refusal::new(StatusCode::CONFLICT, error.to_string())),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let text = (shared.services.host_metrics)();
    ([(header::CONTENT_TYPE, Exposition::CONTENT_TYPE)], text).into_response()
}

/// A refusal as JSON.
fn answer(refusal: &Refusal) -> Response {
    let body = serde_json::json!({ "error": refusal.message }).to_string();
    with_body(refusal, "application/json", body.into_bytes())
}

/// A refusal with a body of another form.
fn with_body(refusal: &Refusal, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = (refusal.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
    let headers = response.headers_mut();
    if let Some(after) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if refusal.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// What every answer says to browsers: guess no type, embed it nowhere, keep no copy.
const HARDENING: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

fn harden(mut response: Response) -> Response {
    for (name, value) in HARDENING {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
