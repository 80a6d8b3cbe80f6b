//! A span as it was sent, in whichever encoding.
//!
//! Invariant: what can be is borrowed from the request; what becomes one attribute of many parts (events, links) stays
//! within the bounds of an attribute's value, and what does not fit is counted.

use crate::ingest::given::{Given, Notes};
use crate::ingest::raw::depth;
use crate::ingest::{MAX_DEPTH, MAX_VALUE};
use crate::record::{Attributes, Timestamp, Value};
use serde::Serialize;
use std::borrow::Cow;

/// A span.
#[derive(Debug, Default)]
pub(super) struct Span<'a> {
    pub(super) trace_id: Cow<'a, [u8]>,
    pub(super) span_id: Cow<'a, [u8]>,
    pub(super) parent_span_id: Cow<'a, [u8]>,
    pub(super) trace_state: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    pub(super) kind: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: Given,
    pub(super) status: u64,
    pub(super) message: Cow<'a, str>,
    /// The attributes of the last event that tells an exception.
    pub(super) exception: Given,
    /// The other events, if they are kept.
    pub(super) events: List,
    /// Its links, if they are kept.
    pub(super) links: List,
    /// What of it is not kept as it was sent.
    pub(super) altered: Notes,
}

impl Span<'_> {
    pub(super) fn add_event(&mut self, event: Event<'_>) {
        self.events.push(&event);
        self.take_notes(event.omitted, event.altered, "an event");
    }

    pub(super) fn add_link(&mut self, link: Link) {
        self.links.push(&link);
        self.take_notes(link.omitted, link.altered, "a link");
    }

    fn take_notes(&mut self, omitted: Notes, altered: Notes, of: &str) {
        self.altered.append(omitted, || format!("{of}, left out: "));
        self.altered.append(altered, || format!("{of}, "));
    }
}

/// An event that is no exception.
#[derive(Serialize)]
pub(super) struct Event<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    attributes: Attributes,
    #[serde(skip)]
    omitted: Notes,
    #[serde(skip)]
    altered: Notes,
}

impl<'a> Event<'a> {
    pub(super) fn new(name: &'a str, time: u64, mut given: Given) -> Self {
        Self {
            name,
            time: (time > 0).then_some(Timestamp::from_nanos(time)),
            omitted: given.omitted.take(),
            altered: given.altered.take(),
            attributes: given.into_attributes(),
        }
    }
}

/// A link to another span.
#[derive(Serialize)]
pub(super) struct Link {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace_state: String,
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    attributes: Attributes,
    #[serde(skip)]
    omitted: Notes,
    #[serde(skip)]
    altered: Notes,
}

impl Link {
    pub(super) fn new(trace_id: &[u8], span_id: &[u8], trace_state: &str, mut given: Given) -> Self {
        // An id of another length is none, but tells more than nothing.
        let hex = |id: &[u8]| id.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self {
            trace_id: hex(trace_id),
            span_id: hex(span_id),
            trace_state: trace_state.to_owned(),
            omitted: given.omitted.take(),
            altered: given.altered.take(),
            attributes: given.into_attributes(),
        }
    }
}

/// A list in JSON that becomes an attribute.
#[derive(Debug, Default)]
pub(super) struct List {
    json: String,
    /// How many the sender itself had dropped.
    pub(super) dropped: u64,
    /// How many had no room.
    pub(super) left_out: usize,
}

impl List {
    fn push(&mut self, item: &impl Serialize) {
        // What consists of texts and attributes can be written.
        let item = serde_json::to_string(item).unwrap_or_default();
        let fits = self.json.len() + item.len() + ",]".len() <= MAX_VALUE && depth(&item) < MAX_DEPTH;
        if item.is_empty() || !fits {
            self.left_out += 1;
            return;
        }
        self.json.push(if self.json.is_empty() { '[' } else { ',' });
        self.json.push_str(&item);
    }

    /// The list, if there is anything in it.
    pub(super) fn into_value(mut self) -> Option<Value> {
        if self.json.is_empty() {
            return None;
        }
        self.json.push(']');
        Some(Value::Json(self.json.into()))
    }
}
