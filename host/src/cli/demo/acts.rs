//! The demonstration, act by act.
//!
//! Invariant: an act that finds something wrong says so and lets the next one go on; the sum decides at the end.

use super::files::{self, Source};
use super::pipeline::Pipeline;
use super::site::Site;
use super::{PluginSource, Story, plugin, proof, words};
use crate::cli::{report, run};
use crate::config::Config;
use crate::delivery::{PublisherStatus, State};
use crate::host::Host;
use anyhow::Context;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A plugin is compiled in less; a slow machine has as much again.
const GOES_LIVE: Duration = Duration::from_secs(60);
/// Publishers flush every ten seconds, and the rollup speaks then; a slow machine has as much again, and more.
const SPEAKS: Duration = Duration::from_secs(30);
const SETTLES: Duration = Duration::from_secs(15);
/// What the demonstration calls slow.
const SLOW: Duration = Duration::from_millis(100);
const LISTED: usize = 8;

/// A host that runs, a pipeline that it records, and a server that the pipeline fetches from.
pub(super) struct Stage {
    pub(super) pipeline: Arc<Pipeline>,
    host: Host,
    dir: PathBuf,
    metrics_url: String,
    _site: Site,
}

impl Stage {
    pub(super) async fn set(dir: Option<&Path>, own: &Path, story: &Story) -> anyhow::Result<Self> {
        let what = dir.map_or_else(|| "texts that it writes".to_owned(), |dir| dir.display().to_string());
        let sources: Arc<[Source]> = files::gather(dir, own).with_context(|| what.clone())?.into();
        std::fs::create_dir_all(own.join("plugins"))?;
        let config = Config::parse(&config(free_port()), own, "demo.toml")?;
        let host = crate::cli::host().config(config).start().await?;
        if let Some(address) = host.server_addr() {
            story.say(&format!("a host runs; its HTTP is http://{address}/"));
        }
        let metrics = host.publishers().into_iter().find(|status| &*status.label == "metrics");
        let listen = metrics.as_ref().and_then(|status| status.detail.as_ref()?.get("listen")?.as_str());
        let metrics_url =
            format!("http://{}/metrics", listen.context("the publisher `metrics` does not listen")?);
        story.say(&format!("it publishes to {metrics_url}"));
        story.say(&format!("  and to the file {}", own.join("records.jsonl").display()));

        let site = Site::start(sources.clone()).await?;
        let (address, files) = (site.address(), words::counted(sources.len() as u64, "file"));
        story.say(&format!("the pipeline: read, hash, count words and fetch {files}: those of {what},"));
        story.say("  one that is not UTF-8, a large one, a popular one, and one that has gone");
        story.say(&format!("it fetches from http://{address}/, which is busy now and then"));
        let pipeline = Arc::new(Pipeline::new(host.recorder(), sources, address)?);
        Ok(Self { pipeline, host, dir: own.to_owned(), metrics_url, _site: site })
    }

