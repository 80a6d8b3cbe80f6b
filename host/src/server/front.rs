//! What happens to every request before its handler: its path is made plain, its client is checked, a place is taken if
//! it brings records; and to every answer after it.

use super::answers::{self, answer, content_type, form, harden, in_form_of};
use super::{ServerSettings, Timeouts};
use crate::ingest::body::Refusal;
use crate::listen::{self, Asked, Guard, Manners, Peer, Places, RequestBody, Stalled};
use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service;

/// What stands before the routers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Front {
    guard: Arc<Guard>,
    places: Places,
    /// Requests with records.
    bringing: Arc<Semaphore>,
    timeouts: Timeouts,
}

/// How long a request with records waits for others to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers on all listeners until `shutdown`.
pub(super) async fn serve(
    front: Front,
    (listener, router): (TcpListener, Router),
    otlp: Option<(TcpListener, Router)>,
    shutdown: impl Future<Output = ()>,
) {
    let timeouts = front.timeouts;
    let shutdown = shutdown.shared();
    let accept = |listener: TcpListener, router: Router| {
        let (places, front) = (front.places.clone(), front.clone());
        let manners = Manners { head: timeouts.head, write: timeouts.write, malformed: answers::malformed };
        let answer = move |request, peer| handle(front.clone(), router.clone(), request, peer);
        listen::accept(listener, manners, places, answer, shutdown.clone())
    };
    let cut = match otlp {
        Some((otlp, otlp_router)) => {
            let (own, otlp) = tokio::join!(accept(listener, router), accept(otlp, otlp_router));
            let (own, otlp) = tokio::join!(own.drain(timeouts.drain), otlp.drain(timeouts.drain));
            own + otlp
        }
        None => accept(listener, router).await.drain(timeouts.drain).await,
    };
    if cut > 0 {
        tracing::warn!(connections = cut, "requests in flight were cut off by the shutdown");
    }
}

impl Front {
    pub(super) fn new(guard: Guard, settings: &ServerSettings, places: Places) -> Self {
        let bringing = Arc::new(Semaphore::new(settings.max_connections.max(1)));
        Self { guard: Arc::new(guard), places, bringing, timeouts: settings.timeouts }
    }

    async fn route(&self, mut router: Router, request: Request<Body>) -> Response {
        if request.headers().get_all(header::TRANSFER_ENCODING).iter().any(|value| !is_chunked(value)) {
            return answer(&Refusal::new(StatusCode::NOT_IMPLEMENTED, answers::TRANSFER_ENCODING));
        }
        let _place = if brings_records(&request) {
            let place = self.places.admit(&self.bringing, 1, Stalled::Sender, PATIENCE).await;
            if place.is_none() {
                let message = "too many requests at once; send again, or raise server.max_connections";
                return answer(&Refusal::for_now(
                    StatusCode::SERVICE_UNAVAILABLE,
                    message,
                    Duration::from_secs(1),
                ));
            }
            place
        } else {
            None
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match AssertUnwindSafe(router.call(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                tracing::error!(%method, path = ?path, "a request could not be answered, please report it");
                let message = "the request could not be answered; see the log";
                answer(&Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message))
            }
        }
    }
}

fn is_chunked(value: &HeaderValue) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

fn brings_records<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && takes_records(request.uri().path())
}

fn takes_records(path: &str) -> bool {
    matches!(path, "/v1/records" | "/v1/traces" | "/v1/logs" | "/v1/metrics")
}

async fn handle(front: Front, router: Router, request: Request<RequestBody>, peer: Peer) -> Response {
    let (mut parts, body) = request.into_parts();
    make_plain(&mut parts);
    let path = parts.uri.path();
    let form = form(path, &content_type(&parts.headers));
    let asked = Asked { open: matches!(path, "/healthz" | "/readyz"), cross_origin: takes_records(path) };
    let (response, origin) = match front.guard.check(&parts, asked, peer.remote, peer.local) {
        Ok(passed) => {
            peer.known();
            let response = match passed.preflight() {
                Some(headers) => preflight(headers),
                None => {
                    parts.extensions.insert(peer);
                    front.route(router, Request::from_parts(parts, Body::new(body))).await
                }
            };
            (response, passed.origin().cloned())
        }
        Err(refused) => {
            let mut response = answer(&Refusal::new(refused.status, refused.message.as_str()));
            // A refused client keeps no place.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            (response, refused.origin().cloned())
        }
    };
    let mut response = in_form_of(form, response);
    if let Some(origin) = origin {
        listen::share(response.headers_mut(), &origin);
    }
    harden(&mut response);
    response
}

fn preflight(headers: HeaderMap) -> Response {
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// `//v1/traces/` is `/v1/traces`: what clients make of a base URL that ends with a slash.
fn make_plain(parts: &mut Parts) {
    let Cow::Owned(mut plain) = plain_path(parts.uri.path()) else { return };
    if let Some(query) = parts.uri.query() {
        plain = format!("{plain}?{query}");
    }
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = plain.parse().ok();
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
    }
}

/// `path` without slashes that say nothing.
pub(super) fn plain_path(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && (path.len() <= 1 || !path.ends_with('/')) {
        return Cow::Borrowed(path);
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    Cow::Owned(format!("/{}", segments.join("/")))
}
