//! JSON as it was sent: objects and lists are walked without being built, numbers keep every digit.
//!
//! Invariant: nothing here recurses by the input's depth, and nothing is allocated per element.

use super::{MAX_DEPTH, MAX_VALUE, Unreadable};
use crate::record::Value;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A text that is borrowed where it holds no escape.
#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

struct Fields<'a, F>(F, PhantomData<&'a ()>);

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for Fields<'de, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Borrowed(key), value)) = map.next_entry()? {
            (self.0)(key, value);
        }
        Ok(())
    }
}

struct Items<'a, F>(F, PhantomData<&'a ()>);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Items<'de, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

/// Hands every key and value of an object to `field`; `null` has none.
pub(super) fn each_field<'a>(
    object: &'a RawValue,
    field: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), serde_json::Error> {
    if is_null(object) {
        return Ok(());
    }
    serde_json::Deserializer::from_str(object.get()).deserialize_map(Fields(field, PhantomData))
}

/// Hands every item of a list to `item`; `null` has none.
pub(super) fn each_item<'a>(
    list: &'a RawValue,
    item: impl FnMut(&'a RawValue),
) -> Result<(), serde_json::Error> {
    if is_null(list) {
        return Ok(());
    }
    serde_json::Deserializer::from_str(list.get()).deserialize_seq(Items(item, PhantomData))
}

/// Whether it is `null`.
pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// A text; `None` for anything else.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    if !raw.get().starts_with('"') {
        return None;
    }
    serde_json::from_str(raw.get()).ok().map(|Borrowed(text)| text)
}

/// What is written in it: a text without its quotes, or a number as it stands. For numbers that may come as texts.
pub(super) fn token(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get().as_bytes().first() {
        Some(b'"') => text(raw),
        Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(raw.get())),
        _ => None,
    }
}

/// A number, by its JSON text. Whole numbers beyond 64 bits keep their digits; what no reader of JSON could hold
/// stays readable as text.
pub(super) fn number(token: &str) -> Value {
    if let Ok(integer) = token.parse::<i64>() {
        return Value::Integer(integer);
    }
    match token.parse::<f64>() {
        Ok(float) if float.is_finite() => {
            if token.contains(['.', 'e', 'E']) {
                Value::Float(float)
            } else {
                Value::Json(token.into())
            }
        }
        _ => Value::Text(token.into()),
    }
}

/// An attribute's value; `None` for `null`.
pub(super) fn value(raw: &RawValue) -> Result<Option<Value>, String> {
    let value = match raw.get().as_bytes().first() {
        Some(b'"') => Value::Text(text(raw).ok_or("is not readable text")?.into()),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'{' | b'[') => Value::Json(compact(raw.get()).into()),
        Some(b'-' | b'0'..=b'9') => number(raw.get()),
        _ => return Ok(None),
    };
    match &value {
        Value::Text(text) if text.len() > MAX_VALUE => {
            Err(format!("must not be longer than {MAX_VALUE} bytes; it has {}", text.len()))
        }
        Value::Json(json) if json.len() > MAX_VALUE => Err(format!(
            "must not be longer than {MAX_VALUE} bytes without white space; it has {}",
            json.len()
        )),
        Value::Json(json) if json.starts_with(['{', '[']) => nested(json).map(|()| Some(value)),
        _ => Ok(Some(value)),
    }
}

/// Whether a list or an object can be kept.
fn nested(json: &str) -> Result<(), String> {
    if depth(json) > MAX_DEPTH {
        return Err(format!("must not be nested deeper than {MAX_DEPTH}"));
    }
    // The scan that brought it here checked the grammar, not that its numbers and escapes mean something.
    serde_json::from_str::<serde_json::Value>(json).map(drop).map_err(|error| without_place(&error))
}

/// How deep lists and objects are nested in valid JSON.
pub(super) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    each_outside_of_texts(json, |byte| match byte {
        b'{' | b'[' => {
            depth += 1;
            deepest = deepest.max(depth);
        }
        b'}' | b']' => depth = depth.saturating_sub(1),
        _ => {}
    });
    deepest
}

/// Valid JSON without the white space between its tokens: it may become part of a line.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_text = false;
    let mut escaped = false;
    for character in json.chars() {
        if in_text {
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character == '"' {
            in_text = true;
        } else if character.is_ascii_whitespace() {
            continue;
        }
        out.push(character);
    }
    out
}

fn each_outside_of_texts(json: &str, mut each: impl FnMut(u8)) {
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte == b'"' {
            in_text = true;
        } else {
            each(byte);
        }
    }
}

/// An error of serde_json without the line and column in the fragment that was read, which say nothing to the sender.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// A body as text, and where it is not what was sent.
#[derive(Debug)]
pub(super) struct Readable<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where characters were replaced, in ascending order.
    replaced: Vec<usize>,
}

/// Replaced characters of one body, at most: one with more is no text in UTF-8.
const MAX_REPLACED: usize = 100_000;

impl Readable<'_> {
    /// Whether a character was replaced in `part`, a slice of the text.
    pub(super) fn is_altered(&self, part: &str) -> bool {
        if self.replaced.is_empty() {
            return false;
        }
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let next = self.replaced.partition_point(|at| *at < start);
        self.replaced.get(next).is_some_and(|at| *at < start + part.len())
    }
}

