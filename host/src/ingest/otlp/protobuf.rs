//! An `ExportTraceServiceRequest` in protobuf, walked field by field.
//!
//! Generated messages are all or nothing: one bad byte in one attribute fails the whole request, and a list of empty
//! messages becomes many times its size in memory. So the wire is read field by field, where it lies, and nothing is built
//! but what is kept. Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`.

use super::span::{Event, Link, Span};
use super::{Mapping, Reader, Unreadable};
use crate::ingest::given::{CUT, Given, REPLACED, Read};
use crate::ingest::otlp::mapping::Resource;
use crate::ingest::{MAX_DEPTH, MAX_VALUE};
use crate::record::Value;
use std::borrow::Cow;

/// What a field holds.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

const CUT_SHORT: &str = "it is cut short";

/// The fields of one message; ends after an error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Wire<'a>), &'static str> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).ok().filter(|tag| *tag > 0).ok_or("it holds an invalid tag")?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| CUT_SHORT)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(CUT_SHORT)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            3 | 4 => return Err("it holds a group"),
            5 => Wire::Number(u32::from_le_bytes(self.fixed()?).into()),
            _ => return Err("it holds an unknown wire type"),
        };
        Ok((tag, wire))
    }

    /// Nearly all of them have one byte.
    fn varint(&mut self) -> Result<u64, &'static str> {
        let (first, rest) = self.0.split_first().ok_or(CUT_SHORT)?;
        self.0 = rest;
        if *first < 0x80 { Ok(u64::from(*first)) } else { self.long_varint(*first) }
    }

    fn long_varint(&mut self, first: u8) -> Result<u64, &'static str> {
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(CUT_SHORT)?;
            self.0 = rest;
            if shift == 63 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err("it holds a number of more than 64 bits")
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), &'static str>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn malformed(what: &str) -> impl Fn(&'static str) -> Unreadable {
    move |reason| Unreadable::Malformed {
        line: None,
        message: format!("not an OTLP ExportTraceServiceRequest in protobuf: {what}: {reason}"),
    }
}

pub(super) fn request(body: &[u8], reader: &mut Reader<'_>) -> Result<(), Unreadable> {
    let mut at = 0;
    for field in Fields(body) {
        if let (1, Wire::Bytes(spans)) = field.map_err(malformed("request"))? {
            resource_spans(spans, reader, &malformed(&format!("resource_spans {at}")))?;
            at += 1;
        }
    }
    Ok(())
}

