//! Loki's push API on the wire: protobuf messages, compressed as one block of snappy.

use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

#[derive(Clone, PartialEq, Message)]
pub(super) struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Stream {
    /// As LogQL writes them: `{job="pressroom"}`.
    #[prost(string, tag = "1")]
    pub(super) labels: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(message, optional, tag = "1")]
    pub(super) timestamp: Option<Time>,
    #[prost(string, tag = "2")]
    pub(super) line: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) metadata: Vec<Pair>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pair {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// What every request says of itself.
pub(super) fn headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))])
}

/// A request with these entries of one stream, and its size before it is compressed.
pub(super) fn encode(labels: &str, entries: Vec<Entry>) -> (Vec<u8>, usize) {
    let request = PushRequest { streams: vec![Stream { labels: labels.to_owned(), entries }] };
    let plain = request.encode_to_vec();
    // Only more than 4 GiB cannot be compressed, and a request is bounded.
    (snap::raw::Encoder::new().compress_vec(&plain).unwrap_or_default(), plain.len())
}
