//! One metric and its series: a child per set of label values, found by a hash that is computed once per record.
//!
//! Invariant: never more than `max` label sets beside those of `other`. (The vectors of the crate `prometheus` are
//! not used: they tell children apart by a hash of the values run together, which takes ("ab", "c") and ("a", "bc")
//! for the same, and they cannot be capped.)

use crate::record::Text;
use prometheus::core::Metric as _;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{Counter, Histogram, HistogramOpts, Opts};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The value of every open label of a series that takes what went beyond the cap.
pub(super) const OTHER: &str = "other";

/// A metric, before it has series.
#[derive(Clone)]
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// The label whose values are few and fixed, if it has one; `other` keeps it.
    pub(super) closed: Option<&'static str>,
    /// The open labels, in the order of the values.
    pub(super) open: Arc<[String]>,
    /// Of a histogram.
    pub(super) buckets: Vec<f64>,
}

impl Description {
    fn labels(&self, closed: &str, open: &[impl AsRef<str>]) -> HashMap<String, String> {
        let open = self.open.iter().zip(open).map(|(name, value)| (name.clone(), value.as_ref().to_owned()));
        open.chain(self.closed.map(|name| (name.to_owned(), closed.to_owned()))).collect()
    }
}

/// What counts under one set of label values.
pub(super) trait Instrument: Clone + Sized {
    /// How many label sets it stands for.
    const SETS: usize;
    const KIND: MetricType;
    fn build(
        description: &Description,
        closed: &'static str,
        open: &[impl AsRef<str>],
    ) -> prometheus::Result<Self>;
    fn collect(&self, into: &mut Vec<Metric>);
}

impl Instrument for Counter {
    const SETS: usize = 1;
    const KIND: MetricType = MetricType::COUNTER;

    fn build(
        description: &Description,
        closed: &'static str,
        open: &[impl AsRef<str>],
    ) -> prometheus::Result<Self> {
        let labels = description.labels(closed, open);
        Self::with_opts(Opts::new(description.name, description.help).const_labels(labels))
    }

    fn collect(&self, into: &mut Vec<Metric>) {
        into.push(self.metric());
    }
}

impl Instrument for Histogram {
    const SETS: usize = 1;
    const KIND: MetricType = MetricType::HISTOGRAM;

    fn build(
        description: &Description,
        closed: &'static str,
        open: &[impl AsRef<str>],
    ) -> prometheus::Result<Self> {
        let labels = description.labels(closed, open);
        let options = HistogramOpts::new(description.name, description.help).const_labels(labels);
        Self::with_opts(options.buckets(description.buckets.clone()))
    }

    fn collect(&self, into: &mut Vec<Metric>) {
        into.push(self.metric());
    }
}

/// Bytes both ways: born together, so that neither direction is ever without the other.
#[derive(Clone)]
pub(super) struct Traffic {
    pub(super) sent: Counter,
    pub(super) received: Counter,
}

impl Instrument for Traffic {
    const SETS: usize = 2;
    const KIND: MetricType = MetricType::COUNTER;

    fn build(
        description: &Description,
        _: &'static str,
        open: &[impl AsRef<str>],
    ) -> prometheus::Result<Self> {
        Ok(Self {
            sent: Counter::build(description, "sent", open)?,
            received: Counter::build(description, "received", open)?,
        })
    }

    fn collect(&self, into: &mut Vec<Metric>) {
        into.extend([self.sent.metric(), self.received.metric()]);
    }
}

/// The open label values of one record, and their hash. Made by [`Hasher`], once per record for all families.
pub(super) struct Key<'a> {
    pub(super) hash: u64,
    pub(super) values: &'a [Cow<'a, str>],
}

struct Child<M> {
    closed: &'static str,
    open: Box<[Text]>,
    metric: M,
    seen: Instant,
    /// Whether it counts against the cap: those of `other` do not.
    capped: bool,
}

impl<M> Child<M> {
    fn is(&self, closed: &str, open: &[impl AsRef<str>]) -> bool {
        same(self.closed, closed)
            && self.open.len() == open.len()
            && self.open.iter().zip(open).all(|(own, asked)| same(own, asked.as_ref()))
    }
}

/// A metric and its series.
pub(super) struct Family<M> {
    description: Description,
    max: usize,
    /// By the hash of the open values; a bucket holds the closed values of one set, and what collides.
    children: HashMap<u64, Vec<Child<M>>, BuildHasherDefault<AsIs>>,
    sets: usize,
    other: (u64, Vec<&'static str>),
    overflowed: u64,
}

impl<M: Instrument> Family<M> {
    /// # Errors
    ///
    /// No series of it could ever be built: a label has no legal name, or the buckets are wrong.
    pub(super) fn new(
        description: Description,
        max: usize,
        hasher: &RandomState,
    ) -> prometheus::Result<Self> {
        let other = vec![OTHER; description.open.len()];
        M::build(&description, "", &other)?;
        let hash = hash(hasher, &other);
        Ok(Self {
            description,
            max,
            children: HashMap::default(),
            sets: 0,
            other: (hash, other),
            overflowed: 0,
        })
    }

