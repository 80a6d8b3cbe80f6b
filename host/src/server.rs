//! The host's own HTTP: ingest, reports, health.
//!
//! Invariants: nobody reaches a handler whose `Host`, `Origin` and token have not been checked (browsers reach
//! loopback, so loopback alone is no protection); everything that a stranger can make the host hold or wait for is
//! bounded: connections, headers, bodies, decompressed sizes, answers, time. The server reads reports, hands records to
//! the collector and resets plugins; it changes nothing else.

mod answers;
mod counts;
mod front;
mod ingest;
mod reports;
mod signals;

use crate::collector::Collector;
use crate::config::Access;
use crate::ingest::body::{Bounds, Memory, Refusal};
use crate::ingest::otlp::Mapping;
use crate::listen::{Guard, GuardSettings, Lane, Places, Stalled, accepts_gzip};
use crate::recorder::Recorder;
use crate::registry::ResetError;
use crate::report::{Exposition, Reports};
use answers::{answer, written};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
pub use counts::IngestCounts;
use front::Front;
use futures_util::future::BoxFuture;
use signals::Signals;
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
    /// Where it listens for OTLP beside that.
    pub otlp_listen: OtlpListen,
    /// The bearer token that every request but health must carry.
    pub token: Option<String>,
    /// Further `Host` names that are answered, with or without a port.
    pub hosts: Vec<String>,
    /// Origins whose pages may send records.
    pub cors_origins: Vec<String>,
    /// Bytes of a body as received.
    pub max_body: usize,
    /// Bytes of a body when decompressed.
    pub max_decompressed: usize,
    /// Requests with records at a time. There are [`QUESTIONS`] more connections, so that health, reports and scrapes
    /// are answered meanwhile.
    pub max_connections: usize,
    /// Whether it may listen on another address than loopback without a token.
    pub allow_without_token: bool,
    /// What is kept of spans.
    pub mapping: Mapping,
    /// How long it waits for whom.
    pub timeouts: Timeouts,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4680)),
            otlp_listen: OtlpListen::Off,
            token: None,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            max_body: 16 << 20,
            max_decompressed: 64 << 20,
            max_connections: 1024,
            allow_without_token: false,
            mapping: Mapping::default(),
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

/// Where the server listens for OTLP beside its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpListen {
    /// Nowhere.
    Off,
    /// Here, if the port is free.
    IfFree(SocketAddr),
    /// Here.
    At(SocketAddr),
}

/// Connections beyond those of requests with records.
pub const QUESTIONS: usize = 64;

