//! The publisher `elasticsearch`: documents in the indices, or data streams, of Elasticsearch and OpenSearch.
//!
//! Invariants: what is acknowledged is there, once: a record's id is its document's, and documents are created, never
//! overwritten. Everything that a server says of a record is counted exactly once. A server that is down, or refuses the
//! credentials, costs no record.
//!
//! | module | does |
//! | --- | --- |
//! | `settings` | the keys, and what must hold between them |
//! | `target` | names of indices and data streams |
//! | `body`, `gzip` | what is sent |
//! | `bulk`, `answer` | requests of one call, and what becomes of its rows |
//! | `wire`, `hosts` | HTTP, credentials, and which server is asked |
//! | `template`, `setup` | what must be on the server before records are |

mod answer;
mod body;
mod bulk;
mod counts;
mod gzip;
mod hosts;
mod settings;
mod setup;
mod target;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod trouble;
mod wire;

pub use settings::{ElasticsearchConfig, Late};

use crate::publisher::{
    BatchSize, Context, FileUse, PublishError, PublishResult, Publisher, PublisherType, StatusSource,
};
use crate::record::{EventBatch, NetworkBatch, Record, Rows};
use anyhow::Context as _;
use bulk::Bulk;
use counts::Tally;
use serde_json::{Map, Value, json};
use setup::Setup;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use target::Target;
use wire::{Trust, Wire};

/// How long is waited, beside publishing, for a server that is not there: it is asked again before records are sent.
const TEND_TIMEOUT: Duration = Duration::from_secs(3);

/// Indexes records in Elasticsearch or OpenSearch.
pub struct ElasticsearchPublisher {
    wire: Arc<Wire>,
    trust: Trust,
    bulk: Arc<Bulk>,
    setup: Arc<Setup>,
}

impl ElasticsearchPublisher {
    async fn publish<R: Record>(&mut self, rows: &Rows<R>) -> PublishResult {
        if let Err(trouble) = self.setup.ready(&self.wire).await {
            self.wire.counts.add(Tally::of(&trouble, rows.len()));
            return Err(trouble.into());
        }
        let outcome = self.bulk.publish(&self.wire, rows).await;
        // From here on nothing is waited for: what is counted is what is told.
        self.wire.counts.add(outcome.tally);
        for index in outcome.written {
            self.setup.written(R::KIND, index);
        }
        outcome.result
    }
}

#[async_trait::async_trait]
impl Publisher for ElasticsearchPublisher {
    /// Goes on with the predecessor's counts, and with its connections if it trusts the same certificates. A server
    /// that does not answer is no error: it may come.
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let before =
            predecessor.and_then(|old| (old as &mut dyn Any).downcast_mut::<ElasticsearchPublisher>());
        if let Some(before) = before {
            let same_trust = self.trust == before.trust;
            // Nobody else has it before it is open.
            if let Some(wire) = Arc::get_mut(&mut self.wire) {
                wire.take_over(&before.wire, same_trust);
            }
            if self.setup.same(&before.setup) && self.wire.hosts.same(&before.wire.hosts) {
                self.setup = before.setup.clone();
            }
        }
        let ready = async {
            self.setup.ready(&self.wire).await?;
            self.setup.look_at_today(&self.wire).await
        };
        match tokio::time::timeout(TEND_TIMEOUT, ready).await {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => self.wire.warn(&format!("is not ready yet: {}", trouble.reason())),
            Err(_) => self.wire.warn("is not ready yet: the server has not answered in time"),
        }
        Ok(())
    }

    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations).await
    }

    /// Nothing is held back, so nothing can fail. Templates are installed if that was not possible before, and new
    /// indices are looked at; if that is not possible now either, the records will say so.
    async fn flush(&mut self) -> Result<(), PublishError> {
        let tend = async {
            self.setup.ready(&self.wire).await?;
            self.setup.look(&self.wire).await
        };
        let _ = tokio::time::timeout(TEND_TIMEOUT, tend).await;
        Ok(())
    }

    fn status(&self) -> Option<StatusSource> {
        let (wire, bulk, setup) = (self.wire.clone(), self.bulk.clone(), self.setup.clone());
        Some(Arc::new(move || {
            let mut status: Map<String, Value> =
                wire.counts.report().into_iter().map(|(key, count)| (key.to_owned(), count.into())).collect();
            status.insert("hosts".to_owned(), json!(wire.hosts.status()));
            status.insert("templates".to_owned(), setup.state().into());
            status.insert("bulk_bytes".to_owned(), bulk.limit().into());
            let notes = setup.notes();
            if !notes.is_empty() {
                status.insert("notes".to_owned(), notes.into_values().collect());
            }
            Value::Object(status)
        }))
    }
}

impl PublisherType for ElasticsearchPublisher {
    const TYPE: &'static str = "elasticsearch";
    type Config = ElasticsearchConfig;

    /// A bulk request of some MiB is worth it, and two are under way at once.
    fn batch() -> Option<BatchSize> {
        Some(BatchSize { records: 4_096, bytes: 8 << 20 })
    }

    fn validate(config: &ElasticsearchConfig) -> Vec<(String, String)> {
        config.problems()
    }

    fn files(config: &Self::Config) -> Vec<FileUse> {
        config.ca_file.iter().map(|path| FileUse::read("ca_file", path)).collect()
    }

    fn build(config: ElasticsearchConfig, context: Context) -> anyhow::Result<Self> {
        let label = &context.label;
        let wrong = || format!("wrong settings in [publishers.{label}]");
        let auth =
            config.auth().map_err(|(key, message)| anyhow::anyhow!("{key} {message}")).with_context(wrong)?;
        let urls = config.urls().with_context(wrong)?;
        let ca_file = config.ca_file.as_ref().map(|path| context.base_dir.join(path));
        let pem = ca_file.as_ref().map(|path| {
            crate::paths::read(path)
                .with_context(|| format!("cannot read `ca_file` of [publishers.{label}], {}", path.display()))
        });
        let trust = Trust(pem.transpose()?);
        let client = trust.client().with_context(|| match &ca_file {
            Some(path) => {
                format!("`ca_file` of [publishers.{label}], {}, has no certificates", path.display())
            }
            None => wrong(),
        })?;
        let wire = Wire::new(label.clone(), client, &auth, urls, config.gzip, context.secrets.clone())
            .with_context(wrong)?;
        let target = Target::new(&config);
        Ok(Self {
            wire: Arc::new(wire),
            trust,
            bulk: Arc::new(Bulk::new(
                target.clone(),
                config.gzip,
                config.bulk_bytes.as_usize(),
                config.in_flight,
                config.late,
            )),
            setup: Arc::new(Setup::new(label.clone(), target, config.install_template, config.lifecycle)),
        })
    }
}
