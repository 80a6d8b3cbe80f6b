//! `POST /v1/logs` and `POST /v1/metrics`: signals that an SDK sends unless it is told not to, and that the host does
//! not take. Its user learns once what to set.
//!
//! Invariant: nothing of such a request is called accepted. A client is told by an error the first time, which its SDK
//! logs, and by the message of a partial success from then on, which its SDK does not log again and again.

use super::answers::{answer, content_type, encoding};
use super::{Shared, ingest};
use crate::ingest::body::Refusal;
use crate::ingest::otlp;
use crate::listen::Peer;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

/// Clients that are remembered; beyond, all are told once more.
const MAX_CLIENTS: usize = 4_096;

/// Which clients have been told. Cheap to clone: a handle.
#[derive(Clone, Default)]
pub(super) struct Signals(Arc<Mutex<HashSet<(Signal, IpAddr, u64)>>>, RandomState);

/// A signal that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Signal {
    Logs,
    Metrics,
}

impl Signal {
    fn reason(self) -> &'static [u8] {
        match self {
            Self::Logs => b"Not Found: pressroom takes traces, no logs; set OTEL_LOGS_EXPORTER=none",
            Self::Metrics => b"Not Found: pressroom takes traces, no metrics; set OTEL_METRICS_EXPORTER=none",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Logs => {
                "pressroom takes traces, no logs: set OTEL_LOGS_EXPORTER=none, or send logs to another endpoint by \
                 OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
            }
            Self::Metrics => {
                "pressroom takes traces, no metrics: set OTEL_METRICS_EXPORTER=none, or send metrics to another \
                 endpoint by OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
            }
        }
    }
}

pub(super) async fn logs(shared: State<Shared>, peer: Extension<Peer>, request: Request) -> Response {
    untaken(Signal::Logs, shared.0, &peer.0, request).await
}

pub(super) async fn metrics(shared: State<Shared>, peer: Extension<Peer>, request: Request) -> Response {
    untaken(Signal::Metrics, shared.0, &peer.0, request).await
}

async fn untaken(signal: Signal, shared: Shared, peer: &Peer, request: Request) -> Response {
    let Some((encoding, media_type)) = encoding(&content_type(request.headers())) else {
        return answer(&ingest::unsupported(
            &content_type(request.headers()),
            "application/x-protobuf or application/json",
        ));
    };
    let agent = request.headers().get(header::USER_AGENT).map(|agent| agent.as_bytes().to_vec());
    // The body is read, so that the connection goes on.
    if let Err(refusal) = ingest::take(&shared, request).await {
        return answer(&refusal);
    }
    if shared.signals.is_new(signal, peer.remote, agent.as_deref()) {
        tracing::warn!(remote = %peer.remote, "a client sends a signal that is not taken: {}", signal.message());
        let mut response = answer(&Refusal::new(StatusCode::NOT_FOUND, signal.message()));
        // SDKs of Python and JavaScript show the reason phrase, and not the message.
        response.extensions_mut().insert(ReasonPhrase::from_static(signal.reason()));
        return response;
    }
    ([(header::CONTENT_TYPE, media_type)], otlp::untaken(encoding, signal.message())).into_response()
}

impl Signals {
    fn is_new(&self, signal: Signal, remote: IpAddr, agent: Option<&[u8]>) -> bool {
        let mut told = self.0.lock();
        if told.len() >= MAX_CLIENTS {
            told.clear();
        }
        told.insert((signal, remote, self.1.hash_one(agent)))
    }
}
