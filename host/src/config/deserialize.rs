//! The deserialiser behind `reader`: serde over the document's tree, with errors that speak to an operator.

use super::document::{Node, Value, join};
use super::problems::{Position, suggest};
use super::reader::Reading;
use super::secrets::REDACTED;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;

/// Why a value could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not what was expected.
    Expected(String),
    /// It is none of a fixed set of words.
    Variant { found: String, known: &'static [&'static str] },
    /// A key is not known.
    Key { found: String, known: &'static [&'static str] },
    /// A key is missing.
    Missing(&'static str),
    /// A type's own words.
    Other(String),
    /// It was reported. Whoever can pass over it does so.
    Reported,
    /// It was reported and passed over: the next round will be another one.
    PassedOver,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected(expected) => write!(f, "expected {expected}"),
            Self::Variant { found, known } => {
                write!(f, "unknown value {found:?}, {}", suggest(found, known.iter().copied()))
            }
            Self::Key { found, known } => {
                write!(f, "unknown key {found:?}, {}", suggest(found, known.iter().copied()))
            }
            Self::Missing(key) => write!(f, "the key {key:?} is missing"),
            Self::Other(message) => f.write_str(message),
            Self::Reported | Self::PassedOver => f.write_str("reported"),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(plain(&expected.to_string()))
    }
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(plain(&expected.to_string()))
    }
    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::Expected(plain(&expected.to_string()))
    }
    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::Variant { found: found.to_owned(), known }
    }
    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Self::Key { found: found.to_owned(), known }
    }
    fn missing_field(key: &'static str) -> Self {
        Self::Missing(key)
    }
}

/// What serde's own types call what they expect, in the words of TOML.
fn plain(expected: &str) -> String {
    match expected {
        "u64" | "usize" | "u128" => "a whole number, 0 or more",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "u8" => "a whole number from 0 to 255",
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "a whole number",
        "a nonzero u64" | "a nonzero usize" | "a nonzero u32" | "a nonzero u16" | "a nonzero u8" => {
            "a whole number, 1 or more"
        }
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "path string" => "a path",
        "a sequence" => "an array",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.starts_with("enum ") => "one of a set of words",
        _ => expected,
    }
    .to_owned()
}

/// The value as a message quotes it.
fn quoted(node: &Node) -> String {
    match &node.value {
        Value::String(_) if node.secret => format!("string \"{REDACTED}\""),
        Value::String(text) if text.chars().count() > 60 => {
            format!("string {:?}…", text.chars().take(60).collect::<String>())
        }
        Value::String(text) => format!("string {text:?}"),
        Value::Integer(number) => format!("integer {number}"),
        Value::Float(number) => format!("float {number:?}"),
        Value::Boolean(value) => format!("boolean {value}"),
        Value::Datetime(text) => format!("date-time {text}"),
        Value::Array(_) => "an array".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        Value::Broken => "nothing".to_owned(),
    }
}

/// Deserialises one value.
#[derive(Clone)]
pub(super) struct NodeReader<'a> {
    reading: &'a Reading<'a>,
    node: &'a Node,
    /// Where problems with the value as a whole are shown.
    at: Position,
    path: String,
}

impl<'a> NodeReader<'a> {
    pub(super) fn new(reading: &'a Reading<'a>, node: &'a Node, at: Position, path: String) -> Self {
        Self { reading, node, at, path }
    }

    /// `None` if it is passed over.
    fn unless_skipped(self) -> Option<Self> {
        if matches!(self.node.value, Value::Broken) {
            self.reading.skip(self.path.clone());
        }
        (!self.reading.is_skipped(&self.path)).then_some(self)
    }

