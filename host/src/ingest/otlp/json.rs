//! An `ExportTraceServiceRequest` in JSON: ids in hexadecimal, 64-bit numbers as texts or numbers, enumerations by
//! number or name, unknown fields passed over.
//!
//! Invariant: the body is checked once and walked once (a list that comes before what it needs is walked twice), so that
//! the work is linear in its length, however deep attributes are nested.

mod value;

use super::span::{Event, Link, Span};
use super::{Reader, Unreadable};
use crate::ingest::cut;
use crate::ingest::given::{Given, REPLACED, Read};
use crate::ingest::otlp::mapping::Resource;
use crate::ingest::raw::{Readable, readable, without_place};
use crate::ingest::walk::Walk;
use serde_json::value::RawValue;
use std::borrow::Cow;
use value::any_value;
pub(super) use value::write_text;

fn malformed(what: &str, reason: impl std::fmt::Display) -> Unreadable {
    Unreadable::Malformed {
        line: None,
        message: format!("not an OTLP ExportTraceServiceRequest in JSON: {what}: {reason}"),
    }
}

pub(super) fn request(body: &[u8], reader: &mut Reader<'_>) -> Result<(), Unreadable> {
    let body = readable(body)?;
    let request: &RawValue = serde_json::from_str(&body.text).map_err(|error| Unreadable::Malformed {
        line: Some(error.line()),
        message: format!(
            "not JSON: line {}, column {}: {}",
            error.line(),
            error.column(),
            without_place(&error)
        ),
    })?;
    Request { body: &body, reader }.all_resource_spans(&mut Walk::new(request.get()))
}

/// A request that is being read.
struct Request<'b, 'm> {
    body: &'b Readable<'b>,
    reader: &'b mut Reader<'m>,
}

/// Hands every field of an object to `field` until the first error.
fn each_field<'b>(
    walk: &mut Walk<'b>,
    what: &str,
    mut field: impl FnMut(&mut Walk<'b>, &str) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut outcome = Ok(());
    walk.object(|walk, key| match outcome {
        Ok(()) => outcome = field(walk, key),
        Err(_) => walk.pass(),
    })
    .map_err(|reason| malformed(what, reason))?;
    outcome
}

/// Hands every item of a list to `item` until the first error.
fn each_item<'b>(
    walk: &mut Walk<'b>,
    what: &str,
    mut item: impl FnMut(&mut Walk<'b>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut outcome = Ok(());
    walk.list(|walk| match outcome {
        Ok(()) => outcome = item(walk),
        Err(_) => walk.pass(),
    })
    .map_err(|reason| malformed(what, reason))?;
    outcome
}