fn resource_spans(
    message: &[u8],
    reader: &mut Reader<'_>,
    malformed: &dyn Fn(&'static str) -> Unreadable,
) -> Result<(), Unreadable> {
    let mut given = Given::default();
    // The resource may come after the spans that it made.
    for field in Fields(message) {
        if let (1, Wire::Bytes(resource)) = field.map_err(malformed)? {
            // What is wrong with the resource costs no span; what of it can be read is kept.
            for field in Fields(resource).map_while(Result::ok) {
                if let (1, Wire::Bytes(message)) = field {
                    attribute(message, &mut given, |key| Resource::wants(key, reader.mapping));
                }
            }
        }
    }
    let resource = reader.resource(given);
    for field in Fields(message) {
        let (2, Wire::Bytes(scope)) = field.map_err(malformed)? else { continue };
        let resource = if reader.mapping.scope {
            Cow::Owned(instrumentation_scope(scope, reader, &resource))
        } else {
            Cow::Borrowed(&resource)
        };
        for field in Fields(scope) {
            if let (2, Wire::Bytes(message)) = field.map_err(malformed)? {
                reader.more(&resource)?;
                let span = span(message, reader.begin(&resource), reader.mapping);
                reader.add(span, &resource);
            }
        }
    }
    Ok(())
}

/// The resource, for the spans of one `ScopeSpans`.
fn instrumentation_scope(message: &[u8], reader: &mut Reader<'_>, resource: &Resource) -> Resource {
    let (mut name, mut version): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields(message).map_while(Result::ok) {
        let (1, Wire::Bytes(scope)) = field else { continue };
        for field in Fields(scope).map_while(Result::ok) {
            match field {
                (1, Wire::Bytes(bytes)) => name = bytes,
                (2, Wire::Bytes(bytes)) => version = bytes,
                _ => {}
            }
        }
    }
    reader.scope(resource, Read::bytes(name), Read::bytes(version), false)
}

fn span<'a>(message: &'a [u8], mut span: Span<'a>, mapping: &Mapping) -> Result<Span<'a>, String> {
    for field in Fields(message) {
        match field? {
            (1, Wire::Bytes(id)) => span.trace_id = id.into(),
            (2, Wire::Bytes(id)) => span.span_id = id.into(),
            (3, Wire::Bytes(state)) if mapping.trace_state => {
                span.trace_state = Read::bytes(state).noted("trace state", &mut span.altered);
            }
            (4, Wire::Bytes(id)) => span.parent_span_id = id.into(),
            (5, Wire::Bytes(name)) => span.name = Read::bytes(name).noted("name", &mut span.altered),
            (6, Wire::Number(kind)) => span.kind = kind,
            (7, Wire::Number(time)) => span.start = time,
            (8, Wire::Number(time)) => span.end = time,
            (9, Wire::Bytes(message)) => attribute(message, &mut span.attributes, |_| true),
            (10, Wire::Number(count)) => span.attributes.dropped = count,
            (11, Wire::Bytes(message)) => event(message, &mut span, mapping),
            (12, Wire::Number(count)) if mapping.events => span.events.dropped = count,
            (13, Wire::Bytes(message)) if mapping.links => link(message, &mut span),
            (14, Wire::Number(count)) if mapping.links => span.links.dropped = count,
            (15, Wire::Bytes(status)) => {
                for field in Fields(status).map_while(Result::ok) {
                    match field {
                        (2, Wire::Bytes(message)) => {
                            span.message = Read::bytes(message).noted("status message", &mut span.altered);
                        }
                        (3, Wire::Number(code)) => span.status = code,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(span)
}

fn event(message: &[u8], span: &mut Span<'_>, mapping: &Mapping) {
    let (mut name, mut time): (&[u8], _) = (&[], 0);
    for field in Fields(message).map_while(Result::ok) {
        match field {
            (1, Wire::Number(number)) => time = number,
            (2, Wire::Bytes(bytes)) => name = bytes,
            _ => {}
        }
    }
    let is_exception = name == b"exception";
    if !is_exception && !mapping.events {
        return;
    }
    let mut given = Given::default();
    for field in Fields(message).map_while(Result::ok) {
        if let (3, Wire::Bytes(message)) = field {
            attribute(message, &mut given, |_| true);
        }
    }
    if is_exception {
        span.exception = given;
        return;
    }
    let name = Read::bytes(name).noted("an event's name", &mut span.altered);
    span.add_event(Event::new(&name, time, given));
}

fn link(message: &[u8], span: &mut Span<'_>) {
    let (mut trace_id, mut span_id, mut state): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let mut given = Given::default();
    for field in Fields(message).map_while(Result::ok) {
        match field {
            (1, Wire::Bytes(bytes)) => trace_id = bytes,
            (2, Wire::Bytes(bytes)) => span_id = bytes,
            (3, Wire::Bytes(bytes)) => state = bytes,
            (4, Wire::Bytes(message)) => attribute(message, &mut given, |_| true),
            _ => {}
        }
    }
    let state = Read::bytes(state).noted("a link's trace state", &mut span.altered);
    span.add_link(Link::new(trace_id, span_id, &state, given));
}

fn attribute(message: &[u8], given: &mut Given, wanted: impl Fn(&str) -> bool) {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut damage = None;
    for field in Fields(message) {
        match field {
            Ok((1, Wire::Bytes(bytes))) => key = bytes,
            Ok((2, Wire::Bytes(bytes))) => value = bytes,
            Ok(_) => {}
            Err(reason) => damage = Some(reason),
        }
    }
    let key = Read::bytes(key);
    if wanted(&key.kept) {
        let read = damage.map_or_else(|| any_value(value), |reason| Err(reason.to_owned()));
        given.add(&key, read);
    }
}

/// An `AnyValue`: the last of its fields, as protobuf says of a `oneof`. One without a field is empty.
fn one_of(message: &[u8]) -> Result<Option<(u32, Wire<'_>)>, String> {
    let mut last = None;
    for field in Fields(message) {
        match field? {
            field @ (1 | 5..=7, Wire::Bytes(_)) | field @ (2..=4, Wire::Number(_)) => last = Some(field),
            _ => {}
        }
    }
    Ok(last)
}

fn any_value(message: &[u8]) -> Result<Option<Read<Value>>, String> {
    let value = match one_of(message)? {
        Some((1, Wire::Bytes(bytes))) => return Ok(Some(Read::bytes(bytes).into_value())),
        Some((2, Wire::Number(truth))) => Value::Bool(truth != 0),
        Some((3, Wire::Number(bits))) => Value::Integer(bits.cast_signed()),
        Some((4, Wire::Number(bits))) => super::float(f64::from_bits(bits)),
        Some((7, Wire::Bytes(bytes))) => {
            let kept = bytes.get(..MAX_VALUE / 4 * 3).unwrap_or(bytes);
            let altered = (kept.len() < bytes.len()).then_some(CUT);
            return Ok(Some(Read { kept: Value::from(base64(kept)), altered }));
        }
        Some(_) => {
            let mut json = Nested::default();
            json.write(message, 0)?;
            let altered = json.replaced.then_some(REPLACED);
            return Ok(Some(Read { kept: Value::Json(json.out.into()), altered }));
        }
        None => return Ok(None),
    };
    Ok(Some(value.into()))
}

/// A nested value as JSON.
#[derive(Default)]
struct Nested {
    out: String,
    /// Whether characters were replaced.
    replaced: bool,
}

impl Nested {
    /// Writes an `AnyValue` in what is nested `depth` deep.
    fn write(&mut self, message: &[u8], depth: usize) -> Result<(), String> {
        match one_of(message)? {
            Some((1, Wire::Bytes(bytes))) => self.write_text(bytes),
            Some((2, Wire::Number(truth))) => self.out.push_str(if truth == 0 { "false" } else { "true" }),
            Some((3, Wire::Number(bits))) => {
                self.out.push_str(&Value::Integer(bits.cast_signed()).as_text());
            }
            Some((4, Wire::Number(bits))) => match super::float(f64::from_bits(bits)) {
                Value::Text(text) => self.write_text(text.as_bytes()),
                number => self.out.push_str(&number.as_text()),
            },
            Some((kind @ (5 | 6), Wire::Bytes(values))) => {
                if depth >= MAX_DEPTH {
                    return Err(format!("nested deeper than {MAX_DEPTH}"));
                }
                let [open, close] = if kind == 5 { ['[', ']'] } else { ['{', '}'] };
                self.out.push(open);
                let mut separator = "";
                for field in Fields(values) {
                    let (1, Wire::Bytes(value)) = field? else { continue };
                    self.out.push_str(std::mem::replace(&mut separator, ","));
                    if kind == 5 {
                        self.write(value, depth + 1)
                    } else {
                        self.write_entry(value, depth + 1)
                    }?;
                }
                self.out.push(close);
            }
            Some((7, Wire::Bytes(bytes))) => self.write_text(base64(bytes).as_bytes()),
            _ => self.out.push_str("null"),
        }
        if self.out.len() > MAX_VALUE { Err(format!("longer than {MAX_VALUE} bytes")) } else { Ok(()) }
    }

    /// Writes a `KeyValue`.
    fn write_entry(&mut self, message: &[u8], depth: usize) -> Result<(), String> {
        let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
        for field in Fields(message) {
            match field? {
                (1, Wire::Bytes(bytes)) => key = bytes,
                (2, Wire::Bytes(bytes)) => value = bytes,
                _ => {}
            }
        }
        self.write_text(key);
        self.out.push(':');
        self.write(value, depth)
    }

    fn write_text(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.replaced |= matches!(text, Cow::Owned(_));
        super::json::write_text(&text, &mut self.out);
    }
}

/// Bytes as JSON's mapping of protobuf writes them.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4_usize {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            out.push(char::from(if place <= group.len() { digit } else { b'=' }));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_padded() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
        assert_eq!(super::base64(&[0xff, 0xfe]), "//4=");
    }
}
