//! Plugins: WebAssembly components that publish, in a sandbox.
//!
//! A [`PluginHost`] makes a publisher of a file: it reads it, finds out what it is, compiles it (or takes it from the
//! cache), links it, starts it, and only then hands it over; whatever fails refuses the file and says why. From then
//! on `delivery` treats it as any other publisher.
//!
//! Invariant: nothing that a guest does or says harms more than its own batch. Its memory, compute, wall clock,
//! stack, handles, log lines and results are bounded; it reaches nothing that its section does not grant; and after
//! anything but an orderly answer its instance is discarded. Nothing outside of this room knows `wasmtime`.
//!
//! The way of a file: `component` (what is it?) → `gate` (signed, locked?) → `programs` (compiled before? else `compile`, and better code later) →
//! `bindings` (does it fit?) → `instance` (one that lives) → `supervisor` (one that is replaced when it fails).

mod batches;
mod bindings;
mod cache;
mod compile;
mod component;
mod compute;
mod engine;
mod gate;
mod grants;
mod instance;
mod limits;
mod lock;
mod output;
mod probe;
mod programs;
mod settings;
mod state;
mod status;
mod supervisor;
#[cfg(test)]
pub(crate) mod tests;

pub use cache::digest;
pub use compile::compile_for_host;
pub use component::LoadError;
pub use gate::is_public_key;
pub use lock::{Lock, Locked};
pub use probe::{Description, Want, describe};
pub use settings::{
    Acknowledge, AwsGrant, BasicGrant, DirGrant, Grant, HmacGrant, InjectGrant, Limits, WasmConfig,
};

use crate::config::units::ByteSize;
use crate::publisher::{Context, Factory, Publisher};
use cache::Cache;
use compile::Compiler;
use engine::{Machine, Tier};
use gate::Gate;
use grants::Granted;
use instance::{Failure, Setup};
use limits::MemoryGauge;
use output::Lines;
use programs::Programs;
use settings::Answers;
pub(crate) use settings::validate_overlaps;
use status::{Origin, Status};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervisor::Plugin;

/// How plugins are run, for all of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostSettings {
    /// Where compiled plugins are kept; without it each start compiles anew.
    pub cache_dir: Option<PathBuf>,
    /// How much is kept there, in bytes; what was used longest ago goes first.
    pub cache_max_bytes: u64,
    /// The largest file that is read, in bytes.
    pub max_file_bytes: u64,
    /// The `pressroom` binary of this very version, which compiles plugins in a child process, within the two bounds
    /// below. Without it they are compiled in this process: behind counts of what a file is made of, but a file made to
    /// that end can still take all memory. (On Linux the command itself names `/proc/self/exe`.)
    pub compiler: Option<PathBuf>,
    /// How many bytes of addresses the child may have.
    pub compile_memory: u64,
    /// How long it may take.
    pub compile_timeout: Duration,
    /// Whether a plugin that is new runs at once on code that is quickly made, until its optimised code is ready. Only on
    /// x86-64; elsewhere it waits.
    pub baseline: bool,
    /// Public keys of minisign's, or absolute paths of files with one. Where there are any, only what one of them signed
    /// runs: `NAME.wasm.minisig` lies beside the plugin.
    pub trusted_keys: Vec<String>,
    /// The lock that is in force, if one is: only what it says runs.
    pub lock: Option<PathBuf>,
    /// Files and directories that no plugin is let write to, nor to what lies in them or holds them, beside `cache_dir`
    /// and `lock`: the directory of the plugins, the file that says what they are granted. A section that grants it is
    /// refused.
    pub guarded: Vec<PathBuf>,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_max_bytes: 1 << 30,
            max_file_bytes: 64 << 20,
            compiler: None,
            compile_memory: 2 << 30,
            compile_timeout: Duration::from_secs(60),
            baseline: true,
            trusted_keys: Vec::new(),
            lock: None,
            guarded: Vec::new(),
        }
    }
}

/// Runs plugins. A clone is a handle to the same engines, clock and cache; they end with the last handle and the last
/// plugin.
#[derive(Clone)]
pub struct PluginHost(Arc<Inner>);

struct Inner {
    programs: Arc<Programs>,
    gate: Gate,
    max_file_bytes: u64,
    /// What no plugin may write to.
    guarded: Arc<[PathBuf]>,
}

/// Looks at the plugin in `file` without compiling it: is it a component, of a contract that this host knows?
///
/// # Errors
///
/// It would not load, and why.
pub fn inspect(file: &Path) -> Result<(), LoadError> {
    component::read(file, None, HostSettings::default().max_file_bytes).map(drop)
}