    /// Says how far the pipeline is, for some time.
    pub(super) async fn watch_for(&self, time: Duration, what: &str, story: &Story) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.progress(what, story);
        }
    }

    fn progress(&self, what: &str, story: &Story) {
        let tally = self.pipeline.tally();
        story.say(&format!(
            "{what}: {} ({} failed, {}), {} ({} failed), round {}",
            words::counted(tally.events_total(), "event"),
            words::count(tally.failed_events()),
            words::retries(tally.retries_total()),
            words::counted(tally.operations, "network operation"),
            words::count(tally.failed_operations),
            tally.rounds + 1,
        ));
    }

    /// Does something that takes its time, and says meanwhile how far the pipeline is.
    async fn meanwhile<T>(&self, what: &str, story: &Story, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(Duration::from_secs(2), &mut work).await {
                Ok(done) => return done,
                Err(_) => self.progress(what, story),
            }
        }
    }

    /// Builds the plugin, drops it in, and shows it going live.
    pub(super) async fn plugin(&self, source: &PluginSource, story: &Story) -> Result<(), String> {
        let file = match source {
            PluginSource::File(file) => file.clone(),
            PluginSource::Checkout(checkout) => {
                story.say("cargo builds plugins/rollup, and the pipeline goes on");
                self.meanwhile("building, recording", story, plugin::build(checkout, story)).await?
            }
        };
        let name = file.file_name().ok_or("the plugin has no name")?.to_owned();
        let label = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let dropped = Instant::now();
        let bytes = tokio::fs::copy(&file, self.dir.join("plugins").join(&name)).await;
        let bytes = bytes.map_err(|error| format!("{}: {error}", file.display()))?;
        story.say(&format!(
            "{} ({}) is dropped into the running host's plugin directory",
            name.display(),
            words::bytes(bytes)
        ));
        let status = self.goes_live(&label).await?;
        let detail = |key: &str| status.detail.as_ref().and_then(|detail| detail.get(key));
        let compiled = detail("compile_ms").and_then(serde_json::Value::as_f64).unwrap_or_default() / 1e3;
        story.say(&format!(
            "{label} is live {} later: {}, compiled in {}, with nothing granted but {} of memory",
            words::duration(dropped.elapsed()),
            status.state.as_str(),
            words::seconds(compiled),
            words::bytes(
                detail("memory_limit_bytes").and_then(serde_json::Value::as_u64).unwrap_or_default()
            ),
        ));
        let lines = self.meanwhile("recording, for the plugin too", story, self.speaks(&label)).await;
        for line in lines.iter().take(LISTED) {
            story.say(&format!("  {label} says {}", words::cut(line, 200)));
        }
        match self.status(&label) {
            Some(status) if status.books.delivered > 0 => heard(source, &label, &lines, story),
            Some(status) => Err(format!(
                "the plugin {label} took no records: {}",
                status.reason.or(status.last_error).unwrap_or_else(|| status.state.as_str().to_owned())
            )),
            None => Err(format!("the plugin {label} has gone")),
        }
    }

    async fn goes_live(&self, label: &str) -> Result<PublisherStatus, String> {
        let until = Instant::now() + GOES_LIVE;
        loop {
            match self.status(label) {
                Some(status) if status.state == State::Running => return Ok(status),
                Some(status) if status.state == State::Failed => {
                    let reason = status.reason.unwrap_or_default();
                    return Err(format!("the plugin {label} could not be started: {reason}"));
                }
                _ if Instant::now() > until => {
                    return Err(format!(
                        "the plugin {label} did not go live in {}",
                        words::duration(GOES_LIVE)
                    ));
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The plugin's log lines, as soon as there are any and records were delivered to it.
    async fn speaks(&self, label: &str) -> Vec<String> {
        let until = Instant::now() + SPEAKS;
        loop {
            let status = self.status(label);
            let detail = status.as_ref().and_then(|status| status.detail.as_ref()?.get("log")?.as_array());
            let lines: Vec<String> =
                detail.into_iter().flatten().filter_map(|line| Some(line.as_str()?.to_owned())).collect();
            if !lines.is_empty() || Instant::now() > until {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn status(&self, label: &str) -> Option<PublisherStatus> {
        self.host.publishers().into_iter().find(|status| &*status.label == label)
    }

    /// Waits until everything has been published.
    pub(super) async fn settle(&self, story: &Story) -> Option<String> {
        let until = Instant::now() + SETTLES;
        loop {
            // Asking for a report brings what was recorded into the journal.
            self.host.report();
            let late: Vec<_> =
                self.host.publishers().into_iter().filter(|status| status.books.backlog > 0).collect();
            if late.is_empty() {
                story.say("every publisher has delivered what there was");
                return None;
            }
            if Instant::now() > until {
                let names: Vec<_> = late.iter().map(|status| status.label.to_string()).collect();
                return Some(format!(
                    "{} did not deliver everything in {}",
                    names.join(", "),
                    words::duration(SETTLES)
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn reports(&self, story: &Story) {
        let report = self.host.report().with_limit(LISTED);
        story.show("pressroom report failed-events", &report::failed_events(&report.failed_events()));
        let slow = report::slow_events(&report.slow_events(SLOW));
        story.show("pressroom report slow-events --threshold 100ms", &slow);
        let failed = report::failed_operations(&report.failed_network_operations());
        story.show("pressroom report failed-network-operations", &failed);
        let slow = report::slow_operations(&report.slow_network_operations(SLOW));
        story.show("pressroom report slow-network-operations --threshold 100ms", &slow);
        story.show("pressroom report retry-stats", &report::retry_stats(&report.retry_stats()));
        let publishers: Vec<_> = self.host.publishers().iter().map(report::Publisher::from).collect();
        story.show("pressroom report publishers", &report::publishers(&publishers, usize::MAX));
    }

    /// Compares what was recorded with what everybody says. Returns what differs.
    pub(super) async fn compare(&self, story: &Story) -> anyhow::Result<Option<String>> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let scrape = client.get(&self.metrics_url).send().await?.error_for_status()?.text().await?;
        let interesting = |line: &&str| {
            line.starts_with("event_duration_seconds_count")
                || line.starts_with("event_retries_total")
                || line.starts_with("network_errors_total")
                || line.starts_with("pressroom_publisher_records_total{") && line.contains("\"delivered\"")
        };
        let lines: Vec<_> =
            scrape.lines().filter(interesting).map(|line| format!("  {}", words::cut(line, 160))).collect();
        story.show(&format!("some lines of {}", self.metrics_url), &lines.join("\n"));

        let path = self.dir.join("records.jsonl");
        let file = tokio::fs::read_to_string(&path).await.with_context(|| path.display().to_string())?;
        let last: Vec<_> =
            file.lines().rev().take(3).map(|line| format!("  {}", words::cut(line, 240))).collect();
        story.show(&format!("the last lines of {}", path.display()), &last.join("\n"));

        let tally = self.pipeline.tally();
        let mut all = proof::compare(&tally, &self.host.report().metrics(), &scrape);
        all.push(proof::Comparison::of_file(&tally, file.lines().count() as u64));
        story.show("what was recorded, and what everybody says", &proof::table(&all));
        let differ = all.iter().filter(|one| !one.agrees()).count() as u64;
        Ok((differ > 0).then(|| {
            format!(
                "{} what was recorded",
                if differ == 1 {
                    "one figure differs from".to_owned()
                } else {
                    format!("{differ} figures differ from")
                }
            )
        }))
    }

    /// Says what there is to try.
    pub(super) fn invite(&self, story: &Story) {
        let mut text = format!("  curl {}\n", self.metrics_url);
        if let Some(address) = self.host.server_addr() {
            text.push_str(&format!("  pressroom report metrics --url http://{address}\n"));
            text.push_str(&format!("  curl http://{address}/v1/report/failed-events\n"));
            let record = r#"{"type":"event","event_name":"resize","task_id":"42","start_time":"2026-11-23T11:14:44Z","end_time":"2026-11-23T11:14:46Z","status":"completed"}"#;
            text.push_str(&format!(
                "  curl -H 'content-type: application/json' -d '[{record}]' http://{address}/v1/records\n"
            ));
        }
        text.push_str(&format!("  tail -f {}\n", self.dir.join("records.jsonl").display()));
        text.push_str(&format!("  cp another.wasm {}/\n", self.dir.join("plugins").display()));
        story.show("it keeps running until ctrl-c, and recording; try", &text);
    }

    /// Ends the host and shows the final account. Returns what is wrong with it.
    pub(super) async fn close(&self, story: &Story) -> anyhow::Result<Option<String>> {
        let closing = self.host.shutdown(Duration::from_secs(10)).await;
        story.show("the host has ended", &run::account(&closing));
        let lost = closing.dropped() + closing.never_accepted;
        let dead: u64 = closing.publishers.iter().map(|account| account.books.dead_lettered).sum();
        Ok(match (closing.balanced(), lost, dead) {
            (true, 0, 0) => None,
            (false, ..) => Some("the books do not balance".to_owned()),
            (true, lost, dead) => {
                Some(format!("{} lost, {dead} set aside as dead letters", words::counted(lost, "record")))
            }
        })
    }
}

/// Whether the plugin has shown that it works: the demo's own one says what it has summed up. A plugin of somebody
/// else's need not log.
fn heard(source: &PluginSource, label: &str, lines: &[String], story: &Story) -> Result<(), String> {
    let silent = || format!("the plugin {label} logged nothing in {}", words::duration(SPEAKS));
    match (lines, source) {
        ([], PluginSource::Checkout(_)) => Err(silent()),
        ([], PluginSource::File(_)) => {
            story.say(&silent());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The port that scrapes are wont to ask, if it is free; else any.
fn free_port() -> u16 {
    const USUAL: u16 = 9464;
    TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL)).map_or(0, |_| USUAL)
}

fn config(metrics_port: u16) -> String {
    format!(
        "[server]
listen = \"127.0.0.1:0\"

[reports]
slow_threshold = \"100ms\"

[publishers.metrics]
type = \"prometheus\"
listen = \"127.0.0.1:{metrics_port}\"

[publishers.archive]
type = \"file\"
path = \"records.jsonl\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_own_plugin_must_be_heard_and_a_strangers_need_not() {
        let story = Story { started: Instant::now() };
        let (own, strangers) =
            (PluginSource::Checkout("checkout".into()), PluginSource::File("a.wasm".into()));
        let silent = heard(&own, "rollup", &[], &story);
        assert_eq!(silent, Err("the plugin rollup logged nothing in 30.0 s".to_owned()));
        assert_eq!(heard(&own, "rollup", &["info: event=\"read\"".to_owned()], &story), Ok(()));
        assert_eq!(heard(&strangers, "a", &[], &story), Ok(()));
    }
}
