//! The publisher `file`: a JSON line per record, appended to a file that is rotated by size and age.
//!
//! Invariant: the file consists of whole lines of batches that were delivered, whatever ended an attempt. What an
//! attempt wrote stands only once its caller has seen it end well; else it is cut off before anything else is written
//! (`output/file.rs`). `flush` returns when the disk has the lines.

mod rotation;
#[cfg(test)]
mod tests;
mod writer;

use super::offload::Offloaded;
use crate::config::units::{self, ByteSize};
use crate::output::escape;
use crate::output::file::Failure;
use crate::publisher::{
    Context, FileUse, PublishError, PublishResult, Publisher, PublisherType, StatusSource,
};
use crate::record::{EventBatch, Format, NetworkBatch};
use bytes::Bytes;
use serde::Deserialize;
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use writer::{Clock, Counters, Settings, Writer};

/// Settings of a `file` publisher.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileConfig {
    /// The file; a relative path starts at the configuration's directory.
    pub path: PathBuf,
    /// The file is rotated before it grows beyond this. A batch is never divided: one that is larger alone makes a
    /// larger file.
    #[serde(default)]
    pub max_size: Option<ByteSize>,
    /// The file is rotated when it is that old and not empty.
    #[serde(default, deserialize_with = "units::optional_duration")]
    pub max_age: Option<Duration>,
    /// How many rotated files are kept; absent: all.
    #[serde(default)]
    pub keep: Option<usize>,
}

/// Appends JSON lines to a file.
pub struct FilePublisher {
    context: Context,
    writer: Offloaded<Writer>,
    path: PathBuf,
    counters: Arc<Counters>,
}

impl FilePublisher {
    fn with_clock(config: FileConfig, context: Context, clock: Clock) -> Self {
        let path = context.base_dir.join(&config.path);
        let settings = Settings {
            path: path.clone(),
            max_size: config.max_size.map(ByteSize::bytes),
            max_age: config.max_age,
            keep: config.keep,
        };
        let counters = Arc::new(Counters::default());
        let writer = Offloaded::new(Writer::new(settings, clock, counters.clone()));
        Self { context, writer, path, counters }
    }

    async fn append(&mut self, lines: Bytes) -> PublishResult {
        match self.writer.run(move |writer| writer.append(&lines)).await {
            Some(Ok(())) => {
                if let Some(writer) = self.writer.idle() {
                    writer.confirm();
                }
                Ok(Vec::new())
            }
            Some(Err(failure)) => Err(failure.into()),
            None => Err(going_down()),
        }
    }
}

fn going_down() -> PublishError {
    PublishError::retry("the host is going down")
}

impl From<Failure> for PublishError {
    fn from(failure: Failure) -> Self {
        if failure.hold { Self::hold(failure.reason) } else { Self::retry(failure.reason) }
    }
}

#[async_trait::async_trait]
impl Publisher for FilePublisher {
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let predecessor = predecessor.and_then(|old| (old as &mut dyn Any).downcast_mut::<FilePublisher>());
        if let Some(old) = predecessor
            && let Some(old) = old.writer.settled().await
            && let Some(writer) = self.writer.settled().await
            && writer.take_over(old)
        {
            return Ok(());
        }
        match self.writer.run(Writer::ready).await {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => {
                anyhow::bail!("{}, or change `path` of [publishers.{}]", failure.reason, self.context.label)
            }
            None => anyhow::bail!("the host is going down"),
        }
    }

    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.append(events.encode(Format::JsonLines)).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.append(operations.encode(Format::JsonLines)).await
    }

    /// Waits until the disk has every line (`fdatasync`), and rotates a file that has become too old.
    async fn flush(&mut self) -> Result<(), PublishError> {
        match self.writer.run(Writer::flush).await {
            Some(result) => result.map_err(Into::into),
            None => Err(going_down()),
        }
    }

    fn status(&self) -> Option<StatusSource> {
        let (path, counters) = (escape::path(&self.path), self.counters.clone());
        Some(Arc::new(
            move || serde_json::json!({ "path": path, "size": counters.size(), "rotated": counters.rotated() }),
        ))
    }
}

impl PublisherType for FilePublisher {
    const TYPE: &'static str = "file";
    type Config = FileConfig;

    fn validate(config: &FileConfig) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: &str| problems.push((key.to_owned(), message.to_owned()));
        if config.path.file_name().is_none() {
            problem("path", "must name a file");
        }
        if config.max_size == Some(ByteSize(0)) {
            problem("max_size", "must be more than 0; leave it out for no bound");
        }
        if config.max_age == Some(Duration::ZERO) {
            problem("max_age", "must be more than nothing; leave it out for no bound");
        }
        if config.keep.is_some() && config.max_size.is_none() && config.max_age.is_none() {
            problem("keep", "nothing is rotated without max_size or max_age");
        }
        problems
    }

    fn files(config: &FileConfig) -> Vec<FileUse> {
        vec![FileUse::written("path", &config.path)]
    }

    fn build(config: FileConfig, context: Context) -> anyhow::Result<Self> {
        Ok(Self::with_clock(config, context, Arc::new(SystemTime::now)))
    }
}
