//! Attribute values in OTLP's JSON.
//!
//! Invariant: every function moves past the whole of a value, written or not, and what is written is written once.

use crate::ingest::given::Read;
use crate::ingest::raw::number;
use crate::ingest::walk::Walk;
use crate::ingest::{MAX_DEPTH, MAX_VALUE, cut};
use crate::record::Value;
use serde_json::value::RawValue;

/// The type that a field of an `AnyValue` says, where it is one.
fn kind_of(field: &str) -> Option<&str> {
    field.strip_suffix("Value").or_else(|| field.strip_suffix("_value"))
}

/// An `AnyValue`: the last of its fields, as protobuf says of a `oneof`. One without a field is empty.
pub(super) fn any_value(walk: &mut Walk<'_>) -> Result<Option<Read<Value>>, String> {
    let mut last = Ok(None);
    walk.object(|walk, field| match kind_of(field) {
        Some(kind) if !walk.is_null() => last = value(walk, kind).map(Some),
        _ => walk.pass(),
    })?;
    last
}

fn value(walk: &mut Walk<'_>, kind: &str) -> Result<Read<Value>, String> {
    if matches!(kind, "array" | "kvlist") {
        let mut json = String::new();
        write_nested(walk, kind, &mut json, 1)?;
        return Ok(Value::Json(json.into()).into());
    }
    let start = walk.place();
    let token = walk.token();
    let raw = walk.since(start);
    let value = match kind {
        "string" | "bytes" if raw.starts_with('"') => token.map(|text| Read::text(text).into_value()),
        "bool" => token.and_then(|token| token.parse().ok()).map(|truth: bool| Value::Bool(truth).into()),
        "int" => token.and_then(|token| integer(&token)).map(Read::from),
        "double" => token.and_then(|token| float(&token)).map(Read::from),
        "string" | "bytes" => None,
        _ => return Err(format!("unknown type {:?}", cut(kind, 64))),
    };
    value.ok_or_else(|| format!("{kind}Value: unexpected {}", cut(raw, 64)))
}

/// A whole number of whatever size. OpenTelemetry's JavaScript SDK calls every number without a fraction one, and
/// writes those beyond 64 bits as JavaScript does: `1e+21`.
fn integer(token: &str) -> Option<Value> {
    // A text must be a number in JSON's own grammar before it may stand in JSON.
    let token = serde_json::from_str::<&RawValue>(token).ok()?.get();
    if !token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    Some(match number(token) {
        #[allow(clippy::cast_possible_truncation)] // In range, and without a fraction.
        Value::Float(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
            Value::Integer(float as i64)
        }
        // With all of its digits, as whole numbers are read from JSON.
        Value::Float(float) if float.fract() == 0.0 => number(&format!("{float:.0}")),
        value => value,
    })
}

fn float(token: &str) -> Option<Value> {
    match token {
        "NaN" | "Infinity" | "-Infinity" => Some(token.into()),
        _ if token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
            token.parse().ok().map(crate::ingest::otlp::float)
        }
        _ => None,
    }
}

/// Writes an `ArrayValue` or a `KeyValueList` as JSON that is nested `depth` deep.
fn write_nested(walk: &mut Walk<'_>, kind: &str, out: &mut String, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        walk.skip();
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    let is_list = kind == "array";
    let begin = out.len();
    let mut outcome = Ok(());
    let object = walk.object(|walk, field| {
        if field != "values" || outcome.is_err() {
            walk.skip();
            return;
        }
        // The last of several counts.
        out.truncate(begin);
        let list = walk.list(|walk| {
            if outcome.is_ok() {
                out.push(if out.len() > begin {
                    ','
                } else if is_list {
                    '['
                } else {
                    '{'
                });
                outcome = if is_list { write_any(walk, out, depth) } else { write_entry(walk, out, depth) };
            } else {
                walk.skip();
            }
        });
        outcome = std::mem::replace(&mut outcome, Ok(())).and(list);
    });
    outcome.and(object)?;
    if out.len() == begin {
        out.push(if is_list { '[' } else { '{' });
    }
    out.push(if is_list { ']' } else { '}' });
    Ok(())
}

/// Writes an `AnyValue` in what is nested `depth` deep.
fn write_any(walk: &mut Walk<'_>, out: &mut String, depth: usize) -> Result<(), String> {
    let begin = out.len();
    let mut outcome = Ok(());
    walk.object(|walk, field| match kind_of(field) {
        Some(kind) if !walk.is_null() && outcome.is_ok() => {
            out.truncate(begin);
            outcome = write_value(walk, kind, out, depth);
        }
        _ => walk.pass(),
    })?;
    outcome?;
    if out.len() == begin {
        out.push_str("null");
    }
    if out.len() > MAX_VALUE { Err(format!("longer than {MAX_VALUE} bytes")) } else { Ok(()) }
}

fn write_value(walk: &mut Walk<'_>, kind: &str, out: &mut String, depth: usize) -> Result<(), String> {
    if matches!(kind, "array" | "kvlist") {
        return write_nested(walk, kind, out, depth + 1);
    }
    match value(walk, kind)?.kept {
        Value::Text(text) => write_text(&text, out),
        other => out.push_str(&other.as_text()),
    }
    Ok(())
}

/// Writes a `KeyValue` in what is nested `depth` deep.
fn write_entry(walk: &mut Walk<'_>, out: &mut String, depth: usize) -> Result<(), String> {
    let begin = out.len();
    let (mut key, mut keyed, mut outcome) = (None, false, Ok(()));
    walk.object(|walk, field| match field {
        "key" => key = walk.text(),
        "value" if outcome.is_ok() => {
            out.truncate(begin);
            // The key comes first as a rule.
            keyed = key.as_deref().is_some_and(|key| {
                write_key(key, out);
                true
            });
            outcome = write_any(walk, out, depth);
        }
        _ => walk.pass(),
    })?;
    outcome?;
    if !keyed {
        let mut entry = String::new();
        write_key(key.as_deref().unwrap_or_default(), &mut entry);
        if out.len() == begin {
            entry.push_str("null");
        }
        out.insert_str(begin, &entry);
    }
    Ok(())
}

fn write_key(key: &str, out: &mut String) {
    write_text(key, out);
    out.push(':');
}

/// A text in JSON.
pub(in crate::ingest::otlp) fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
