//! What every publisher's section may say, whatever its type: how delivery treats it.

use super::only::Only;
use super::reader::Check;
use super::units::{self, ByteSize};
use serde::Deserialize;
use std::time::Duration;

/// How a publisher is delivered to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeliveryConfig {
    /// Which records reach it. Absent: all.
    pub only: Option<Only>,
    /// Where a label that is new starts to read.
    pub from: From,
    /// What happens when it is the hindmost and the journal is full.
    pub overflow: Overflow,
    /// How much goes into one call.
    pub batch: BatchConfig,
    /// What follows an attempt that failed.
    pub retry: RetryConfig,
    /// How long one attempt may take.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// How often it is asked to hand on what it holds back.
    #[serde(deserialize_with = "units::duration")]
    pub flush_interval: Duration,
}

/// The keys of [`DeliveryConfig`].
pub(super) const KEYS: [&str; 7] =
    ["only", "from", "overflow", "batch", "retry", "timeout", "flush_interval"];

/// Where a label that is new starts to read the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// At its end.
    #[default]
    Newest,
    /// At the oldest record that is still held.
    Oldest,
}

/// What happens when the journal is full and this publisher is the hindmost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It loses its oldest records, counted.
    #[default]
    DropOldest,
    /// The whole host waits for it.
    Block,
}

/// How much goes into one call: it is made as soon as one of these is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BatchConfig {
    /// This many records.
    pub max_records: usize,
    /// Records of this size.
    pub max_bytes: ByteSize,
    /// The first record has waited so long.
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
}

/// What follows an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryConfig {
    /// The bound of the first wait; it doubles with every attempt.
    #[serde(deserialize_with = "units::duration")]
    pub initial: Duration,
    /// What it doubles to at most.
    #[serde(deserialize_with = "units::duration")]
    pub max: Duration,
    /// A batch that has been tried for so long becomes dead letters.
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
    /// How often what is on hold is tried.
    #[serde(deserialize_with = "units::duration")]
    pub hold: Duration,
    /// What has been on hold for so long becomes dead letters. Absent: it is kept until somebody mends it.
    #[serde(deserialize_with = "units::optional_duration")]
    pub hold_max_age: Option<Duration>,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            only: None,
            from: From::default(),
            overflow: Overflow::default(),
            batch: BatchConfig::default(),
            retry: RetryConfig::default(),
            timeout: Duration::from_secs(30),
            flush_interval: Duration::from_secs(10),
        }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { max_records: 1_024, max_bytes: ByteSize::mib(4), max_age: Duration::from_millis(200) }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            max_age: Duration::from_secs(24 * 60 * 60),
            hold: Duration::from_secs(30),
            hold_max_age: None,
        }
    }
}

impl DeliveryConfig {
    pub(super) fn validate(&self, check: &mut Check<'_>) {
        check.positive("batch.max_records", self.batch.max_records as u64);
        check.positive("batch.max_bytes", self.batch.max_bytes.bytes());
        check.lasting("retry.initial", self.retry.initial);
        check.lasting("retry.max", self.retry.max);
        check.lasting("retry.hold", self.retry.hold);
        if let Some(max_age) = self.retry.hold_max_age {
            check.lasting("retry.hold_max_age", max_age);
        }
        check.lasting("timeout", self.timeout);
        check.lasting("flush_interval", self.flush_interval);
        check.that(&["retry.initial", "retry.max"], self.retry.initial <= self.retry.max, || {
            format!(
                "{} is longer than retry.max, which is {}",
                humantime::format_duration(self.retry.initial),
                humantime::format_duration(self.retry.max)
            )
        });
        if let Some(only) = &self.only {
            only.validate(check);
        }
    }
}