/// How long the server waits for whom.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a request's head, from the end of the one before.
    pub head: Duration,
    /// For the next part of a body.
    pub body_idle: Duration,
    /// For the whole of a body.
    pub body: Duration,
    /// For a client to read each 64 KiB of its answer.
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
    /// Why the host is not ready; nothing if it is.
    pub unready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A setting that says who may ask is unsafe, or cannot work.
    #[error("server.{key}: {problem}")]
    Unguarded {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The address cannot be had.
    #[error("cannot listen on server.{key} = \"{listen}\"; is another host running there?")]
    Listen {
        /// The setting.
        key: &'static str,
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
    otlp: Option<TcpListener>,
    local_addr: SocketAddr,
    settings: ServerSettings,
    counts: IngestCounts,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    ///
    /// The settings are unsafe, or an address cannot be had that is to be had.
    pub async fn bind(settings: ServerSettings) -> Result<BoundServer, BindError> {
        let listen = settings.listen;
        settings.check("listen", listen)?;
        let failed = |source| BindError::Listen { key: "listen", listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let otlp = match settings.otlp_listen {
            OtlpListen::Off => None,
            OtlpListen::IfFree(address) => {
                settings.check("otlp_listen", address)?;
                let bound = TcpListener::bind(address).await;
                bound.inspect_err(|error| log_taken(address, error)).ok()
            }
            OtlpListen::At(listen) => {
                settings.check("otlp_listen", listen)?;
                let failed = |source| BindError::Listen { key: "otlp_listen", listen, source };
                Some(TcpListener::bind(listen).await.map_err(failed)?)
            }
        };
        let bound = BoundServer { listener, otlp, local_addr, settings, counts: IngestCounts::default() };
        if let Some(address) = bound.otlp_addr() {
            tracing::info!(%address, "listens for OTLP");
        }
        Ok(bound)
    }
}

fn log_taken(address: SocketAddr, error: &std::io::Error) {
    tracing::warn!(
        %error,
        "cannot listen for OTLP on {address}: spans are taken on server.listen only; set server.otlp_listen to \
         another address, or to \"off\""
    );
}

impl ServerSettings {
    /// Whether the server may listen on `listen`, which is the setting `key`.
    fn check(&self, key: &'static str, listen: SocketAddr) -> Result<(), BindError> {
        let access = Access {
            prefix: "server.",
            listen,
            token: self.token.as_deref(),
            allow_without_token: self.allow_without_token,
            hosts: &self.hosts,
        };
        let first = access.problems().into_iter().next();
        first.map_or(Ok(()), |(named, problem)| {
            let key = if named == "listen" { key } else { named };
            Err(BindError::Unguarded { key, problem })
        })
    }
}

impl BoundServer {
    /// Where it listens: with the port that was given to it, if it asked for any.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it listens for OTLP beside that, if it does.
    pub fn otlp_addr(&self) -> Option<SocketAddr> {
        self.otlp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// What it has taken and refused, for the host's own metrics. The handle lives on.
    pub fn counts(&self) -> IngestCounts {
        self.counts.clone()
    }

    /// Answers until `shutdown`; then requests in flight are finished, up to a deadline, and the rest is cut off.
    pub async fn serve(self, services: Services, shutdown: impl Future<Output = ()>) {
        let Self { listener, otlp, settings, counts, .. } = self;
        let places = Places::new(settings.max_connections.max(1).saturating_add(QUESTIONS));
        counts.count_closed(places.clone());
        let shared = shared(services, counts.clone(), &settings, &places);
        let guard = GuardSettings {
            prefix: "server.".to_owned(),
            token: settings.token.clone(),
            hosts: settings.hosts.clone(),
            cors_origins: settings.cors_origins.clone(),
        };
        let front = Front::new(Guard::new(guard, counts.refusals().clone()), &settings, places);
        front::serve(
            front,
            (listener, router(&shared)),
            otlp.map(|otlp| (otlp, otlp_router(&shared))),
            shutdown,
        )
        .await;
    }
}

/// What handlers share.
#[derive(Clone)]
struct Shared {
    services: Services,
    counts: IngestCounts,
    bounds: Bounds,
    mapping: Mapping,
    memory: Memory,
    /// Bodies that are decoded at a time: each may take many times what was received.
    decoding: Arc<Semaphore>,
    /// Reports of many rows, and all other answers: no small one waits for a large one.
    large_reports: Lane,
    reports: Lane,
    signals: Signals,
}

/// Bytes of answers that are written and not read, in each of the two lanes.
const MAX_ANSWERS: usize = 32 << 20;

fn shared(services: Services, counts: IngestCounts, settings: &ServerSettings, places: &Places) -> Shared {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let relief = places.clone();
    Shared {
        services,
        counts,
        bounds: Bounds {
            received: settings.max_body,
            decompressed: settings.max_decompressed,
            idle: settings.timeouts.body_idle,
            total: settings.timeouts.body,
        },
        mapping: settings.mapping.clone(),
        memory: Memory::new(settings.max_body.saturating_mul(8), settings.max_decompressed.saturating_mul(2))
            .with_relief(move || {
                relief.relieve(Stalled::Sender);
            }),
        decoding: Arc::new(Semaphore::new(threads)),
        large_reports: Lane::new(places.clone(), 2, MAX_ANSWERS),
        reports: Lane::new(places.clone(), 2, MAX_ANSWERS),
        signals: Signals::default(),
    }
}

/// What OTLP clients ask for.
fn otlp_routes() -> Router<Shared> {
    Router::new()
        .route("/v1/traces", post(ingest::traces))
        .route("/v1/logs", post(signals::logs))
        .route("/v1/metrics", post(signals::metrics))
}

fn otlp_router(shared: &Shared) -> Router {
    let nothing = || async {
        answer(&Refusal::new(
            StatusCode::NOT_FOUND,
            "there is nothing here; this address takes POST /v1/traces",
        ))
    };
    otlp_routes().fallback(nothing).method_not_allowed_fallback(wrong_method).with_state(shared.clone())
}

async fn wrong_method() -> Response {
    answer(&Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "the method is not allowed here; GET / lists what is",
    ))
}

fn router(shared: &Shared) -> Router {
    Router::new()
        .route("/", get(|| async { ([(header::CONTENT_TYPE, TEXT)], INDEX) }))
        .route("/v1/records", post(ingest::records))
        .merge(otlp_routes())
        .nest("/v1/report", reports::router())
        .route("/v1/plugins/{label}/reset", post(reset))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            answer(&Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is"))
        })
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared.clone())
}

const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "\
pressroom

POST /v1/records                            records as JSON: a list, or one a line
POST /v1/traces                             OTLP/HTTP: protobuf or JSON
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

Bodies may have content-encoding gzip, deflate or zstd. Reports take ?limit=N, the rows that are listed.
";

async fn ready(State(shared): State<Shared>) -> Response {
    let reasons = (shared.services.unready)();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text: String = reasons.iter().map(|reason| format!("not ready: {reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn reset(State(shared): State<Shared>, Path(label): Path<String>) -> Response {
    match (shared.services.reset_plugin)(label.clone()).await {
        Ok(()) => axum::Json(serde_json::json!({ "plugin": label, "reset": true })).into_response(),
        Err(error) => answer(&Refusal::new(StatusCode::CONFLICT, error.to_string())),
    }
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let host_metrics = shared.services.host_metrics.clone();
    let write = move || Ok::<_, std::convert::Infallible>(host_metrics().into_bytes());
    written(Exposition::CONTENT_TYPE, shared.reports.write(accepts_gzip(&headers), write).await)
}

#[cfg(test)]
mod tests;
