//! The host: everything wired together. Start-up, reload, shutdown.
//!
//! Invariant: the only place where rooms that do not know each other are brought together. It decides nothing about a
//! record; what it decides is the order of beginning and end: nothing is accepted before every publisher that must run
//! has a cursor, and nothing is drained before everything accepted is in the journal.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
//! use pressroom::host::Host;
//!
//! let host = Host::builder().start().await?;
//! let recorder = host.recorder();
//! recorder.event("resize").task("42").start().fail("disk full");
//! assert_eq!(host.report().failed_events().events.rows.len(), 1);
//! host.shutdown(std::time::Duration::from_secs(1)).await;
//! # Ok(()) }
//! ```

mod builder;
mod catalog;
mod check;
mod composite;
mod desired;
mod files;
#[cfg(feature = "wasm")]
mod lock;
mod plugins;
#[cfg(feature = "server")]
mod readiness;
mod vitals;

#[cfg(test)]
mod tests;

pub use builder::{HostBuilder, StartError};
#[cfg(feature = "wasm")]
pub use lock::{LockError, lock};

pub use check::{Checked, CheckedComposite, CheckedPlugin, CheckedPublisher, check};
pub use desired::PluginReport;
pub use files::CheckedFile;

use crate::collector::Collector;
use crate::config::{Config, ConfigError};
use crate::delivery::PublisherStatus;
use crate::journal::{Books, Journal};
use crate::recorder::Recorder;
pub use crate::registry::ResetError;
use crate::registry::{Account, Applied, Registry, Round};
use crate::report::{Pending, Reports};
use crate::watch::{Changes, Marks, Watch};
use desired::{Planned, Planner};
use parking_lot::Mutex;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running host. Cheap to clone: a handle. It runs until [`Host::shutdown`], or until the last handle is dropped,
/// and then what was not published is lost.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    config: Mutex<Arc<Config>>,
    config_file: Option<PathBuf>,
    planner: Planner,
    journal: Journal,
    collector: Collector,
    recorder: Recorder,
    reports: Reports,
    registry: Arc<Registry>,
    server_addr: Option<SocketAddr>,
    /// One reload reads and decides at a time, so that the newest decides last.
    reloading: tokio::sync::Mutex<()>,
    /// Why the last reload was refused, if it was.
    refused: Arc<Mutex<Option<String>>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Why a running host keeps its old configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The host was started without a configuration file.
    #[error("the host was started without a configuration file, there is nothing to read again")]
    NoFile,
    /// Something is wrong in the file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something changed that a running host cannot take over.
    #[error("{} cannot change while the host runs: restart it, or take the change back", .0.join(", "))]
    NeedsRestart(Vec<String>),
    /// The host is shutting down.
    #[error("the host is shutting down")]
    Closing,
    /// The reload itself failed.
    #[error("the reload failed, please report it: {0}")]
    Broken(String),
}

/// How everything ended.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Closing {
    /// The final books of every publisher that ever ran, the removed ones included.
    pub publishers: Vec<Account>,
    /// Unfinished records that were closed as cancelled.
    pub cancelled: usize,
    /// Records that were finished and never accepted, since the start.
    pub never_accepted: u64,
}

impl Closing {
    /// Records that were accepted and neither published nor set aside, over all publishers.
    pub fn dropped(&self) -> u64 {
        self.publishers.iter().map(|account| account.books.dropped.total()).sum()
    }

    /// Whether every publisher's books balance.
    pub fn balanced(&self) -> bool {
        self.publishers.iter().all(|account| Books::balance(&account.books))
    }
}

impl Host {
    /// A host that has not started. Without a configuration it has no server, no plugin directory and no publishers
    /// but those it is given.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// A handle for code under observation.
    pub fn recorder(&self) -> Recorder {
        self.0.recorder.clone()
    }

    /// Answers questions. What has been recorded until now is in the answers.
    pub fn report(&self) -> Reports {
        self.0.collector.collect();
        self.0.reports.clone()
    }

    /// How every publisher stands.
    pub fn publishers(&self) -> Vec<PublisherStatus> {
        self.0.publishers()
    }

    /// What lies in the plugin directory, and what became of it.
    pub fn plugins(&self) -> Vec<PluginReport> {
        self.0.planner.plugin_reports(&self.0.publishers())
    }

