//! A point in time: nanoseconds since the Unix epoch, UTC; RFC 3339 in text.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, UTC: from 1970 to 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// A text that is not a point in time that a [`Timestamp`] can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time in RFC 3339 between 1970 and 2554")]
pub struct InvalidTime;

/// The length of a time in RFC 3339, as it is written here.
const LENGTH: usize = "1970-01-01T00:00:00.000000000Z".len();

/// Nanoseconds of a day.
const DAY: u64 = 86_400_000_000_000;

impl Timestamp {
    /// `nanos` nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// What the system's clock says.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time since `earlier`; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time that is `duration` later, at most the last one there is.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The day of it, UTC, counted from that of the Unix epoch.
    pub const fn day(self) -> u64 {
        self.0 / DAY
    }

    /// RFC 3339 with nine decimals, `2026-11-23T11:14:44.123456789Z`: every record is written with two of them, so
    /// it is done here without the formatting machinery.
    pub(crate) fn render(self) -> [u8; LENGTH] {
        let (days, nanos_of_day) = (self.day(), self.0 % DAY);
        // Civil from days, by H. Hinnant's algorithm for the proleptic Gregorian calendar.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_index + 2) / 5 + 1;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (seconds, nanos) = (nanos_of_day / 1_000_000_000, nanos_of_day % 1_000_000_000);

        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let mut pair = |at: usize, number: u64| {
            let tens = u8::try_from(number / 10 % 10).unwrap_or(0);
            let ones = u8::try_from(number % 10).unwrap_or(0);
            if let Some([high, low]) = text.get_mut(at..at + 2) {
                (*high, *low) = (b'0' + tens, b'0' + ones);
            }
        };
        pair(0, year / 100);
        pair(2, year % 100);
        pair(5, month);
        pair(8, day);
        pair(11, seconds / 3_600);
        pair(14, seconds / 60 % 60);
        pair(17, seconds % 60);
        pair(20, nanos / 10_000_000);
        pair(22, nanos / 100_000 % 100);
        pair(24, nanos / 1_000 % 100);
        pair(26, nanos / 10 % 100);
        if let Some(last) = text.get_mut(28) {
            *last = b'0' + u8::try_from(nanos % 10).unwrap_or(0);
        }
        text
    }
}

impl From<SystemTime> for Timestamp {
    /// What lies before the epoch becomes the epoch.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.render()).unwrap_or_default())
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTime)?;
        u64::try_from(time.as_nanosecond()).map(Self).map_err(|_| InvalidTime)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.render()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_number_agree_with_the_calendar(nanos in any::<u64>()) {
            let time = Timestamp::from_nanos(nanos);
            let calendar = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap();
            prop_assert_eq!(time.to_string(), format!("{calendar:.9}"));
            prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
        }
    }
}
