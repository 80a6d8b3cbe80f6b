//! Text from outside, made safe for people to look at.
//!
//! Invariant: what comes out cannot steer a terminal, break a line, hide a character or change the order of what stands
//! around it. Text without such characters comes out as it is.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// Whether `c` does something to what shows it, rather than being shown.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Without width; marks, embeddings, overrides and isolates of direction; separators of lines and paragraphs.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotations, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// `text` on one line: `\n`, `\u{1b}`, `\u{202e}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// `text` of several lines: as [`line()`], and newlines stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n')
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let must_go = |c: char| acts(c) && !stays(c);
    if !text.contains(must_go) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if must_go(c) {
            push(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
}

/// A path or the name of a file, as [`line()`]; a byte that is not UTF-8 is `\xff`. Two different names of which neither has a
/// backslash never look the same.
pub fn path(path: impl AsRef<Path>) -> String {
    let mut out = String::new();
    for chunk in path.as_ref().as_os_str().as_encoded_bytes().utf8_chunks() {
        out.push_str(&line(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// JSON that means the same and is safe to look at. What JSON itself escapes has been escaped when it was made.
pub fn json(text: Vec<u8>) -> Vec<u8> {
    // Everything below is either printable, escaped already, or a newline between two documents.
    if text.iter().all(|byte| *byte < 0x7f) {
        return text;
    }
    let Ok(valid) = std::str::from_utf8(&text) else { return text };
    let must_go = |c: char| c >= '\u{7f}' && acts(c);
    if !valid.contains(must_go) {
        return text;
    }
    let mut out = String::with_capacity(valid.len() + 16);
    for c in valid.chars() {
        if must_go(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_and_the_rest_stays() {
        assert!(matches!(line("größer 日本 \\ 🦀"), Cow::Borrowed("größer 日本 \\ 🦀")));
        let hostile =
            "\u{1b}[2J\u{1b}]0;x\u{7}\r\n\t\u{9b}31m\u{202e}\u{2066}\u{2028}\u{200b}\u{feff}\u{e0041}\u{7f}";
        let shown = line(hostile);
        assert!(!shown.contains(acts), "{shown:?}");
        assert!(
            shown.starts_with("\\u{1b}[2J\\u{1b}]0;x\\u{7}\\r\\n\\t\\u{9b}31m\\u{202e}\\u{2066}"),
            "{shown}"
        );
        assert_eq!(lines("a\nb\u{1b}\r\n"), "a\nb\\u{1b}\\r\n");
    }

    #[test]
    fn json_means_the_same_and_has_nothing_that_acts() {
        let hostile = "\u{1b}]0;\u{9b}\u{202e}\u{2028}\u{7f}\u{e0041}é";
        let json_lines = format!("{}\n", serde_json::json!({ hostile: hostile }));
        let safe = String::from_utf8(json(json_lines.clone().into_bytes())).unwrap();
        assert!(!safe.trim_end().contains(acts), "{safe:?}");
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parsed(&safe), parsed(&json_lines));
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf_8_is_shown_byte_by_byte() {
        use std::os::unix::ffi::OsStrExt;
        let name = |bytes: &'static [u8]| std::ffi::OsStr::from_bytes(bytes);
        assert_eq!(path(name(b"plugins/x\xff\xc3\x1b.wasm")), "plugins/x\\xff\\xc3\\u{1b}.wasm");
        assert_eq!(path("plain/größe.wasm"), "plain/größe.wasm");
    }
}
