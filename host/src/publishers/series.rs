//! Records folded into Prometheus series: the state behind `/metrics`, and behind remote write.
//!
//! Invariant: a record is folded exactly once, under one lock per batch, and a label is never made of an id or an
//! error's text. The number of series is bounded whatever the records say.

mod family;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use settings::idle_expiry_problem;
pub use settings::{SeriesSettings, label_name};

use crate::record::{Attributes, EventBatch, NetworkBatch, Record};
use family::{Description, Family, Key, Snapshot, Traffic, family, hash};
use parking_lot::Mutex;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Counter, Histogram};
use std::borrow::Cow;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const SERVICE: &str = "service.name";

/// Longer label values are cut: a value is kept as long as its series is.
const MAX_VALUE_BYTES: usize = 256;

/// The series of one publisher. Folding and gathering may happen at once, from different tasks.
pub struct Series {
    settings: SeriesSettings,
    state: Mutex<State>,
}

struct State {
    hasher: RandomState,
    idle_expiry: Option<Duration>,
    durations: Family<Histogram>,
    retries: Family<Counter>,
    bytes: Family<Traffic>,
    latencies: Family<Histogram>,
    errors: Family<Counter>,
}

/// Does the same to every family; they are of different types.
macro_rules! each_family {
    ($state:expr, $family:ident => $do:expr) => {{
        let state = $state;
        [
            {
                let $family = &mut state.durations;
                $do
            },
            {
                let $family = &mut state.retries;
                $do
            },
            {
                let $family = &mut state.bytes;
                $do
            },
            {
                let $family = &mut state.latencies;
                $do
            },
            {
                let $family = &mut state.errors;
                $do
            },
        ]
    }};
}

impl Series {
    /// No series yet.
    ///
    /// # Errors
    ///
    /// The settings are wrong: what [`SeriesSettings::problems`] lists.
    pub fn new(settings: SeriesSettings, idle_expiry: Option<Duration>) -> anyhow::Result<Self> {
        if let Some((key, message)) = settings.problems().into_iter().next() {
            anyhow::bail!("{key}: {message}");
        }
        let hasher = RandomState::new();
        let describe = |name, help, by: &str, closed| {
            let open = [by, "service"].into_iter().map(str::to_owned);
            let open: Arc<[String]> = open.chain(settings.labels.iter().map(|key| label_name(key))).collect();
            Description { name, help, closed, open, buckets: settings.buckets.clone() }
        };
        let max = settings.max_series;
        let state = State {
            idle_expiry,
            durations: Family::new(
                describe("event_duration_seconds", "How long events took.", "event_name", Some("status")),
                max,
                &hasher,
            )?,
            retries: Family::new(
                describe("event_retries_total", "How often events were tried again.", "event_name", None),
                max,
                &hasher,
            )?,
            bytes: Family::new(
                describe(
                    "network_bytes_total",
                    "Bytes that network operations moved.",
                    "operation",
                    Some("direction"),
                ),
                max,
                &hasher,
            )?,
            latencies: Family::new(
                describe("network_latency_seconds", "How long network operations took.", "operation", None),
                max,
                &hasher,
            )?,
            errors: Family::new(
                describe("network_errors_total", "Network operations that failed.", "operation", None),
                max,
                &hasher,
            )?,
            hasher,
        };
        Ok(Self { settings, state: Mutex::new(state) })
    }

    /// What the series are made of.
    pub fn settings(&self) -> &SeriesSettings {
        &self.settings
    }

    /// Series that saw nothing for that long are let go from now on.
    pub fn set_idle_expiry(&self, expiry: Option<Duration>) {
        self.state.lock().idle_expiry = expiry;
    }

    /// Counts every event, once.
    pub fn fold_events(&self, events: &EventBatch) {
        let now = Instant::now();
        let mut values = Vec::with_capacity(2 + self.settings.labels.len());
        let mut state = self.state.lock();
        let state = &mut *state;
        for event in events.iter() {
            self.label_values(event.name(), &event.attributes, &mut values);
            let key = Key { hash: hash(&state.hasher, &values), values: &values };
            if let Some(duration) = event.duration()
                && let Some(histogram) = state.durations.child(event.status.as_str(), &key, now)
            {
                histogram.observe(duration.as_secs_f64());
            }
            if let Some(counter) = state.retries.child("", &key, now) {
                counter.inc_by(event.retry_count.into());
            }
        }
    }

