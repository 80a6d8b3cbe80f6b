//! Remote write 1.0 on the wire: protobuf messages, compressed as one block of snappy.
//!
//! Invariant: a request is bounded in series and in bytes, and holds each group whole, so that no histogram is ever
//! seen half.

use super::groups::{Description, Group, Identity, Kind};
use crate::record::Text;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;

/// What marks the end of a series: a NaN that no computation gives.
pub(super) const STALE: u64 = 0x7ff0_0000_0000_0002;

/// As Prometheus itself does it by default.
const MAX_SERIES: usize = 2_000;
pub(super) const MAX_BYTES: usize = 1 << 20;

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(super) metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) family: String,
    #[prost(string, tag = "4")]
    pub(super) help: String,
    #[prost(string, tag = "5")]
    pub(super) unit: String,
}

/// What every request says of itself.
pub(super) fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_ENCODING, HeaderValue::from_static("snappy")),
        (CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
        (HeaderName::from_static("x-prometheus-remote-write-version"), HeaderValue::from_static("0.1.0")),
    ])
}

/// Groups cut into requests.
pub(super) struct Requests<'a, T> {
    rest: &'a [T],
    common: &'a [(Text, Text)],
    timestamp: i64,
    max_bytes: usize,
}

/// Something of which every series gets one sample.
pub(super) trait Sampled {
    fn identity(&self) -> &Identity;
    /// Of each of its series, in their order.
    fn values(&self) -> impl Iterator<Item = f64>;
}

impl Sampled for &Group {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn values(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied()
    }
}

/// Its series get the same value all.
pub(super) struct All<I>(pub(super) I, pub(super) f64);

impl<I: AsRef<Identity>> Sampled for All<I> {
    fn identity(&self) -> &Identity {
        self.0.as_ref()
    }
    fn values(&self) -> impl Iterator<Item = f64> {
        std::iter::repeat(self.1)
    }
}

impl AsRef<Identity> for &Group {
    fn as_ref(&self) -> &Identity {
        &self.identity
    }
}

/// A request, encoded, and what is in it.
pub(super) struct Request<'a, T> {
    pub(super) body: Vec<u8>,
    pub(super) series: usize,
    pub(super) groups: &'a [T],
    /// Its size before it is compressed, about.
    pub(super) bytes: usize,
    /// The time of its samples.
    pub(super) timestamp: i64,
}

impl<'a, T> Requests<'a, T> {
    /// One sample at `timestamp` for every series of `groups`; each has the labels `common` beside its own.
    pub(super) fn new(groups: &'a [T], common: &'a [(Text, Text)], timestamp: i64, max_bytes: usize) -> Self {
        Self { rest: groups, common, timestamp, max_bytes }
    }
}

impl<'a, T: Sampled> Iterator for Requests<'a, T> {
    type Item = Request<'a, T>;

    fn next(&mut self) -> Option<Request<'a, T>> {
        let mut message = WriteRequest::default();
        let (mut bytes, mut taken) = (0, 0);
        for group in self.rest {
            let series = group.identity().len();
            if taken > 0 && (message.timeseries.len() + series > MAX_SERIES || bytes > self.max_bytes) {
                break;
            }
            let at = message.timeseries.len();
            let samples = group.identity().series().zip(group.values());
            message.timeseries.extend(samples.map(|(series, value)| TimeSeries {
                labels: series.labels(self.common).into_iter().map(label).collect(),
                samples: vec![Sample { value, timestamp: self.timestamp }],
            }));
            bytes += message.timeseries.iter().skip(at).map(Message::encoded_len).sum::<usize>();
            taken += 1;
        }
        let (groups, rest) = self.rest.split_at_checked(taken).filter(|_| taken > 0)?;
        self.rest = rest;
        let (body, series) = (compress(&message), message.timeseries.len());
        Some(Request { body, series, groups, bytes, timestamp: self.timestamp })
    }
}

fn label((name, value): (&str, Cow<'_, str>)) -> Label {
    Label { name: name.to_owned(), value: value.into_owned() }
}

/// A request that describes families and has no samples.
pub(super) fn describe(families: &[Description]) -> Vec<u8> {
    let metadata = families.iter().map(|family| MetricMetadata {
        kind: match family.kind {
            Kind::Unknown => 0,
            Kind::Counter => 1,
            Kind::Gauge => 2,
            Kind::Histogram => 3,
        },
        family: family.name.to_string(),
        help: family.help.to_string(),
        unit: String::new(),
    });
    compress(&WriteRequest { timeseries: Vec::new(), metadata: metadata.collect() })
}

fn compress(message: &WriteRequest) -> Vec<u8> {
    // Only more than 4 GiB cannot be compressed, and a request is bounded.
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).unwrap_or_default()
}
