//! What a record carries beyond its fields: typed values under unique keys.

use super::{Text, heap};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An attribute's value. Every value is readable as text ([`Value::as_text`]).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A text.
    Text(Text),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of 64 bits.
    Integer(i64),
    /// A floating-point number; what JSON has no number for is written as `"NaN"`, `"Infinity"`, `"-Infinity"`.
    Float(f64),
    /// Anything else, as valid JSON text: lists, maps, whole numbers beyond 64 bits.
    Json(Box<str>),
}

impl Value {
    /// The value as readable text.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Integer(integer) => Cow::Owned(itoa::Buffer::new().format(*integer).to_owned()),
            Self::Float(float) => Cow::Owned(float_text(*float)),
            Self::Json(json) => Cow::Borrowed(json),
        }
    }

    /// The number that stands for the type in the plugin contract: 0 text, 1 boolean, 2 integer, 3 float, 4 JSON.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Text(_) => 0,
            Self::Bool(_) => 1,
            Self::Integer(_) => 2,
            Self::Float(_) => 3,
            Self::Json(_) => 4,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => heap(text),
            Self::Json(json) => json.len(),
            Self::Bool(_) | Self::Integer(_) | Self::Float(_) => 0,
        }
    }
}

/// Valid JSON that is broken over lines, on one line: a raw line break in it can only be white space.
fn one_line(json: &str) -> Option<String> {
    json.contains(['\n', '\r']).then(|| json.replace(['\n', '\r'], " "))
}

fn float_text(float: f64) -> String {
    if float.is_nan() {
        "NaN".to_owned()
    } else if float.is_infinite() {
        if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        ryu::Buffer::new().format_finite(float).to_owned()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Text::new(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Text::from(text))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => text.into(),
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => {
                match (number.as_i64(), number.is_f64().then(|| number.as_f64())) {
                    (Some(integer), _) => Self::Integer(integer),
                    (None, Some(Some(float))) => Self::Float(float),
                    (None, _) => Self::Json(number.to_string().into()),
                }
            }
            other => Self::Json(other.to_string().into()),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(integer) => serializer.serialize_i64(*integer),
            Self::Float(float) if float.is_finite() => serializer.serialize_f64(*float),
            Self::Float(float) => serializer.serialize_str(&float_text(*float)),
            Self::Json(json) => match serde_json::from_str::<&RawValue>(json) {
                Ok(raw) => match one_line(raw.get()) {
                    None => raw.serialize(serializer),
                    Some(line) => {
                        RawValue::from_string(line).map_err(S::Error::custom)?.serialize(serializer)
                    }
                },
                Err(_) => serializer.serialize_str(json),
            },
        }
    }
}

/// The attributes of one record, in the order in which they were set; keys are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<(Text, Value)>);

impl Attributes {
    /// None; does not allocate.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// None, with room for `len`.
    #[cfg(feature = "server")]
    pub(crate) fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    /// Adds a key of which the caller knows that it is not there.
    #[cfg(feature = "server")]
    pub(crate) fn push(&mut self, key: Text, value: Value) {
        debug_assert!(self.get(&key).is_none(), "{key} is there");
        self.0.push((key, value));
    }

    /// Replaces the value at a place of which the caller knows that it is there.
    #[cfg(feature = "server")]
    pub(crate) fn replace(&mut self, place: usize, value: Value) {
        if let Some((_, old)) = self.0.get_mut(place) {
            *old = value;
        }
    }

    /// Gives back room that is not used, if it is much.
    #[cfg(feature = "server")]
    pub(crate) fn shrink(&mut self) {
        if self.0.capacity() > self.0.len() + self.0.len() / 4 + 1 {
            self.0.shrink_to_fit();
        }
    }

    /// Sets `key`; what it was before is replaced.
    pub fn insert(&mut self, key: impl Into<Text>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    /// Keys and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(Text, Value)>()
            + self.0.iter().map(|(key, value)| heap(key) + value.heap_bytes()).sum::<usize>()
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<K: Into<Text>, V: Into<Value>> FromIterator<(K, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut attributes = Self::new();
        for (key, value) in entries {
            attributes.insert(key, value);
        }
        attributes
    }
}
