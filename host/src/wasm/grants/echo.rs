//! Injected secrets that a server sends back.
//!
//! Invariant: no byte of a secret that arrives verbatim is handed on, wherever the chunks of the answer are cut: an end
//! that a secret may begin with is held back until it is known.

use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;

/// The answer holds a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Echoed;

/// What no answer may hold. None is empty.
#[derive(Clone, Default)]
pub(super) struct Guarded(Arc<[String]>);

impl Guarded {
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        secrets.sort();
        secrets.dedup();
        Self(secrets.into())
    }

    /// These, and some more.
    pub(super) fn with(self, more: Vec<String>) -> Self {
        if more.is_empty() { self } else { Self::new(self.0.iter().cloned().chain(more)) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn headers(&self, headers: &HeaderMap) -> Result<(), Echoed> {
        let found = headers.iter().any(|(name, value)| {
            self.found_in(value.as_bytes())
                || self.0.iter().any(|secret| name.as_str().contains(&secret.to_ascii_lowercase()))
        });
        if found { Err(Echoed) } else { Ok(()) }
    }

    fn found_in(&self, text: &[u8]) -> bool {
        self.0.iter().any(|secret| text.windows(secret.len()).any(|window| window == secret.as_bytes()))
    }

    /// The length of the longest end of `text` that a secret begins with.
    fn begun_in(&self, text: &[u8]) -> usize {
        let begun = |secret: &String| {
            let most = text.len().min(secret.len().saturating_sub(1));
            (1..=most)
                .rev()
                .find(|length| secret.as_bytes().get(..*length) == text.get(text.len() - length..))
        };
        self.0.iter().filter_map(begun).max().unwrap_or(0)
    }
}

/// Looks through one answer's body.
pub(super) struct Echo {
    guarded: Guarded,
    held_back: Vec<u8>,
}

impl Echo {
    pub(super) fn new(guarded: Guarded) -> Self {
        Self { guarded, held_back: Vec::new() }
    }

    /// What of the body may be handed on now that `chunk` has come.
    pub(super) fn pass(&mut self, chunk: Bytes) -> Result<Bytes, Echoed> {
        let text = if self.held_back.is_empty() {
            chunk
        } else {
            let mut text = std::mem::take(&mut self.held_back);
            text.extend_from_slice(&chunk);
            text.into()
        };
        if self.guarded.found_in(&text) {
            return Err(Echoed);
        }
        let end = text.len() - self.guarded.begun_in(&text);
        self.held_back = text.get(end..).unwrap_or_default().to_vec();
        Ok(text.slice(..end))
    }

    /// What is left when the body has ended.
    pub(super) fn rest(self) -> Bytes {
        self.held_back.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Echo, Guarded};
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn a_secret_is_found_wherever_it_is_cut() {
        let text = b"before Bearer hunter2 after";
        let guarded = Guarded::new(["hunter2".to_owned(), "Bearer hunter2".to_owned(), String::new()]);
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut echo = Echo::new(guarded.clone());
                let mut handed_on = Vec::new();
                let cut = [&text[..first], &text[first..second], &text[second..]].iter().any(|chunk| {
                    match echo.pass(Bytes::copy_from_slice(chunk)) {
                        Ok(bytes) => {
                            handed_on.extend_from_slice(&bytes);
                            false
                        }
                        Err(_) => true,
                    }
                });
                assert!(cut, "{first} {second}");
                let shown = String::from_utf8(handed_on).unwrap();
                assert!(!shown.contains('B') && !shown.contains('h'), "{first} {second} {shown}");
            }
        }
    }

    #[test]
    fn what_only_begins_like_a_secret_arrives_whole() {
        let guarded = Guarded::new(["aab".to_owned()]);
        for text in ["aaaaaa", "aa", "", "xaaxaay", "a"] {
            for cut in 0..=text.len() {
                let mut echo = Echo::new(guarded.clone());
                let mut whole = echo.pass(Bytes::copy_from_slice(&text.as_bytes()[..cut])).unwrap().to_vec();
                whole.extend(echo.pass(Bytes::copy_from_slice(&text.as_bytes()[cut..])).unwrap());
                whole.extend(echo.rest());
                assert_eq!(whole, text.as_bytes());
            }
        }
    }

    #[test]
    fn headers_are_looked_through() {
        let guarded = Guarded::new(["Sesame99".to_owned()]);
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("open"));
        assert!(guarded.headers(&headers).is_ok());
        headers.insert("x-b", HeaderValue::from_static("open Sesame99 now"));
        assert!(guarded.headers(&headers).is_err());
        let mut headers = HeaderMap::new();
        headers.insert("x-sesame99", HeaderValue::from_static("1"));
        assert!(guarded.headers(&headers).is_err());
    }
}