    /// Has a plugin forget what is held against it: failures, waits, quarantine. `label` is its own, or that of a
    /// failover with plugins in it. What waits for it is tried at once.
    ///
    /// # Errors
    ///
    /// No plugin runs under that label.
    pub async fn reset_plugin(&self, label: &str) -> Result<(), ResetError> {
        self.0.registry.reset(label).await
    }

    /// The host's own metrics, in the text exposition format.
    pub fn metrics(&self) -> String {
        self.0.planner.metrics()
    }

    /// Where the host's own HTTP listens.
    pub fn server_addr(&self) -> Option<SocketAddr> {
        self.0.server_addr
    }

    /// Why the configuration's file, as it is now, is not in force; `None` if it is.
    pub fn refused(&self) -> Option<String> {
        self.0.refused.lock().clone()
    }

    /// The configuration that is in force.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.lock().clone()
    }

    /// Reads the configuration and the plugin directory again and applies the difference. Each publisher is applied on
    /// its own; this returns when all are, or when a newer reload has taken over what is left.
    ///
    /// # Errors
    ///
    /// The new configuration cannot be used: the old one stays in force, and no publisher of it is touched. (What is new
    /// in the plugin directory runs all the same.)
    pub async fn reload(&self) -> Result<Applied, ReloadError> {
        self.0.reload(Changes { config: true, plugins: true }, true).await
    }

    /// Ends the host: no more records are taken, unfinished ones are closed as cancelled, publishers deliver what is
    /// left until `patience` is over. Requests in flight have a quarter of it: what is slow to come in takes no time from
    /// what was accepted. Says what became of everything.
    pub async fn shutdown(&self, patience: Duration) -> Closing {
        let deadline = Instant::now() + patience;
        let ingest_deadline = tokio::time::Instant::now() + patience / INGEST_PART;
        self.0.stop.send_replace(true);
        // A reload that is under way is not waited for: the registry starts nothing more once it shuts down.
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for task in tasks {
            let abort = task.abort_handle();
            if tokio::time::timeout_at(ingest_deadline, task).await.is_err() {
                tracing::warn!("requests in flight were cut off: the rest of the time is the publishers'");
                abort.abort();
            }
        }
        // What requests were told is accepted is in the journal, or is unfinished and is appended now.
        let cancelled = self.0.collector.end();
        let publishers = self.0.registry.shutdown(deadline.saturating_duration_since(Instant::now())).await;
        let never_accepted = self.0.recorder.counts().dropped;
        Closing { publishers, cancelled, never_accepted }
    }
}

/// Requests in flight have this part of a shutdown's time at most.
const INGEST_PART: u32 = 4;

/// Nobody can shut it down any more: its tasks end by themselves.
impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.collector.close();
    }
}

impl Inner {
    fn publishers(&self) -> Vec<PublisherStatus> {
        let secrets = self.config.lock().secrets().clone();
        let mut all = self.registry.status();
        for status in &mut all {
            desired::redact(status, &secrets);
        }
        all
    }

    /// Applies what has changed, in a task of its own: who gives up waiting for it does not stop it half-way.
    async fn reload(self: &Arc<Self>, changes: Changes, retry_failed: bool) -> Result<Applied, ReloadError> {
        let host = self.clone();
        let reload = tokio::spawn(async move { host.reload_here(changes, retry_failed).await });
        reload.await.unwrap_or_else(|panic| Err(ReloadError::Broken(panic.to_string())))
    }

    async fn reload_here(
        self: &Arc<Self>,
        changes: Changes,
        retry_failed: bool,
    ) -> Result<Applied, ReloadError> {
        let (round, read) = self.begin_reload(changes, retry_failed).await?;
        let patience = self.config.lock().shutdown.timeout;
        let applied = self.registry.finish(round, patience).await;
        read.map(|()| applied)
    }