impl<'b> Request<'b, '_> {
    fn all_resource_spans(&mut self, walk: &mut Walk<'b>) -> Result<(), Unreadable> {
        each_field(walk, "request", |walk, key| match key {
            "resourceSpans" | "resource_spans" => {
                each_item(walk, "resourceSpans", |walk| self.resource_spans(walk))
            }
            _ => {
                walk.skip();
                Ok(())
            }
        })
    }

    fn resource_spans(&mut self, walk: &mut Walk<'b>) -> Result<(), Unreadable> {
        let mut resource = None;
        let mut early = Vec::new();
        each_field(walk, "resourceSpans", |walk, key| {
            match (key, &resource) {
                ("resource", _) => resource = Some(self.resource(walk)),
                ("scopeSpans" | "scope_spans", Some(resource)) => return self.scopes(walk, resource),
                // The resource may come after the spans that it made.
                ("scopeSpans" | "scope_spans", None) => early.push(walk.skip()),
                _ => walk.pass(),
            }
            Ok(())
        })?;
        let resource = resource.unwrap_or_default();
        early.into_iter().try_for_each(|scopes| self.scopes(&mut Walk::new(scopes), &resource))
    }

    fn resource(&mut self, walk: &mut Walk<'b>) -> Resource {
        let mut given = Given::default();
        let mapping = self.reader.mapping;
        // What is wrong with the resource costs no span; what of it can be read is kept.
        let _ = walk.object(|walk, key| match key {
            "attributes" => self.attributes(walk, &mut given, |key| Resource::wants(key, mapping)),
            _ => walk.pass(),
        });
        self.reader.resource(given)
    }

    fn scopes(&mut self, walk: &mut Walk<'b>, resource: &Resource) -> Result<(), Unreadable> {
        each_item(walk, "scopeSpans", |walk| self.scope_spans(walk, resource))
    }

    fn scope_spans(&mut self, walk: &mut Walk<'b>, resource: &Resource) -> Result<(), Unreadable> {
        let mut scoped = (!self.reader.mapping.scope).then_some(Cow::Borrowed(resource));
        let mut early = Vec::new();
        each_field(walk, "scopeSpans", |walk, key| {
            match (key, &scoped) {
                ("scope", None) => scoped = Some(Cow::Owned(self.scope(walk, resource))),
                ("spans", Some(resource)) => return self.spans(walk, resource),
                ("spans", None) => early.push(walk.skip()),
                _ => walk.pass(),
            }
            Ok(())
        })?;
        let resource = scoped.unwrap_or(Cow::Borrowed(resource));
        early.into_iter().try_for_each(|spans| self.spans(&mut Walk::new(spans), &resource))
    }

    /// The resource, with the scope that is read.
    fn scope(&mut self, walk: &mut Walk<'b>, resource: &Resource) -> Resource {
        let (mut name, mut version) = (None, None);
        let start = walk.place();
        // A scope that is no object has no name.
        let _ = walk.object(|walk, key| match key {
            "name" => name = walk.text(),
            "version" => version = walk.text(),
            _ => walk.pass(),
        });
        let text = |text: Option<Cow<'b, str>>| Read::text(text.unwrap_or_default());
        let altered = self.body.is_altered(walk.since(start));
        self.reader.scope(resource, text(name), text(version), altered)
    }

    fn spans(&mut self, walk: &mut Walk<'b>, resource: &Resource) -> Result<(), Unreadable> {
        each_item(walk, "spans", |walk| {
            self.reader.more(resource)?;
            let span = self.span(walk, self.reader.begin(resource));
            self.reader.add(span, resource);
            Ok(())
        })
    }

    fn span(&self, walk: &mut Walk<'b>, mut span: Span<'b>) -> Result<Span<'b>, String> {
        let mut wrong = None;
        walk.object(|walk, key| {
            let start = walk.place();
            let field: Option<()> = match key {
                "traceId" | "trace_id" => id(walk).map(|id| span.trace_id = id.into()),
                "spanId" | "span_id" => id(walk).map(|id| span.span_id = id.into()),
                "parentSpanId" | "parent_span_id" => id(walk).map(|id| span.parent_span_id = id.into()),
                "name" => self.noted(walk, key, &mut span).map(|name| span.name = name),
                "kind" => enumeration(walk, KINDS).map(|kind| span.kind = kind),
                "startTimeUnixNano" | "start_time_unix_nano" => whole(walk).map(|time| span.start = time),
                "endTimeUnixNano" | "end_time_unix_nano" => whole(walk).map(|time| span.end = time),
                "droppedAttributesCount" | "dropped_attributes_count" => {
                    whole(walk).map(|count| span.attributes.dropped = count)
                }
                "attributes" => {
                    self.attributes(walk, &mut span.attributes, |_| true);
                    Some(())
                }
                "status" => {
                    self.status(walk, &mut span);
                    Some(())
                }
                "events" => {
                    // A list of anything else has no events.
                    let _ = walk.list(|walk| self.event(walk, &mut span));
                    Some(())
                }
                "links" if self.reader.mapping.links => {
                    let _ = walk.list(|walk| self.link(walk, &mut span));
                    Some(())
                }
                "traceState" | "trace_state" if self.reader.mapping.trace_state => {
                    self.noted(walk, key, &mut span).map(|state| span.trace_state = state)
                }
                "droppedEventsCount" | "dropped_events_count" if self.reader.mapping.events => {
                    whole(walk).map(|count| span.events.dropped = count)
                }
                "droppedLinksCount" | "dropped_links_count" if self.reader.mapping.links => {
                    whole(walk).map(|count| span.links.dropped = count)
                }
                _ => {
                    walk.skip();
                    Some(())
                }
            };
            let raw = walk.since(start);
            if field.is_none() && raw != "null" {
                wrong.get_or_insert_with(|| format!("{}: unexpected {}", cut(key, 64), cut(raw, 64)));
            }
        })?;
        wrong.map_or(Ok(span), Err)
    }

    /// A text of the span; what is done to it is noted.
    fn noted(&self, walk: &mut Walk<'b>, name: &str, span: &mut Span<'b>) -> Option<Cow<'b, str>> {
        let start = walk.place();
        let text = walk.text()?;
        Some(self.read(text, walk.since(start)).noted(name, &mut span.altered))
    }

    /// A text that was written as `raw`.
    fn read(&self, text: Cow<'b, str>, raw: &str) -> Read<Cow<'b, str>> {
        let mut read = Read::text(text);
        if self.body.is_altered(raw) {
            read.altered = Some(REPLACED);
        }
        read
    }

    fn status(&self, walk: &mut Walk<'b>, span: &mut Span<'b>) {
        // A status that cannot be read is none.
        let _ = walk.object(|walk, key| match key {
            "code" => span.status = enumeration(walk, CODES).unwrap_or(0),
            "message" => {
                if let Some(message) = self.noted(walk, "status message", span) {
                    span.message = message;
                }
            }
            _ => walk.pass(),
        });
    }

    fn event(&self, walk: &mut Walk<'b>, span: &mut Span<'b>) {
        let (mut name, mut time, mut list) = (None, None, None);
        let start = walk.place();
        let _ = walk.object(|walk, key| match key {
            "name" => name = walk.text(),
            "timeUnixNano" | "time_unix_nano" => time = whole(walk),
            "attributes" => list = Some(walk.skip()),
            _ => walk.pass(),
        });
        let name = name.unwrap_or_default();
        if name != "exception" && !self.reader.mapping.events {
            return;
        }
        let mut given = Given::default();
        if let Some(list) = list {
            self.attributes(&mut Walk::new(list), &mut given, |_| true);
        }
        if name == "exception" {
            span.exception = given;
            return;
        }
        if self.body.is_altered(walk.since(start)) && given.altered.count == 0 {
            span.altered.add(|| format!("an event: {REPLACED}"));
        }
        let name = Read::text(name).noted("an event's name", &mut span.altered);
        span.add_event(Event::new(&name, time.unwrap_or(0), given));
    }

    fn link(&self, walk: &mut Walk<'b>, span: &mut Span<'b>) {
        let (mut trace_id, mut span_id, mut state, mut given) = (None, None, None, Given::default());
        let _ = walk.object(|walk, key| match key {
            "traceId" | "trace_id" => trace_id = id(walk),
            "spanId" | "span_id" => span_id = id(walk),
            "traceState" | "trace_state" => state = self.noted(walk, "a link's trace state", span),
            "attributes" => self.attributes(walk, &mut given, |_| true),
            _ => walk.pass(),
        });
        let (trace_id, span_id) = (trace_id.unwrap_or_default(), span_id.unwrap_or_default());
        span.add_link(Link::new(&trace_id, &span_id, &state.unwrap_or_default(), given));
    }

    fn attributes(&self, walk: &mut Walk<'b>, given: &mut Given, wanted: impl Fn(&str) -> bool) {
        if let Err(reason) = walk.list(|walk| self.attribute(walk, given, &wanted)) {
            given.omitted.add(|| format!("attributes: {reason}"));
        }
    }

    fn attribute(&self, walk: &mut Walk<'b>, given: &mut Given, wanted: impl Fn(&str) -> bool) {
        let start = walk.place();
        let (mut key, mut value) = (None, Ok(None));
        let read = walk.object(|walk, field| match field {
            "key" => key = walk.text(),
            "value" => value = any_value(walk),
            _ => walk.pass(),
        });
        let key = self.read(key.unwrap_or_default(), walk.since(start));
        match read {
            Err(reason) => given.omitted.add(|| format!("attribute: {reason}")),
            Ok(()) if wanted(&key.kept) => given.add(&key, value),
            Ok(()) => {}
        }
    }
}

const KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const CODES: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

fn enumeration(walk: &mut Walk<'_>, names: &[&str]) -> Option<u64> {
    let token = walk.token()?;
    whole_number(&token)
        .or_else(|| names.iter().zip(0..).find(|(known, _)| **known == token).map(|(_, number)| number))
}

/// A whole number, as a number or a text.
fn whole(walk: &mut Walk<'_>) -> Option<u64> {
    whole_number(&walk.token()?)
}

/// JavaScript may write a large whole number with an exponent.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // In range, and without a fraction.
fn whole_number(token: &str) -> Option<u64> {
    token.parse().ok().or_else(|| {
        let float = token.parse::<f64>().ok()?;
        (float.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&float)).then_some(float as u64)
    })
}

/// An id in hexadecimal, of whatever length.
fn id(walk: &mut Walk<'_>) -> Option<Vec<u8>> {
    let text = walk.text()?;
    if !text.len().is_multiple_of(2) || text.len() > 34 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks_exact(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}
