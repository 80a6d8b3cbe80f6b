//! `POST /v1/records` and `POST /v1/traces`: receive, decode, hand over, answer.

use super::answers::{answer, content_type, encoding};
use super::counts::From as Door;
use super::{Services, Shared};
use crate::collector::Refused;
use crate::ingest::body::{Received, Refusal, receive};
use crate::ingest::json::{Decoded, Layout, Message, Problems, Step};
use crate::ingest::otlp::{self, Encoding};
use crate::ingest::{MAX_PROBLEMS, Problem, Unreadable, json};
use crate::record::{Batch, EventMetrics};
use crate::recorder::{EventKey, Follower, Outcome};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;

/// What became of a body of records.
#[derive(Default, Serialize)]
struct Answer {
    accepted: usize,
    refused: usize,
    errors: Vec<Problem>,
    /// How many were refused beyond those that are told.
    #[serde(skip_serializing_if = "is_zero")]
    more_errors: usize,
    /// How many of the accepted are not what was sent.
    #[serde(skip_serializing_if = "is_zero")]
    altered: usize,
    /// In what, of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Problem>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// `POST /v1/records`.
pub(super) async fn records(State(shared): State<Shared>, request: Request) -> Response {
    let taken = take_records(&shared, request).await;
    match &taken {
        Ok(taken) => {
            shared.counts.answered(Door::Records, taken.accepted, taken.refused.count);
            shared.counts.altered(Door::Records, 0, taken.altered.count);
        }
        Err(_) => shared.counts.refused(Door::Records),
    }
    match taken {
        Ok(Taken { accepted, refused, altered }) => {
            let status =
                if accepted == 0 && refused.count > 0 { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            let more_errors = refused.count - refused.problems.len();
            let (refused, errors) = (refused.count, refused.problems);
            let (altered, warnings) = (altered.count, altered.problems);
            let answer = Answer { accepted, refused, errors, more_errors, altered, warnings };
            (status, Json(answer)).into_response()
        }
        Err(Failure::Unreadable(Unreadable::Malformed { line, message })) => {
            let errors = vec![Problem { row: None, line, field: None, message }];
            (StatusCode::BAD_REQUEST, Json(Answer { errors, ..Answer::default() })).into_response()
        }
        Err(failure) => answer(&failure.into()),
    }
}

/// What became of a body of which something could be read.
struct Taken {
    accepted: usize,
    refused: Problems,
    altered: Problems,
}

async fn take_records(shared: &Shared, request: Request) -> Result<Taken, Failure> {
    let layout = match content_type(request.headers()).as_str() {
        "application/json" => Layout::Json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Layout::Lines,
        other => return Err(unsupported(other, "application/json or application/x-ndjson").into()),
    };
    let received = take(shared, request).await?;
    shared.services.collector.unpressed().await;
    let mut decoded = decode(shared, received, move |body| json::decode(body, layout)).await?;
    if decoded.messages.is_empty() {
        let accepted = decoded.batch.len();
        hand_over(shared, &mut decoded.batch).await?;
        return Ok(Taken { accepted, refused: decoded.refused, altered: decoded.altered });
    }
    if decoded.messages.len() <= MESSAGES_AT_ONCE {
        return follow_all(&shared.services, decoded);
    }
    let services = shared.services.clone();
    aside(shared, move || follow_all(&services, decoded)).await
}

/// Messages that are followed on the runtime's threads; more of them take milliseconds.
const MESSAGES_AT_ONCE: usize = 1_024;

/// Takes records and follows messages: all of it, or nothing where the journal has no room for what it may come to. It is
/// not left half done if the sender goes away: there is no wait in it.
fn follow_all(services: &Services, mut decoded: Decoded) -> Result<Taken, Failure> {
    let Decoded { batch, messages, refused, .. } = &mut decoded;
    let (mut accepted, given) = (batch.len(), batch.len());
    let records = batch.len() + messages.iter().filter(|message| message.step != Step::Retry).count();
    let bytes = batch.bytes() + messages.iter().map(held_bytes).sum::<usize>();
    let reserved = services.collector.reserve(records, bytes).map_err(for_now)?;
    let mut follower = services.recorder.follow(batch);
    for message in messages.iter() {
        if follow(&mut follower, message) {
            accepted += 1;
        } else {
            refused.add(|| unmatched(message));
        }
    }
    services.collector.accept_reserved(reserved, batch).map_err(|refused| {
        // Whoever sent their start was told that it was accepted.
        services.collector.count_dropped(batch.len() - given);
        for_now(refused)
    })?;
    if refused.problems.len() < MAX_PROBLEMS {
        refused.problems.sort_by_key(|problem| problem.row);
    }
    Ok(Taken { accepted, refused: decoded.refused, altered: decoded.altered })
}

/// What the record occupies that a message may end: its own, or that of an earlier execution.
fn held_bytes(message: &Message) -> usize {
    let error = match &message.step {
        Step::Retry => return 0,
        Step::Fail(error) => error.as_ref().map_or(0, |error| error.len()),
        Step::Start | Step::Complete | Step::Cancel => 0,
    };
    let pipeline = message.pipeline_id.as_ref().map_or(0, |name| name.len());
    size_of::<EventMetrics>() + message.event_name.len() + message.task_id.len() + pipeline + error
}
/// Tells the recorder. False if there is no such event.
fn follow(follower: &mut Follower<'_>, message: &Message) -> bool {
    let key = EventKey::new(&message.event_name, &message.task_id);
    let key = match &message.pipeline_id {
        Some(pipeline) => key.pipeline(pipeline),
        None => key,
    };
    match &message.step {
        Step::Start => {
            // False says that an earlier execution was closed for this one, which has started nonetheless.
            follower.start(key);
            true
        }
        Step::Retry => follower.retry(key),
        Step::Complete => follower.end(key, Outcome::Completed),
        Step::Fail(error) => follower.end(key, Outcome::Failed(error.as_deref().unwrap_or("error"))),
        Step::Cancel => follower.end(key, Outcome::Cancelled),
    }
}

fn unmatched(message: &Message) -> Problem {
    let event = format!("event {:?} of task {:?}", message.event_name, message.task_id);
    let pipeline =
        message.pipeline_id.as_ref().map_or(String::new(), |name| format!(" in pipeline {name:?}"));
    Problem {
        row: Some(message.row),
        line: Some(message.line),
        field: None,
        message: format!("{event}{pipeline} is not open: it was not started, or it has ended"),
    }
}

/// `POST /v1/traces`.
pub(super) async fn traces(State(shared): State<Shared>, request: Request) -> Response {
    let given = content_type(request.headers());
    let Some((encoding, media_type)) = encoding(&given) else {
        shared.counts.refused(Door::Traces);
        return answer(&unsupported(&given, "application/x-protobuf or application/json"));
    };
    match take_traces(&shared, request, encoding).await {
        Ok((accepted, omitted)) => {
            shared.counts.answered(Door::Traces, accepted, omitted.spans);
            shared.counts.altered(Door::Traces, omitted.attributes, omitted.altered);
            ([(header::CONTENT_TYPE, media_type)], otlp::response(encoding, &omitted)).into_response()
        }
        Err(failure) => {
            shared.counts.refused(Door::Traces);
            answer(&failure.into())
        }
    }
}

async fn take_traces(
    shared: &Shared,
    request: Request,
    encoding: Encoding,
) -> Result<(usize, otlp::Omitted), Failure> {
    let received = take(shared, request).await?;
    // Before it is decoded: what waits is no larger than it came, and what is refused has cost little.
    shared.services.collector.unpressed().await;
    let mapping = shared.mapping.clone();
    let mut decoded = decode(shared, received, move |body| otlp::decode(body, encoding, &mapping)).await?;
    let accepted = decoded.batch.len();
    hand_over(shared, &mut decoded.batch).await?;
    Ok((accepted, decoded.omitted))
}

/// Why nothing of a request was taken.
enum Failure {
    Unreadable(Unreadable),
    Refusal(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refusal(refusal) => refusal,
            Failure::Unreadable(Unreadable::Malformed { message, .. }) => {
                Self::new(StatusCode::BAD_REQUEST, message)
            }
            Failure::Unreadable(too_large @ (Unreadable::TooMany | Unreadable::Copies)) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, too_large.to_string())
            }
        }
    }
}

