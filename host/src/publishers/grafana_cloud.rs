//! The publisher `grafana-cloud`: series of what was recorded, pushed by Prometheus remote write 1.0 to Grafana Cloud,
//! or to any other receiver of it.
//!
//! Invariant: a batch is folded in one synchronous step and is delivered with it, as the publisher `prometheus` does
//! it and into the same series; pushing is a loop of its own (`grafana_cloud/pusher.rs`), which shows the newest state,
//! so that no failed push can count anything twice. A successor takes over series, and what the receiver knows of them.

mod exposition;
mod groups;
mod ledger;
mod pusher;
mod settings;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use super::limit::Limit;
use super::push::Place;
use super::series::Series;
use crate::publisher::{
    Context, FileUse, PublishError, PublishResult, Publisher, PublisherType, StallSource, StatusSource,
};
use crate::record::{EventBatch, NetworkBatch, Timestamp};
use anyhow::Context as _;
use pusher::{Clock, Push, Pusher, Succession};
pub use settings::GrafanaCloudConfig;
use status::Status;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer is waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Pushes series of what was recorded to Grafana Cloud.
pub struct GrafanaCloudPublisher {
    config: GrafanaCloudConfig,
    context: Context,
    clock: Clock,
    series: Arc<Series>,
    status: Arc<Status>,
    /// Until `open` gives it to the loop.
    place: Option<Place>,
    /// Absent before `open`, after `close`, and after a successor has taken it over.
    pusher: Option<Pusher>,
}

impl GrafanaCloudPublisher {
    fn with_clock(config: GrafanaCloudConfig, context: Context, clock: Clock) -> anyhow::Result<Self> {
        let wrong = || format!("wrong settings in [publishers.{}]", context.label);
        let place = Place::new(
            config.destination(),
            &context.base_dir,
            wire::headers(),
            REQUEST_TIMEOUT,
            &context.secrets,
        )
        .with_context(wrong)?;
        let series = Series::new(config.series(), config.idle_expiry).with_context(wrong)?;
        Ok(Self {
            config,
            context,
            clock,
            series: Arc::new(series),
            status: Arc::default(),
            place: Some(place),
            pusher: None,
        })
    }

    /// What is pushed, for tests that compare.
    #[cfg(test)]
    pub(crate) fn series(&self) -> Arc<Series> {
        self.series.clone()
    }

    /// Whether its series are those of another one for the receiver.
    fn is_at_the_place_of(&self, other: &Self) -> bool {
        let (label, other_label) = (&self.context.label, &other.context.label);
        self.config.url == other.config.url
            && self.config.tenant == other.config.tenant
            && self.config.user == other.config.user
            && self.config.common_labels(label) == other.config.common_labels(other_label)
    }
}

#[async_trait::async_trait]
impl Publisher for GrafanaCloudPublisher {
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let place = self.place.take().context("it is open already")?;
        let predecessor = predecessor.and_then(|old| (old as &mut dyn Any).downcast_mut::<Self>());
        let mut succeeded = None;
        if let Some(old) = predecessor {
            let same_series = old.series.settings() == self.series.settings();
            if same_series {
                self.series = old.series.clone();
            }
            let succession = Succession { same_place: self.is_at_the_place_of(old), same_series };
            self.status = old.status.clone();
            succeeded = old.pusher.take().map(|pusher| (pusher, succession));
        }
        self.series.set_idle_expiry(self.config.idle_expiry);
        let push = Push {
            label: self.context.label.clone(),
            secrets: self.context.secrets.clone(),
            place,
            series: self.series.clone(),
            host_metrics: self.context.host_metrics.clone(),
            common: self.config.common_labels(&self.context.label).into(),
            interval: self.config.push_interval,
            clock: self.clock.clone(),
            status: self.status.clone(),
            limit: Arc::new(Limit::new(wire::MAX_BYTES)),
        };
        // Nothing is waited for, and nothing can fail, from where the old loop was taken: the new one waits for it.
        self.pusher = Some(Pusher::start(push, succeeded));
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

    /// Nothing is held back that the loop does not push by itself; idle series are let go.
    async fn flush(&mut self) -> Result<(), PublishError> {
        self.series.expire();
        Ok(())
    }

    /// Pushes the last state, and marks every series as over.
    async fn close(&mut self) -> Result<(), PublishError> {
        match self.pusher.take() {
            Some(pusher) => pusher.close().await,
            None => Ok(()),
        }
    }

    fn status(&self) -> Option<StatusSource> {
        let (config, series, status) = (self.config.clone(), self.series.clone(), self.status.clone());
        let instance = config.instance(&self.context.label);
        Some(Arc::new(move || {
            serde_json::json!({
                "url": config.url,
                "org_slug": config.org_slug,
                "job": config.job,
                "instance": instance,
                "series": series.len(),
                "overflowed": series.overflowed(),
                "push": status.report(),
            })
        }))
    }

    fn stall(&self) -> Option<StallSource> {
        let status = self.status.clone();
        Some(Arc::new(move || status.stall()))
    }
}

impl PublisherType for GrafanaCloudPublisher {
    const TYPE: &'static str = "grafana-cloud";
    type Config = GrafanaCloudConfig;

    fn validate(config: &GrafanaCloudConfig) -> Vec<(String, String)> {
        config.problems()
    }

    fn files(config: &Self::Config) -> Vec<FileUse> {
        config.ca_file.iter().map(|path| FileUse::read("ca_file", path)).collect()
    }

    fn build(config: GrafanaCloudConfig, context: Context) -> anyhow::Result<Self> {
        let millis = || i64::try_from(Timestamp::now().as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        Self::with_clock(config, context, Arc::new(millis))
    }
}
