//! The native types of publishers, as configuration names them.
//!
//! Invariant: each joins through [`PublisherType`](crate::publisher::PublisherType) and nothing else, and none knows
//! another; [`composite`] asks its members through the trait that all have. What two of them need stands in a module of its own: [`series`] (records folded into Prometheus series) and
//! `offload` (blocking work that survives its caller).

pub mod composite;
pub mod file;
mod offload;
#[cfg(feature = "prometheus")]
pub mod prometheus;
#[cfg(feature = "prometheus")]
pub mod series;
pub mod stdout;

pub use file::FilePublisher;
#[cfg(feature = "prometheus")]
pub use prometheus::PrometheusPublisher;
pub use stdout::StdoutPublisher;
