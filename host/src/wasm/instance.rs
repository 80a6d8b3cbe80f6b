//! One instance of a plugin: a component with a `Store` of its own.
//!
//! Invariant: every call is armed with its bounds before it enters the guest. An instance that failed, or whose call
//! was given up, is never entered again: whoever holds it drops it.

use super::batches::HostBatch;
use super::bindings::{self, Answer, Exports, GuestError, MAX_LIFTED, Published};
use super::compute::{ComputeExceeded, at_tick, metered};
use super::grants::Granted;
use super::limits::{Budget, Memory};
use super::output::{Severity, Stdio};
use super::programs::{Code, Program};
use super::settings::{Acknowledge, Answers, Limits};
use super::state::{MAX_HANDLES, State};
use super::status::Status;
use crate::config::Secrets;
use crate::config::units::ByteSize;
use crate::publisher::causes;
use crate::record::Rows;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;

/// An instance that holds more than this part of its memory is retired: a guest's memory never shrinks.
const HIGH_WATER: (u64, u64) = (7, 8);

/// How many indices of handles an instance may use, those of its own resources and those that a call lends included: each
/// takes some 24 bytes of the host.
const MAX_INDICES: usize = 10_000;

/// Everything that instances of a plugin under one label are made from.
pub(super) struct Setup {
    pub(super) label: Arc<str>,
    pub(super) secrets: Secrets,
    pub(super) program: Arc<Program>,
    pub(super) granted: Granted,
    pub(super) limits: Limits,
    pub(super) acknowledge: Acknowledge,
    pub(super) answers: Arc<Answers>,
    pub(super) status: Arc<Status>,
}

/// Why an instance is no more, or never was.
pub(super) enum Failure {
    /// It trapped, exited, or passed a bound; and what it wrote to its standard error before.
    Trap(wasmtime::Error, String),
    /// It exports functions of other types than the contract says.
    Contract(String),
    /// What it was granted is not there.
    Grant(String),
    /// Its `start` said no.
    Refused(String),
    /// The call took too long; and what it wrote to its standard error before.
    TimedOut(String),
}

impl Setup {
    /// The failure in words, without the plugin's name.
    pub(super) fn explain(&self, failure: &Failure) -> String {
        let text = match failure {
            Failure::Trap(error, last_words) => with_last_words(self.trap(error), last_words),
            Failure::Contract(cause) | Failure::Grant(cause) => cause.clone(),
            Failure::Refused(cause) => format!("refused to start: {cause}"),
            Failure::TimedOut(last_words) => {
                let limit = humantime::format_duration(self.limits.call_timeout);
                with_last_words(format!("ran past its call timeout of {limit}"), last_words)
            }
        };
        // Its last words are the guest's own, which may know a secret by its settings.
        self.secrets.redact(&text).into_owned()
    }

    fn trap(&self, error: &wasmtime::Error) -> String {
        let limits = &self.limits;
        let mut text = if error.is::<ComputeExceeded>() {
            format!("ran past its compute bound of {}", humantime::format_duration(limits.cpu_per_call))
        } else if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
            format!("holds more than {MAX_HANDLES} handles (files, streams) at once")
        } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
            format!("exited with status {}", exit.0)
        } else {
            match error.downcast_ref::<Trap>() {
                Some(Trap::StackOverflow) => "overflowed its stack".to_owned(),
                Some(trap) => {
                    let trap = trap.to_string();
                    format!("trapped: {}", trap.strip_prefix("wasm trap: ").unwrap_or(&trap))
                }
                None => match error.root_cause().to_string() {
                    // The type of this one is private to wasmtime; a test holds its words.
                    cause if cause.contains("fuel allocated for hostcalls") => {
                        format!(
                            "handed over too much in one call, more than {}",
                            ByteSize(most_lifted(limits) as u64)
                        )
                    }
                    cause => format!("failed: {}", bindings::told(cause, &self.secrets)),
                },
            }
        };
        let wanted = self.status.memory.refused.load(Ordering::Relaxed);
        if wanted > 0 {
            let limit = limits.memory;
            text.push_str(&format!(", having wanted {wanted} bytes of memory where its limit is {limit}"));
        }
        text
    }
}

/// How much the arguments or results of one call may take: what does not fit into its memory it can only say by naming the
/// same bytes again and again.
fn most_lifted(limits: &Limits) -> usize {
    MAX_LIFTED.min(limits.memory.as_usize())
}

/// A panic's or an exception's text is on standard error and nowhere else.
fn with_last_words(text: String, last_words: &str) -> String {
    if last_words.is_empty() { text } else { format!("{text}; its last words: {last_words}") }
}

/// A live instance.
pub(super) struct Instance {
    store: Store<State>,
    exports: Exports,
    code: Arc<Code>,
    setup: Arc<Setup>,
    stderr: Stdio,
    /// How often it has been called.
    calls: u64,
    pub(super) since: Instant,
}

