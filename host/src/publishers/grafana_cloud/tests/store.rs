//! A receiver that keeps what is pushed, and holds it to Prometheus's rules.

use crate::publishers::grafana_cloud::wire::{MetricMetadata, STALE, WriteRequest};
use crate::publishers::push::receiver::{Received, Receiver, Reply};
use parking_lot::Mutex;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

type Labels = BTreeMap<String, String>;

/// Keeps every sample.
pub(crate) struct Store {
    receiver: Receiver,
    kept: Arc<Mutex<Kept>>,
}

/// How a request is treated.
#[derive(Clone, Debug)]
pub(crate) enum Treatment {
    /// It is taken, and that is said.
    Take,
    /// It is taken, and another thing is said.
    TakeAndSay(Reply),
    /// It is not taken.
    Refuse(Reply),
}

#[derive(Default)]
struct Kept {
    series: BTreeMap<Labels, Vec<(i64, f64)>>,
    metadata: Vec<MetricMetadata>,
    /// How many series each request had; none for one of descriptions.
    requests: Vec<usize>,
    times: Vec<Instant>,
    /// What breaks a rule.
    broken: Vec<String>,
    /// For the next requests; then the last one goes on.
    script: VecDeque<Treatment>,
}

impl Kept {
    fn treat(&mut self, received: &Received) -> Reply {
        let header = |name: &str| received.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let wanted = [
            ("content-encoding", "snappy"),
            ("content-type", "application/x-protobuf"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        for (name, value) in wanted {
            assert_eq!(header(name).as_deref(), Some(value));
        }
        let message = WriteRequest::decode(&*received.body).unwrap();
        self.requests.push(message.timeseries.len());
        self.times.push(Instant::now());
        let treatment =
            if self.script.len() > 1 { self.script.pop_front() } else { self.script.front().cloned() };
        match treatment.unwrap_or(Treatment::Take) {
            Treatment::Take => {
                self.take(message);
                Reply::taken()
            }
            Treatment::TakeAndSay(reply) => {
                self.take(message);
                reply
            }
            Treatment::Refuse(reply) => reply,
        }
    }

    fn take(&mut self, message: WriteRequest) {
        if !message.metadata.is_empty() {
            self.metadata = message.metadata;
        }
        for series in message.timeseries {
            let names: Vec<_> = series.labels.iter().map(|label| label.name.as_str()).collect();
            let sorted = names.is_sorted_by(|a, b| a < b);
            let filled = series.labels.iter().all(|label| !label.name.is_empty() && !label.value.is_empty());
            if !sorted || !filled || !names.contains(&"__name__") {
                self.broken.push(format!("labels {:?}", series.labels));
            }
            let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
            let kept = self.series.entry(labels).or_default();
            for sample in series.samples {
                if kept.last().is_some_and(|(last, _)| sample.timestamp <= *last) {
                    self.broken.push(format!("{sample:?} follows {:?}", kept.last()));
                }
                kept.push((sample.timestamp, sample.value));
            }
        }
    }
}

impl Store {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let keeping = kept.clone();
        Self { receiver: Receiver::new(move |received| keeping.lock().treat(received)), kept }
    }

    pub(crate) fn url(&self) -> String {
        self.receiver.url("/api/prom/push")
    }

    /// How the next requests are treated; the last treatment goes for all that follow.
    pub(crate) fn treat(&self, script: impl IntoIterator<Item = Treatment>) {
        self.kept.lock().script = script.into_iter().collect();
    }

    /// How many series each request had until now.
    pub(crate) fn requests(&self) -> Vec<usize> {
        self.kept.lock().requests.clone()
    }

    /// When they came.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.kept.lock().times.clone()
    }

    pub(in crate::publishers::grafana_cloud) fn metadata(&self) -> Vec<MetricMetadata> {
        self.kept.lock().metadata.clone()
    }

    /// The samples of every series of that name that has these labels.
    pub(crate) fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<Vec<(i64, f64)>> {
        let kept = self.kept.lock();
        assert_eq!(kept.broken, Vec::<String>::new());
        let has = |all: &Labels, label: &str, value: &str| all.get(label).is_some_and(|own| own == value);
        let found = kept.series.iter().filter(|(all, _)| {
            has(all, "__name__", name) && labels.iter().all(|(label, value)| has(all, label, value))
        });
        found.map(|(_, samples)| samples.clone()).collect()
    }

    /// By how much the series of that name grew, as PromQL's `increase` counts it: from a series' first sample on, and
    /// from 0 where it became less.
    pub(crate) fn increase(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let grown = |samples: Vec<(i64, f64)>| {
            let values: Vec<f64> =
                samples.iter().map(|(_, value)| *value).filter(|value| !value.is_nan()).collect();
            let steps =
                values.windows(2).map(|pair| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] });
            steps.sum::<f64>()
        };
        self.samples(name, labels).into_iter().map(grown).sum()
    }

    /// How many series there are whose last sample does not say that they are over.
    pub(crate) fn alive(&self) -> usize {
        let kept = self.kept.lock();
        kept.series
            .values()
            .filter(|samples| samples.last().is_some_and(|(_, value)| !is_stale(*value)))
            .count()
    }
}

pub(crate) fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE
}
