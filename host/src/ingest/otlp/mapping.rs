//! A span becomes a record, by OpenTelemetry's semantic conventions. `MAPPING.md` beside `ingest` tells it to people.
//!
//! Invariant: what a field of the record says is not said again by an attribute; everything else of the span's own
//! attributes is kept. The same span, sent again, is the same record.

use super::address::of_url;
use super::span::{List, Span};
use super::{Mapping, Record};
use crate::ingest::given::{Given, Notes};
use crate::ingest::{MAX_DEPTH, MAX_KEY, MAX_NAME, MAX_VALUE, cut, id_bytes, not_nanoseconds, unit_of};
use crate::record::{EventMetrics, NetworkMetrics, Status, Text, Timestamp, Value};
use uuid::Uuid;

const CLIENT: u64 = 3;
const ERROR: u64 = 2;

const ADDRESS: &[&str] = &["server.address", "net.peer.name", "network.peer.address"];
const PORT: &[&str] = &["server.port", "net.peer.port", "network.peer.port"];
const OPERATION: &[&str] =
    &["http.request.method", "http.method", "rpc.method", "db.operation.name", "db.operation"];
const SENT: &[&str] = &["http.request.body.size", "http.request.size", "http.request_content_length"];
const RECEIVED: &[&str] = &["http.response.body.size", "http.response.size", "http.response_content_length"];
const RETRIES: &[&str] =
    &["http.request.resend_count", "http.resend_count", "http.retry_count", "retry.count"];
const EXCEPTION: &[&str] = &["exception.type", "exception.message", "exception.stacktrace"];
pub(super) const DROPPED: &str = "otel.dropped_attributes_count";

const URL: &[&str] = &["url.full", "http.url"];
const SCOPE: [&str; 2] = ["otel.scope.name", "otel.scope.version"];

/// Of the resource, whatever the settings say: everything about the service, and where it runs.
const OF_RESOURCE: &[&str] = &[
    "deployment.environment.name",
    "deployment.environment",
    "host.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "cloud.region",
];
/// Of the resource, what becomes a field of its records.
const FIELDS_OF_RESOURCE: &[&str] = &["task.id", "pipeline.id", "process.pid"];

/// What of a resource goes into its records.
#[derive(Clone, Default)]
pub(super) struct Resource {
    kept: Given,
    bytes: usize,
    task_id: Option<Value>,
    pipeline_id: Option<Value>,
    process_id: Option<u32>,
}

impl Resource {
    /// Whether an attribute of a resource goes into its records.
    pub(super) fn wants(key: &str, mapping: &Mapping) -> bool {
        key.starts_with("service.")
            || OF_RESOURCE.contains(&key)
            || FIELDS_OF_RESOURCE.contains(&key)
            || (key.len() <= MAX_KEY && (mapping.resource_attribute)(key))
    }

    /// A resource of attributes that it wants; with those that are left out, and altered.
    pub(super) fn new(mut attributes: Given) -> (Self, Notes, Notes) {
        let (task_id, pipeline_id) = (attributes.remove("task.id"), attributes.remove("pipeline.id"));
        let process_id = take_number(&mut attributes, &["process.pid"]);
        let mut kept = attributes.handed_down();
        let (omitted, altered) = (kept.omitted.take(), kept.altered.take());
        let bytes = kept.bytes();
        (Self { kept, bytes, task_id, pipeline_id, process_id }, omitted, altered)
    }

    /// It, for the spans of one of its scopes.
    pub(super) fn in_scope(&self, name: &str, version: &str) -> Self {
        let mut scoped = self.clone();
        for (key, value) in SCOPE.into_iter().zip([name, version]).filter(|(_, value)| !value.is_empty()) {
            scoped.kept.set(key, cut(value, MAX_NAME));
        }
        scoped.bytes = scoped.kept.bytes();
        scoped
    }

    /// What each of its spans has of it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a span has of it; `len` is how many attributes that will have, about.
    pub(super) fn handed_down(&self, len: usize) -> Given {
        self.kept.inherit(len)
    }
}

