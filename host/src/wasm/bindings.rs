//! The rest of the contract: what a plugin exports, and `log` and `config`, which it imports.
//!
//! Invariant: what a guest says is data. It crosses within the bound of a call's host memory ([`MAX_LIFTED`]), its
//! texts are cut and its lists are counted before anybody sees them.

use super::batches::{self, HostBatch, View};
use super::component::Checked;
use super::grants;
use super::output::{Severity, clean};
use super::state::State;
use crate::config::Secrets;
use crate::publisher::{Fate, PublishError, Unpublished, causes};
use crate::record::{EventMetrics, NetworkMetrics};
use std::borrow::Cow;
use std::time::Duration;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, Instance, Lift, Linker, Resource, TypedFunc, WasmStr,
};
use wasmtime::{Engine, Store, StoreContextMut};

/// How much of the host's memory the arguments or results of one call may take.
pub(super) const MAX_LIFTED: usize = 16 << 20;
/// How long a reason may be; beyond it is cut.
const MAX_REASON: usize = 64 << 10;

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct RetryAdvice {
    reason: String,
    #[component(name = "after-ms")]
    after_ms: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum GuestError {
    #[component(name = "retry")]
    Retry(RetryAdvice),
    #[component(name = "reject")]
    Reject(String),
    #[component(name = "hold")]
    Hold(String),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum GuestFate {
    #[component(name = "retry")]
    Retry(RetryAdvice),
    #[component(name = "reject")]
    Reject(String),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct GuestUnpublished {
    row: u32,
    fate: GuestFate,
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // Its cases come from guests, by number.
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// What a plugin answers to a batch.
pub(super) type Answer = Result<Vec<GuestUnpublished>, GuestError>;

type Publish<R> = TypedFunc<(Resource<HostBatch<R>>,), (Answer,)>;

/// Everything that plugins may import.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    grants::add_to_linker(&mut linker)?;
    linker.instance("pressroom:publisher/records@0.1.0")?;
    batches::add_to_linker(&mut linker, "pressroom:publisher/batches@0.1.0")?;
    let mut log = linker.instance("pressroom:publisher/log@0.1.0")?;
    log.func_wrap("log", |store: StoreContextMut<'_, State>, (level, message): (Level, WasmStr)| {
        let severity = match level {
            Level::Trace => Severity::Trace,
            Level::Debug => Severity::Debug,
            Level::Info => Severity::Info,
            Level::Warn => Severity::Warn,
            Level::Error => Severity::Error,
        };
        // Read where it lies: a line of any length costs the host no more than what is kept of it.
        store.data().lines.say(severity, &message.to_str(&store)?);
        Ok(())
    })?;
    let mut config = linker.instance("pressroom:publisher/config@0.1.0")?;
    config.func_wrap("get", |store: StoreContextMut<'_, State>, (key,): (String,)| {
        Ok((store.data().answers.one.get(&key).cloned(),))
    })?;
    config.func_wrap("get-all", |store: StoreContextMut<'_, State>, (): ()| {
        Ok((store.data().answers.all.clone(),))
    })?;
    Ok(linker)
}

/// Where in a component the functions of the contract are.
#[derive(Clone, Copy)]
pub(super) struct Indices {
    events: ComponentExportIndex,
    operations: ComponentExportIndex,
    lifecycle: Option<(ComponentExportIndex, ComponentExportIndex)>,
}

impl Indices {
    /// Finds them by name; types are checked by [`Exports::new`].
    pub(super) fn find(component: &Component, version: &str, lifecycle: bool) -> Result<Self, String> {
        let find = |interface: &str, function: &str| {
            let instance = component.get_export_index(None, interface);
            instance
                .and_then(|instance| component.get_export_index(Some(&instance), function))
                .ok_or_else(|| format!("{interface} does not export {function}"))
        };
        let publisher = Checked::publisher_name(version);
        let stateful = Checked::lifecycle_name(version);
        Ok(Self {
            events: find(&publisher, "publish-event-metrics")?,
            operations: find(&publisher, "publish-network-metrics")?,
            lifecycle: match lifecycle {
                true => Some((find(&stateful, "start")?, find(&stateful, "flush")?)),
                false => None,
            },
        })
    }
}

/// The functions of one instance.
pub(super) struct Exports {
    events: Publish<EventMetrics>,
    operations: Publish<NetworkMetrics>,
    pub(super) lifecycle: Option<Lifecycle>,
}

/// The functions of a plugin that keeps something between calls.
#[derive(Clone, Copy)]
pub(super) struct Lifecycle {
    pub(super) start: TypedFunc<(), (Result<(), String>,)>,
    pub(super) flush: TypedFunc<(), (Result<(), GuestError>,)>,
}

impl Exports {
    /// # Errors
    ///
    /// A function has another type than the contract says.
    pub(super) fn new(
        store: &mut Store<State>,
        instance: Instance,
        indices: &Indices,
    ) -> Result<Self, String> {
        let wrong = |function: &'static str| {
            move |cause: wasmtime::Error| format!("{function} has another type: {cause:#}")
        };
        Ok(Self {
            events: instance
                .get_typed_func(&mut *store, indices.events)
                .map_err(wrong("publish-event-metrics"))?,
            operations: instance
                .get_typed_func(&mut *store, indices.operations)
                .map_err(wrong("publish-network-metrics"))?,
            lifecycle: match indices.lifecycle {
                Some((start, flush)) => Some(Lifecycle {
                    start: instance.get_typed_func(&mut *store, start).map_err(wrong("start"))?,
                    flush: instance.get_typed_func(&mut *store, flush).map_err(wrong("flush"))?,
                }),
                None => None,
            },
        })
    }
}

