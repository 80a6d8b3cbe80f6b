//! Sizes, durations and addresses as people write them: `"64MiB"`, `"250ms"`, `"127.0.0.1:4680"`.
//!
//! For any room's settings: [`ByteSize`] is a type of its own, the others are used as
//! `#[serde(deserialize_with = "units::duration")]` and so on. What cannot be read says what was expected.

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `"128MiB"`, `"1GB"`, or a whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// `mebibytes` times 2^20 bytes.
    pub const fn mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes, as far as this machine can address them.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size such as \"64MiB\"")]
pub struct InvalidSize;

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| InvalidSize)?;
        let unit = unit.trim_start();
        if unit.is_empty() {
            return Ok(Self(number));
        }
        let (_, factor) =
            UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(InvalidSize)?;
        number.checked_mul(*factor).map(Self).ok_or(InvalidSize)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match fitting {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\"")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(number))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<ByteSize, E> {
                let size = u64::try_from(number);
                size.map(ByteSize).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

/// The longest duration that settings may name, about a century: it can be added to any clock without overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);

struct DurationText;

impl Visitor<'_> for DurationText {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"10s\"")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= MAX_DURATION => Ok(duration),
            Ok(_) => Err(E::invalid_value(Unexpected::Str(text), &"a duration of at most 100 years")),
            Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

/// Reads a duration: `"10s"`, `"250ms"`, `"1h 30m"`, `"1d"`.
///
/// # Errors
///
/// It is not a text, or not such a one.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(DurationText)
}

/// As [`duration`], for a key that may be absent; with `#[serde(default)]`.
///
/// # Errors
///
/// As there.
pub fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads an address to listen on: an IP address, or `localhost`, and a port.
///
/// # Errors
///
/// It is not a text, or not such a one.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    struct Address;
    impl Visitor<'_> for Address {
        type Value = SocketAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an IP address and a port such as \"127.0.0.1:4680\"")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
            parse_address(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Address)
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    }
}

/// An address to listen on, which may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalAddress {
    /// The key is absent.
    Unsaid,
    /// `"off"`.
    Off,
    /// This one.
    At(SocketAddr),
}

/// Reads an address as [`address`] does, or `off`; with `#[serde(default)]`.
///
/// # Errors
///
/// As there.
pub fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OptionalAddress, D::Error> {
    struct Address;
    impl Visitor<'_> for Address {
        type Value = OptionalAddress;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an IP address and a port such as \"127.0.0.1:4318\", or \"off\"")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<OptionalAddress, E> {
            if text == "off" {
                return Ok(OptionalAddress::Off);
            }
            let parsed = parse_address(text).map(OptionalAddress::At);
            parsed.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error as ValueError, StrDeserializer};

    fn read_duration(text: &str) -> Result<Duration, ValueError> {
        let deserializer: StrDeserializer<'_, ValueError> = text.into_deserializer();
        duration(deserializer)
    }

    fn read_address(text: &str) -> Result<SocketAddr, ValueError> {
        let deserializer: StrDeserializer<'_, ValueError> = text.into_deserializer();
        address(deserializer)
    }

    #[test]
    fn sizes_read_as_they_are_written() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("128MiB", 128 << 20),
            ("64 kib", 64 << 10),
            ("1GB", 1_000_000_000),
            ("3B", 3),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "1 XB", "99999999999TiB", "1MiB1"] {
            assert_eq!(text.parse::<ByteSize>(), Err(InvalidSize), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_an_end() {
        assert_eq!(read_duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(read_duration("1d").unwrap(), Duration::from_secs(86_400));
        assert_eq!(read_duration("1h 30m").unwrap(), Duration::from_secs(5_400));
        for text in ["", "10", "ten seconds", "-1s", "200years", "99999999999999999999s"] {
            assert!(read_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn localhost_is_an_address() {
        assert_eq!(read_address("localhost:0").unwrap(), "127.0.0.1:0".parse().unwrap());
        assert_eq!(read_address("[::1]:80").unwrap(), "[::1]:80".parse().unwrap());
        for text in ["", "localhost", "example.org:80", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(read_address(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_size_survives_its_text(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn a_round_size_survives_its_text(number in 0u64..1 << 20, unit in 0usize..9) {
            let size = ByteSize(number * UNITS[unit].1);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn a_duration_survives_its_text(millis in 0u64..=3_155_760_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(read_duration(&humantime::format_duration(duration).to_string()).unwrap(), duration);
        }

        #[test]
        fn no_text_is_too_strange(text: String) {
            let _ = text.parse::<ByteSize>();
            let _ = read_duration(&text);
            let _ = read_address(&text);
        }
    }
}