    /// Reads an entry of a table or an item of an array; if it cannot be read, the next round passes over it.
    fn read<'de, T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.clone()).map_err(|fault| match self.explain(fault) {
            Fault::PassedOver => Fault::PassedOver,
            _ => {
                self.reading.skip(self.path.clone());
                Fault::PassedOver
            }
        })
    }

    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::String(text) | Value::Datetime(text) => visitor.visit_str(text),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => Err(Fault::Other("is too large a number".to_owned())),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Array(nodes) => visitor.visit_seq(Items {
                reading: self.reading,
                nodes: nodes.iter().enumerate(),
                path: &self.path,
            }),
            Value::Table(_) => visitor.visit_map(self.table()),
            Value::Broken => Err(Fault::Reported),
        }
    }

    fn table(&self) -> Table<'a> {
        let entries = self.node.entries().iter();
        let root = self.reading.is_root(self.node);
        let entries = entries.filter(|entry| !root || self.reading.keys.contain(&entry.key));
        let entries = entries.filter_map(|entry| {
            let path = join(&self.path, &entry.key);
            let value = NodeReader::new(self.reading, &entry.node, entry.place(), path).unless_skipped()?;
            Some((entry.key.as_str(), Some(value)))
        });
        let filled = self.reading.filled(&self.path).into_iter().map(|key| (key, None));
        Table { entries: entries.chain(filled).collect::<Vec<_>>().into_iter(), value: None }
    }

    /// Reports what is wrong with this value, unless that has been done, and passes over what can be.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        let message = match fault {
            Fault::Reported | Fault::PassedOver => return fault,
            Fault::Missing(key) => {
                let path = join(&self.path, key);
                let new = self.reading.fill(&self.path, key);
                if !new {
                    return Fault::Reported;
                }
                if !self.reading.is_skipped(&path) {
                    self.reading.report(self.at, &path, "is missing");
                }
                return Fault::PassedOver;
            }
            Fault::Key { found, known } => {
                let path = join(&self.path, &found);
                let at = self.node.entry(&found).map_or(self.at, |entry| entry.at);
                let known = known.iter().copied().chain(self.reading.also_known(self.node).iter().copied());
                self.reading.report(at, &path, &format!("unknown key, {}", suggest(&found, known)));
                if self.node.entry(&found).is_none() || self.reading.is_skipped(&path) {
                    return Fault::Reported;
                }
                self.reading.skip(path);
                return Fault::PassedOver;
            }
            Fault::Expected(expected) => format!("expected {expected}, found {}", quoted(self.node)),
            Fault::Variant { found, known } => {
                let found = if self.node.secret { REDACTED } else { &found };
                format!("unknown value \"{found}\", {}", suggest(found, known.iter().copied()))
            }
            Fault::Other(message) => match &self.node.value {
                Value::String(text) if self.node.secret && !text.is_empty() => {
                    message.replace(text, REDACTED)
                }
                _ => message,
            },
        };
        self.reading.report(self.at, &self.path, &message);
        Fault::Reported
    }
}

impl<'de> Deserializer<'de> for NodeReader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor).map_err(|fault| self.explain(fault))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A derived visitor would take an array for the fields in their order.
        match &self.node.value {
            Value::Array(_) => Err(self.explain(Fault::Expected("a table".to_owned()))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let read = match &self.node.value {
            Value::String(text) => {
                let word: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            Value::Table(_) => visitor.visit_enum(MapAccessDeserializer::new(self.table())),
            Value::Broken => Err(Fault::Reported),
            _ => {
                let words: Vec<_> = variants.iter().map(|variant| format!("{variant:?}")).collect();
                Err(Fault::Expected(words.join(" or ")))
            }
        };
        read.map_err(|fault| self.explain(fault))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

/// The items of an array.
struct Items<'a> {
    reading: &'a Reading<'a>,
    nodes: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: &'a str,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        for (number, node) in self.nodes.by_ref() {
            let path = format!("{}[{number}]", self.path);
            if let Some(item) = NodeReader::new(self.reading, node, node.at, path).unless_skipped() {
                return item.read(seed).map(Some);
            }
        }
        Ok(None)
    }
}

/// The entries of a table; a key that was filled in has no value.
struct Table<'a> {
    entries: std::vec::IntoIter<(&'a str, Option<NodeReader<'a>>)>,
    value: Option<Option<NodeReader<'a>>>,
}

impl<'de> de::MapAccess<'de> for Table<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let key: StrDeserializer<'_, Fault> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        match self.value.take() {
            Some(Some(value)) => value.read(seed),
            Some(None) => seed.deserialize(Placeholder).map_err(|_| Fault::Reported),
            None => Err(Fault::Reported),
        }
    }
}

/// Stands in for a key that is missing, so that what else is wrong with the table can be found.
struct Placeholder;

impl<'de> Deserializer<'de> for Placeholder {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str("")
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(false)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_none()
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(de::value::SeqDeserializer::<_, Fault>::new(std::iter::empty::<()>()))
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(de::value::MapDeserializer::<_, Fault>::new(std::iter::empty::<((), ())>()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct struct enum identifier ignored_any
    }
}
