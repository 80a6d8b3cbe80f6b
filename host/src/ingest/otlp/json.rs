//! An `ExportTraceServiceRequest` in JSON: ids in hexadecimal, 64-bit numbers as texts or numbers, enumerations by
//! number or name, unknown fields passed over.

use super::given::Given;
use super::{Decoded, Span, Unreadable};
use crate::ingest::otlp::mapping::Resource;
use crate::ingest::raw::{each_field, each_item, number, readable, text, token, without_place};
use crate::ingest::{MAX_DEPTH, MAX_VALUE, cut};
use crate::record::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

fn malformed(message: impl std::fmt::Display) -> Unreadable {
    Unreadable::Malformed {
        line: None,
        message: format!("not an OTLP ExportTraceServiceRequest in JSON: {message}"),
    }
}

pub(super) fn request(body: &[u8], decoded: &mut Decoded) -> Result<(), Unreadable> {
    let body = readable(body);
    let request: &RawValue = serde_json::from_str(&body).map_err(|error| Unreadable::Malformed {
        line: Some(error.line()),
        message: format!(
            "not JSON: line {}, column {}: {}",
            error.line(),
            error.column(),
            without_place(&error)
        ),
    })?;
    let [spans] = members(request, [("resourceSpans", "resource_spans")])
        .map_err(|error| malformed(without_place(&error)))?;
    items(spans, "resourceSpans", |resource| resource_spans(resource, decoded))
}

/// The members of an object that are asked for, each under either of two names.
fn members<'a, const N: usize>(
    object: &'a RawValue,
    names: [(&str, &str); N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut found = [None; N];
    each_field(object, |key, value| {
        for (slot, (camel, snake)) in found.iter_mut().zip(names) {
            if key == camel || key == snake {
                *slot = Some(value);
            }
        }
    })?;
    Ok(found)
}

/// Hands every item of a list to `take`, up to its first error.
fn items<'a>(
    list: Option<&'a RawValue>,
    name: &str,
    mut take: impl FnMut(&'a RawValue) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let Some(list) = list else { return Ok(()) };
    let mut outcome = Ok(());
    each_item(list, |item| {
        if outcome.is_ok() {
            outcome = take(item);
        }
    })
    .map_err(|error| malformed(format!("{name}: {}", without_place(&error))))?;
    outcome
}

fn resource_spans(message: &RawValue, decoded: &mut Decoded) -> Result<(), Unreadable> {
    let [resource, scopes] = members(message, [("resource", "resource"), ("scopeSpans", "scope_spans")])
        .map_err(|error| malformed(format!("resourceSpans: {}", without_place(&error))))?;
    let mut given = Given::default();
    // What is wrong with the resource costs no span; what of it can be read is kept.
    if let Some(Ok([Some(list)])) = resource.map(|resource| members(resource, [("attributes", "attributes")]))
    {
        attributes(list, &mut given);
    }
    let resource = Resource::new(given);
    items(scopes, "scopeSpans", |scope| {
        let [spans] = members(scope, [("spans", "spans")])
            .map_err(|error| malformed(format!("scopeSpans: {}", without_place(&error))))?;
        items(spans, "spans", |message| {
            decoded.more()?;
            decoded.add(span(message, decoded.begin(&resource)), &resource);
            Ok(())
        })
    })
}