/// The record that a span of this name is.
///
/// # Errors
///
/// It is none; the reason continues a sentence that begins with the span.
pub(super) fn record(
    span: Span<'_>,
    name: &str,
    resource: &Resource,
    altered: &mut Notes,
) -> Result<Record, String> {
    let trace = id::<16>(&span.trace_id).ok_or("has no valid trace id")?;
    let own = id::<8>(&span.span_id).ok_or("has no valid span id")?;
    if span.start == 0 {
        return Err("has no start time".to_owned());
    }
    if span.end == 0 {
        return Err("has not ended; only finished spans are taken".to_owned());
    }
    for (time, what) in [(span.start, "start"), (span.end, "end")] {
        if let Some(unit) = unit_of(time) {
            return Err(format!("has the {what} time {}", not_nanoseconds(&time.to_string(), unit)));
        }
    }
    let (start, end) = (Timestamp::from_nanos(span.start), Timestamp::from_nanos(span.end));
    let mut attributes = span.attributes;
    let trace_id = hex(&trace);

    let id = given_id(&mut attributes).unwrap_or_else(|| span_uuid(start, trace, own));
    let task_id = identifier("task.id", &mut attributes, resource.task_id.as_ref())?;
    let task_id = task_id.unwrap_or_else(|| trace_id.clone());
    let pipeline_id = identifier("pipeline.id", &mut attributes, resource.pipeline_id.as_ref())?;
    let process_id = take_number(&mut attributes, &["process.pid"]).or(resource.process_id);
    let failure = (span.status == ERROR).then(|| failure(&span.message, &span.exception, &attributes));
    let name = if name.is_empty() { "unknown" } else { short(name, "the name", altered) };

    let address = if span.kind == CLIENT { address(&mut attributes) } else { None };
    let mut record = if let Some((host, port)) = address {
        let operation = operation(&attributes, altered).unwrap_or_else(|| name.into());
        if operation != name {
            attributes.set_default("span.name", name);
        }
        // A network operation has no field for these.
        if let Some(pipeline) = pipeline_id {
            attributes.set_default("pipeline.id", pipeline.as_str());
        }
        if let Some(process) = process_id {
            attributes.set_default("process.pid", process);
        }
        Record::Operation(NetworkMetrics {
            end_time: Some(end),
            bytes_sent: take_number(&mut attributes, SENT).unwrap_or(0),
            bytes_received: take_number(&mut attributes, RECEIVED).unwrap_or(0),
            error: failure,
            ..NetworkMetrics::started(id, task_id, operation, short(&host, "the host", altered), port, start)
        })
    } else {
        if let Some(kind) = kind(span.kind) {
            attributes.set_default("span.kind", kind);
        }
        let status = status(&mut attributes, failure.is_some())?;
        Record::Event(EventMetrics {
            pipeline_id,
            process_id,
            end_time: Some(end),
            status,
            error: failure,
            retry_count: take_number(&mut attributes, RETRIES).unwrap_or(0),
            ..EventMetrics::started(id, name, task_id, start)
        })
    };

    let mut exception = span.exception;
    let exception_notes = (exception.omitted.take(), exception.altered.take());
    for key in EXCEPTION {
        if let Some(value) = exception.get(key) {
            attributes.set(key, value.clone());
        }
    }
    for (list, key, dropped_key) in [
        (span.events, "span.events", "otel.dropped_events_count"),
        (span.links, "span.links", "otel.dropped_links_count"),
    ] {
        add_list(list, key, dropped_key, &mut attributes, altered);
    }
    altered.append(attributes.altered.take(), String::new);
    altered.append(exception_notes.0, || "exception, left out: ".to_owned());
    altered.append(exception_notes.1, || "exception, ".to_owned());
    attributes.set("trace_id", Value::Text(trace_id));
    if !span.trace_state.is_empty() {
        attributes.set("trace_state", &*span.trace_state);
    }
    attributes.set("span_id", Value::Text(hex(&own)));
    if let Some(parent) = self::id::<8>(&span.parent_span_id) {
        attributes.set("parent_span_id", Value::Text(hex(&parent)));
    }
    if attributes.dropped > 0 {
        attributes.set(DROPPED, i64::try_from(attributes.dropped).unwrap_or(i64::MAX));
    }
    match &mut record {
        Record::Event(event) => event.attributes = attributes.into_attributes(),
        Record::Operation(operation) => operation.attributes = attributes.into_attributes(),
    }
    Ok(record)
}

/// `N` bytes, not all of them zero.
fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let id: [u8; N] = bytes.try_into().ok()?;
    id.iter().any(|byte| *byte != 0).then_some(id)
}

fn hex<const N: usize>(bytes: &[u8; N]) -> Text {
    let digit = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' - 10 + digit };
    let digits = bytes.map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    Text::new(std::str::from_utf8(digits.as_flattened()).unwrap_or_default())
}

/// Start time, then a hash of trace and span id. It must never change: a second try may reach another version.
fn span_uuid(start: Timestamp, trace: [u8; 16], span: [u8; 8]) -> Uuid {
    let trace = u128::from_be_bytes(trace);
    let mut hash = 0;
    #[allow(clippy::cast_possible_truncation)] // Halves are what is meant.
    for part in [(trace >> 64) as u64, trace as u64, u64::from_be_bytes(span)] {
        // The finalizer of SplitMix64: every bit of the outcome depends on every bit of what went in.
        let mut mixed: u64 = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash = mixed ^ (mixed >> 31);
    }
    uuid::Builder::from_custom_bytes(id_bytes(start, hash)).into_uuid()
}

/// A record that was sent out as a span and comes back is the record that it was.
fn given_id(attributes: &mut Given) -> Option<Uuid> {
    let id = Uuid::try_parse(&attributes.get("pressroom.id")?.as_text()).ok()?;
    attributes.remove("pressroom.id");
    Some(id)
}

