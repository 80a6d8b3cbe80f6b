//! Compiled plugins, shared by whoever runs the same file, and how they get better while they run.
//!
//! Invariant: a file is compiled once per tier, however many sections run it and however often its instances fail; what
//! could not be compiled is not tried again for a while. Where the optimised code is not at hand the baseline runs at
//! once, and the optimised code, compiled beside it one file at a time, takes over at a batch boundary.

use super::LoadError;
use super::bindings::{self, Indices};
use super::cache::{self, Cache};
use super::compile::{Compiler, Refusal};
use super::component::{self, Checked};
use super::engine::{Machine, Tier};
use super::state::State;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre};

/// How long what could not be compiled is not tried again.
const REMEMBERED: Duration = Duration::from_secs(600);
const MOST_REMEMBERED: usize = 1_000;
/// How many programs are kept, and for how long, of which no instance would start: they are tried again soon.
const MOST_KEPT: usize = 4;
const KEPT: Duration = Duration::from_secs(120);

/// Machine code of one tier, ready to be instantiated.
pub(super) struct Code {
    pub(super) tier: Tier,
    pub(super) pre: InstancePre<State>,
    pub(super) indices: Indices,
    /// How long it took to compile, or to load.
    took: Duration,
    cached: bool,
}

/// What is compiled of one file.
pub(super) struct Program {
    digest: String,
    code: Mutex<Arc<Code>>,
    story: Mutex<Story>,
    under_way: Arc<UnderWay>,
}

/// How the tiers came about.
#[derive(Default)]
struct Story {
    baseline: Option<Duration>,
    optimised: Option<Duration>,
    /// Why it stays with the baseline.
    refused: Option<String>,
}

/// What is being compiled, by digest.
#[derive(Default)]
struct UnderWay(Mutex<HashMap<String, (Tier, Instant)>>);

/// All of them.
pub(super) struct Programs {
    baseline: Option<Arc<Machine>>,
    optimised: Arc<Machine>,
    cache: Option<Cache>,
    compiler: Compiler,
    living: Mutex<HashMap<String, Weak<Program>>>,
    kept: Mutex<VecDeque<(Instant, Arc<Program>)>>,
    refused: Mutex<HashMap<(String, Tier), (Instant, Refusal)>>,
    under_way: Arc<UnderWay>,
    /// The same file is compiled by one at a time; others wait and share it.
    files: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Compilations that somebody waits for.
    turns: Semaphore,
    /// The one that nobody waits for.
    better: tokio::sync::Mutex<()>,
    /// The files that wait for it.
    queued: Mutex<HashSet<String>>,
    /// How often the compiler was started.
    compilations: AtomicU64,
}

impl Program {
    /// The best code there is.
    pub(super) fn code(&self) -> Arc<Code> {
        self.code.lock().clone()
    }

    fn take(&self, code: Code) {
        let mut story = self.story.lock();
        match code.tier {
            Tier::Baseline => story.baseline = Some(code.took),
            Tier::Optimised => story.optimised = Some(code.took),
        }
        *self.code.lock() = Arc::new(code);
    }

    /// What reports say of it where an instance of `tier` runs.
    pub(super) fn describe(&self, tier: Tier, into: &mut serde_json::Value) {
        let code = self.code();
        let story = self.story.lock();
        let took = match tier {
            Tier::Baseline => story.baseline,
            Tier::Optimised => story.optimised,
        };
        into["tier"] = json!(tier.as_str());
        into["compile_ms"] = json!(took.map(millis));
        into["cached"] = json!(code.cached);
        into["baseline_ms"] = json!(story.baseline.map(millis));
        into["optimised_ms"] = json!(story.optimised.map(millis));
        into["compiling"] = self.under_way.describe(&self.digest);
        into["optimised_failed"] = json!(story.refused);
    }
}