pub(super) fn unsupported(given: &str, wanted: &str) -> Refusal {
    let given = given.get(..64).unwrap_or(given);
    let message = format!("content-type {given:?} is not taken here; send {wanted}");
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

/// Receives the body of a request.
pub(super) async fn take(shared: &Shared, request: Request) -> Result<Received, Refusal> {
    let (parts, body): (_, Body) = request.into_parts();
    receive(&parts.headers, body, shared.bounds, &shared.memory).await
}

/// Decodes a body, away from the runtime's threads if it takes long.
async fn decode<T: Send + 'static>(
    shared: &Shared,
    received: Received,
    decode: impl FnOnce(&[u8]) -> Result<T, Unreadable> + Send + 'static,
) -> Result<T, Failure> {
    let most = shared.bounds.decompressed;
    let opened = received.open(most)?;
    let large = opened.is_large();
    let work = move || {
        let decoded = opened.decode(most, |body| Ok(decode(body)));
        decoded.map_err(Failure::Refusal)?.map_err(Failure::Unreadable)
    };
    if large { aside(shared, work).await } else { work() }
}

/// Works away from the runtime's threads. What has begun is done to its end, whether anyone waits for it still or not.
async fn aside<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let unavailable = |_| {
        let message = "the host is shutting down";
        Refusal::for_now(StatusCode::SERVICE_UNAVAILABLE, message, Duration::from_secs(5))
    };
    let permit = shared.decoding.clone().acquire_owned().await.map_err(|_| unavailable(()))?;
    let work = move || {
        let _permit = permit;
        work()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(%error, "a request could not be worked on");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be worked on").into())
        }
    }
}

async fn hand_over(shared: &Shared, batch: &mut Batch) -> Result<(), Refusal> {
    shared.services.collector.accept(batch).await.map_err(for_now)
}

fn for_now(refused: Refused) -> Refusal {
    let (status, seconds) = match refused {
        Refused::Full { .. } => (StatusCode::TOO_MANY_REQUESTS, 1),
        Refused::Closed => (StatusCode::SERVICE_UNAVAILABLE, 5),
    };
    Refusal::for_now(status, format!("nothing was taken: {refused}"), Duration::from_secs(seconds))
}
