//! What a scrape would show, as data: groups of series that are born and end together.
//!
//! Invariant: the series are those of the text exposition, name by name, label by label and value by value; only empty
//! labels are left out, which Prometheus takes for absent ones, and remote write forbids.

use crate::record::Text;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::borrow::Cow;
use std::sync::Arc;

/// A family, as receivers describe it to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) name: Text,
    pub(super) help: Text,
    pub(super) kind: Kind,
}

/// What a family's values are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// They only grow, from 0.
    Counter,
    /// They rise and fall.
    Gauge,
    /// They only grow, from 0; a value is counted in every bucket that it fits into.
    Histogram,
    /// Nobody has said.
    #[default]
    Unknown,
}

impl Kind {
    /// Whether a series of it began at 0.
    pub(super) fn is_cumulative(self) -> bool {
        matches!(self, Self::Counter | Self::Histogram)
    }
}

/// Which series: two groups with the same identity are the same series.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    name: Text,
    /// None of them is empty.
    labels: Box<[(Text, Text)]>,
    /// Of a histogram: the values of `le`, the one for all the rest included.
    bounds: Option<Arc<[Text]>>,
}

/// Series that are born and end together: one, or all of a histogram; with their values.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) identity: Arc<Identity>,
    /// It is made by the publisher itself, and began at 0 with it. Of the host's own metrics nobody knows that.
    pub(super) own: bool,
    pub(super) kind: Kind,
    /// In the order of [`Identity::series`].
    pub(super) values: Vec<f64>,
}

/// One of the series of an identity.
#[derive(Clone, Copy)]
pub(super) struct Series<'a> {
    identity: &'a Identity,
    suffix: &'static str,
    bound: Option<&'a Text>,
}

impl Identity {
    pub(super) fn new(name: &str, labels: impl IntoIterator<Item = (Text, Text)>) -> Self {
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Self { name: Text::new(name), labels, bounds: None }
    }

    /// The series, in a fixed order.
    pub(super) fn series(&self) -> impl Iterator<Item = Series<'_>> {
        let one = move |suffix, bound| Series { identity: self, suffix, bound };
        let plain = self.bounds.is_none().then(|| one("", None));
        let bounds = self.bounds.as_deref().unwrap_or_default();
        let sum_and_count = ["_sum", "_count"].into_iter().filter(|_| self.bounds.is_some());
        plain
            .into_iter()
            .chain(bounds.iter().map(move |bound| one("_bucket", Some(bound))))
            .chain(sum_and_count.map(move |suffix| one(suffix, None)))
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.bounds.as_ref().map_or(1, |bounds| bounds.len() + 2)
    }
}

impl<'a> Series<'a> {
    /// Its labels, the name among them, with `common` ones beside its own: sorted by name, each once. Where both have
    /// one, its own holds.
    pub(super) fn labels(&self, common: &'a [(Text, Text)]) -> Vec<(&'a str, Cow<'a, str>)> {
        let Self { identity, suffix, bound } = *self;
        let name = match suffix {
            "" => Cow::Borrowed(identity.name.as_str()),
            suffix => Cow::Owned([&*identity.name, suffix].concat()),
        };
        let mut labels = Vec::with_capacity(2 + identity.labels.len() + common.len());
        labels.push(("__name__", name));
        labels.extend(bound.map(|bound| ("le", Cow::Borrowed(bound.as_str()))));
        for (name, value) in identity.labels.iter().chain(common) {
            if labels.iter().all(|(known, _)| *known != name.as_str()) {
                labels.push((name.as_str(), Cow::Borrowed(value.as_str())));
            }
        }
        labels.sort_unstable_by_key(|(name, _)| *name);
        labels
    }
}

/// The groups of the publisher's own families, and what there is to say about those.
pub(super) fn of_families(families: &[MetricFamily]) -> (Vec<Group>, Vec<Description>) {
    let mut groups = Vec::new();
    let mut descriptions = Vec::new();
    for family in families {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::HISTOGRAM => Kind::Histogram,
            MetricType::GAUGE => Kind::Gauge,
            _ => continue,
        };
        let bounds = (kind == Kind::Histogram).then(|| family.get_metric().first().map(bounds)).flatten();
        for metric in family.get_metric() {
            let labels = metric.get_label().iter();
            let labels = labels.map(|label| (Text::new(label.name()), Text::new(label.value())));
            let identity = Identity { bounds: bounds.clone(), ..Identity::new(family.name(), labels) };
            groups.push(Group {
                identity: Arc::new(identity),
                own: true,
                kind,
                values: values(metric, kind),
            });
        }
        descriptions.push(Description { name: family.name().into(), help: family.help().into(), kind });
    }
    (groups, descriptions)
}

/// All histograms of a family have the same buckets.
fn bounds(histogram: &Metric) -> Arc<[Text]> {
    let buckets = histogram.get_histogram().get_bucket().iter();
    let finite = buckets.map(|bucket| bucket.upper_bound()).filter(|bound| *bound != f64::INFINITY);
    finite.map(|bound| bound.to_string().into()).chain([Text::const_new("+Inf")]).collect()
}

#[allow(clippy::cast_precision_loss)] // Beyond 2^53 a sample is rounded, as every sample of Prometheus is.
fn values(metric: &Metric, kind: Kind) -> Vec<f64> {
    match kind {
        Kind::Counter => vec![metric.get_counter().get_value()],
        Kind::Histogram => {
            let histogram = metric.get_histogram();
            let finite = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound() != f64::INFINITY);
            let count = histogram.get_sample_count() as f64;
            finite
                .map(|bucket| bucket.cumulative_count() as f64)
                .chain([count, histogram.get_sample_sum(), count])
                .collect()
        }
        Kind::Gauge | Kind::Unknown => vec![metric.get_gauge().get_value()],
    }
}
