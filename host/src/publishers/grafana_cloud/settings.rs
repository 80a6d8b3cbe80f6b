//! What a section of the type `grafana-cloud` may say, and what is wrong with it.

use crate::config::{Secret, units};
use crate::publishers::push::{Destination, hostname, label_problem, text_or_number};
use crate::publishers::series::{SeriesSettings, idle_expiry_problem, label_name};
use crate::record::Text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

/// A series without a sample for five minutes is taken for gone.
const MAX_INTERVAL: Duration = Duration::from_secs(240);
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Labels that no operator can give to everything: the metrics have them.
const BUILT_IN: [&str; 8] =
    ["job", "instance", "event_name", "status", "service", "operation", "direction", "le"];

/// Settings of a `grafana-cloud` publisher.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GrafanaCloudConfig {
    /// Where to push, as Grafana Cloud shows it: `https://HOST/api/prom/push`.
    pub url: String,
    /// The instance id that stands with the URL, or the user's name at a receiver of one's own.
    #[serde(default, deserialize_with = "text_or_number")]
    pub user: Option<String>,
    /// The token, or the user's password.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// The organisation's name in `https://grafana.com/orgs/SLUG`. Nothing is sent to it or with it: it says in reports
    /// whose account this is, and where wrong credentials are mended.
    #[serde(default)]
    pub org_slug: Option<String>,
    /// Sent as `X-Scope-OrgID`, by which a Mimir of one's own tells tenants apart.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Certificates, in PEM, that are trusted beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How often the state is pushed.
    #[serde(default = "a_minute", deserialize_with = "units::duration")]
    pub push_interval: Duration,
    /// The label `job` of everything.
    #[serde(default = "job")]
    pub job: String,
    /// The label `instance` of everything; absent: the host's name, and something that no other process has.
    #[serde(default)]
    pub instance: Option<String>,
    /// More labels of everything.
    #[serde(default)]
    pub external_labels: BTreeMap<String, String>,
    /// Attribute keys that become labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Upper bounds of the histograms' buckets, in seconds, ascending.
    #[serde(default = "buckets")]
    pub buckets: Vec<f64>,
    /// Distinct label sets per metric; what goes beyond is counted under `other`.
    #[serde(default = "max_series")]
    pub max_series: usize,
    /// A series that saw nothing for that long is let go; absent: never.
    #[serde(default, deserialize_with = "units::optional_duration")]
    pub idle_expiry: Option<Duration>,
}

/// Grafana Cloud counts a sample per series and minute as one series, and more than that as more.
fn a_minute() -> Duration {
    Duration::from_secs(60)
}

fn job() -> String {
    "pressroom".to_owned()
}

fn buckets() -> Vec<f64> {
    SeriesSettings::default().buckets
}

fn max_series() -> usize {
    SeriesSettings::default().max_series
}

impl GrafanaCloudConfig {
    pub(super) fn destination(&self) -> Destination {
        Destination {
            url: self.url.clone(),
            user: self.user.clone(),
            api_key: self.api_key.clone(),
            org_slug: self.org_slug.clone(),
            tenant: self.tenant.clone(),
            ca_file: self.ca_file.clone(),
        }
    }

    pub(super) fn series(&self) -> SeriesSettings {
        SeriesSettings {
            labels: self.labels.clone(),
            buckets: self.buckets.clone(),
            max_series: self.max_series,
        }
    }

    /// The label `instance` of the publisher `label`. Two publishers of a process have different ones: at one receiver
    /// they would write the same series else.
    pub(super) fn instance(&self, label: &str) -> String {
        static PROCESS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let unique = || format!("{}-{:08x}", hostname(), PROCESS.hash_one(label) >> 32);
        self.instance.clone().unwrap_or_else(unique)
    }

    /// Labels of everything that the publisher `label` pushes.
    pub(super) fn common_labels(&self, label: &str) -> Vec<(Text, Text)> {
        let external = self.external_labels.iter().map(|(name, value)| (name.into(), value.into()));
        let own = [("job", self.job.as_str().into()), ("instance", self.instance(label).into())];
        external.chain(own.map(|(name, value)| (Text::const_new(name), value))).collect()
    }

    /// Every problem, as (key, message).
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.destination().problems("/api/prom/push");
        problems.extend(self.series().problems());
        problems.extend(idle_expiry_problem(self.idle_expiry));
        let mut problem = |key: &str, message: String| problems.push((key.to_owned(), message));
        if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&self.push_interval) {
            problem(
                "push_interval",
                format!(
                    "must be between {} and {}: after five minutes without a sample a series is taken for gone",
                    humantime::format_duration(MIN_INTERVAL),
                    humantime::format_duration(MAX_INTERVAL)
                ),
            );
        }
        if self.job.is_empty() {
            problem("job", "must not be empty".to_owned());
        }
        if self.instance.as_deref() == Some("") {
            problem("instance", "must not be empty; leave it out for one of the process's own".to_owned());
        }
        for key in self.labels.iter().filter(|key| matches!(&*label_name(key), "job" | "instance")) {
            problem("labels", format!("\"{key}\" would be the label {key}, which everything has already"));
        }
        let chosen: Vec<String> = self.labels.iter().map(|key| label_name(key)).collect();
        let taken: Vec<&str> = BUILT_IN.into_iter().chain(chosen.iter().map(String::as_str)).collect();
        for (name, value) in &self.external_labels {
            if let Some(message) = label_problem(name, value, &taken) {
                problem(&format!("external_labels.{name}"), message);
            }
        }
        problems
    }
}