impl PluginHost {
    /// Sets up the engine and its clock. A cache directory that cannot be used is said in the log and done without.
    ///
    /// # Errors
    ///
    /// The machine cannot run WebAssembly, or a trusted key cannot be read.
    pub fn new(settings: HostSettings) -> Result<Self, LoadError> {
        let guarded =
            settings.guarded.iter().chain(&settings.cache_dir).chain(&settings.lock).cloned().collect();
        let gate = Gate::new(&settings.trusted_keys, settings.lock).map_err(LoadError::Keys)?;
        let failed = |cause: String| LoadError::Engine(cause);
        let machine = |tier| Machine::new(tier).map_err(|cause| failed(format!("{cause:#}")));
        let baseline = (settings.baseline && Tier::Baseline.is_here()).then(|| machine(Tier::Baseline));
        let (baseline, optimised) = (baseline.transpose()?, machine(Tier::Optimised)?);
        engine::tick(baseline.iter().chain([&optimised]).map(|machine| &machine.engine))
            .map_err(|cause| failed(cause.to_string()))?;
        let max_bytes = ByteSize(settings.cache_max_bytes);
        let cache = settings.cache_dir.as_deref().and_then(|dir| match Cache::open(dir, max_bytes) {
            Ok(cache) => Some(cache),
            Err(cause) => {
                tracing::warn!(dir = %dir.display(), %cause, "the cache of compiled plugins cannot be used, each start compiles them");
                None
            }
        });
        let compiler = Compiler {
            program: settings.compiler,
            memory: ByteSize(settings.compile_memory),
            timeout: settings.compile_timeout,
            own: compile::turns(),
        };
        Ok(Self(Arc::new(Inner {
            programs: Arc::new(Programs::new(baseline, optimised, cache, compiler)),
            gate,
            guarded,
            max_file_bytes: settings.max_file_bytes,
        })))
    }

    /// Reads the trusted keys that are in files again: what is built from here on must be signed with one of them.
    ///
    /// # Errors
    ///
    /// One of them cannot be read; those from before are trusted.
    pub fn read_keys(&self) -> Result<(), LoadError> {
        self.0.gate.read_keys().map_err(LoadError::Keys)
    }

    /// What is being compiled of the file with `digest`: `{tier, elapsed_ms}`, or null.
    pub fn compiling(&self, digest: &str) -> serde_json::Value {
        self.0.programs.compiling(digest)
    }

    /// A factory of publishers that run the plugin in `file`. It reads the file each time, so that what it builds is
    /// what lies there then.
    pub fn factory(&self, config: WasmConfig, file: PathBuf) -> Factory {
        let host = self.clone();
        Arc::new(move |context| {
            let (host, config, file) = (host.clone(), config.clone(), file.clone());
            Box::pin(async move {
                let plugin = host.load(config, file, context).await?;
                Ok(Box::new(plugin) as Box<dyn Publisher>)
            })
        })
    }

    async fn load(&self, config: WasmConfig, file: PathBuf, context: Context) -> Result<Plugin, LoadError> {
        grants::survive_full_files();
        let host = self.clone();
        let (path, pin) = (file.clone(), config.sha256.clone());
        let (label, grant) = (context.label.clone(), config.grant.clone());
        let read = move || {
            let checked = component::read(&path, pin.as_deref(), host.0.max_file_bytes)?;
            host.0.gate.admit(&checked, &label, &grant)?;
            Ok(checked)
        };
        let checked = blocking(&file, read).await?;
        let (version, digest, bytes) = (checked.version, checked.digest.clone(), checked.bytes.len());
        let program = self.0.programs.obtain(checked).await?;
        let origin = Origin { file: file.clone(), digest, version, bytes, program: program.clone() };
        let setup = match setup(config, context, origin, &self.0.guarded) {
            Ok(setup) => Arc::new(setup),
            Err(cause) => {
                self.0.programs.keep(program);
                return Err(LoadError::Grant { path: file, cause });
            }
        };
        match Plugin::start(setup.clone()).await {
            Ok(plugin) => {
                self.0.programs.optimise(&program, &file, self.0.max_file_bytes);
                Ok(plugin)
            }
            Err(failure) => {
                self.0.programs.keep(program);
                let cause = setup.explain(&failure);
                Err(match failure {
                    Failure::Contract(_) => {
                        LoadError::Link { path: file, version: version.to_owned(), cause }
                    }
                    Failure::Grant(_) => LoadError::Grant { path: file, cause },
                    _ => LoadError::Start { path: file, cause },
                })
            }
        }
    }
}

fn setup(config: WasmConfig, context: Context, origin: Origin, guarded: &[PathBuf]) -> Result<Setup, String> {
    let secrets = grants::secrets(&config.grant, &context.secrets)?;
    let lines = Arc::new(Lines::new(context.label.clone(), secrets.clone(), config.limits.log_rate));
    let memory = Arc::new(MemoryGauge::default());
    // What the gauge shows is of all instances together.
    let most = config.limits.memory.bytes().saturating_mul(config.limits.instances as u64);
    let grant = (&*context.label, config.grant);
    let granted = Granted::new(grant, &config.limits, &context.base_dir, guarded, &lines, &secrets)?;
    let network = granted.counts().clone();
    Ok(Setup {
        label: context.label,
        secrets,
        program: origin.program.clone(),
        granted,
        answers: Arc::new(Answers::new(&config.config)),
        status: Arc::new(Status::new(origin, most, memory, lines, network)),
        limits: config.limits,
        acknowledge: config.acknowledge,
    })
}

/// Runs `work` on a thread that may block. The reader's panic is the file's fault, not the host's end.
async fn blocking<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        Err(LoadError::NotAPlugin { path: file.to_owned(), cause: format!("cannot be read: {cause}") })
    })
}
