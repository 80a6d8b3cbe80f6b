//! `GET /v1/report/…`: a question each.

use super::Shared;
use super::answers::{answer, written};
use crate::ingest::body::Refusal;
use crate::listen::accepts_gzip;
use crate::report::{DEFAULT_LIMIT, Reports};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is slow, unless the question says so.
const SLOW: Duration = Duration::from_secs(1);
/// Rows from which on a report is a large one: those wait for one another, and no small one waits for them.
const LARGE: usize = 1_000;
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
            get(|State(shared): State<Shared>, headers: HeaderMap| {
                state(shared, headers, 0, |shared| (shared.services.publishers)())
            }),
        )
        .route(
            "/plugins",
            get(|State(shared): State<Shared>, headers: HeaderMap| {
                state(shared, headers, 0, |shared| (shared.services.plugins)())
            }),
        )
}

fn plain<T: Serialize + 'static>(question: fn(&Reports) -> T) -> axum::routing::MethodRouter<Shared> {
    get(
        move |State(shared): State<Shared>,
              headers: HeaderMap,
              query: Result<Query<Plain>, QueryRejection>| async move {
            match query {
                Ok(Query(Plain { limit })) => ask(shared, headers, limit, question).await,
                Err(rejection) => refused(rejection.body_text()),
            }
        },
    )
}

fn slow<T: Serialize + 'static>(
    question: fn(&Reports, Duration) -> T,
) -> axum::routing::MethodRouter<Shared> {
    get(
        move |State(shared): State<Shared>,
              headers: HeaderMap,
              query: Result<Query<Threshold>, QueryRejection>| async move {
            let (limit, threshold) = match query {
                Ok(Query(Threshold { limit, threshold })) => (limit, threshold),
                Err(rejection) => return refused(rejection.body_text()),
            };
            match threshold.as_deref().map_or(Ok(SLOW), duration) {
                Ok(threshold) => {
                    ask(shared, headers, limit, move |reports| question(reports, threshold)).await
                }
                Err(message) => refused(message),
            }
        },
    )
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
    headers: HeaderMap,
    limit: Option<usize>,
    question: impl FnOnce(&Reports) -> T + Send + 'static,
) -> Response {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT {
        return refused(format!("limit is at most {MAX_LIMIT}"));
    }
    state(shared, headers, limit, move |shared| {
        // An answer holds what was recorded before the question.
        shared.services.collector.collect();
        question(&shared.services.reports.with_limit(limit))
    })
    .await
}

/// Writes an answer, away from the runtime's threads: a report may search a hundred thousand records.
async fn state<T: Serialize>(
    shared: Shared,
    headers: HeaderMap,
    rows: usize,
    question: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Response {
    let lane = if rows > LARGE { shared.large_reports.clone() } else { shared.reports.clone() };
    let write = move || serde_json::to_vec(&question(&shared));
    written("application/json", lane.write(accepts_gzip(&headers), write).await)
}
