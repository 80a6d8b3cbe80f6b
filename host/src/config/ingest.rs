//! `[ingest]`: what is kept of what comes in.

use super::only::Glob;
use super::reader::Check;
use super::sections::Section;
use serde::Deserialize;

/// `[ingest]`: what is kept of what comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct IngestConfig {
    /// `[ingest.otlp]`.
    pub otlp: OtlpConfig,
}

/// `[ingest.otlp]`: what is kept of spans beyond what always is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OtlpConfig {
    /// Keys of resource attributes: patterns, `*` keeps all.
    pub resource_attributes: Vec<Glob>,
    /// Whether events other than exceptions are kept, as attribute `span.events`.
    pub events: bool,
    /// Whether links are kept, as attribute `span.links`.
    pub links: bool,
    /// Whether the instrumentation scope is kept, as attributes `otel.scope.name` and `otel.scope.version`.
    pub scope: bool,
    /// Whether the trace state is kept, as attribute `trace_state`.
    pub trace_state: bool,
}

/// Patterns, and bytes of one: every key of a resource is compared with all of them.
const MOST_PATTERNS: usize = 256;

impl Section for IngestConfig {
    fn validate(&self, check: &mut Check<'_>) {
        let patterns = &self.otlp.resource_attributes;
        let key = "otlp.resource_attributes";
        check.that(&[key], patterns.len() <= MOST_PATTERNS, || {
            format!("has {} patterns, at most {MOST_PATTERNS} are possible", patterns.len())
        });
        check.that(&[key], patterns.iter().all(|glob| glob.as_str().len() <= MOST_PATTERNS), || {
            format!("has a pattern that is longer than {MOST_PATTERNS} bytes")
        });
    }
}
