//! The forms in which a secret may stand in a text.
//!
//! Invariant: what is found is a range of the text as it is, whatever was decoded to find it.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use std::ops::Range;

/// How many times a text is decoded: JSON within JSON, for one.
const DEPTH: usize = 2;

/// What `value` holds where it is in base64, with or without a scheme before it: `user:secret`, and the secret.
pub(super) fn credentials(value: &str) -> Vec<String> {
    let token = value.trim().rsplit(' ').next().unwrap_or_default();
    let decoded = BASE64_STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(decoded) = decoded.filter(|text| !text.chars().any(char::is_control)) else { return Vec::new() };
    match decoded.split_once(':') {
        Some((_, secret)) => vec![secret.to_owned(), decoded],
        None => Vec::new(),
    }
}

/// What every base64 text that holds `secret` has in it, wherever in its plain text the secret begins: the characters that
/// do not depend on what stands around it.
pub(super) fn base64(secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for before in 0..3 {
        let plain = [vec![0; before].as_slice(), secret.as_bytes()].concat();
        let (first, end) = ((before * 8).div_ceil(6), plain.len() * 8 / 6);
        for encoded in [BASE64_STANDARD_NO_PAD.encode(&plain), BASE64_URL_SAFE_NO_PAD.encode(&plain)] {
            found.extend(encoded.get(first..end).map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Where in `text` a secret stands: ranges in order that do not touch.
pub(super) fn find(text: &str, plain: &[String], encoded: &[String]) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut views = vec![View::of(text)];
    for depth in 0..=DEPTH {
        let mut next = Vec::new();
        for view in &views {
            view.search(plain, encoded, &mut spans);
            if depth < DEPTH {
                next.extend(
                    [view.unescaped(), view.percent_decoded(false), view.percent_decoded(true)]
                        .into_iter()
                        .flatten(),
                );
            }
        }
        views = next;
    }
    spans.sort_by_key(|span: &Range<usize>| (span.start, span.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

/// A text, decoded, and where each of its bytes comes from.
struct View {
    bytes: Vec<u8>,
    /// The range of the source that each byte stands for; absent: itself.
    from: Option<Vec<Range<usize>>>,
}

impl View {
    fn of(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), from: None }
    }

    /// The range of the source that stands behind `range`.
    fn source(&self, range: Range<usize>) -> Option<Range<usize>> {
        match &self.from {
            None => Some(range),
            Some(from) => Some(from.get(range.start)?.start..from.get(range.end.checked_sub(1)?)?.end),
        }
    }

    fn search(&self, plain: &[String], encoded: &[String], spans: &mut Vec<Range<usize>>) {
        for secret in plain {
            for at in occurrences(&self.bytes, secret.as_bytes()) {
                spans.extend(self.source(at..at + secret.len()));
            }
        }
        for part in encoded {
            for at in occurrences(&self.bytes, part.as_bytes()) {
                // All of the token: what is beside the part holds the rest of the secret.
                let is_outside = |byte: &u8| !is_base64(*byte);
                let before = self.bytes.get(..at).unwrap_or_default();
                let start = before.iter().rposition(is_outside).map_or(0, |outside| outside + 1);
                let after = self.bytes.get(at..).unwrap_or_default();
                let end = after.iter().position(is_outside).map_or(self.bytes.len(), |outside| at + outside);
                spans.extend(self.source(start..end));
            }
        }
    }

    /// Decodes with `decode`, which says for a rest of the text what its beginning stands for and how long that is. Absent if
    /// nothing is encoded.
    fn decoded(&self, decode: impl Fn(&[u8]) -> Option<(char, usize)>, raw: bool) -> Option<Self> {
        let (mut bytes, mut from) = (Vec::with_capacity(self.bytes.len()), Vec::new());
        let (mut at, mut changed) = (0, false);
        while let Some((first, _)) = self.bytes.get(at..).and_then(<[u8]>::split_first) {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let (start, length) = (
                bytes.len(),
                match decode(rest) {
                    Some((letter, length)) => {
                        changed = true;
                        if raw {
                            bytes.push(u8::try_from(u32::from(letter)).unwrap_or(b'?'));
                        } else {
                            bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        length
                    }
                    None => {
                        bytes.push(*first);
                        1
                    }
                },
            );
            let source = self.source(at..at + length)?;
            from.extend(std::iter::repeat_n(source, bytes.len() - start));
            at += length;
        }
        changed.then_some(Self { bytes, from: Some(from) })
    }

    /// Without the escapes of JSON, HTML and Rust.
    fn unescaped(&self) -> Option<Self> {
        if !self.bytes.iter().any(|byte| matches!(byte, b'\\' | b'&')) {
            return None;
        }
        self.decoded(unescape, false)
    }

    /// Without percent-encoding; `plus` stands for a space in forms.
    fn percent_decoded(&self, plus: bool) -> Option<Self> {
        if !self.bytes.iter().any(|byte| *byte == b'%' || plus && *byte == b'+') {
            return None;
        }
        let decode = |rest: &[u8]| match rest {
            [b'%', high, low, ..] => Some((char::from(hex(*high)? * 16 + hex(*low)?), 3)),
            [b'+', ..] if plus => Some((' ', 1)),
            _ => None,
        };
        self.decoded(decode, true)
    }
}

fn unescape(rest: &[u8]) -> Option<(char, usize)> {
    const ENTITIES: [(&[u8], char); 7] = [
        (b"&amp;", '&'),
        (b"&lt;", '<'),
        (b"&gt;", '>'),
        (b"&quot;", '"'),
        (b"&apos;", '\''),
        (b"&#39;", '\''),
        (b"&#34;", '"'),
    ];
    let plain = match rest {
        [b'&', ..] => {
            let (entity, letter) = ENTITIES.iter().find(|(entity, _)| rest.starts_with(entity))?;
            return Some((*letter, entity.len()));
        }
        [b'\\', b'u', b'{', digits @ ..] => {
            let count = digits.iter().take(6).take_while(|digit| hex(**digit).is_some()).count();
            let end = digits.get(count).filter(|end| **end == b'}' && count > 0);
            let letter = end.and_then(|_| number(digits.get(..count)?)).and_then(char::from_u32)?;
            return Some((letter, count + 4));
        }
        [b'\\', b'u', digits @ ..] => {
            let unit = digits.get(..4).and_then(number)?;
            let second = digits.get(4..10).and_then(|more| more.strip_prefix(b"\\u")).and_then(number);
            return match (char::from_u32(unit), second) {
                (Some(letter), _) => Some((letter, 6)),
                (None, Some(second)) => {
                    let high = unit.checked_sub(0xd800).filter(|high| *high < 0x400)?;
                    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    Some((char::from_u32(0x10000 + high * 0x400 + low)?, 12))
                }
                (None, None) => None,
            };
        }
        [b'\\', letter, ..] => match letter {
            b'"' | b'\\' | b'/' | b'\'' => char::from(*letter),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'0' => '\0',
            _ => return None,
        },
        _ => return None,
    };
    Some((plain, 2))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |sum, digit| Some(sum * 16 + u32::from(hex(*digit)?)))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// Where `part`, which is not empty, begins in `text`.
fn occurrences<'a>(text: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = part.first().copied();
    let starts = text.iter().enumerate().filter(move |(_, byte)| Some(**byte) == first).map(|(at, _)| at);
    starts.filter(move |at| text.get(*at..).is_some_and(|rest| rest.starts_with(part)))
}

#[cfg(test)]
mod tests {
    use super::super::{REDACTED, Secrets};
    use super::*;
    use base64::prelude::BASE64_URL_SAFE;
    use proptest::prelude::*;

    /// Every form of a secret that a server may send back, with the name of the form.
    fn forms(secret: &str) -> Vec<(&'static str, String)> {
        let json_of = |text: &str| {
            let quoted = serde_json::to_string(text).unwrap();
            quoted[1..quoted.len() - 1].to_owned()
        };
        let percent = |upper: bool| {
            let encode = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            secret.bytes().map(encode).collect::<String>()
        };
        let reserved = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        let debug = format!("{secret:?}");
        let units: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let mut forms = vec![
            ("plain", secret.to_owned()),
            ("in JSON", json_of(secret)),
            ("in JSON in JSON", json_of(&json_of(secret))),
            ("as code units", units),
            ("for a debugger", debug[1..debug.len() - 1].to_owned()),
            ("percent-encoded", percent(true)),
            ("percent-encoded in lower case", percent(false)),
            ("percent-encoded where needed", secret.bytes().map(reserved).collect()),
            (
                "of a form",
                secret.bytes().map(|b| if b == b' ' { "+".to_owned() } else { reserved(b) }).collect(),
            ),
            ("in HTML", secret.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")),
        ];
        for before in ["", "u:", "user:", "id-7:", "elastic-user:"] {
            for after in ["", ":x", "\n"] {
                let plain = format!("{before}{secret}{after}");
                let standard = BASE64_STANDARD.encode(&plain);
                forms.push(("in base64, percent-encoded", standard.replace('+', "%2B").replace('=', "%3d")));
                forms.push(("in base64, in JSON", standard.replace('/', "\\/")));
                forms.push(("in base64", standard));
                forms.push(("in base64 without padding", BASE64_STANDARD_NO_PAD.encode(&plain)));
                forms.push(("in base64 for URLs", BASE64_URL_SAFE.encode(&plain)));
                forms.push(("in base64 for URLs without padding", BASE64_URL_SAFE_NO_PAD.encode(&plain)));
            }
        }
        forms
    }

    #[test]
    fn a_secret_is_found_in_every_form_in_which_it_is_sent() {
        for secret in ["hunter2-hunter2", "pä\"ss\\wörd&/?+ %<", "VnVhQ2ZHY0JDZGJrU", "tiny", "~~~???>>>ÿÿ"]
        {
            let secrets = Secrets::new([secret.to_owned()]);
            for (name, form) in forms(secret) {
                let text = format!("he said: Authorization: Basic {form}, and no more");
                let told = secrets.redact(&text);
                assert!(told.contains(REDACTED), "{secret} {name}: {told}");
                assert!(
                    told.starts_with("he said: Authorization: ") && told.ends_with(" and no more"),
                    "{told}"
                );
                let shown = told.replace(REDACTED, "");
                assert!(!shown.contains(&form), "{secret} {name}: {told}");
                assert!(shown.len() < text.len() - form.len() / 2, "{secret} {name}: {told}");
            }
        }
    }

    #[test]
    fn credentials_that_are_configured_in_base64_are_found_decoded() {
        let encoded = BASE64_STANDARD.encode("id-7:hunter2-hunter2");
        for value in [encoded.clone(), format!("Basic {encoded}")] {
            let secrets = Secrets::new([value]);
            assert_eq!(secrets.redact("no hunter2-hunter2 here"), format!("no {REDACTED} here"));
            assert_eq!(secrets.redact(&format!("no {encoded} here")), format!("no {REDACTED} here"));
        }
    }

    #[test]
    fn the_end_of_a_text_that_was_cut_shows_no_part_of_a_secret() {
        let secrets = Secrets::new(["hunter2-hunter2".to_owned()]);
        let text = format!("{} hunter2-hun", "x".repeat(200));
        let told = secrets.redact_cut(&text);
        assert!(told.len() > 100 && !told.contains('h'), "{told}");
    }

    proptest! {
        #[test]
        fn what_has_no_secret_in_it_is_told_as_it_is(text in "([ -$*-~é]|%[0-9a-f]{2}|\\\\u00e9){0,200}") {
            let secrets = Secrets::new(["\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}".to_owned()]);
            prop_assert_eq!(secrets.redact(&text), text.as_str());
        }
    }
}
