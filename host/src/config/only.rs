//! Which records reach a publisher: the `only` table, as data. Delivery applies it.

use super::reader::Check;
use super::units;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Which records reach a publisher: those of which everything said here holds. What is not said lets all through.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Only {
    /// Records of this kind.
    pub kind: Option<OnlyKind>,
    /// Events with such a name, by any of these; no network operation has one. Empty: all.
    #[serde(deserialize_with = "one_or_more")]
    pub event_name: Vec<Glob>,
    /// Records that ended so. Empty: all.
    #[serde(deserialize_with = "one_or_more")]
    pub status: Vec<OnlyStatus>,
    /// Events of such a pipeline, by any of these; no network operation has one. Empty: all.
    #[serde(deserialize_with = "one_or_more")]
    pub pipeline: Vec<Glob>,
    /// Records that took at least so long.
    #[serde(deserialize_with = "units::optional_duration")]
    pub min_duration: Option<Duration>,
    /// Records with all of these attributes, each with one of its values, compared as text.
    #[serde(deserialize_with = "texts")]
    pub attributes: BTreeMap<String, Vec<String>>,
    /// The records of this share of all tasks, and whatever failed. A task is in every larger share too, on every
    /// host, so that what belongs together stays together.
    pub keep: Option<Share>,
}

/// A share of a whole: more than nothing, at most all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

impl Share {
    /// The share `of` a whole that is 1; `None` if it is nothing, more than the whole, or no number.
    pub fn new(of: f64) -> Option<Self> {
        (of > 0.0 && of <= 1.0).then_some(Self(of))
    }

    /// Above 0, and at most 1.
    pub fn of_one(self) -> f64 {
        self.0
    }
}

/// A kind of record, as `only.kind` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum OnlyKind {
    Event,
    Network,
}

/// How a record ended, as `only.status` names it: nothing pending is ever published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum OnlyStatus {
    Completed,
    Failed,
    Cancelled,
}

impl Only {
    pub(super) fn validate(&self, check: &mut Check<'_>) {
        let network = self.kind == Some(OnlyKind::Network);
        for (key, globs) in [("event_name", &self.event_name), ("pipeline", &self.pipeline)] {
            let at = format!("only.{key}");
            check.that(&[&at, "only.kind"], !network || globs.is_empty(), || {
                format!("no network operation has it, and kind = \"network\" lets nothing else through: remove {key}")
            });
        }
        let cancelled = self.status.contains(&OnlyStatus::Cancelled);
        check.that(&["only.status", "only.kind"], !(network && cancelled && self.status.len() == 1), || {
            "no network operation is ever cancelled, so nothing would get through".to_owned()
        });
        let failures = self.status == [OnlyStatus::Failed];
        check.that(&["only.keep", "only.status"], !(failures && self.keep.is_some()), || {
            "failures are always kept, and status lets nothing else through: remove keep".to_owned()
        });
    }
}