impl UnderWay {
    fn describe(&self, digest: &str) -> serde_json::Value {
        self.0.lock().get(digest).map_or(
            serde_json::Value::Null,
            |(tier, since)| json!({ "tier": tier.as_str(), "elapsed_ms": millis(since.elapsed()) }),
        )
    }

    /// Tells of it until the guard goes.
    fn tell(self: &Arc<Self>, digest: &str, tier: Tier) -> impl Drop + use<> {
        struct Told(Arc<UnderWay>, String);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.0.lock().remove(&self.1);
            }
        }
        self.0.lock().insert(digest.to_owned(), (tier, Instant::now()));
        Told(self.clone(), digest.to_owned())
    }
}

impl Programs {
    pub(super) fn new(
        baseline: Option<Machine>,
        optimised: Machine,
        cache: Option<Cache>,
        compiler: Compiler,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            baseline: baseline.map(Arc::new),
            optimised: Arc::new(optimised),
            cache,
            compiler,
            living: Mutex::default(),
            kept: Mutex::default(),
            refused: Mutex::default(),
            under_way: Arc::default(),
            files: Mutex::default(),
            turns: Semaphore::new(cores.clamp(2, 8)),
            better: tokio::sync::Mutex::default(),
            queued: Mutex::default(),
            compilations: AtomicU64::new(0),
        }
    }

    /// What is being compiled of the file with `digest`, if it is: its tier and since when.
    pub(super) fn compiling(&self, digest: &str) -> serde_json::Value {
        self.under_way.describe(digest)
    }

    /// The program of a file: the one that lives, or what the cache has, or the baseline, or else the optimised code.
    pub(super) async fn obtain(&self, checked: Checked) -> Result<Arc<Program>, LoadError> {
        let file = self.lock_of(&checked.digest);
        let _one_at_a_time = file.lock().await;
        if let Some(program) = self.living(&checked.digest) {
            return Ok(program);
        }
        let code = match self.cached(&checked).await? {
            Some(code) => code,
            None => self.compiled(&checked).await?,
        };
        let mut story = Story::default();
        match code.tier {
            Tier::Baseline => story.baseline = Some(code.took),
            Tier::Optimised => story.optimised = Some(code.took),
        }
        let program = Arc::new(Program {
            digest: checked.digest.clone(),
            code: Mutex::new(Arc::new(code)),
            story: Mutex::new(story),
            under_way: self.under_way.clone(),
        });
        let mut living = self.living.lock();
        living.retain(|_, program| program.strong_count() > 0);
        living.insert(checked.digest, Arc::downgrade(&program));
        Ok(program)
    }

    fn lock_of(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut files = self.files.lock();
        files.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = files.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        files.insert(digest.to_owned(), Arc::downgrade(&lock));
        lock
    }

    fn living(&self, digest: &str) -> Option<Arc<Program>> {
        self.living.lock().get(digest).and_then(Weak::upgrade)
    }

    /// Keeps a program of which no instance would start: it is tried again soon, and not compiled again for it.
    pub(super) fn keep(&self, program: Arc<Program>) {
        let mut kept = self.kept.lock();
        kept.retain(|(since, other)| since.elapsed() < KEPT && !Arc::ptr_eq(other, &program));
        kept.push_back((Instant::now(), program));
        while kept.len() > MOST_KEPT {
            kept.pop_front();
        }
    }

    /// What the cache has of it, the best first.
    async fn cached(&self, checked: &Checked) -> Result<Option<Code>, LoadError> {
        for machine in [Some(&self.optimised), self.baseline.as_ref()].into_iter().flatten() {
            let began = Instant::now();
            let found = self.of_cache(machine, &checked.digest).await;
            if let Some(component) = found {
                let code = link(machine, &component, checked.version, checked.lifecycle)
                    .map_err(|cause| misfit(&checked.path, checked.version, cause))?;
                return Ok(Some(Code { took: began.elapsed(), cached: true, ..code }));
            }
        }
        Ok(None)
    }

    async fn compiled(&self, checked: &Checked) -> Result<Code, LoadError> {
        let refuse = |refusal: &Refusal| LoadError::Compile {
            path: checked.path.clone(),
            cause: refusal.text().to_owned(),
        };
        if let Some(baseline) = &self.baseline {
            match self.compile(baseline, checked, true).await {
                Ok(code) => return Ok(code),
                Err(Left::Refused(Refusal::Unfit(cause))) => {
                    tracing::info!(plugin = %checked.path.display(), cause, "has no baseline, waits for the optimised code");
                }
                Err(Left::Refused(refusal)) => return Err(refuse(&refusal)),
                Err(Left::Misfit(cause)) => return Err(misfit(&checked.path, checked.version, cause)),
            }
        }
        self.compile(&self.optimised, checked, true).await.map_err(|left| match left {
            Left::Refused(refusal) => refuse(&refusal),
            Left::Misfit(cause) => misfit(&checked.path, checked.version, cause),
        })
    }

    /// Compiles what was checked. `eagerly` if somebody waits for it.
    async fn compile(&self, machine: &Arc<Machine>, checked: &Checked, eagerly: bool) -> Result<Code, Left> {
        let (tier, digest) = (machine.tier, &checked.digest);
        if let Some(refusal) = self.remembered(digest, tier) {
            return Err(Left::Refused(refusal));
        }
        let _turn = match eagerly {
            true => self.turns.acquire().await.ok(),
            false => None,
        };
        let _told = self.under_way.tell(digest, tier);
        tracing::info!(plugin = %checked.path.display(), "compiling {} bytes ({})", checked.bytes.len(), tier.as_str());
        self.compilations.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let code = match self.compiler.compile(machine, checked.bytes.clone(), eagerly).await {
            Ok(code) => code,
            Err(refusal) => {
                self.remember(digest, tier, &refusal);
                return Err(Left::Refused(refusal));
            }
        };
        let component = self.loaded(machine, checked, code).await.map_err(Left::Refused)?;
        let took = began.elapsed();
        tracing::info!(plugin = %checked.path.display(), "compiling ({}) took {:.0} ms", tier.as_str(), millis(took));
        let code = link(machine, &component, checked.version, checked.lifecycle).map_err(Left::Misfit)?;
        Ok(Code { took, ..code })
    }

    fn remembered(&self, digest: &str, tier: Tier) -> Option<Refusal> {
        let refused = self.refused.lock();
        let (since, refusal) = refused.get(&(digest.to_owned(), tier))?;
        (since.elapsed() < REMEMBERED).then(|| refusal.clone())
    }

    fn remember(&self, digest: &str, tier: Tier, refusal: &Refusal) {
        if matches!(refusal, Refusal::Absent(_)) {
            return;
        }
        let mut refused = self.refused.lock();
        refused.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        if refused.len() < MOST_REMEMBERED {
            refused.insert((digest.to_owned(), tier), (Instant::now(), refusal.clone()));
        }
    }

    /// Has what lives of this program, and what may live of it later, optimised, in its turn. Returns at once.
    pub(super) fn optimise(self: &Arc<Self>, program: &Program, file: &Path, max_bytes: u64) {
        if program.code().tier == Tier::Optimised {
            return;
        }
        if let Some(refusal) = self.remembered(&program.digest, Tier::Optimised) {
            program.story.lock().refused = Some(refusal.text().to_owned());
            return;
        }
        let Some(queued) = Queued::begin(self.clone(), &program.digest) else { return };
        let file = file.to_owned();
        tokio::spawn(async move { queued.optimise(file, max_bytes).await });
    }
}