    /// What counts for these label values: a series of their own, or that of `other`. Absent only where a series
    /// cannot be built, which [`Family::new`] has ruled out.
    pub(super) fn child(&mut self, closed: &'static str, key: &Key<'_>, now: Instant) -> Option<&M> {
        let (hash, at) = match self.position(key.hash, closed, key.values) {
            Some(at) => (key.hash, at),
            None => self.admit(closed, key, now)?,
        };
        let child = self.children.get_mut(&hash)?.get_mut(at)?;
        child.seen = now;
        Some(&child.metric)
    }

    fn position(&self, hash: u64, closed: &str, open: &[impl AsRef<str>]) -> Option<usize> {
        self.children.get(&hash)?.iter().position(|child| child.is(closed, open))
    }

    fn admit(&mut self, closed: &'static str, key: &Key<'_>, now: Instant) -> Option<(u64, usize)> {
        if self.sets + M::SETS <= self.max {
            let at = self.push(key.hash, closed, key.values, true, now)?;
            self.sets += M::SETS;
            return Some((key.hash, at));
        }
        self.overflowed += 1;
        let (hash, values) = self.other.clone();
        let at = match self.position(hash, closed, &values) {
            Some(at) => at,
            None => self.push(hash, closed, &values, false, now)?,
        };
        Some((hash, at))
    }

    fn push(
        &mut self,
        hash: u64,
        closed: &'static str,
        open: &[impl AsRef<str>],
        capped: bool,
        now: Instant,
    ) -> Option<usize> {
        let metric = M::build(&self.description, closed, open).ok()?;
        let open = open.iter().map(|value| Text::new(value.as_ref())).collect();
        let bucket = self.children.entry(hash).or_default();
        bucket.push(Child { closed, open, metric, seen: now, capped });
        Some(bucket.len() - 1)
    }

    /// Lets go of the series that saw nothing for longer than `idle`.
    pub(super) fn expire(&mut self, idle: Duration, now: Instant) {
        let sets = &mut self.sets;
        self.children.retain(|_, bucket| {
            bucket.retain(|child| {
                let keep = now.duration_since(child.seen) <= idle;
                if !keep && child.capped {
                    *sets -= M::SETS;
                }
                keep
            });
            !bucket.is_empty()
        });
    }

    /// How many label sets it has, those of `other` included.
    pub(super) fn len(&self) -> usize {
        self.children.values().map(|bucket| bucket.len() * M::SETS).sum()
    }

    /// How many records went to `other`.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    pub(super) fn name(&self) -> &'static str {
        self.description.name
    }

    /// Handles to all series, to be rendered without keeping who folds waiting.
    pub(super) fn snapshot(&self) -> Snapshot<M> {
        Snapshot {
            name: self.description.name,
            help: self.description.help,
            metrics: self.children.values().flatten().map(|child| child.metric.clone()).collect(),
        }
    }
}

/// Handles to the series of one metric.
pub(super) struct Snapshot<M> {
    name: &'static str,
    help: &'static str,
    metrics: Vec<M>,
}

impl<M: Instrument> Snapshot<M> {
    /// The values as they are now, in the order of their labels; nothing where there is no series.
    pub(super) fn render(self, into: &mut Vec<MetricFamily>) {
        if self.metrics.is_empty() {
            return;
        }
        let mut rendered = Vec::with_capacity(self.metrics.len() * M::SETS);
        for metric in &self.metrics {
            metric.collect(&mut rendered);
        }
        rendered.sort_by(|a, b| {
            let (a, b) = (a.get_label().iter(), b.get_label().iter());
            a.map(|label| label.value()).cmp(b.map(|label| label.value()))
        });
        into.push(family(self.name, self.help, M::KIND, rendered));
    }
}

pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// SipHash, seeded: names come from outside, and nobody is to aim them at one bucket.
pub(super) fn hash(hasher: &RandomState, values: &[impl AsRef<str>]) -> u64 {
    let mut state = hasher.build_hasher();
    for value in values {
        value.as_ref().hash(&mut state);
    }
    state.finish()
}

/// Compares texts that are often empty. An empty text has no address, and comparing nothing at no address costs more
/// than all the rest of a lookup: glibc's `memcmp` loads under a mask there, which the processor does slowly.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

/// What is hashed already is its own hash.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
