//! `GET /v1/report/…`: a question each.

use super::{Shared, answer};
use crate::ingest::body::Refusal;
use crate::report::{DEFAULT_LIMIT, Reports};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is slow, unless the question says so.
const SLOW: Duration = Duration::from_secs(1);
/// Rows that may be asked for.
const MAX_LIMIT: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Threshold {
    limit: Option<usize>,
    threshold: Option<String>,
}

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/metrics", plain(Reports::metrics))
        .route("/failed-events", plain(Reports::failed_events))
        .route("/retry-stats", plain(Reports::retry_stats))
        .route("/failed-network-operations", plain(Reports::failed_network_operations))
        .route("/slow-events", slow(Reports::slow_events))
        .route("/slow-network-operations", slow(Reports::slow_network_operations))
        .route(
            "/publishers",
            get(|State(shared): State<Shared>| state(shared, |shared| (shared.services.publishers)())),
        )
        .route(
            "/plugins",
            get(|State(shared): State<Shared>| state(shared, |shared| (shared.services.plugins)())),
        )
}

fn plain<T: Serialize + 'static>(question: fn(&Reports) -> T) -> axum::routing::MethodRouter<Shared> {
    get(move |State(shared): State<Shared>, query: Result<Query<Plain>, QueryRejection>| async move {
        match query {
            Ok(Query(Plain { limit })) => ask(shared, limit, question).await,
            Err(rejection) => refused(rejection.body_text()),
        }
    })
}

fn slow<T: Serialize + 'static>(
    question: fn(&Reports, Duration) -> T,
) -> axum::routing::MethodRouter<Shared> {
    get(move |State(shared): State<Shared>, query: Result<Query<Threshold>, QueryRejection>| async move {
        let (limit, threshold) = match query {
            Ok(Query(Threshold { limit, threshold })) => (limit, threshold),
            Err(rejection) => return refused(rejection.body_text()),
        };
        match threshold.as_deref().map_or(Ok(SLOW), duration) {
            Ok(threshold) => ask(shared, limit, move |reports| question(reports, threshold)).await,
            Err(message) => refused(message),
        }
    })
}

/// `2s`, `500ms`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.or_else(|| humantime::parse_duration(text).ok()).ok_or_else(|| {
        let text: String = text.chars().take(64).collect();
        format!("threshold {text:?} is not a duration; write 2s or 500ms")
    })
}

fn refused(message: String) -> Response {
    answer(&Refusal::new(StatusCode::BAD_REQUEST, message))
}

async fn ask<T: Serialize>(
    shared: Shared,
    limit: Option<usize>,
    question: impl FnOnce(&Reports) -> T + Send + 'static,
) -> Response {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT {
        return refused(format!("limit is at most {MAX_LIMIT}"));
    }
    state(shared, move |shared| {
        // An answer holds what was recorded before the question.
        shared.services.collector.collect();
        question(&shared.services.reports.with_limit(limit))
    })
    .await
}

/// Writes an answer, away from the runtime's threads: a report may search a hundred thousand records.
async fn state<T: Serialize>(
    shared: Shared,
    question: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Response {
    let permit = shared.reporting.clone().acquire_owned().await;
    let written = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        serde_json::to_vec(&question(&shared))
    });
    match written.await {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "a report could not be written");
    answer(&Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the report could not be written; see the log"))
}
