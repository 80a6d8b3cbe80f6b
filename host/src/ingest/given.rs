//! Attributes as they were sent: those that could be read, how many could not, and which of them were altered.
//!
//! Invariant: keys are unique and bounded in number and length. The mapping asks for many keys of which a span has few, so
//! a bit for each key that is there answers most of its questions; where there are many keys, an index answers the rest.

use super::{MAX_ATTRIBUTES, MAX_KEY, MAX_VALUE, cut};
use crate::record::{Attributes, Text, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// Bytes of keys and values that a resource hands down to each of its spans: every one of them has its own copy.
const MAX_INHERITED_BYTES: usize = 16 << 10;
/// Attributes that a resource hands down.
const MAX_INHERITED: usize = 128;
/// Attributes that may be sent: the mapping has room for its own beside them.
const MAX_SENT: usize = MAX_ATTRIBUTES - 32;
/// From here on keys have an index.
const MANY: usize = 32;

/// What is to be told: all of it counted, the first few with their reasons.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    pub(super) count: usize,
    pub(super) reasons: Vec<String>,
}

/// Reasons that are told.
pub(super) const MAX_REASONS: usize = 5;

impl Notes {
    pub(super) fn add(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.reasons.len() < MAX_REASONS {
            self.reasons.push(reason());
        }
    }

    /// Takes all of it out.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Takes over what `other` has to tell, each reason begun by `of`.
    pub(super) fn append(&mut self, other: Self, of: impl Fn() -> String) {
        self.count += other.count;
        for reason in other.reasons {
            if self.reasons.len() < MAX_REASONS {
                self.reasons.push(format!("{}{reason}", of()));
            }
        }
    }
}

/// Attributes of one record, or of one resource.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    known: Attributes,
    /// A bit for the hash of every key: a key whose bit is not set is new.
    keys: u64,
    /// The place of every key, once there are many.
    index: Option<HashMap<Text, usize>>,
    /// How many the sender itself had dropped.
    pub(super) dropped: u64,
    /// Those that were left out.
    pub(super) omitted: Notes,
    /// Those that were kept and are not what was sent.
    pub(super) altered: Notes,
}

/// Something as it is kept, and what was done to it.
pub(super) struct Read<T> {
    pub(super) kept: T,
    pub(super) altered: Option<&'static str>,
}

/// It was cut at [`MAX_VALUE`].
pub(super) const CUT: &str = "cut at 65536 bytes";
/// Characters of it were replaced.
pub(super) const REPLACED: &str = "characters that are not UTF-8 are replaced by U+FFFD";

impl<'a> Read<Cow<'a, str>> {
    /// A text, cut where it is too long for any place in a record.
    pub(super) fn text(text: Cow<'a, str>) -> Self {
        if text.len() <= MAX_VALUE {
            return Self { kept: text, altered: None };
        }
        let kept = match text {
            Cow::Borrowed(text) => Cow::Borrowed(cut(text, MAX_VALUE)),
            Cow::Owned(mut text) => {
                text.truncate(text.floor_char_boundary(MAX_VALUE));
                Cow::Owned(text)
            }
        };
        Self { kept, altered: Some(CUT) }
    }

    /// A text that should be UTF-8.
    pub(super) fn bytes(bytes: &'a [u8]) -> Self {
        let mut end = bytes.len().min(MAX_VALUE);
        // Between two characters, if it is UTF-8.
        while bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) && end > MAX_VALUE - 3 {
            end -= 1;
        }
        let is_cut = end < bytes.len();
        match std::str::from_utf8(bytes.get(..end).unwrap_or_default()) {
            Ok(text) => Self { kept: Cow::Borrowed(text), altered: is_cut.then_some(CUT) },
            Err(_) => {
                let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
                Self { altered: Some(REPLACED), ..Self::text(Cow::Owned(text)) }
            }
        }
    }

    /// The text; what was done to it is noted under its name.
    pub(super) fn noted(self, name: &str, notes: &mut Notes) -> Cow<'a, str> {
        if let Some(how) = self.altered {
            notes.add(|| format!("{name}: {how}"));
        }
        self.kept
    }

    pub(super) fn into_value(self) -> Read<Value> {
        Read { kept: Value::Text(self.kept.into()), altered: self.altered }
    }
}

impl From<Value> for Read<Value> {
    fn from(kept: Value) -> Self {
        Self { kept, altered: None }
    }
}

impl Given {
    /// Begins with what a resource hands down to its spans; `len` is how many there will be in all, about.
    pub(super) fn inherit(&self, len: usize) -> Self {
        let mut known = Attributes::with_capacity(len);
        for (key, value) in self.known.iter() {
            known.push(Text::new(key), value.clone());
        }
        Self { known, keys: self.keys, ..Self::default() }
    }

    /// As many as every span can have a copy of.
    pub(super) fn handed_down(self) -> Self {
        let mut given = Self { omitted: self.omitted, altered: self.altered, ..Self::default() };
        let mut room = MAX_INHERITED_BYTES;
        for (key, value) in self.known.iter() {
            match room.checked_sub(key.len() + value.as_text().len()) {
                Some(left) if given.known.len() < MAX_INHERITED => {
                    room = left;
                    given.set(key, value.clone());
                }
                _ => given.omit(key, format!("a resource has at most {MAX_INHERITED} attributes, {MAX_INHERITED_BYTES} bytes together")),
            }
        }
        given
    }