#[cfg(test)]
impl Programs {
    /// Nothing gets better while this is held.
    pub(super) async fn hold_optimising(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.better.lock().await
    }

    pub(super) fn compiled_so_far(&self) -> u64 {
        self.compilations.load(Ordering::Relaxed)
    }
}

/// Why a program has no code of some tier.
enum Left {
    Refused(Refusal),
    Misfit(String),
}

/// A file that waits to be optimised; once it goes, it may be queued anew.
struct Queued {
    programs: Arc<Programs>,
    digest: String,
}

impl Queued {
    fn begin(programs: Arc<Programs>, digest: &str) -> Option<Self> {
        let is_new = programs.queued.lock().insert(digest.to_owned());
        is_new.then(|| Self { programs, digest: digest.to_owned() })
    }

    async fn optimise(self, file: PathBuf, max_bytes: u64) {
        let programs = &self.programs;
        let _turn = programs.better.lock().await;
        // It may have gone, or changed, while others had their turn.
        if programs.living(&self.digest).is_none() {
            return;
        }
        let (path, digest) = (file.clone(), self.digest.clone());
        let read = tokio::task::spawn_blocking(move || component::read(&path, Some(&digest), max_bytes));
        let Ok(Ok(checked)) = read.await else { return };
        let outcome = programs.compile(&programs.optimised, &checked, false).await;
        let living = programs.living(&self.digest);
        match outcome {
            Ok(code) => {
                if let Some(baseline) = &programs.baseline
                    && let Some(cache) = &programs.cache
                    && cache.has(&programs.optimised, &self.digest)
                {
                    cache.remove(baseline, &self.digest);
                }
                if let Some(program) = living {
                    program.take(code);
                }
            }
            Err(Left::Refused(refusal)) => {
                let cause = refusal.text();
                tracing::warn!(plugin = %file.display(), cause, "stays with its baseline, it cannot be optimised");
                if let Some(program) = living {
                    program.story.lock().refused = Some(cause.to_owned());
                }
            }
            Err(Left::Misfit(cause)) => {
                tracing::warn!(plugin = %file.display(), cause, "stays with its baseline, its optimised code does not link");
            }
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.programs.queued.lock().remove(&self.digest);
    }
}

impl Programs {
    async fn of_cache(&self, machine: &Arc<Machine>, digest: &str) -> Option<Component> {
        let cache = self.cache.clone()?;
        let (machine, digest) = (machine.clone(), digest.to_owned());
        tokio::task::spawn_blocking(move || cache.get(&machine, &digest)).await.ok().flatten()
    }