    /// Counts every network operation, once.
    pub fn fold_operations(&self, operations: &NetworkBatch) {
        let now = Instant::now();
        let mut values = Vec::with_capacity(2 + self.settings.labels.len());
        let mut state = self.state.lock();
        let state = &mut *state;
        for operation in operations.iter() {
            self.label_values(operation.name(), &operation.attributes, &mut values);
            let key = Key { hash: hash(&state.hasher, &values), values: &values };
            if let Some(traffic) = state.bytes.child("", &key, now) {
                // Floats, as every sample is: a sum of integers would wrap.
                traffic.sent.inc_by(operation.bytes_sent as f64);
                traffic.received.inc_by(operation.bytes_received as f64);
            }
            if let Some(latency) = operation.latency()
                && let Some(histogram) = state.latencies.child("", &key, now)
            {
                histogram.observe(latency.as_secs_f64());
            }
            if let Some(counter) = state.errors.child("", &key, now) {
                counter.inc_by(f64::from(u8::from(operation.error.is_some())));
            }
        }
    }

    /// The open label values of one record: its name, its service, and the attributes chosen.
    fn label_values<'a>(&self, name: &'a str, attributes: &'a Attributes, into: &mut Vec<Cow<'a, str>>) {
        let attribute = |key: &str| attributes.get(key).map(|value| value.as_text()).unwrap_or_default();
        into.clear();
        into.push(cut(Cow::Borrowed(name)));
        into.push(cut(attribute(SERVICE)));
        into.extend(self.settings.labels.iter().map(|key| cut(attribute(key))));
    }

    /// Lets idle series go, and so makes room under the cap.
    pub fn expire(&self) {
        let mut state = self.state.lock();
        if let Some(idle) = state.idle_expiry {
            let now = Instant::now();
            each_family!(&mut *state, family => family.expire(idle, now));
        }
    }

    /// All series as they are now, idle ones left out.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.expire();
        let (durations, retries, bytes, latencies, errors, overflowed) = {
            let mut state = self.state.lock();
            let overflowed = each_family!(&mut *state, family => (family.name(), family.overflowed()));
            (
                state.durations.snapshot(),
                state.retries.snapshot(),
                state.bytes.snapshot(),
                state.latencies.snapshot(),
                state.errors.snapshot(),
                overflowed,
            )
        };
        let mut families = Vec::with_capacity(6);
        Snapshot::render(durations, &mut families);
        Snapshot::render(retries, &mut families);
        Snapshot::render(bytes, &mut families);
        Snapshot::render(latencies, &mut families);
        Snapshot::render(errors, &mut families);
        families.push(family(
            "pressroom_series_overflow_total",
            "Records counted under the label values `other`, for the metric has max_series label sets.",
            MetricType::COUNTER,
            overflowed.into_iter().map(|(metric, count)| overflow(metric, count)).collect(),
        ));
        families
    }

    /// How many label sets there are, of all metrics.
    pub fn len(&self) -> usize {
        each_family!(&mut *self.state.lock(), family => family.len()).iter().sum()
    }

    /// Whether nothing was folded yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often something was counted under `other`, over all metrics.
    pub fn overflowed(&self) -> u64 {
        each_family!(&mut *self.state.lock(), family => family.overflowed()).iter().sum()
    }
}

fn overflow(metric: &str, count: u64) -> Metric {
    let mut label = LabelPair::default();
    label.set_name("metric".to_owned());
    label.set_value(metric.to_owned());
    let mut counter = proto::Counter::default();
    // Beyond 2^53 a sample is rounded, as every sample of Prometheus is.
    counter.set_value(count as f64);
    let mut rendered = Metric::from_label(vec![label]);
    rendered.set_counter(counter);
    rendered
}

fn cut(value: Cow<'_, str>) -> Cow<'_, str> {
    if value.len() <= MAX_VALUE_BYTES {
        return value;
    }
    let end = value.floor_char_boundary(MAX_VALUE_BYTES);
    match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}
