//! The native types of publishers, as configuration names them.
//!
//! Invariant: each joins through [`PublisherType`](crate::publisher::PublisherType) and nothing else, and none knows
//! another; [`composite`] asks its members through the trait that all have. What two of them need stands in a module of
//! its own: [`series`] (records folded into Prometheus series), `push` (requests to what speaks as Grafana Cloud does),
//! `limit` (how large a request may be) and `offload` (blocking work that survives its caller).

pub mod composite;
#[cfg(feature = "elasticsearch")]
pub mod elasticsearch;
pub mod file;
#[cfg(feature = "grafana-cloud")]
pub mod grafana_cloud;
#[cfg(any(feature = "elasticsearch", feature = "grafana-cloud"))]
mod limit;
#[cfg(feature = "grafana-cloud")]
pub mod loki;
mod offload;
#[cfg(feature = "prometheus")]
pub mod prometheus;
#[cfg(feature = "grafana-cloud")]
mod push;
#[cfg(feature = "prometheus")]
pub mod series;
pub mod stdout;

#[cfg(feature = "elasticsearch")]
pub use elasticsearch::ElasticsearchPublisher;
pub use file::FilePublisher;
#[cfg(feature = "grafana-cloud")]
pub use grafana_cloud::GrafanaCloudPublisher;
#[cfg(feature = "grafana-cloud")]
pub use loki::LokiPublisher;
#[cfg(feature = "prometheus")]
pub use prometheus::PrometheusPublisher;
pub use stdout::StdoutPublisher;