/// Which function publishes a kind of record.
pub(super) trait Published: View {
    /// Its name in the contract.
    const FUNCTION: &'static str;
    fn publish(exports: &Exports) -> Publish<Self>;
}

impl Published for EventMetrics {
    const FUNCTION: &'static str = "publish-event-metrics";

    fn publish(exports: &Exports) -> Publish<Self> {
        exports.events
    }
}

impl Published for NetworkMetrics {
    const FUNCTION: &'static str = "publish-network-metrics";

    fn publish(exports: &Exports) -> Publish<Self> {
        exports.operations
    }
}

/// What a plugin answered to a batch of `rows`, within bounds. Row numbers are passed on as they are: delivery passes
/// over those that mean nothing. A list longer than any honest one is cut, and so is a long text. Where it gives no reason,
/// `function` is named as what gave none.
pub(super) fn answer(
    answer: Answer,
    rows: usize,
    function: &str,
    secrets: &Secrets,
) -> Result<Vec<Unpublished>, PublishError> {
    let mut left_out = answer.map_err(|cause| error(cause, function, secrets))?;
    left_out.truncate(rows.saturating_mul(2).saturating_add(16));
    let entry =
        |entry: GuestUnpublished| Unpublished { row: entry.row, fate: fate(entry.fate, function, secrets) };
    Ok(left_out.into_iter().map(entry).collect())
}

/// An error of a guest, without secrets: a server may have sent those back that were injected.
pub(super) fn error(error: GuestError, function: &str, secrets: &Secrets) -> PublishError {
    let told = |reason, answer| told(causes::told(reason, function, answer), secrets);
    match error {
        GuestError::Retry(advice) => PublishError::Retry {
            reason: told(advice.reason, "retry"),
            after: advice.after_ms.map(Duration::from_millis),
        },
        GuestError::Reject(reason) => PublishError::Reject { reason: told(reason, "reject") },
        GuestError::Hold(reason) => PublishError::Hold { reason: told(reason, "hold") },
    }
}

fn fate(fate: GuestFate, function: &str, secrets: &Secrets) -> Fate {
    let told = |reason, answer| told(causes::told(reason, function, answer), secrets);
    match fate {
        GuestFate::Retry(advice) => Fate::Retry {
            reason: told(advice.reason, "retry"),
            after: advice.after_ms.map(Duration::from_millis),
        },
        GuestFate::Reject(reason) => Fate::Reject { reason: told(reason, "reject") },
    }
}

/// Redacted before it is cut: a secret that is cut is not found any more.
pub(super) fn told(reason: String, secrets: &Secrets) -> String {
    match secrets.redact(&reason) {
        Cow::Borrowed(_) => cut(reason),
        Cow::Owned(redacted) => cut(redacted),
    }
}

/// A guest's text, fit to be told: what is too long is cut, and what could forge a line of a log is escaped.
pub(super) fn cut(text: String) -> String {
    let honest =
        text.len() <= MAX_REASON && !text.chars().any(|letter| letter.is_control() && letter != '\t');
    if honest { text } else { clean(&text, MAX_REASON) }
}

#[cfg(test)]
mod tests {
    use super::{GuestError, GuestFate, GuestUnpublished, MAX_REASON, RetryAdvice, answer, error};
    use crate::config::Secrets;
    use crate::publisher::{Fate, PublishError};
    use std::time::Duration;

    #[test]
    fn answers_are_cut_and_passed_on() {
        let none = Secrets::default();
        let row = |row| GuestUnpublished { row, fate: GuestFate::Reject("é".repeat(40 << 10)) };
        let listed = answer(Ok((0..1_000).map(row).collect()), 10, "publish", &none).unwrap();
        assert_eq!(listed.len(), 36);
        let Fate::Reject { reason } = &listed[35].fate else { panic!() };
        assert!(reason.ends_with("… (cut, was 81920 bytes)") && reason.len() < 66 << 10);
        assert_eq!(
            error(GuestError::Hold("no\nERROR\u{1b}[2J".to_owned()), "publish", &none),
            PublishError::hold("no\\nERROR\\u{1b}[2J")
        );
        assert_eq!(
            error(GuestError::Hold("\u{0}".to_owned()), "flush", &none),
            PublishError::hold("no reason given: `flush` answered `hold` with an empty text")
        );
        let advice = RetryAdvice { reason: "busy".to_owned(), after_ms: Some(7) };
        assert_eq!(
            answer(Err(GuestError::Retry(advice)), 1, "publish", &none),
            Err(PublishError::Retry { reason: "busy".to_owned(), after: Some(Duration::from_millis(7)) })
        );
    }

    #[test]
    fn a_guest_that_tells_a_secret_that_was_injected_tells_nobody() {
        let secrets = Secrets::default().with(["hunter2-hunter2".to_owned()]);
        // `user:hunter2-hunter2` in base64, and the secret where its text is cut.
        for text in ["dXNlcjpodW50ZXIyLWh1bnRlcjI=", "hunter2%2Dhunter2", "hunter2-hunter2"] {
            for before in [0, MAX_REASON - 6] {
                let reason = || format!("{}{text}", "x ".repeat(before / 2));
                let row = GuestUnpublished { row: 0, fate: GuestFate::Reject(reason()) };
                let told = format!(
                    "{:?} {:?}",
                    answer(Ok(vec![row]), 1, "publish", &secrets),
                    error(GuestError::Hold(reason()), "publish", &secrets)
                );
                assert!(!told.contains("hun") && !told.contains("dXNl"), "{text} {before}");
            }
        }
    }
}