/// A pattern for a whole text: `*` stands for any characters or none, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// A pattern; every text is one, and the empty one matches the empty text only.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` is as the pattern says. Takes at most the product of both lengths, in the worst case.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), text.chars());
        // Where to go on when what follows the last star did not match: behind the star, one character further.
        let mut retry = None;
        loop {
            let before = rest.clone();
            match (pattern.next(), rest.next()) {
                (Some('*'), _) => {
                    rest = before;
                    retry = Some((pattern.clone(), rest.clone()));
                }
                (None, None) => return true,
                (Some('?'), Some(_)) => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => {
                    let Some((after_star, from)) = &mut retry else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (after_star.clone(), from.clone());
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pattern;
        impl Visitor<'_> for Pattern {
            type Value = Glob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pattern such as \"resize*\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Glob, E> {
                if text.is_empty() {
                    return Err(E::invalid_value(serde::de::Unexpected::Str(text), &self));
                }
                Ok(Glob::new(text))
            }
        }
        deserializer.deserialize_str(Pattern)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share above 0 and at most 1, such as 0.1")
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Share, E> {
                let none = || match number == 0.0 {
                    true => E::custom("0 keeps nothing but failures, say status = \"failed\" for that"),
                    false => E::invalid_value(serde::de::Unexpected::Float(number), &self),
                };
                Share::new(number).ok_or_else(none)
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Share, E> {
                self.visit_f64(number as f64)
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Share, E> {
                self.visit_f64(number as f64)
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// What may stand alone or in a list.
trait Listed {
    /// What is expected.
    const EXPECTED: &str;
    /// What is to be named in an empty list.
    const ONE: &str;
}

impl Listed for OnlyStatus {
    const EXPECTED: &str = "a status such as \"failed\", or a list of them";
    const ONE: &str = "a status";
}

impl Listed for Glob {
    const EXPECTED: &str = "a pattern such as \"resize*\", or a list of them";
    const ONE: &str = "a pattern";
}

/// One, or a list of them that is not empty.
fn one_or_more<'de, D: Deserializer<'de>, T: Deserialize<'de> + Listed>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct OneOrMore<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Listed> Visitor<'de> for OneOrMore<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            T::deserialize(text.into_deserializer()).map(|one| vec![one])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
            all_of(list, T::ONE)
        }
    }
    deserializer.deserialize_any(OneOrMore(PhantomData))
}

fn all_of<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(mut list: A, one: &str) -> Result<Vec<T>, A::Error> {
    let mut all = Vec::new();
    while let Some(item) = list.next_element()? {
        all.push(item);
    }
    if all.is_empty() {
        return Err(A::Error::custom(format!("an empty list lets nothing through, remove it or name {one}")));
    }
    Ok(all)
}

/// A text; numbers and booleans are taken as the text that an attribute of such a value has.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl Visitor<'_> for AnyText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Text, E> {
                Ok(Text(ryu::Buffer::new().format(value).to_owned()))
            }
        }
        deserializer.deserialize_any(AnyText)
    }
}

/// One text, or a list of them that is not empty.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyTexts;
        impl<'de> Visitor<'de> for AnyTexts {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean, or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
                one(text.into_deserializer())
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Texts, E> {
                one(value.into_deserializer())
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Texts, E> {
                one(value.into_deserializer())
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Texts, E> {
                one(value.into_deserializer())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Texts, A::Error> {
                let texts: Vec<Text> = all_of(list, "a value")?;
                Ok(Texts(texts.into_iter().map(|text| text.0).collect()))
            }
        }
        fn one<'de, D: Deserializer<'de>>(value: D) -> Result<Texts, D::Error> {
            Text::deserialize(value).map(|text| Texts(vec![text.0]))
        }
        deserializer.deserialize_any(AnyTexts)
    }
}

/// A table of texts, or lists of them.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let texts = BTreeMap::<String, Texts>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|(key, texts)| (key, texts.0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_is_for_the_whole_text() {
        for (pattern, matching, other) in [
            ("resize", vec!["resize"], vec!["", "resize2", "a resize"]),
            ("resize*", vec!["resize", "resize-large"], vec!["a resize"]),
            ("*", vec!["", "anything"], vec![]),
            ("?", vec!["a", "é"], vec!["", "ab"]),
            ("a*b*c", vec!["abc", "a-b-b-c", "abcc"], vec!["ab", "acb", "abcd"]),
            ("*ab", vec!["ab", "aab", "abab"], vec!["aba"]),
            ("a?c*", vec!["abc", "abcd"], vec!["ac", "abd"]),
            ("", vec![""], vec!["a"]),
        ] {
            let glob = Glob::new(pattern);
            matching.iter().for_each(|text| assert!(glob.matches(text), "{pattern} {text}"));
            other.iter().for_each(|text| assert!(!glob.matches(text), "{pattern} {text}"));
        }
    }

    /// What the pattern means, in its simplest words.
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', after @ ..], _) => (0..=text.len()).any(|skip| matches(after, &text[skip..])),
            (['?', after @ ..], [_, rest @ ..]) => matches(after, rest),
            ([wanted, after @ ..], [found, rest @ ..]) => wanted == found && matches(after, rest),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_definition_says(pattern in "[ab?*]{0,7}", text in "[ab]{0,8}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                Glob::new(pattern.as_str()).matches(&text),
                matches(&characters(&pattern), &characters(&text))
            );
        }
    }
}