fn identifier(
    key: &str,
    attributes: &mut Given,
    of_resource: Option<&Value>,
) -> Result<Option<Text>, String> {
    let own = attributes.remove(key);
    let Some(value) = own.as_ref().or(of_resource) else { return Ok(None) };
    let text = value.as_text();
    if text.len() > MAX_NAME {
        return Err(format!("has a {key} that is longer than {MAX_NAME} bytes"));
    }
    Ok((!text.is_empty()).then(|| Text::from(text)))
}

/// A text for a field that is bounded as a name is.
fn short<'t>(text: &'t str, what: &str, altered: &mut Notes) -> &'t str {
    if text.len() > MAX_NAME {
        altered.add(|| format!("{what}: cut at {MAX_NAME} bytes"));
    }
    cut(text, MAX_NAME)
}

/// Whom a client called: as its attributes say, else as its URL does.
fn address(attributes: &mut Given) -> Option<(Text, u16)> {
    let url = URL.iter().find_map(|key| match attributes.get(key)? {
        Value::Text(url) => of_url(url).map(|(host, port)| (Text::from(host), port)),
        _ => None,
    });
    let host = match (take_text(attributes, ADDRESS), &url) {
        (Some(host), _) => host,
        (None, Some((host, _))) => host.clone(),
        (None, None) => return None,
    };
    let of_url = url.filter(|(addressed, _)| *addressed == host).and_then(|(_, port)| port);
    let port = take_number(attributes, PORT).or(of_url).unwrap_or(0);
    Some((host, port))
}

/// Adds events or links.
fn add_list(list: List, key: &str, dropped_key: &str, attributes: &mut Given, altered: &mut Notes) {
    let (dropped, left_out) = (list.dropped, list.left_out);
    if left_out > 0 {
        altered.add(|| format!("{key}: {left_out} did not fit into {MAX_VALUE} bytes or {MAX_DEPTH} levels"));
    }
    if let Some(value) = list.into_value() {
        attributes.set(key, value);
    }
    let dropped = dropped.saturating_add(left_out as u64);
    if dropped > 0 {
        attributes.set(dropped_key, i64::try_from(dropped).unwrap_or(i64::MAX));
    }
}

fn operation(attributes: &Given, altered: &mut Notes) -> Option<Text> {
    let known = OPERATION.iter().filter_map(|key| attributes.get(key));
    // `_OTHER` is what the conventions call a method that they do not know.
    let text = known.map(Value::as_text).find(|text| !text.is_empty() && text != "_OTHER")?;
    Some(short(&text, "the operation", altered).into())
}

fn failure(message: &str, exception: &Given, attributes: &Given) -> Text {
    let said = [exception.get("exception.message"), attributes.get("exception.message")];
    let typed = [attributes.get("error.type"), exception.get("exception.type")];
    let found = said.into_iter().chain(typed).flatten().map(Value::as_text).find(|text| !text.is_empty());
    match (message, &found) {
        ("", Some(text)) => text.as_ref().into(),
        ("", None) => "error".into(),
        (message, _) => message.into(),
    }
}

/// Failed or completed; cancelled only where a pressroom says so.
fn status(attributes: &mut Given, failed: bool) -> Result<Status, String> {
    if failed {
        return Ok(Status::Failed);
    }
    let said = attributes.get("pressroom.status").map(|status| status.as_text().into_owned());
    match said.as_deref() {
        Some("pending") => Err("has not ended; only finished spans are taken".to_owned()),
        Some("cancelled") => {
            attributes.remove("pressroom.status");
            Ok(Status::Cancelled)
        }
        _ => Ok(Status::Completed),
    }
}

fn kind(kind: u64) -> Option<&'static str> {
    match kind {
        2 => Some("server"),
        CLIENT => Some("client"),
        4 => Some("producer"),
        5 => Some("consumer"),
        _ => None,
    }
}

/// Takes the first of `keys` that is a whole number that fits; what does not stays an attribute.
fn take_number<N: TryFrom<i64>>(attributes: &mut Given, keys: &[&str]) -> Option<N> {
    let (key, number) = keys.iter().find_map(|key| {
        let whole = match attributes.get(key)? {
            Value::Integer(integer) => *integer,
            Value::Text(text) => text.parse().ok()?,
            _ => return None,
        };
        (whole >= 0).then_some((key, N::try_from(whole).ok()?))
    })?;
    attributes.remove(key);
    Some(number)
}

/// Takes the first of `keys` that says something.
fn take_text(attributes: &mut Given, keys: &[&str]) -> Option<Text> {
    let key = keys.iter().find(|key| attributes.get(key).is_some_and(|value| !value.as_text().is_empty()))?;
    attributes.remove(key).map(|value| Text::from(value.as_text()))
}