/// The body as text. What is not UTF-8, and halves of surrogate pairs (JavaScript writes them where it cut a text
/// within a character), become U+FFFD: a bad character is not worth a request.
///
/// # Errors
///
/// So much of it is not UTF-8 that it is something else.
pub(super) fn readable(body: &[u8]) -> Result<Readable<'_>, Unreadable> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut replaced = Vec::new();
    let mut text = match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(body.len());
            for chunk in body.utf8_chunks() {
                text.push_str(chunk.valid());
                if !chunk.invalid().is_empty() && replaced.len() <= MAX_REPLACED {
                    replaced.push(text.len());
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
            Cow::Owned(text)
        }
    };
    let halves = half_surrogates(&text);
    if replaced.len() + halves.len() > MAX_REPLACED {
        let message = format!("the body is not UTF-8: more than {MAX_REPLACED} characters are invalid");
        return Err(Unreadable::Malformed { line: None, message });
    }
    if !halves.is_empty() {
        let text = text.to_mut();
        for at in &halves {
            text.replace_range(*at..at + 6, "\\ufffd");
        }
        replaced.extend(halves);
        replaced.sort_unstable();
    }
    Ok(Readable { text, replaced })
}

/// Where `\uD800` to `\uDFFF` stands without its other half.
fn half_surrogates(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return found;
    }
    let unit = |at: usize| {
        let escape = text.get(at..at + 6)?;
        u16::from_str_radix(escape.strip_prefix("\\u")?, 16).ok()
    };
    let mut at = 0;
    while let Some(backslash) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += backslash;
        at += match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                found.push(at);
                6
            }
            // An escaped backslash must not make an escape of what follows it.
            _ => 1 + text.get(at + 1..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn numbers_keep_what_they_are() {
        assert_eq!(number("-3"), Value::Integer(-3));
        assert_eq!(number("2.50"), Value::Float(2.5));
        assert_eq!(number("1e3"), Value::Float(1000.0));
        assert_eq!(number("18446744073709551617"), Value::Json("18446744073709551617".into()));
        assert_eq!(number("1e400"), Value::Text("1e400".into()));
    }

    #[test]
    fn nested_values_are_compact_and_bounded() {
        let value = value(raw("{ \"a b\" : [ 1 ,\n \"\\\" x\" ] }")).unwrap().unwrap();
        assert_eq!(value, Value::Json(r#"{"a b":[1,"\" x"]}"#.into()));
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert!(super::value(raw(&deep)).unwrap_err().contains("nested deeper than 64"));
        assert!(super::value(raw("[1e999]")).unwrap_err().contains("number out of range"));
        assert_eq!(super::value(raw("null")), Ok(None));
    }

    #[test]
    fn a_value_is_measured_and_not_its_escaped_json() {
        let quoted = |text: String| serde_json::to_string(&text).unwrap();
        for text in ["y".repeat(MAX_VALUE), "\n".repeat(MAX_VALUE), "é".repeat(MAX_VALUE / 2)] {
            assert_eq!(value(raw(&quoted(text.clone()))), Ok(Some(Value::from(text))));
        }
        let long = value(raw(&quoted("y".repeat(MAX_VALUE + 1)))).unwrap_err();
        assert_eq!(long, "must not be longer than 65536 bytes; it has 65537");
        let blanks = format!("[{}1]", " ".repeat(MAX_VALUE));
        assert_eq!(value(raw(&blanks)), Ok(Some(Value::Json("[1]".into()))));
        assert!(
            value(raw(&format!("[{}]", "1,".repeat(MAX_VALUE) + "1")))
                .unwrap_err()
                .contains("without white space")
        );
        assert!(value(raw(&"9".repeat(MAX_VALUE + 1))).is_err());
    }

    fn read(body: &[u8]) -> String {
        readable(body).unwrap().text.into_owned()
    }

    #[test]
    fn half_characters_do_not_cost_a_body() {
        assert_eq!(read(br#"{"a":"x\ud83d"}"#), r#"{"a":"x\ufffd"}"#);
        assert_eq!(read(br#"{"a":"\ud83d\ude00 \\ud83d \udE00"}"#), r#"{"a":"\ud83d\ude00 \\ud83d \ufffd"}"#);
        assert_eq!(read(b"\xef\xbb\xbf\"\xff\""), "\"\u{fffd}\"");
    }

    #[test]
    fn what_was_replaced_is_known_by_its_place() {
        let body = readable(b"\"\xff\" \"\xef\xbf\xbd\" \"\\udc00\" \"a\"").unwrap();
        let altered: Vec<_> = body.text.split(' ').map(|part| body.is_altered(part)).collect();
        assert_eq!(
            altered,
            [true, false, true, false],
            "a replacement character that was sent is none of ours"
        );
        let error = readable(&[0xff; MAX_REPLACED + 1]).unwrap_err().to_string();
        assert!(error.starts_with("the body is not UTF-8"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_readable(body in proptest::collection::vec(any::<u8>(), 0..200), text in "(\\\\|u|d|8|3|D|\"|é){0,40}") {
            read(&body);
            read(text.as_bytes());
        }

        #[test]
        fn readable_text_is_left_as_it_is(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(read(json.as_bytes()), json.as_str());
        }
    }
}