fn span<'a>(message: &'a RawValue, mut span: Span<'a>) -> Result<Span<'a>, String> {
    let mut wrong = None;
    each_field(message, |key, raw| {
        let field: Option<()> = match key.as_ref() {
            "traceId" | "trace_id" => id(raw).map(|id| span.trace_id = id.into()),
            "spanId" | "span_id" => id(raw).map(|id| span.span_id = id.into()),
            "parentSpanId" | "parent_span_id" => id(raw).map(|id| span.parent_span_id = id.into()),
            "name" => text(raw).map(|name| span.name = shortened(name)),
            "kind" => enumeration(raw, KINDS).map(|kind| span.kind = kind),
            "startTimeUnixNano" | "start_time_unix_nano" => whole(raw).map(|time| span.start = time),
            "endTimeUnixNano" | "end_time_unix_nano" => whole(raw).map(|time| span.end = time),
            "droppedAttributesCount" | "dropped_attributes_count" => {
                whole(raw).map(|count| span.attributes.dropped = count)
            }
            "attributes" => {
                attributes(raw, &mut span.attributes);
                Some(())
            }
            "status" => {
                status(raw, &mut span);
                Some(())
            }
            "events" => {
                // A list of anything else tells no exception.
                let _ = each_item(raw, |event| exception(event, &mut span));
                Some(())
            }
            _ => Some(()),
        };
        if field.is_none() && raw.get() != "null" {
            wrong.get_or_insert_with(|| format!("{}: unexpected {}", cut(&key, 64), cut(raw.get(), 64)));
        }
    })
    .map_err(|error| without_place(&error))?;
    wrong.map_or(Ok(span), Err)
}

fn shortened(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() > MAX_VALUE { cut(&text, MAX_VALUE).to_owned().into() } else { text }
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

fn status<'a>(raw: &'a RawValue, span: &mut Span<'a>) {
    // A status that cannot be read is none.
    let _ = each_field(raw, |key, raw| match key.as_ref() {
        "code" => span.status = enumeration(raw, CODES).unwrap_or(0),
        "message" => span.message = text(raw).map(shortened).unwrap_or_default(),
        _ => {}
    });
}

fn enumeration(raw: &RawValue, names: &[&str]) -> Option<u64> {
    whole(raw).or_else(|| {
        let name = text(raw)?;
        names.iter().zip(0..).find(|(known, _)| **known == name).map(|(_, number)| number)
    })
}

/// A whole number, as a number or a text. JavaScript may write a large one with an exponent.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // In range, and without a fraction.
fn whole(raw: &RawValue) -> Option<u64> {
    let token = token(raw)?;
    token.parse().ok().or_else(|| {
        let float = token.parse::<f64>().ok()?;
        (float.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&float)).then_some(float as u64)
    })
}

/// An id in hexadecimal, of whatever length.
fn id(raw: &RawValue) -> Option<Vec<u8>> {
    let text = text(raw)?;
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

fn exception(event: &RawValue, span: &mut Span<'_>) {
    let Ok([Some(name), Some(list)]) = members(event, [("name", "name"), ("attributes", "attributes")])
    else {
        return;
    };
    if text(name).as_deref() == Some("exception") {
        let mut given = Given::default();
        attributes(list, &mut given);
        span.exception = given;
    }
}

fn attributes(list: &RawValue, given: &mut Given) {
    if let Err(error) = each_item(list, |item| given.add(key_value(item))) {
        given.add(Err(format!("attributes: {}", without_place(&error))));
    }
}

fn key_value(raw: &RawValue) -> Result<Option<(Cow<'_, str>, Value)>, String> {
    let [key, value] = members(raw, [("key", "key"), ("value", "value")])
        .map_err(|error| format!("attribute: {}", without_place(&error)))?;
    let key = key.and_then(text).map(shortened).unwrap_or_default();
    let Some(value) = value else { return Ok(None) };
    match any_value(value) {
        Ok(Some(value)) => Ok(Some((key, value))),
        Ok(None) => Ok(None),
        Err(reason) => Err(format!("attribute {:?}: {reason}", cut(&key, 64))),
    }
}

/// The one field of an `AnyValue` that is set.
fn one_of(raw: &RawValue) -> Result<Option<(String, &RawValue)>, String> {
    let mut last = None;
    each_field(raw, |key, value| {
        let key = key.as_ref();
        if (key.ends_with("Value") || key.ends_with("_value")) && value.get() != "null" {
            last = Some((key.trim_end_matches("Value").trim_end_matches("_value").to_owned(), value));
        }
    })
    .map_err(|error| without_place(&error))?;
    Ok(last)
}

fn any_value(raw: &RawValue) -> Result<Option<Value>, String> {
    let Some((kind, value)) = one_of(raw)? else { return Ok(None) };
    Ok(Some(match kind.as_str() {
        "string" | "bytes" => match text(value) {
            Some(text) => Value::from(cut(&text, MAX_VALUE)),
            None => return Err(unexpected(&kind, value)),
        },
        "bool" => match token(value).as_deref().unwrap_or(value.get()) {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(unexpected(&kind, value)),
        },
        "int" => integer(value).ok_or_else(|| unexpected(&kind, value))?,
        "double" => Value::Float(float(value).ok_or_else(|| unexpected(&kind, value))?),
        "array" | "kvlist" => {
            let mut json = String::new();
            write_json(raw, &mut json, 0)?;
            Value::Json(json.into())
        }
        _ => return Err(format!("unknown type {:?}", cut(&kind, 64))),
    }))
}

fn unexpected(kind: &str, value: &RawValue) -> String {
    format!("{kind}Value: unexpected {}", cut(value.get(), 64))
}

/// A whole number of whatever size. OpenTelemetry's JavaScript SDK calls every number without a fraction one, and
/// writes those beyond 64 bits as JavaScript does: `1e+21`.
fn integer(raw: &RawValue) -> Option<Value> {
    let token = token(raw)?;
    // A text must be a number in JSON's own grammar before it may stand in JSON.
    let token = serde_json::from_str::<&RawValue>(&token).ok()?.get();
    if !token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    Some(match number(token) {
        #[allow(clippy::cast_possible_truncation)] // In range, and without a fraction.
        Value::Float(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
            Value::Integer(float as i64)
        }
        Value::Float(float) if float.fract() == 0.0 => Value::Json(token.into()),
        value => value,
    })
}

fn float(raw: &RawValue) -> Option<f64> {
    match token(raw)?.as_ref() {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        token if token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
            token.parse().ok()
        }
        _ => None,
    }
}

