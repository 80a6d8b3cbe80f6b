//! What an operator may choose about the series, and what is wrong with a choice.

use serde::Deserialize;
use std::time::Duration;

/// The labels that the metrics have by themselves, and the one that histograms add.
const BUILT_IN: [&str; 6] = ["event_name", "status", "service", "operation", "direction", "le"];

/// Attributes that are another in every record: as a label each would make a series of every record.
const PER_RECORD: [&str; 10] = [
    "id",
    "task_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "error",
    "error_message",
    "exception_message",
    "exception_stacktrace",
    "process_id",
];

const MAX_BUCKETS: usize = 256;

/// What the series are made of. Two of equal settings are interchangeable.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SeriesSettings {
    /// Attribute keys that become labels.
    pub labels: Vec<String>,
    /// Upper bounds of the histograms' buckets, in seconds, ascending.
    pub buckets: Vec<f64>,
    /// Distinct label sets per metric; what goes beyond is counted under `other`.
    pub max_series: usize,
}

impl Default for SeriesSettings {
    fn default() -> Self {
        // From a millisecond to a minute: events are steps of pipelines, slower than the requests that the usual
        // buckets are made for.
        let buckets = vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        Self { labels: Vec::new(), buckets, max_series: 2_000 }
    }
}

impl SeriesSettings {
    /// Every problem, as (key, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: String| problems.push((key.to_owned(), message));
        let mut names: Vec<(String, &str)> = Vec::new();
        for key in &self.labels {
            let name = label_name(key);
            if key.is_empty() {
                problem("labels", "an attribute key is empty".to_owned());
            } else if BUILT_IN.contains(&name.as_str()) {
                problem(
                    "labels",
                    format!("\"{key}\" would be the label {name}, which the metrics have already"),
                );
            } else if name.starts_with("__") {
                problem(
                    "labels",
                    format!("\"{key}\" would be the label {name}: Prometheus keeps __ for itself"),
                );
            } else if PER_RECORD.contains(&name.as_str()) {
                problem("labels", format!("\"{key}\" is another in every record: each would be a series"));
            } else if let Some((_, first)) = names.iter().find(|(known, _)| *known == name) {
                problem("labels", format!("\"{first}\" and \"{key}\" would both be the label {name}"));
            } else {
                names.push((name, key));
            }
        }
        if self.buckets.is_empty() || self.buckets.len() > MAX_BUCKETS {
            problem("buckets", format!("give between 1 and {MAX_BUCKETS} upper bounds, in seconds"));
        }
        if let Some(bound) = self.buckets.iter().find(|bound| !bound.is_finite()) {
            problem("buckets", format!("{bound} is not finite; the bucket for all the rest is always there"));
        }
        for (before, bound) in self.buckets.iter().zip(self.buckets.iter().skip(1)) {
            if before.is_finite() && bound.is_finite() && before >= bound {
                problem("buckets", format!("the bounds must ascend, but {bound} follows {before}"));
            }
        }
        // Bytes come in two directions, and neither is without the other.
        if self.max_series < 2 {
            problem("max_series", "must be at least 2".to_owned());
        }
        problems
    }
}

/// What is wrong with an `idle_expiry`, if anything.
pub(crate) fn idle_expiry_problem(expiry: Option<Duration>) -> Option<(String, String)> {
    (expiry == Some(Duration::ZERO))
        .then(|| ("idle_expiry".to_owned(), "must be more than nothing; leave it out for never".to_owned()))
}

/// The legal label name for an attribute key: `http.method` is `http_method`.
pub fn label_name(key: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let digit_first = key.starts_with(|c: char| c.is_ascii_digit());
    digit_first.then_some('_').into_iter().chain(key.chars().map(legal)).collect()
}
