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
//! The way of a file: `component` (what is it?) → `cache` (compiled before?) → `bindings` (does it fit?) →
//! `instance` (one that lives) → `supervisor` (one that is replaced when it fails).

mod batches;
mod bindings;
mod cache;
mod component;
mod engine;
mod grants;
mod instance;
mod limits;
mod output;
mod probe;
mod settings;
mod state;
mod status;
mod supervisor;
#[cfg(test)]
pub(crate) mod tests;

pub use cache::digest;
pub use component::LoadError;
pub use probe::{Description, Want, describe};
pub use settings::{AwsGrant, BasicGrant, DirGrant, Grant, HmacGrant, InjectGrant, Limits, WasmConfig};

use crate::publisher::{Context, Factory, Publisher};
use bindings::Indices;
use cache::Cache;
use component::Checked;
use grants::Granted;
use instance::{Failure, Setup};
use limits::MemoryGauge;
use output::{Lines, Severity, Stdio};
use parking_lot::Mutex;
use settings::Answers;
use state::State;
use status::{Origin, Status};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use supervisor::Plugin;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

/// How plugins are run, for all of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostSettings {
    /// Where compiled plugins are kept; without it each start compiles anew.
    pub cache_dir: Option<PathBuf>,
    /// The largest file that is read.
    pub max_file_bytes: u64,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self { cache_dir: None, max_file_bytes: 64 << 20 }
    }
}

/// Runs plugins. A clone is a handle to the same engine, clock and cache; they end with the last handle and the last
/// plugin.
#[derive(Clone)]
pub struct PluginHost(Arc<Inner>);

struct Inner {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    max_file_bytes: u64,
    /// What lives compiled, by digest: sections that run the same file share it.
    compiled: Mutex<HashMap<String, Weak<Compiled>>>,
    /// One compilation at a time: each uses every core.
    compiling: tokio::sync::Mutex<()>,
}

/// A component, ready to be instantiated.
struct Compiled {
    component: Component,
    took: Duration,
    cached: bool,
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
    /// The machine cannot run WebAssembly.
    pub fn new(settings: HostSettings) -> Result<Self, LoadError> {
        let failed = |cause: wasmtime::Error| LoadError::Engine(format!("{cause:#}"));
        let engine = engine::start().map_err(failed)?;
        let linker = bindings::linker(&engine).map_err(failed)?;
        let cache = settings.cache_dir.as_deref().and_then(|dir| match Cache::open(dir, &engine) {
            Ok(cache) => Some(cache),
            Err(cause) => {
                tracing::warn!(dir = %dir.display(), %cause, "the cache of compiled plugins cannot be used, each start compiles them");
                None
            }
        });
        Ok(Self(Arc::new(Inner {
            engine,
            linker,
            cache,
            max_file_bytes: settings.max_file_bytes,
            compiled: Mutex::default(),
            compiling: tokio::sync::Mutex::default(),
        })))
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
        let host = self.clone();
        let (path, pin) = (file.clone(), config.sha256.clone());
        let checked =
            blocking(&file, move || component::read(&path, pin.as_deref(), host.0.max_file_bytes)).await?;
        let (version, lifecycle, digest, bytes) =
            (checked.version, checked.lifecycle, checked.digest.clone(), checked.bytes.len());
        let compiled = self.compile(checked).await?;
        let misfit =
            |cause: String| LoadError::Link { path: file.clone(), version: version.to_owned(), cause };
        let pre: InstancePre<State> = self
            .0
            .linker
            .instantiate_pre(&compiled.component)
            .map_err(|cause| misfit(bindings::cut(format!("{cause:#}"))))?;
        let indices = Indices::find(&compiled.component, version, lifecycle).map_err(misfit)?;
        let origin = Origin {
            file: file.clone(),
            digest,
            version,
            bytes,
            compile: compiled.took,
            cached: compiled.cached,
        };
        let setup = setup(config, context, pre, indices, origin, compiled)
            .map_err(|cause| LoadError::Grant { path: file.clone(), cause })?;
        let setup = Arc::new(setup);
        Plugin::start(setup.clone()).await.map_err(|failure| {
            let cause = setup.explain(&failure);
            match failure {
                Failure::Contract(_) => misfit(cause),
                Failure::Grant(_) => LoadError::Grant { path: file.clone(), cause },
                _ => LoadError::Start { path: file.clone(), cause },
            }
        })
    }

    /// Compiles what was checked, off the runtime's threads, unless it lives or is in the cache.
    async fn compile(&self, checked: Checked) -> Result<Arc<Compiled>, LoadError> {
        if let Some(compiled) = self.living(&checked.digest) {
            return Ok(compiled);
        }
        let _turn = self.0.compiling.lock().await;
        if let Some(compiled) = self.living(&checked.digest) {
            return Ok(compiled);
        }
        let host = self.clone();
        let (path, digest) = (checked.path.clone(), checked.digest.clone());
        let compiled = Arc::new(blocking(&path, move || host.0.compile(&checked)).await?);
        let mut living = self.0.compiled.lock();
        living.retain(|_, compiled| compiled.strong_count() > 0);
        living.insert(digest, Arc::downgrade(&compiled));
        Ok(compiled)
    }

    fn living(&self, digest: &str) -> Option<Arc<Compiled>> {
        self.0.compiled.lock().get(digest).and_then(Weak::upgrade)
    }
}

impl Inner {
    fn compile(&self, checked: &Checked) -> Result<Compiled, LoadError> {
        let began = Instant::now();
        if let Some(component) =
            self.cache.as_ref().and_then(|cache| cache.get(&self.engine, &checked.digest))
        {
            return Ok(Compiled { component, took: began.elapsed(), cached: true });
        }
        let component = Component::from_binary(&self.engine, &checked.bytes).map_err(|cause| {
            LoadError::Compile { path: checked.path.clone(), cause: bindings::cut(format!("{cause:#}")) }
        })?;
        let took = began.elapsed();
        if let Some(cache) = &self.cache
            && let Err(cause) = cache.put(&checked.digest, &component)
        {
            tracing::warn!(plugin = %checked.path.display(), %cause, "the compiled plugin cannot be kept, the next start compiles it again");
        }
        Ok(Compiled { component, took, cached: false })
    }
}

fn setup(
    config: WasmConfig,
    context: Context,
    pre: InstancePre<State>,
    indices: Indices,
    origin: Origin,
    compiled: Arc<Compiled>,
) -> Result<Setup, String> {
    let secrets = grants::secrets(&config.grant, &context.secrets)?;
    let lines = Arc::new(Lines::new(context.label.clone(), secrets.clone()));
    let memory = Arc::new(MemoryGauge::default());
    let granted = Granted::new(config.grant, &config.limits, context.base_dir, &lines, &secrets)?;
    let network = granted.counts().clone();
    Ok(Setup {
        label: context.label,
        secrets,
        pre,
        indices,
        granted,
        answers: Arc::new(Answers::new(&config.config)),
        stdout: Stdio::new(lines.clone(), Severity::Info),
        stderr: Stdio::new(lines.clone(), Severity::Warn),
        status: Arc::new(Status::new(origin, config.limits.memory.bytes(), memory, lines, network)),
        limits: config.limits,
        _compiled: compiled,
    })
}

/// Runs `work` on a thread that may block. The compiler's panic is the file's fault, not the host's end.
async fn blocking<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        Err(LoadError::Compile { path: file.to_owned(), cause: format!("it broke the compiler: {cause}") })
    })
}