fn write_json(raw: &RawValue, out: &mut String, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    if out.len() > MAX_VALUE {
        return Err(format!("longer than {MAX_VALUE} bytes"));
    }
    let Some((kind, value)) = one_of(raw)? else {
        out.push_str("null");
        return Ok(());
    };
    let mut outcome = Ok(());
    let mut separator = "";
    match kind.as_str() {
        "array" => {
            out.push('[');
            let [list] = members(value, [("values", "values")]).map_err(|error| without_place(&error))?;
            each_item_of(list, |item| {
                out.push_str(std::mem::replace(&mut separator, ","));
                if outcome.is_ok() {
                    outcome = write_json(item, out, depth + 1);
                }
            })?;
            out.push(']');
        }
        "kvlist" => {
            out.push('{');
            let [list] = members(value, [("values", "values")]).map_err(|error| without_place(&error))?;
            each_item_of(list, |item| {
                if outcome.is_ok() {
                    out.push_str(std::mem::replace(&mut separator, ","));
                    outcome = write_entry(item, out, depth + 1);
                }
            })?;
            out.push('}');
        }
        _ => match any_value(raw)? {
            Some(Value::Text(text)) => write_text(&text, out),
            Some(Value::Float(float)) => write_float(float, out),
            Some(other) => out.push_str(&other.as_text()),
            None => out.push_str("null"),
        },
    }
    outcome
}

fn each_item_of<'a>(list: Option<&'a RawValue>, take: impl FnMut(&'a RawValue)) -> Result<(), String> {
    list.map_or(Ok(()), |list| each_item(list, take)).map_err(|error| without_place(&error))
}

fn write_entry(raw: &RawValue, out: &mut String, depth: usize) -> Result<(), String> {
    let [key, value] =
        members(raw, [("key", "key"), ("value", "value")]).map_err(|error| without_place(&error))?;
    write_text(key.and_then(text).as_deref().unwrap_or_default(), out);
    out.push(':');
    match value {
        Some(value) => write_json(value, out, depth),
        None => {
            out.push_str("null");
            Ok(())
        }
    }
}

/// A text in JSON.
pub(super) fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// A float in JSON, which has no number for some.
pub(super) fn write_float(float: f64, out: &mut String) {
    if float.is_finite() {
        out.push_str(&Value::Float(float).as_text());
    } else {
        write_text(&Value::Float(float).as_text(), out);
    }
}
