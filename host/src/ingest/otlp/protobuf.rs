//! An `ExportTraceServiceRequest` in protobuf, walked field by field.
//!
//! Generated messages are all or nothing: one bad byte in one attribute fails the whole request, and a list of empty
//! messages becomes many times its size in memory. So the wire is read field by field, where it lies, and nothing is built
//! but what is kept. Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`.

use super::given::Given;
use super::{Decoded, Span, Unreadable};
use crate::ingest::otlp::mapping::Resource;
use crate::ingest::{MAX_DEPTH, MAX_VALUE, cut};
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

pub(super) fn request(body: &[u8], decoded: &mut Decoded) -> Result<(), Unreadable> {
    let mut at = 0;
    for field in Fields(body) {
        if let (1, Wire::Bytes(spans)) = field.map_err(malformed("request"))? {
            resource_spans(spans, decoded, &malformed(&format!("resource_spans {at}")))?;
            at += 1;
        }
    }
    Ok(())
}

fn resource_spans(
    message: &[u8],
    decoded: &mut Decoded,
    malformed: &dyn Fn(&'static str) -> Unreadable,
) -> Result<(), Unreadable> {
    let mut given = Given::default();
    // The resource may come after the spans that it made.
    for field in Fields(message) {
        if let (1, Wire::Bytes(resource)) = field.map_err(malformed)? {
            // What is wrong with the resource costs no span; what of it can be read is kept.
            for field in Fields(resource).map_while(Result::ok) {
                if let (1, Wire::Bytes(attribute)) = field {
                    given.add(key_value(attribute));
                }
            }
        }
    }
    let resource = Resource::new(given);
    for field in Fields(message) {
        let (2, Wire::Bytes(scope)) = field.map_err(malformed)? else { continue };
        for field in Fields(scope) {
            if let (2, Wire::Bytes(message)) = field.map_err(malformed)? {
                decoded.more()?;
                decoded.add(span(message, decoded.begin(&resource)), &resource);
            }
        }
    }
    Ok(())
}

fn span<'a>(message: &'a [u8], mut span: Span<'a>) -> Result<Span<'a>, String> {
    for field in Fields(message) {
        match field? {
            (1, Wire::Bytes(id)) => span.trace_id = id.into(),
            (2, Wire::Bytes(id)) => span.span_id = id.into(),
            (4, Wire::Bytes(id)) => span.parent_span_id = id.into(),
            (5, Wire::Bytes(name)) => span.name = text(name),
            (6, Wire::Number(kind)) => span.kind = kind,
            (7, Wire::Number(time)) => span.start = time,
            (8, Wire::Number(time)) => span.end = time,
            (9, Wire::Bytes(attribute)) => span.attributes.add(key_value(attribute)),
            (10, Wire::Number(count)) => span.attributes.dropped = count,
            (11, Wire::Bytes(event)) => exception(event, &mut span),
            (15, Wire::Bytes(status)) => {
                for field in Fields(status).map_while(Result::ok) {
                    match field {
                        (2, Wire::Bytes(message)) => span.message = text(message),
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

fn text(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.get(..MAX_VALUE + 4).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

fn exception(event: &[u8], span: &mut Span<'_>) {
    let name =
        Fields(event).map_while(Result::ok).any(|field| matches!(field, (2, Wire::Bytes(b"exception"))));
    if !name {
        return;
    }
    let mut given = Given::default();
    for field in Fields(event).map_while(Result::ok) {
        if let (3, Wire::Bytes(attribute)) = field {
            given.add(key_value(attribute));
        }
    }
    span.exception = given;
}

fn key_value(message: &[u8]) -> Result<Option<(Cow<'_, str>, Value)>, String> {
    let (mut key, mut value) = (None, None);
    let mut damage = None;
    for field in Fields(message) {
        match field {
            Ok((1, Wire::Bytes(bytes))) => key = Some(text(bytes)),
            Ok((2, Wire::Bytes(bytes))) => value = Some(bytes),
            Ok(_) => {}
            Err(reason) => damage = Some(reason),
        }
    }
    let key = key.unwrap_or_default();
    let named = |reason: &str| format!("attribute {:?}: {reason}", cut(&key, 64));
    if let Some(reason) = damage {
        return Err(named(reason));
    }
    let Some(value) = any_value(value.unwrap_or_default()).map_err(|reason| named(&reason))? else {
        return Ok(None);
    };
    Ok(Some((key, value)))
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

fn any_value(message: &[u8]) -> Result<Option<Value>, String> {
    Ok(Some(match one_of(message)? {
        Some((1, Wire::Bytes(bytes))) => Value::from(&*text(bytes)),
        Some((2, Wire::Number(truth))) => Value::Bool(truth != 0),
        Some((3, Wire::Number(bits))) => Value::Integer(bits.cast_signed()),
        Some((4, Wire::Number(bits))) => Value::Float(f64::from_bits(bits)),
        Some((7, Wire::Bytes(bytes))) => Value::from(base64(bytes)),
        Some(_) => {
            let mut json = String::new();
            write_json(message, &mut json, 0)?;
            Value::Json(json.into())
        }
        None => return Ok(None),
    }))
}

fn write_json(message: &[u8], out: &mut String, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    if out.len() > MAX_VALUE {
        return Err(format!("longer than {MAX_VALUE} bytes"));
    }
    match one_of(message)? {
        Some((1, Wire::Bytes(bytes))) => super::json::write_text(&String::from_utf8_lossy(bytes), out),
        Some((2, Wire::Number(truth))) => out.push_str(if truth == 0 { "false" } else { "true" }),
        Some((3, Wire::Number(bits))) => out.push_str(&Value::Integer(bits.cast_signed()).as_text()),
        Some((4, Wire::Number(bits))) => super::json::write_float(f64::from_bits(bits), out),
        Some((5, Wire::Bytes(list))) => {
            out.push('[');
            let mut separator = "";
            for field in Fields(list) {
                if let (1, Wire::Bytes(item)) = field? {
                    out.push_str(separator);
                    separator = ",";
                    write_json(item, out, depth + 1)?;
                }
            }
            out.push(']');
        }
        Some((6, Wire::Bytes(map))) => {
            out.push('{');
            let mut separator = "";
            for field in Fields(map) {
                let (1, Wire::Bytes(entry)) = field? else { continue };
                let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
                for field in Fields(entry) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => key = bytes,
                        (2, Wire::Bytes(bytes)) => value = bytes,
                        _ => {}
                    }
                }
                out.push_str(separator);
                separator = ",";
                super::json::write_text(&String::from_utf8_lossy(key), out);
                out.push(':');
                write_json(value, out, depth + 1)?;
            }
            out.push('}');
        }
        Some((7, Wire::Bytes(bytes))) => super::json::write_text(&base64(bytes), out),
        _ => out.push_str("null"),
    }
    Ok(())
}

/// Bytes as JSON's mapping of protobuf writes them.
fn base64(bytes: &[u8]) -> String {
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
