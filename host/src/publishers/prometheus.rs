//! The publisher `prometheus`: series of what was recorded, served to scrapes on a listener of its own.
//!
//! Invariant: a batch is folded in one synchronous step and is delivered with it, so that no attempt can count half
//! of it or count it twice. A successor takes listener and series over: no scrape fails and no counter starts anew
//! unless what makes up the series was changed.

mod listener;
#[cfg(test)]
mod tests;

use super::series::{Series, SeriesSettings, idle_expiry_problem};
use crate::config::{Access, Secret, units};
use crate::listen::{Guard, GuardSettings, RefusedCounts, Why};
use crate::publisher::{Context, PublishError, PublishResult, Publisher, PublisherType, StatusSource};
use crate::record::{EventBatch, NetworkBatch};
use anyhow::Context as _;
use listener::{Listener, Served};
use serde::Deserialize;
use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Settings of a `prometheus` publisher.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PrometheusConfig {
    /// Where scrapes are answered.
    pub listen: SocketAddr,
    /// The bearer token that scrapes must carry.
    pub token: Option<Secret>,
    /// Whether it may listen on another address than loopback without a token.
    pub allow_without_token: bool,
    /// Further `Host` names that are answered.
    pub hosts: Vec<String>,
    /// Attribute keys that become labels.
    pub labels: Vec<String>,
    /// Upper bounds of the histograms' buckets, in seconds, ascending.
    pub buckets: Vec<f64>,
    /// Distinct label sets per metric; what goes beyond is counted under `other`.
    pub max_series: usize,
    /// A series that saw nothing for that long is let go; absent: never.
    #[serde(deserialize_with = "units::optional_duration")]
    pub idle_expiry: Option<Duration>,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        let SeriesSettings { labels, buckets, max_series } = SeriesSettings::default();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464));
        Self {
            listen,
            token: None,
            allow_without_token: false,
            hosts: Vec::new(),
            labels,
            buckets,
            max_series,
            idle_expiry: None,
        }
    }
}

impl PrometheusConfig {
    fn access_problems(&self) -> Vec<(String, String)> {
        let access = Access {
            prefix: "",
            listen: self.listen,
            token: self.token.as_ref().map(Secret::expose),
            allow_without_token: self.allow_without_token,
            hosts: &self.hosts,
        };
        access.problems().into_iter().map(|(key, problem)| (key.to_owned(), problem)).collect()
    }

    fn series(&self) -> SeriesSettings {
        SeriesSettings {
            labels: self.labels.clone(),
            buckets: self.buckets.clone(),
            max_series: self.max_series,
        }
    }
}

/// Serves series of what was recorded to Prometheus.
pub struct PrometheusPublisher {
    config: PrometheusConfig,
    context: Context,
    series: Arc<Series>,
    /// Absent before `open`, and after a successor has taken it over.
    listener: Option<Listener>,
    /// Scrapes that were refused.
    refused: RefusedCounts,
}

impl PrometheusPublisher {
    async fn bind(&self, predecessor: Option<&mut Self>) -> anyhow::Result<Listener> {
        let served = self.served();
        let held = predecessor
            .and_then(|old| old.listener.as_mut())
            .filter(|old| old.address().port() == self.config.listen.port());
        let Some(held) = held else {
            return Listener::start(self.config.listen, served).await.with_context(|| self.unavailable());
        };
        // The same port on another address: the predecessor's own listener may be what is in the way.
        let (address, before) = (held.address(), held.served());
        held.stop().await;
        match Listener::start(self.config.listen, served).await {
            Ok(listener) => Ok(listener),
            Err(error) => {
                *held = Listener::start(address, before)
                    .await
                    .with_context(|| format!("cannot listen on {address} again"))?;
                Err(error).with_context(|| self.unavailable())
            }
        }
    }

    /// What scrapes show, for tests that ask after the end.
    #[cfg(test)]
    pub(crate) fn series(&self) -> Arc<Series> {
        self.series.clone()
    }

    fn served(&self) -> Arc<Served> {
        let guard = GuardSettings {
            prefix: format!("publishers.{}.", self.context.label),
            token: self.config.token.as_ref().map(|token| token.expose().to_owned()),
            hosts: self.config.hosts.clone(),
            cors_origins: Vec::new(),
        };
        Arc::new(Served {
            series: self.series.clone(),
            host_metrics: self.context.host_metrics.clone(),
            guard: Guard::new(guard, self.refused.clone()),
        })
    }

    fn unavailable(&self) -> String {
        format!(
            "cannot listen on {}: end what listens there, or change `listen` of [publishers.{}]",
            self.config.listen, self.context.label
        )
    }
}

#[async_trait::async_trait]
impl Publisher for PrometheusPublisher {
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let mut predecessor =
            predecessor.and_then(|old| (old as &mut dyn Any).downcast_mut::<PrometheusPublisher>());
        let own = self.series.clone();
        if let Some(old) = predecessor.as_deref().filter(|old| old.series.settings() == own.settings()) {
            self.series = old.series.clone();
        }
        let taken = predecessor
            .as_mut()
            .filter(|old| old.config.listen == self.config.listen)
            .and_then(|old| old.listener.take());
        let listener = match taken {
            Some(listener) => {
                listener.serve(self.served());
                listener
            }
            None => self.bind(predecessor).await?,
        };
        self.series.set_idle_expiry(self.config.idle_expiry);
        self.listener = Some(listener);
        Ok(())
    }

    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.series.fold_events(events);
        Ok(Vec::new())
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.series.fold_operations(operations);
        Ok(Vec::new())
    }

    /// Nothing is held back; idle series are let go although nobody scrapes.
    async fn flush(&mut self) -> Result<(), PublishError> {
        self.series.expire();
        Ok(())
    }

    fn status(&self) -> Option<StatusSource> {
        let address = self.listener.as_ref().map(|listener| listener.address().to_string());
        let (label, series) = (self.context.label.clone(), self.series.clone());
        let refused = self.refused.clone();
        Some(Arc::new(move || {
            let refused: serde_json::Map<_, _> =
                Why::ALL.iter().map(|why| (why.as_str().to_owned(), refused.of(*why).into())).collect();
            serde_json::json!({
                "label": &*label,
                "listen": address,
                "series": series.len(),
                "overflowed": series.overflowed(),
                "refused": refused,
            })
        }))
    }
}

impl PublisherType for PrometheusPublisher {
    const TYPE: &'static str = "prometheus";
    type Config = PrometheusConfig;

    fn validate(config: &PrometheusConfig) -> Vec<(String, String)> {
        let mut problems = config.access_problems();
        problems.extend(config.series().problems());
        problems.extend(idle_expiry_problem(config.idle_expiry));
        problems
    }

    fn build(config: PrometheusConfig, context: Context) -> anyhow::Result<Self> {
        if let Some((key, problem)) = config.access_problems().into_iter().next() {
            anyhow::bail!("publishers.{}.{key}: {problem}", context.label);
        }
        let series = Series::new(config.series(), config.idle_expiry)
            .with_context(|| format!("wrong settings in [publishers.{}]", context.label))?;
        let (series, refused) = (Arc::new(series), RefusedCounts::default());
        Ok(Self { config, context, series, listener: None, refused })
    }
}
