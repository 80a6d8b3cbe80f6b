//! Values that must not be seen: whatever came through `${…}`.
//!
//! Invariant: a text is redacted before it is cut; a secret that was cut is not found any more.

mod forms;

use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What stands where a secret stood.
pub(super) const REDACTED: &str = "[redacted]";

/// Shorter values are not looked for in texts: they would be found in every other word.
const MIN_LENGTH: usize = 4;

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// All values that came through `${…}`, to keep them out of texts that people see.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Known>);

#[derive(Default)]
struct Known {
    /// As they are, the longest first.
    plain: Vec<String>,
    /// What is in every base64 text that holds one of them.
    encoded: Vec<String>,
}

impl Secrets {
    /// `values`, without the white space around them as well, and what they hold where they are in base64.
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut all = Vec::new();
        for value in values {
            // Often a text is quoted without the white space around it.
            all.extend(forms::credentials(&value));
            all.push(value.trim().to_owned());
            all.push(value);
        }
        all.retain(|value| value.chars().count() >= MIN_LENGTH);
        // The longest first, so that no secret that holds another one is left in part.
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        let encoded = all.iter().flat_map(|value| forms::base64(value)).collect();
        Self(Arc::new(Known { plain: all, encoded }))
    }

    /// These and `values`, of another origin.
    #[cfg(any(feature = "wasm", feature = "elasticsearch", feature = "grafana-cloud"))]
    pub(crate) fn with(&self, values: impl IntoIterator<Item = String>) -> Self {
        Self::new(self.0.plain.iter().cloned().chain(values))
    }

    /// Those that `text` holds.
    #[cfg(feature = "wasm")]
    pub(crate) fn within<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.plain.iter().map(String::as_str).filter(move |secret| text.contains(secret) && *secret != text)
    }

    /// `text` with `[redacted]` where a secret of four characters or more stood: as it is, escaped as in JSON, HTML or a
    /// debugger's output, percent-encoded, or within a text in base64, such as `user:secret` in a header.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.plain.is_empty() {
            return Cow::Borrowed(text);
        }
        let spans = forms::find(text, &self.0.plain, &self.0.encoded);
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut redacted, mut at) = (String::with_capacity(text.len()), 0);
        for span in spans {
            redacted.push_str(text.get(at..span.start).unwrap_or_default());
            redacted.push_str(REDACTED);
            at = span.end;
        }
        redacted.push_str(text.get(at..).unwrap_or_default());
        Cow::Owned(redacted)
    }

    /// How many bytes at the end of a text that was cut may be a part of a secret, in whatever form.
    #[cfg(any(test, feature = "wasm", feature = "elasticsearch", feature = "grafana-cloud"))]
    pub(crate) fn longest(&self) -> usize {
        // Each byte takes six where it is escaped, and three where it is percent-encoded.
        self.0.plain.first().map_or(0, |longest| longest.len().saturating_mul(6))
    }

    /// As [`Secrets::redact`], of a text that was cut already: what may be a part of a secret at its end is left out.
    #[cfg(any(test, feature = "wasm", feature = "elasticsearch", feature = "grafana-cloud"))]
    pub(crate) fn redact_cut(&self, text: &str) -> String {
        let mut redacted = self.redact(text).into_owned();
        let end = redacted.len().saturating_sub(self.longest());
        redacted.truncate(redacted.floor_char_boundary(end));
        redacted
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_four_characters_are_replaced() {
        let secrets = Secrets::new(["abc", "hunter2", "hunter2-long", " pad ded\n"].map(str::to_owned));
        assert_eq!(secrets.redact("abc hunter2 hunter2-long."), "abc [redacted] [redacted].");
        assert_eq!(secrets.redact("key = pad ded;"), "key = [redacted];");
        assert_eq!(secrets.redact(r#""pad ded\n" x"#), "\"[redacted]\\n\" x");
        assert!(matches!(secrets.redact("nothing to hide"), Cow::Borrowed(_)));
        assert_eq!(format!("{secrets:?} {:?}", Secret::new("hunter2")), "[redacted] [redacted]");
    }

    #[test]
    fn what_is_redacted_stays_so() {
        // A secret that is part of the replacement does not grow the text without end.
        let secrets = Secrets::new(["redacted", "sesame"].map(str::to_owned));
        assert!(!secrets.redact("open sesame").contains("sesame"));
    }
}
