//! The publisher `loki`: a line per record in Grafana Loki, for failed records unless its section says otherwise.
//!
//! Invariant: a row is published once Loki has taken it, and set aside only once Loki has refused it alone; what is
//! sent again is the same line at the same time, which Loki keeps once.

mod streams;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use super::limit::{LARGER, SANE, TOO_MANY};
use super::push::{Answer, Destination, Place, hostname, label_problem, text_or_number};
use crate::config::Secret;
use crate::publisher::{
    Context, Fate, FileUse, PublishError, PublishResult, Publisher, PublisherType, StatusSource, Unpublished,
};
use crate::record::{EventBatch, NetworkBatch, Record, Rows, Status};
use anyhow::Context as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streams::{Line, Portion, Streams};
use tokio::time::Instant;

/// How long an answer is waited for, and how long requests are begun in one call: together less than what delivery gives
/// a call by default, so that what was found out is not lost with it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(15);

/// Labels that no operator can give to everything: the streams have them.
const BUILT_IN: [&str; 5] = ["job", "instance", "kind", "level", "service"];
/// Loki takes 15 labels by default, and adds one.
const MAX_EXTERNAL: usize = 9;

/// Settings of a `loki` publisher.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LokiConfig {
    /// Where to push: `https://HOST/loki/api/v1/push`.
    pub url: String,
    /// The instance id that stands with the URL in Grafana Cloud, or the user's name at a Loki of one's own.
    #[serde(default, deserialize_with = "text_or_number")]
    pub user: Option<String>,
    /// The token, or the user's password.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// The organisation's name in `https://grafana.com/orgs/SLUG`. Nothing is sent to it or with it: it says in reports
    /// whose account this is, and where wrong credentials are mended.
    #[serde(default)]
    pub org_slug: Option<String>,
    /// Sent as `X-Scope-OrgID`, by which a Loki of one's own tells tenants apart.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Certificates, in PEM, that are trusted beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The label `job` of every stream.
    #[serde(default = "job")]
    pub job: String,
    /// The label `instance` of every stream; absent: the machine's name.
    #[serde(default)]
    pub instance: Option<String>,
    /// More labels of every stream.
    #[serde(default)]
    pub external_labels: BTreeMap<String, String>,
}

fn job() -> String {
    "pressroom".to_owned()
}

impl LokiConfig {
    fn destination(&self) -> Destination {
        Destination {
            url: self.url.clone(),
            user: self.user.clone(),
            api_key: self.api_key.clone(),
            org_slug: self.org_slug.clone(),
            tenant: self.tenant.clone(),
            ca_file: self.ca_file.clone(),
        }
    }

    /// Two hosts of one stream must not be an hour apart: Loki would refuse what the later one sends. So each has its own.
    fn instance(&self) -> String {
        self.instance.clone().unwrap_or_else(hostname)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let own = [("job", self.job.clone()), ("instance", self.instance())];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        self.external_labels.clone().into_iter().chain(own).collect()
    }
}

/// Pushes records to Loki, as lines.
pub struct LokiPublisher {
    config: LokiConfig,
    place: Place,
    streams: Streams,
    /// Loki has taken something, ever.
    takes_some: bool,
}

impl LokiPublisher {
    async fn publish<R: Record>(&mut self, rows: &Rows<R>) -> PublishResult {
        let mut call = Call {
            place: &self.place,
            began: Instant::now(),
            unpublished: Vec::new(),
            taken: false,
            takes_some: &mut self.takes_some,
            too_large: 0,
        };
        let mut portions = self.streams.portions(rows).into_iter();
        while let Some(portion) = portions.next() {
            if let Err((lines, error)) = call.push(&portion).await {
                let lines = lines.iter().chain(portions.as_slice().iter().flat_map(|portion| &portion.lines));
                return call.break_off(lines, error);
            }
        }
        Ok(call.unpublished)
    }
}

/// One call of the publisher.
struct Call<'a> {
    place: &'a Place,
    began: Instant,
    unpublished: Vec<Unpublished>,
    /// Loki has taken, or refused for good, some row.
    taken: bool,
    takes_some: &'a mut bool,
    /// Lines in a row that were too large, each alone.
    too_large: usize,
}