    /// Reads what has changed and says what is to run. The second part of the answer is why the configuration's file, as
    /// it is now, is not in force, where the plugin directory was looked at all the same.
    async fn begin_reload(
        self: &Arc<Self>,
        changes: Changes,
        retry_failed: bool,
    ) -> Result<(Round, Result<(), ReloadError>), ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        if *self.stop.borrow() {
            return Err(ReloadError::Closing);
        }
        let host = self.clone();
        // Files are read and hashed: not on a thread that others need.
        let found = tokio::task::spawn_blocking(move || {
            let read = if changes.config { Some(host.read_again()) } else { None };
            let (config, marks, read) = match read {
                Some(Ok((config, marks))) => (config, Some(marks), Ok(())),
                // A wrong configuration changes nothing; what came with it into the plugin directory runs all the same.
                Some(Err(error)) => (host.config.lock().clone(), None, Err(error)),
                None => (host.config.lock().clone(), None, Ok(())),
            };
            (read, marks, host.planner.desired(&config), config)
        });
        let (read, marks, planned, config) =
            found.await.map_err(|panic| ReloadError::Broken(panic.to_string()))?;
        let Planned { desired, problems, marks: named } = planned;
        let referred = &self.planner.referred;
        match marks {
            Some(marks) if problems.is_empty() => referred.set(marks),
            Some(marks) => referred.extend(marks),
            None => {}
        }
        referred.extend(named);
        problems.into_result().map_err(|error| self.refuse(error.into()))?;
        let read = match read {
            Err(error) if !changes.plugins => return Err(error),
            read => read,
        };
        // What was recorded until now is for those who run now.
        self.collector.collect();
        if read.is_ok() {
            *self.config.lock() = config;
            if changes.config {
                *self.refused.lock() = None;
            }
        }
        Ok((self.registry.begin(desired, retry_failed), read))
    }

    fn read_again(&self) -> Result<(Arc<Config>, Marks), ReloadError> {
        let Some(file) = &self.config_file else { return Err(ReloadError::NoFile) };
        let read = files::read_config(file).map_err(|error| self.refuse(error.into()))?;
        let (config, mut problems, marks) = read;
        // Whatever becomes of it: a file that is not there yet may come.
        self.planner.referred.extend(marks.clone());
        self.planner.check(&config, &mut problems);
        problems.into_result().map_err(|error| self.refuse(error.into()))?;
        let frozen = self.config.lock().needs_restart(&config);
        if !frozen.is_empty() {
            return Err(self.refuse(ReloadError::NeedsRestart(frozen)));
        }
        Ok((Arc::new(config), marks))
    }

    fn refuse(&self, error: ReloadError) -> ReloadError {
        let text = error.to_string();
        // A line for each problem.
        text.lines().for_each(|problem| tracing::error!("the old configuration stays in force: {problem}"));
        *self.refused.lock() = Some(text);
        error
    }

    fn pending(recorder: &Recorder, most: usize) -> Pending {
        let (events, operations) = recorder.pending(most, PENDING_BYTES);
        let counts = recorder.counts();
        let mut pending = Pending {
            events_total: counts.pending.saturating_sub(counts.pending_operations).max(events.len()),
            operations_total: counts.pending_operations.max(operations.len()),
            events,
            operations,
            counters: counts.problems().to_vec(),
        };
        pending.events.sort_by_key(|event| event.start_time);
        pending.operations.sort_by_key(|operation| operation.start_time);
        pending
    }
}

/// Applies what changes on the disk, until the host ends.
async fn follow_changes(host: Weak<Inner>, mut watch: Watch, mut stop: watch::Receiver<bool>) {
    loop {
        let debounce = match host.upgrade() {
            Some(host) => host.config.lock().plugins.debounce,
            None => return,
        };
        let (changes, retry_failed) = tokio::select! {
            changes = watch.changed(debounce) => (changes, changes.config),
            () = tokio::time::sleep(RETRY_FAILED) => (Changes::default(), true),
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(host) = host.upgrade() else { return };
        if changes == Changes::default() && host.registry.failures().is_empty() {
            continue;
        }
        // What is wrong has been logged and is in the reports; the next change is another try.
        let begun = tokio::select! {
            begun = host.begin_reload(changes, retry_failed) => begun,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        // It is finished in a task of its own: what is slow to build must not hold up the next change, nor the end. A round
        // ends early where a newer one takes its labels over, so that few of these tasks live at a time.
        if let Ok((round, _)) = begun {
            tokio::spawn(async move {
                let patience = host.config.lock().shutdown.timeout;
                host.registry.finish(round, patience).await
            });
        }
    }
}

/// A report lists no more unfinished records of a kind once they occupy so much.
const PENDING_BYTES: usize = 8 << 20;

/// A port that was taken may be free by now, a directory may be there: what could not be started is tried so often.
const RETRY_FAILED: Duration = Duration::from_secs(30);

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("journal", &self.0.journal).finish_non_exhaustive()
    }
}
