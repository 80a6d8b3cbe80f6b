//! A plugin run by a command: with the settings, grants and limits of a section, or with none.
//!
//! Invariant: it is the host's own sandbox and nothing beside it; what comes out of the guest is shown cut.

use super::super::{Failure, words};
use crate::config::{Config, Problems, PublisherSection, Secrets};
use crate::publisher::{Context, Publisher};
use crate::wasm::{HostSettings, PluginHost, WasmConfig};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An author waits longer than an operator's host does.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(600);

/// Which section of which configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct SectionArgs {
    /// A configuration that has a section for it: its settings, grants and limits hold
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The section, where several run this plugin
    #[arg(long, value_name = "LABEL", requires = "config")]
    publisher: Option<String>,
}

/// A plugin and how it is to run.
pub(super) struct Sandbox {
    file: PathBuf,
    /// The section, if there is one.
    pub(super) label: Option<String>,
    pub(super) config: WasmConfig,
    base_dir: PathBuf,
    secrets: Secrets,
    host: HostSettings,
}

/// A plugin that runs.
pub(super) struct Subject {
    pub(super) publisher: Box<dyn Publisher>,
}

impl Sandbox {
    pub(super) fn new(file: &Path, args: &SectionArgs) -> Result<Self, Failure> {
        let mut sandbox = Self {
            file: file.to_owned(),
            label: None,
            config: WasmConfig::default(),
            base_dir: std::path::absolute(file)?.parent().unwrap_or(Path::new("/")).to_owned(),
            secrets: Secrets::default(),
            host: HostSettings::default(),
        };
        sandbox.host.compiler = super::super::compile::this_binary();
        sandbox.host.compile_timeout = COMPILE_TIMEOUT;
        if let Some(path) = &args.config {
            let wrong = |error: crate::config::ConfigError| Failure::wrong(error.to_string());
            let (config, mut problems) = Config::read_file(path).map_err(wrong)?;
            let section = choose(&config, file, args.publisher.as_deref(), &mut problems);
            let read = section.as_ref().ok().and_then(|section| read(section, &mut problems));
            problems.into_result().map_err(wrong)?;
            let section = section.map_err(Failure::wrong)?;
            sandbox.config = read.unwrap_or_default();
            sandbox.label = Some(section.label.clone());
            sandbox.secrets = section.settings.secrets().clone();
            sandbox.base_dir = config.base_dir.clone();
            // Only where the configuration names one: a command that looks makes no directories.
            sandbox.host.guarded = config.guarded_paths();
            sandbox.host.guarded.push(path.clone());
            sandbox.host.cache_dir = config.plugins.cache_dir.is_some().then(|| config.cache_dir());
        }
        Ok(sandbox)
    }

    /// Compiles it, links it, and lets it start.
    pub(super) async fn start(&self) -> Result<Subject, Failure> {
        let host = PluginHost::new(self.host.clone()).map_err(|cause| Failure::failed(cause.to_string()))?;
        let mut context = Context::detached(self.label.as_deref().unwrap_or("subject"), &self.base_dir);
        context.secrets = self.secrets.clone();
        let build = host.factory(self.config.clone(), self.file.clone());
        match build(context).await {
            Ok(publisher) => Ok(Subject { publisher }),
            Err(cause) if self.label.is_none() => Err(Failure::failed(format!(
                "{cause:#}\nit has neither settings nor grants here; --config FILE gives it those of a section"
            ))),
            Err(cause) => Err(Failure::failed(format!("{cause:#}"))),
        }
    }
}

impl Subject {
    /// A figure of what reports show of it.
    pub(super) fn figure(&self, key: &str) -> f64 {
        self.shown(key).as_f64().unwrap_or_default()
    }

    /// A text of what reports show of it, if it is there.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.shown(key).as_str().map(str::to_owned)
    }

    fn shown(&self, key: &str) -> serde_json::Value {
        let status = self.publisher.status().map(|status| status()).unwrap_or_default();
        status.get(key).cloned().unwrap_or_default()
    }

    /// What it took, in a line.
    pub(super) fn footprint(&self) -> String {
        let bytes = |key: &str| words::bytes(self.figure(key) as u64);
        let took = |key: &str| words::seconds(self.figure(key) / 1e3);
        let tiers = ["baseline", "optimised"].into_iter().filter_map(|tier| {
            let key = format!("{tier}_ms");
            self.shown(&key).is_number().then(|| format!("{tier} code in {}", took(&key)))
        });
        format!(
            "{}, started in {}, held {} of {} at most",
            tiers.collect::<Vec<_>>().join(", "),
            took("start_ms"),
            bytes("memory_peak_bytes"),
            bytes("memory_limit_bytes"),
        )
    }
}

/// The section that runs this file: the one that is named, or the only one.
fn choose<'a>(
    config: &'a Config,
    file: &Path,
    label: Option<&str>,
    problems: &mut Problems,
) -> Result<&'a PublisherSection, String> {
    let plugin = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let wasm = || config.publishers.iter().filter(|section| section.kind == "wasm");
    if let Some(label) = label {
        return wasm()
            .find(|section| section.label == label)
            .ok_or_else(|| format!("publishers.{label} is not there, or has not type = \"wasm\""));
    }
    let mut runs_it = wasm().filter(|section| {
        let config: Option<WasmConfig> = section.settings.read(problems);
        config.is_some_and(|config| config.plugin.as_deref() == Some(plugin))
    });
    match (runs_it.next(), runs_it.next()) {
        (Some(section), None) => Ok(section),
        (Some(_), Some(_)) => Err(format!("several sections run {plugin}; say which with --publisher")),
        (None, _) => Err(format!("no section says plugin = \"{plugin}\"; name one with --publisher")),
    }
}

fn read(section: &PublisherSection, problems: &mut Problems) -> Option<WasmConfig> {
    let config: WasmConfig = section.settings.read(problems)?;
    for (key, message) in config.validate() {
        problems.push(section.problem_at(&key, &message));
    }
    Some(config)
}
