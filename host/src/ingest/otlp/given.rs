//! Attributes as they were sent: those that could be read, and how many could not.
//!
//! Invariant: keys are unique and bounded in number and length. The mapping asks for many keys of which a span has few, so
//! a bit for each key that is there answers most of its questions.

use super::MAX_REASONS;
use crate::ingest::{MAX_ATTRIBUTES, MAX_KEY, MAX_VALUE, cut};
use crate::record::{Attributes, Text, Value};
use std::borrow::Cow;

/// Bytes of keys and values that a resource hands down to each of its spans: every one of them has its own copy.
const MAX_INHERITED: usize = 16 << 10;

/// Attributes of one span, or of one resource.
#[derive(Debug, Default)]
pub(super) struct Given {
    known: Attributes,
    /// Of those, the ones that were there from the start: a resource's, in its spans.
    inherited: usize,
    /// A bit for the hash of every key: a key whose bit is not set is new.
    keys: u64,
    /// How many the sender itself had dropped.
    pub(super) dropped: u64,
    pub(super) unreadable: Vec<String>,
    pub(super) omitted: usize,
}

impl Given {
    /// Begins with what a resource hands down to its spans; `len` is how many there will be in all, about.
    pub(super) fn inherit(&self, len: usize) -> Self {
        let mut known = Attributes::with_capacity(len);
        for (key, value) in self.known.iter() {
            known.push(Text::new(key), value.clone());
        }
        Self { inherited: known.len(), known, keys: self.keys, ..Self::default() }
    }

    /// Only those of which `keep` says so, and only as many as [`MAX_INHERITED`] has room for.
    pub(super) fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut given = Self::default();
        let mut room = MAX_INHERITED;
        for (key, value) in self.known.iter().filter(|(key, _)| keep(key)) {
            if let Some(left) = room.checked_sub(key.len() + value.as_text().len()) {
                room = left;
                given.set(key, value.clone());
            }
        }
        given
    }

    /// Keeps one, or counts it.
    pub(super) fn add(&mut self, read: Result<Option<(Cow<'_, str>, Value)>, String>) {
        let reason = match read {
            Ok(Some((key, value))) => match self.keep(&key, value) {
                Ok(()) => return,
                Err(reason) => reason,
            },
            Ok(None) => return,
            Err(reason) => reason,
        };
        self.omitted += 1;
        if self.unreadable.len() < MAX_REASONS {
            self.unreadable.push(reason);
        }
    }

    fn keep(&mut self, key: &str, value: Value) -> Result<(), String> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(format!("attribute {:?}: a key has 1 to {MAX_KEY} bytes", cut(key, 64)));
        }
        if self.known.len() - self.inherited >= MAX_ATTRIBUTES && self.known.get(key).is_none() {
            return Err(format!("attribute {key:?}: more than {MAX_ATTRIBUTES} attributes"));
        }
        let value = match value {
            Value::Text(text) if text.len() > MAX_VALUE => Value::from(cut(&text, MAX_VALUE)),
            Value::Json(json) if json.len() > MAX_VALUE => {
                return Err(format!("attribute {key:?}: longer than {MAX_VALUE} bytes"));
            }
            value => value,
        };
        self.set(key, value);
        Ok(())
    }

    /// Sets `key`; what it was before is replaced.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let bit = bit(key);
        if self.keys & bit == 0 {
            self.keys |= bit;
            self.known.push(text(key), value.into());
        } else {
            self.known.insert(text(key), value);
        }
    }

    /// Sets `key` where there is none.
    pub(super) fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if self.get(key).is_none() {
            self.set(key, value);
        }
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        if self.keys & bit(key) == 0 { None } else { self.known.get(key) }
    }

    /// Takes `key` out.
    pub(super) fn remove(&mut self, key: &str) -> Option<Value> {
        if self.keys & bit(key) == 0 { None } else { self.known.remove(key) }
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
/// [`MAX_ATTRIBUTES`], no more.
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
        fn the_last_value_of_a_key_stays_in_the_place_of_its_first(keys in proptest::collection::vec("[ab]{1,3}", 0..40)) {
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
