//! The settings of a composite.

use crate::config::units;
use crate::publisher::BreakerSettings;
use serde::Deserialize;
use std::time::Duration;

/// Settings of a `composite`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CompositeConfig {
    /// What it does with its members.
    #[serde(default)]
    pub mode: Mode,
    /// Their labels; in a failover the first choice first.
    pub members: Vec<String>,
    /// When a failover moves on to the next member, and back.
    #[serde(default)]
    pub breaker: Option<BreakerConfig>,
}

/// What a composite does with its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each is a delivery of its own.
    #[default]
    All,
    /// They are one publisher: the first that takes records gets them.
    Failover,
}

impl Mode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failover => "failover",
        }
    }
}

/// When a failover moves on to the next member, and how often the one before is probed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// So many attempts in a row have failed, ...
    pub failures: u32,
    /// ... or they have failed for so long.
    #[serde(deserialize_with = "units::duration")]
    pub failing_for: Duration,
    /// The bound of the wait for the first probe; it doubles with every probe that fails.
    #[serde(deserialize_with = "units::duration")]
    pub initial: Duration,
    /// What it doubles to at most.
    #[serde(deserialize_with = "units::duration")]
    pub max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        let BreakerSettings { failures, failing_for, initial, max } = BreakerSettings::default();
        Self { failures, failing_for, initial, max }
    }
}

impl BreakerConfig {
    /// What the breaker is made with.
    pub fn settings(&self) -> BreakerSettings {
        let Self { failures, failing_for, initial, max } = *self;
        BreakerSettings { failures, failing_for, initial, max }
    }

    /// What the types of its keys do not say, as (key, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut unless = |holds: bool, key: &str, message: String| {
            if !holds {
                problems.push((format!("breaker.{key}"), message));
            }
        };
        unless(self.failures > 0, "failures", "must be at least 1".to_owned());
        unless(!self.initial.is_zero(), "initial", "must be longer than zero".to_owned());
        unless(self.initial <= self.max, "initial", {
            let [initial, max] = [self.initial, self.max].map(humantime::format_duration);
            format!("{initial} is longer than breaker.max, which is {max}")
        });
        problems
    }
}