impl Call<'_> {
    /// Pushes lines of one stream. Loki takes what it can and answers for the whole that it refused something: so what
    /// it refuses is sent again in halves, down to the lines that it does not want alone. An error is about lines that
    /// are not settled, the last ones.
    async fn push<'p>(&mut self, portion: &'p Portion) -> Result<(), (&'p [Line], PublishError)> {
        let mut rest = portion.lines.as_slice();
        // How many of the rest go into the next requests, the last first.
        let mut parts = vec![rest.len()];
        while let Some(count) = parts.pop() {
            let (lines, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            if self.began.elapsed() > CALL {
                return Err((rest, PublishError::retry("there was no time for all of the batch")));
            }
            let entries = lines.iter().map(Line::entry).collect();
            let (body, size) = wire::encode(&portion.labels, entries);
            match self.place.send(body).await {
                Answer::Taken => {
                    (*self.takes_some, self.too_large) = (true, 0);
                }
                Answer::TooLarge { reason } => match lines {
                    [] => {}
                    [line] => {
                        self.too_large += 1;
                        if self.too_large >= TOO_MANY && size <= SANE {
                            let reason = format!(
                                "not even {size} bytes are taken, raise Loki's or the proxy's limit: {reason}"
                            );
                            return Err((rest, PublishError::hold(reason)));
                        }
                        // A line of a sane size is never at fault.
                        if size <= SANE || !*self.takes_some {
                            let fate = Fate::Wait { on: LARGER.into(), reason, hold: true };
                            self.unpublished.push(Unpublished { row: line.row, fate });
                            rest = after;
                            continue;
                        }
                        self.unpublished.push(Unpublished { row: line.row, fate: Fate::Reject { reason } });
                    }
                    _ => {
                        parts.extend([count - count / 2, count / 2]);
                        continue;
                    }
                },
                Answer::Unwanted { reason } => match lines {
                    [] => {}
                    [line] => {
                        let fate = Fate::Reject { reason };
                        self.unpublished.push(Unpublished { row: line.row, fate });
                    }
                    _ => {
                        parts.extend([count - count / 2, count / 2]);
                        continue;
                    }
                },
                Answer::Silent { reason } => return Err((rest, PublishError::retry(reason))),
                Answer::Later { reason, after } => return Err((rest, PublishError::Retry { reason, after })),
                // A wrong URL wants to be mended as wrong credentials do.
                Answer::Mend { reason } | Answer::Misdirected { reason } => {
                    return Err((rest, PublishError::hold(reason)));
                }
            }
            self.taken = true;
            rest = after;
        }
        Ok(())
    }

    /// What the call says when it could not go on: `lines` are not settled.
    fn break_off<'p>(mut self, lines: impl Iterator<Item = &'p Line>, error: PublishError) -> PublishResult {
        if !self.taken {
            return Err(error);
        }
        // The rest is tried again at least, and says then what is wrong.
        let after = if let PublishError::Retry { after, .. } = &error { *after } else { None };
        let reason = error.to_string();
        self.unpublished.extend(
            lines.map(|line| Unpublished {
                row: line.row,
                fate: Fate::Retry { reason: reason.clone(), after },
            }),
        );
        Ok(self.unpublished)
    }
}

#[async_trait::async_trait]
impl Publisher for LokiPublisher {
    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.publish(events).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.publish(operations).await
    }

    fn status(&self) -> Option<StatusSource> {
        let (config, instance) = (self.config.clone(), self.config.instance());
        Some(Arc::new(move || {
            serde_json::json!({
                "url": config.url,
                "org_slug": config.org_slug,
                "job": config.job,
                "instance": instance,
            })
        }))
    }
}

impl PublisherType for LokiPublisher {
    const TYPE: &'static str = "loki";
    type Config = LokiConfig;
    /// Lines are read by people, who look for what failed.
    const ONLY: &'static [Status] = &[Status::Failed];

    fn validate(config: &LokiConfig) -> Vec<(String, String)> {
        let mut problems = config.destination().problems("/loki/api/v1/push");
        let mut problem = |key: &str, message: String| problems.push((key.to_owned(), message));
        for (key, value) in [("job", Some(&config.job)), ("instance", config.instance.as_ref())] {
            if value.is_some_and(String::is_empty) {
                problem(key, "must not be empty".to_owned());
            }
        }
        if config.external_labels.len() > MAX_EXTERNAL {
            problem(
                "external_labels",
                format!("are more than {MAX_EXTERNAL}: Loki takes 15 labels of all kinds"),
            );
        }
        for (name, value) in &config.external_labels {
            if let Some(message) = label_problem(name, value, &BUILT_IN) {
                problem(&format!("external_labels.{name}"), message);
            }
        }
        problems
    }

    fn files(config: &Self::Config) -> Vec<FileUse> {
        config.ca_file.iter().map(|path| FileUse::read("ca_file", path)).collect()
    }

    fn build(config: LokiConfig, context: Context) -> anyhow::Result<Self> {
        let place = Place::new(
            config.destination(),
            &context.base_dir,
            wire::headers(),
            REQUEST_TIMEOUT,
            &context.secrets,
        )
        .with_context(|| format!("wrong settings in [publishers.{}]", context.label))?;
        let streams = Streams::new(config.labels());
        Ok(Self { config, place, streams, takes_some: false })
    }
}