    /// Keeps an attribute, or counts it; one without a value is none.
    pub(super) fn add(&mut self, key: &Read<Cow<'_, str>>, read: Result<Option<Read<Value>>, String>) {
        let (key, key_altered) = (&*key.kept, key.altered);
        let read = match read {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(reason) => return self.omit(key, reason),
        };
        if key.is_empty() || key.len() > MAX_KEY {
            return self.omit(key, format!("a key has 1 to {MAX_KEY} bytes"));
        }
        if self.known.len() >= MAX_SENT && self.place(key).is_none() {
            return self.omit(key, format!("more than {MAX_SENT} attributes"));
        }
        if let Value::Json(json) = &read.kept
            && json.len() > MAX_VALUE
        {
            return self.omit(key, format!("longer than {MAX_VALUE} bytes"));
        }
        if let Some(how) = read.altered.or(key_altered) {
            self.altered.add(|| format!("attribute {key:?}: {how}"));
        }
        self.set(key, read.kept);
    }

    #[cold]
    fn omit(&mut self, key: &str, reason: String) {
        self.omitted.add(|| format!("attribute {:?}: {reason}", cut(key, 64)));
    }

    fn place(&self, key: &str) -> Option<usize> {
        if self.keys & bit(key) == 0 { None } else { self.find(key) }
    }

    /// The place of a key that may be there.
    fn find(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self.known.iter().position(|(known, _)| known == key),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The memory of keys and values, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        let each = self.known.iter().map(|(key, value)| key.len() + value.as_text().len());
        each.sum::<usize>() + self.known.len() * size_of::<(Text, Value)>()
    }

    /// Sets `key`; what it was before is replaced.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let bit = bit(key);
        if self.keys & bit != 0
            && let Some(place) = self.find(key)
        {
            return self.known.replace(place, value.into());
        }
        self.keys |= bit;
        let place = self.known.len();
        self.known.push(text(key), value.into());
        if let Some(index) = &mut self.index {
            index.insert(text(key), place);
        } else if place >= MANY {
            self.index = Some(self.known.iter().map(|(key, _)| text(key)).zip(0..).collect());
        }
    }

    /// Sets `key` where there is none.
    pub(super) fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if self.place(key).is_none() {
            self.set(key, value);
        }
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        if self.keys & bit(key) == 0 { None } else { self.known.get(key) }
    }

    /// Takes `key` out.
    pub(super) fn remove(&mut self, key: &str) -> Option<Value> {
        if self.keys & bit(key) == 0 {
            return None;
        }
        // What follows moves up.
        self.index = None;
        self.known.remove(key)
    }

    pub(super) fn into_attributes(mut self) -> Attributes {
        self.known.shrink();
        self.known
    }
}

/// Keys of OpenTelemetry's conventions that are too long to be stored in place, and so frequent that an allocation for
/// each would be felt.
const FREQUENT: &[&str] = &[
    "http.response.status_code",
    "http.request.resend_count",
    "db.response.status_code",
    "deployment.environment.name",
    "messaging.destination.name",
    "messaging.consumer.group.name",
    "messaging.kafka.consumer.group",
    "http.response_content_length",
    "http.request_content_length",
    "otel.dropped_attributes_count",
];

fn text(key: &str) -> Text {
    let frequent = if key.len() > size_of::<Text>() { FREQUENT } else { &[] };
    frequent
        .iter()
        .find(|known| **known == key)
        .map_or_else(|| Text::new(key), |known| Text::const_new(known))
}

fn bit(key: &str) -> u64 {
    1 << (hash(key) >> 58)
}

/// Of its length, its first and its last eight bytes. Whoever makes keys that collide gains a longer look at his own
/// [`MANY`] attributes, no more.
fn hash(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (first, last) = if bytes.len() >= 8 {
        (word(bytes.first_chunk()), word(bytes.last_chunk()))
    } else {
        (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0)
    };
    let mixed =
        (first ^ last.rotate_left(29) ^ (bytes.len() as u64) << 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frequent_key_is_what_it_says_and_takes_no_memory() {
        for key in FREQUENT {
            assert!(text(key) == *key && !text(key).is_heap_allocated(), "{key}");
        }
        assert_eq!(text("http.request.header.content-type"), "http.request.header.content-type");
    }

    proptest! {
        #[test]
        fn the_last_value_of_a_key_stays_in_the_place_of_its_first(keys in proptest::collection::vec("[abc]{1,4}", 0..200)) {
            let (mut given, mut plain) = (Given::default(), Attributes::new());
            for (number, key) in (0_i64..).zip(&keys) {
                given.set(key, number);
                plain.insert(key.as_str(), number);
                prop_assert_eq!(given.get(key), plain.get(key));
            }
            prop_assert_eq!(given.into_attributes(), plain);
        }
    }
}