    /// Keeps code in the cache and makes it runnable.
    async fn loaded(
        &self,
        machine: &Arc<Machine>,
        checked: &Checked,
        code: Vec<u8>,
    ) -> Result<Component, Refusal> {
        let (machine, cache) = (machine.clone(), self.cache.clone());
        let (path, digest) = (checked.path.clone(), checked.digest.clone());
        let load = move || -> wasmtime::Result<Component> {
            let component = cache::load(&machine.engine, &code)?;
            if let Some(cache) = cache
                && let Err(cause) = cache.put(&machine, &digest, &code)
            {
                tracing::warn!(plugin = %path.display(), %cause, "the compiled plugin cannot be kept, the next start compiles it again");
            }
            Ok(component)
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(cause)) => Err(Refusal::Absent(format!(
                "what was compiled is not for this host: {cause:#}; restart it if its binary was replaced"
            ))),
            Err(cause) => Err(Refusal::Absent(format!("its code cannot be loaded: {cause}"))),
        }
    }
}

/// Joins a component to what the host gives, without running anything of it.
fn link(machine: &Machine, component: &Component, version: &str, lifecycle: bool) -> Result<Code, String> {
    let pre = machine.linker.instantiate_pre(component);
    let pre = pre.map_err(|cause| bindings::cut(format!("{cause:#}")))?;
    let indices = Indices::find(component, version, lifecycle)?;
    Ok(Code { tier: machine.tier, pre, indices, took: Duration::ZERO, cached: false })
}

fn misfit(path: &Path, version: &str, cause: String) -> LoadError {
    LoadError::Link { path: path.to_owned(), version: version.to_owned(), cause }
}

/// Milliseconds, to the hundredth.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
