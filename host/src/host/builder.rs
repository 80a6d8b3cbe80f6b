//! Start-up: from a configuration to a running host.

use super::catalog::Catalog;
use super::desired::{Planned, Planner};
use super::plugins::PluginDir;
#[cfg(feature = "server")]
use super::readiness;
use super::{Host, Inner, files, follow_changes, vitals};
use crate::collector::{Collector, CollectorSettings};
use crate::config::{Config, ConfigError, Problems};
use crate::delivery::DeadLetters;
use crate::journal::{Journal, JournalSettings};
use crate::publisher::{Factory, Publisher};
use crate::recorder::Recorder;
use crate::registry::{Desired, Failed, Registry};
use crate::report::{ReportSettings, Reports};
use crate::watch::{Marks, Referred, Watch, Watched};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A host that has not started.
#[must_use = "nothing runs until it is started"]
#[derive(Default)]
pub struct HostBuilder {
    config: Option<Config>,
    file: Option<PathBuf>,
    embedded: BTreeMap<String, Factory>,
    unwatched: bool,
    #[cfg_attr(
        not(feature = "wasm"),
        allow(dead_code, reason = "nothing is compiled where there are no plugins")
    )]
    compiler: Option<PathBuf>,
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Something is wrong in the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A publisher of the configuration cannot run as it says. (A plugin that cannot be loaded does not keep the host
    /// from starting: it waits, and is reported.)
    #[error("{}", .0.iter().map(|failed| format!("publisher \"{}\": {}", failed.label, failed.reason)).collect::<Vec<_>>().join("\n"))]
    Publishers(Vec<Failed>),
    /// What no publisher takes could not be set aside.
    #[error("dead letters: {0}")]
    DeadLetters(String),
    /// The start itself failed.
    #[error("the start failed, please report it: {0}")]
    Broken(String),
    /// The host's own HTTP cannot listen.
    #[cfg(feature = "server")]
    #[error("server: {0}")]
    Server(#[from] crate::server::BindError),
    /// Plugins cannot be run on this machine.
    #[cfg(feature = "wasm")]
    #[error("plugins: {0}")]
    Plugins(#[from] crate::wasm::LoadError),
}

impl HostBuilder {
    /// Starts with the configuration in this file, which is watched from then on.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Starts with this configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Adds a publisher of the program's own, under `label`. `make` is called at the start, and again should the
    /// publisher panic. A section `[publishers.LABEL]` with `type = "embedded"` may say how it is delivered to.
    pub fn publisher<P: Publisher>(
        mut self,
        label: impl Into<String>,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        let make = Arc::new(make);
        let factory: Factory = Arc::new(move |_| {
            let make = make.clone();
            Box::pin(async move { Ok(Box::new(make()) as Box<dyn Publisher>) })
        });
        self.embedded.insert(label.into(), factory);
        self
    }

    /// Whether changes of the configuration's file and of the plugin directory are followed. They are by default.
    pub fn watch(mut self, watch: bool) -> Self {
        self.unwatched = !watch;
        self
    }

    /// Has plugins compiled by this binary, in a process of its own within `plugins.compile_memory` and
    /// `plugins.compile_timeout`: a `pressroom` of this very version. Without it they are compiled in this process, and a
    /// file that is made to that end can take all of its memory.
    pub fn compiler(mut self, program: impl Into<PathBuf>) -> Self {
        self.compiler = Some(program.into());
        self
    }

    /// Starts the host, and waits a few seconds for its plugins to be compiled and to start.
    ///
    /// # Errors
    ///
    /// The configuration cannot be used, or something that it says cannot be had. Nothing runs then.
    pub async fn start(self) -> Result<Host, StartError> {
        let host = self.launch().await?;
        host.settle().await;
        Ok(host)
    }

    /// As [`HostBuilder::start`], and does not wait for plugins. Until this returns nothing is accepted: it may be given up
    /// by dropping the future.
    pub(crate) async fn launch(self) -> Result<Host, StartError> {
        let bare = self.config.is_none() && self.file.is_none();
        let catalog = Catalog::new(self.embedded);
        let (config, mut problems, marks) = match (self.config, &self.file) {
            (Some(config), _) => (config, Problems::new(), Marks::new()),
            (None, Some(file)) => files::read_config(file)?,
            (None, None) => (bare_config(), Problems::new(), Marks::new()),
        };
        catalog.read(&config, &mut problems);
        problems.into_result()?;

        if !bare && let Some(found) = files::try_dead_letters(&config) {
            return Err(StartError::DeadLetters(found.problem));
        }
        if self.file.is_some() && config.plugins.drop_in {
            // A convenience: what cannot be made here can be made by whoever drops the first plugin in.
            let _ = std::fs::create_dir_all(config.plugins_dir());
        }

        let referred = Referred::default();
        #[cfg(feature = "server")]
        let server = bind(&config).await?;
        let started = Instant::now();
        let reports = Reports::new(report_settings(&config));
        let journal = Journal::new(journal_settings(&config), {
            let reports = reports.clone();
            Box::new(move |batch| reports.observe(batch))
        });
        let collector = Collector::new(journal.clone(), collector_settings(&config));
        let recorder = Recorder::new(collector.clone());
        reports.set_pending({
            let recorder = recorder.clone();
            Arc::new(move |most| Inner::pending(&recorder, most))
        });
        let dead_letters = Arc::new(DeadLetters::new(config.dead_letters_path()));
        let registry = Arc::new(Registry::new(journal.clone(), dead_letters));

        #[cfg(feature = "server")]
        let ingest_counts = server.as_ref().map(crate::server::BoundServer::counts);
        let refused = Arc::new(Mutex::new(None::<String>));
        let host_metrics = {
            let refused = refused.clone();
            let (registry, journal) = (Arc::downgrade(&registry), journal.clone());
            let (recorder, reports) = (recorder.clone(), reports.clone());
            Arc::new(move || {
                let Some(registry) = registry.upgrade() else { return String::new() };
                let out = vitals::expose(&registry.status(), &journal, &recorder, &reports, started)
                    .gauge(
                        "pressroom_config_refused",
                        "1 while the configuration's file is wrong and an earlier one is in force.",
                        &[],
                        refused.lock().is_some(),
                    )
                    .gauge(
                        "pressroom_dead_letters_failing",
                        "1 while the file of dead letters cannot be written and refused records wait.",
                        &[],
                        registry.dead_letters().trouble().is_some(),
                    )
                    .counter(
                        "pressroom_log_lines_lost_total",
                        "Lines of the log that were lost because nothing read them.",
                        &[],
                        crate::output::log::lost(),
                    );
                #[cfg(feature = "server")]
                let out = match &ingest_counts {
                    Some(counts) => counts.expose(out),
                    None => out,
                };
                out.finish()
            })
        };
        let planner = Planner {
            catalog,
            plugin_dir: PluginDir::new(config.plugins_dir()),
            #[cfg(feature = "wasm")]
            plugin_host: plugin_host(&config, self.file.clone(), self.compiler, bare)?,
            host_metrics,
            found: Mutex::default(),
            referred: referred.clone(),
        };

        // Changes from here on are followed, those during the start included.
        let plugins = (!bare).then(|| config.plugins_dir());
        let watched = Watched { config: self.file.clone(), plugins, referred: referred.clone() };
        let watch = (!self.unwatched && !bare).then(|| Watch::new(watched));
        let found = tokio::task::spawn_blocking(move || {
            let found = planner.desired(&config);
            (planner, config, found)
        });
        let (planner, config, planned) =
            found.await.map_err(|panic| StartError::Broken(panic.to_string()))?;
        let Planned { desired, problems, marks: named } = planned;
        problems.into_result()?;
        referred.set(marks);
        referred.extend(named);
        let mut applying = apply(&registry, desired, config.shutdown.timeout).await?;

        #[cfg(feature = "server")]
        let server_addr = server.as_ref().map(crate::server::BoundServer::local_addr);
        #[cfg(not(feature = "server"))]
        let server_addr = None;
        applying.detach_all();
        let host = Host(Arc::new(Inner {
            config: Mutex::new(Arc::new(config)),
            config_file: self.file,
            planner,
            journal,
            collector: collector.clone(),
            recorder,
            reports,
            registry,
            server_addr,
            reloading: tokio::sync::Mutex::default(),
            refused,
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
        }));
        tokio::spawn(async move { collector.run().await });
        host.run_tasks(
            watch,
            #[cfg(feature = "server")]
            server,
        );
        Ok(host)
    }
}

/// Begins to start what is to run, each on its own, and waits for what the host must not start without. The task that goes
/// on with the rest ends with the answer.
///
/// # Errors
///
/// Something that the configuration says cannot be had. Nothing runs then.
async fn apply(
    registry: &Arc<Registry>,
    desired: Vec<Desired>,
    patience: Duration,
) -> Result<JoinSet<()>, StartError> {
    let required: Vec<_> =
        desired.iter().filter(|desired| desired.required).map(|desired| desired.label.clone()).collect();
    let round = registry.begin(desired, true);
    let mut applying = JoinSet::new();
    applying.spawn({
        let registry = registry.clone();
        async move { drop(registry.finish(round, patience).await) }
    });
    // One that takes longer is pending, and holds up neither the others nor the start.
    let _ = tokio::time::timeout(PATIENCE_AT_START, registry.settled(&required)).await;
    let mut failed = registry.failures();
    failed.retain(|failed| failed.required);
    if failed.is_empty() {
        return Ok(applying);
    }
    registry.shutdown(Duration::ZERO).await;
    Err(StartError::Publishers(failed))
}

impl Host {
    /// Waits until everything runs that is to, or has failed to; or, where that takes longer, for a few seconds.
    pub(crate) async fn settle(&self) {
        let labels: Vec<_> = self.0.registry.status().into_iter().map(|status| status.label).collect();
        let _ = tokio::time::timeout(PATIENCE_AT_START, self.0.registry.settled(&labels)).await;
    }

    fn run_tasks(
        &self,
        watch: Option<Watch>,
        #[cfg(feature = "server")] server: Option<crate::server::BoundServer>,
    ) {
        let mut tasks = self.0.tasks.lock();
        if let Some(watch) = watch {
            let follow = follow_changes(Arc::downgrade(&self.0), watch, self.0.stop.subscribe());
            tasks.push(tokio::spawn(follow));
        }
        #[cfg(feature = "server")]
        if let Some(server) = server {
            let mut stop = self.0.stop.subscribe();
            let services = self.services();
            tasks.push(tokio::spawn(server.serve(services, async move {
                // An error means that the host has gone.
                let _ = stop.wait_for(|stop| *stop).await;
            })));
        }
    }

    #[cfg(feature = "server")]
    fn services(&self) -> crate::server::Services {
        use futures_util::future::BoxFuture;
        use serde_json::json;
        let weak = Arc::downgrade(&self.0);
        let publishers = {
            let weak = weak.clone();
            Arc::new(move || weak.upgrade().map_or(json!([]), |host| json!(host.publishers())))
        };
        let plugins = {
            let weak = weak.clone();
            Arc::new(move || {
                weak.upgrade()
                    .map_or(json!([]), |host| json!(host.planner.plugin_reports(&host.publishers())))
            })
        };
        let registry = self.0.registry.clone();
        let reset_plugin = Arc::new(move |label: String| -> BoxFuture<'static, _> {
            let registry = registry.clone();
            Box::pin(async move { registry.reset(&label).await })
        });
        let unready = Arc::new(move || {
            weak.upgrade()
                .map_or_else(|| vec!["the host has ended".to_owned()], |host| readiness::reasons(&host))
        });
        crate::server::Services {
            collector: self.0.collector.clone(),
            recorder: self.0.recorder.clone(),
            reports: self.0.reports.clone(),
            publishers,
            plugins,
            reset_plugin,
            host_metrics: self.0.planner.host_metrics.clone(),
            unready,
        }
    }
}

/// How long the start waits for publishers to be built and opened, and again for plugins to be compiled and to start.
const PATIENCE_AT_START: Duration = Duration::from_secs(5);

/// Of a host that an embedding program gives no configuration: nothing is read, watched or listened to.
fn bare_config() -> Config {
    let mut config = Config::default();
    config.server.enabled = false;
    config.plugins.drop_in = false;
    config
}

#[cfg(feature = "wasm")]
fn plugin_host(
    config: &Config,
    file: Option<PathBuf>,
    compiler: Option<PathBuf>,
    bare: bool,
) -> Result<crate::wasm::PluginHost, crate::wasm::LoadError> {
    let mut settings = crate::wasm::HostSettings::default();
    let (plugins, dir) = (&config.plugins, config.plugins_dir());
    // A cache beside plugins that nobody has is not made.
    if !bare && (plugins.cache_dir.is_some() || dir.exists()) {
        settings.cache_dir = Some(config.cache_dir());
    }
    settings.cache_max_bytes = plugins.cache_max_bytes.bytes();
    settings.baseline = plugins.baseline;
    settings.compiler = compiler;
    settings.compile_memory = plugins.compile_memory.bytes();
    settings.compile_timeout = plugins.compile_timeout;
    let key = |key: &String| match crate::wasm::is_public_key(key) {
        true => key.clone(),
        false => config.base_dir.join(key).display().to_string(),
    };
    settings.trusted_keys = plugins.trusted_keys.iter().map(key).collect();
    settings.lock = plugins.locked.then(|| config.lock_path());
    if !bare {
        settings.guarded = config.guarded_paths();
        settings.guarded.extend(file);
        // A key that is a file says who is trusted.
        let is_file = |key: &&String| !crate::wasm::is_public_key(key);
        settings.guarded.extend(settings.trusted_keys.iter().filter(is_file).map(PathBuf::from));
        // And what is this program is what runs next time.
        settings.guarded.extend(std::env::current_exe());
    }
    crate::wasm::PluginHost::new(settings)
}

#[cfg(feature = "server")]
async fn bind(config: &Config) -> Result<Option<crate::server::BoundServer>, StartError> {
    let server = &config.server;
    if !server.enabled {
        return Ok(None);
    }
    let settings = crate::server::ServerSettings {
        listen: server.listen,
        otlp_listen: otlp_listen(server),
        cors_origins: server.cors_origins.clone(),
        token: server.token.as_ref().map(|token| token.expose().to_owned()),
        hosts: server.hosts.clone(),
        max_body: server.max_body.as_usize(),
        max_decompressed: server.max_decompressed.as_usize(),
        max_connections: server.max_connections,
        allow_without_token: server.allow_without_token,
        mapping: mapping(&config.ingest.otlp),
        ..Default::default()
    };
    Ok(Some(crate::server::Server::bind(settings).await?))
}

/// OTLP's own port of the server's address, if it is free, where the configuration does not say. (A server on any free
/// port is one of many: none of them takes a port that all would want.)
#[cfg(feature = "server")]
fn otlp_listen(server: &crate::config::ServerConfig) -> crate::server::OtlpListen {
    use crate::config::units::OptionalAddress;
    use crate::server::OtlpListen;
    match server.otlp_listen {
        OptionalAddress::Unsaid if server.listen.port() == 0 => OtlpListen::Off,
        OptionalAddress::Unsaid => OtlpListen::IfFree((server.listen.ip(), OTLP_PORT).into()),
        OptionalAddress::Off => OtlpListen::Off,
        OptionalAddress::At(address) => OtlpListen::At(address),
    }
}

#[cfg(feature = "server")]
const OTLP_PORT: u16 = 4318;

#[cfg(feature = "server")]
fn mapping(otlp: &crate::config::OtlpConfig) -> crate::ingest::otlp::Mapping {
    let patterns = otlp.resource_attributes.clone();
    crate::ingest::otlp::Mapping {
        resource_attribute: Arc::new(move |key| patterns.iter().any(|pattern| pattern.matches(key))),
        events: otlp.events,
        links: otlp.links,
        scope: otlp.scope,
        trace_state: otlp.trace_state,
    }
}

fn journal_settings(config: &Config) -> JournalSettings {
    let journal = &config.journal;
    JournalSettings {
        max_bytes: journal.max_bytes.as_usize(),
        max_records: journal.max_records,
        ..JournalSettings::default()
    }
}

fn collector_settings(config: &Config) -> CollectorSettings {
    let recorder = &config.recorder;
    CollectorSettings {
        max_pending: recorder.max_pending,
        max_pending_bytes: recorder.max_pending_bytes.as_usize(),
        max_buffered: recorder.max_buffered,
        max_buffered_bytes: recorder.max_buffered_bytes.as_usize(),
        ..CollectorSettings::default()
    }
}

fn report_settings(config: &Config) -> ReportSettings {
    let reports = &config.reports;
    ReportSettings {
        max_records: reports.max_records,
        max_bytes: reports.max_bytes.as_usize(),
        max_age: reports.max_age,
        slow_threshold: reports.slow_threshold,
        max_names: reports.max_names,
        max_statistics_bytes: reports.max_statistics_bytes.as_usize(),
        ..ReportSettings::default()
    }
}
