//! Values that must not be seen: whatever came through `${…}`.

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
pub struct Secrets(Arc<[String]>);

impl Secrets {
    /// `values`, and what they look like in `Debug` and in JSON.
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut all = Vec::new();
        for value in values {
            // Often a text is quoted without the white space around it.
            for form in [value.as_str(), value.trim()] {
                let escaped = format!("{form:?}");
                let escaped = escaped.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                all.extend(escaped.map(str::to_owned));
                all.push(form.to_owned());
            }
        }
        all.retain(|value| value.chars().count() >= MIN_LENGTH);
        // The longest first, so that no secret that holds another one is left in part.
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self(all.into())
    }

    /// These and `values`, of another origin.
    #[cfg(feature = "wasm")]
    pub(crate) fn with(&self, values: impl IntoIterator<Item = String>) -> Self {
        Self::new(self.0.iter().cloned().chain(values))
    }

    /// Those that `text` holds.
    #[cfg(feature = "wasm")]
    pub(crate) fn within<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(move |secret| text.contains(secret) && *secret != text)
    }

    /// `text` with `[redacted]` where a secret of four characters or more stood.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut redacted = Cow::Borrowed(text);
        for secret in self.0.iter().filter(|secret| text.contains(secret.as_str())) {
            redacted = Cow::Owned(redacted.replace(secret, REDACTED));
        }
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