impl Instance {
    /// Makes one and lets it start.
    pub(super) async fn start(setup: &Arc<Setup>) -> Result<Self, Failure> {
        let began = std::time::Instant::now();
        let lines = &setup.status.lines;
        let stdout = Stdio::new(lines.clone(), Severity::Info);
        let stderr = Stdio::new(lines.clone(), Severity::Warn);
        let wasi = setup.granted.surroundings(&stdout, &stderr).map_err(Failure::Grant)?;
        let status = &setup.status;
        let budget = Budget::new(setup.limits.memory.bytes(), status.memory.clone());
        let http = setup.granted.gate(&budget);
        let surroundings = (wasi, setup.granted.dirs());
        let state =
            State::new(surroundings, http, Memory::new(budget), status.lines.clone(), setup.answers.clone());
        let code = setup.program.code();
        let mut store = Store::new(code.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(most_lifted(&setup.limits));
        store.set_max_component_handles(MAX_INDICES);
        store.epoch_deadline_callback(at_tick);
        arm(&mut store, setup, &stderr);
        let trap = |cause: wasmtime::Error| Failure::Trap(cause, stderr.tail());
        let meter = store.data().compute.meter();
        let instance = metered(meter.clone(), code.pre.instantiate_async(&mut store)).await.map_err(trap)?;
        let exports = Exports::new(&mut store, instance, &code.indices).map_err(Failure::Contract)?;
        if let Some(lifecycle) = exports.lifecycle {
            let (started,) =
                metered(meter, lifecycle.start.call_async(&mut store, ())).await.map_err(trap)?;
            let told = |cause| bindings::told(causes::told(cause, "start", "error"), &setup.secrets);
            started.map_err(|cause| Failure::Refused(told(cause)))?;
        }
        status.instances.fetch_add(1, Ordering::Relaxed);
        status.live.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        status.start_micros.store(micros, Ordering::Relaxed);
        *status.tier.lock() = code.tier;
        Ok(Self { store, exports, code, setup: setup.clone(), stderr, calls: 0, since: Instant::now() })
    }

    /// Lets it publish `rows`.
    pub(super) async fn publish<R: Published>(&mut self, rows: &Rows<R>) -> Result<Answer, Failure> {
        self.setup.status.calls.fetch_add(1, Ordering::Relaxed);
        self.begin();
        let batch = self.store.data_mut().table.push(HostBatch::new(rows.clone()));
        let batch = batch.map_err(|cause| self.trapped(cause.into()))?;
        let borrowed = Resource::new_borrow(batch.rep());
        let meter = self.store.data().compute.meter();
        let answer = metered(meter, R::publish(&self.exports).call_async(&mut self.store, (borrowed,))).await;
        self.note_use();
        // On every path, so that nothing is left in the table of an instance that goes on; one that was given up
        // takes its table with it.
        let deleted = self.store.data_mut().table.delete(batch);
        deleted.map_err(|cause| self.trapped(cause.into()))?;
        answer.map(|(answer,)| answer).map_err(|cause| self.trapped(cause))
    }

    /// Lets it hand on what it holds back.
    pub(super) async fn flush(&mut self) -> Result<Result<(), GuestError>, Failure> {
        let Some(lifecycle) = self.exports.lifecycle else { return Ok(Ok(())) };
        self.begin();
        let meter = self.store.data().compute.meter();
        let flushed = metered(meter, lifecycle.flush.call_async(&mut self.store, ())).await;
        self.note_use();
        flushed.map(|(flushed,)| flushed).map_err(|cause| self.trapped(cause))
    }

    /// Whether the next call would be its first.
    pub(super) fn is_fresh(&self) -> bool {
        self.calls == 0
    }

    /// Whether it is to make way for another one at the next boundary of a batch, once it has handed on what it holds: it has
    /// grown so large that a call might not fit, or there is better code by now than it runs.
    pub(super) fn is_due(&self) -> bool {
        let held = self.store.data().memory.held();
        let is_full = held > self.setup.limits.memory.bytes() / HIGH_WATER.1 * HIGH_WATER.0;
        is_full || !Arc::ptr_eq(&self.code, &self.setup.program.code())
    }

    /// How a call ended that was given up after its timeout, and whether that is the instance's own doing: it has been
    /// computing for half of the time or more, and nobody kept it waiting.
    pub(super) fn timed_out(&self) -> (Failure, bool) {
        let own_doing = self.store.data().compute.used() * 2 >= self.setup.limits.call_timeout;
        (Failure::TimedOut(self.stderr.tail()), own_doing)
    }

    fn begin(&mut self) {
        self.calls += 1;
        arm(&mut self.store, &self.setup, &self.stderr);
    }

    fn trapped(&self, cause: wasmtime::Error) -> Failure {
        Failure::Trap(cause, self.stderr.tail())
    }

    fn note_use(&self) {
        self.setup.status.used(self.store.data().compute.used());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.setup.status.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives a call its compute and forgets what the one before left behind.
fn arm(store: &mut Store<State>, setup: &Setup, stderr: &Stdio) {
    stderr.clear();
    setup.status.memory.refused.store(0, Ordering::Relaxed);
    store.data_mut().compute.begin(setup.limits.cpu_per_call);
    store.set_epoch_deadline(1);
}
