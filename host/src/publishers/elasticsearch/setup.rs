//! What must be on the server before records are: the index templates; and a look at indices that are there already.
//!
//! Invariants: a template of a newer version, or of somebody else, is left as it is, and that is told. What a server
//! knows (kinds of fields, lifecycles) is found out by trying, not by asking who it is.

use super::target::Target;
use super::template::{self, AttributesType, MANAGED_BY, VERSION};
use super::trouble::Trouble;
use super::wire::{Answer, Content, Question, Wire};
use crate::record::Kind;
use elasticsearch::ilm::IlmGetLifecycleParts;
use elasticsearch::indices::{
    IndicesGetIndexTemplateParts, IndicesGetMappingParts, IndicesPutIndexTemplateParts,
};
use parking_lot::Mutex;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So much is read of an answer about templates and mappings.
const LIMIT: usize = 4 << 20;
/// Indices whose fields have been looked at are remembered: so many.
const MAX_SEEN: usize = 1_000;
/// Fields of one index that are told.
const MAX_TOLD: usize = 20;

const KINDS: [Kind; 2] = [Kind::Event, Kind::Network];

/// The state of the server's side of a publisher.
pub(super) struct Setup {
    label: Arc<str>,
    target: Target,
    install: bool,
    lifecycle: Option<String>,
    done: AtomicBool,
    /// What an operator should know, by what it is about.
    notes: Mutex<BTreeMap<String, String>>,
    indices: Mutex<Indices>,
}

#[derive(Default)]
struct Indices {
    /// Written to, and not looked at yet.
    new: BTreeMap<String, Kind>,
    seen: BTreeSet<String>,
}

impl Setup {
    pub(super) fn new(label: Arc<str>, target: Target, install: bool, lifecycle: Option<String>) -> Self {
        Self {
            label,
            target,
            install,
            lifecycle,
            done: AtomicBool::new(false),
            notes: Mutex::default(),
            indices: Mutex::default(),
        }
    }

    /// Whether this is for the same as `other`: then what that has done need not be done again.
    pub(super) fn same(&self, other: &Self) -> bool {
        (&self.target, self.install, &self.lifecycle) == (&other.target, other.install, &other.lifecycle)
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed) || !self.install
    }

    /// How the templates stand, in a word.
    pub(super) fn state(&self) -> &'static str {
        match (self.install, self.is_done()) {
            (false, _) => "not ours to install",
            (true, true) => "ready",
            (true, false) => "missing",
        }
    }

    /// What an operator should know.
    pub(super) fn notes(&self) -> BTreeMap<String, String> {
        self.notes.lock().clone()
    }

    fn note(&self, about: &str, text: String) {
        let before = self.notes.lock().insert(about.to_owned(), text.clone());
        if before.as_ref() != Some(&text) {
            tracing::warn!(publisher = %self.label, "{text}");
        }
    }

    /// Sees to it that the templates are there.
    ///
    /// # Errors
    ///
    /// They are not, and records that are published now would get guessed types.
    pub(super) async fn ready(&self, wire: &Wire) -> Result<(), Trouble> {
        if self.is_done() {
            return Ok(());
        }
        for kind in KINDS {
            self.install(wire, kind).await?;
        }
        self.done.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn install(&self, wire: &Wire, kind: Kind) -> Result<(), Trouble> {
        let name = self.target.template(kind);
        if let Some(there) = self.installed(wire, &name).await?
            && !self.may_replace(&name, &there)
        {
            return Ok(());
        }
        let mut lifecycle = self.lifecycle.as_deref();
        let mut types = AttributesType::ALL.into_iter();
        let mut attributes = AttributesType::Flattened;
        types.next();
        loop {
            let template = template::template(&self.target, kind, attributes, lifecycle);
            let path = IndicesPutIndexTemplateParts::Name(&name).url();
            let answer = self.ask(wire, Method::PUT, &path, Some(&template)).await?;
            if answer.status.is_success() {
                tracing::info!(publisher = %self.label, "installed the index template {name}, version {VERSION}");
                if let Some(policy) = lifecycle {
                    self.look_for_policy(wire, policy).await?;
                }
                return Ok(());
            }
            let said = wire.refusal(&answer);
            if answer.status != StatusCode::BAD_REQUEST {
                return Err(refused(
                    wire,
                    &answer,
                    &format!("the index template {name} could not be installed"),
                ));
            }
            if lifecycle.is_some() && said.contains("index.lifecycle.name") {
                self.note(
                    "lifecycle",
                    "`lifecycle` does nothing: the server has no index lifecycle management".into(),
                );
                lifecycle = None;
            } else if said.contains(attributes.as_str())
                && let Some(next) = types.next()
            {
                attributes = next;
            } else {
                return Err(Trouble::hold(format!(
                    "the server refuses the index template {name}: {said}; mend that, or install one of your own and \
                     set install_template = false"
                )));
            }
        }
    }

    /// The template of this name, if there is one.
    async fn installed(&self, wire: &Wire, name: &str) -> Result<Option<Value>, Trouble> {
        let path = IndicesGetIndexTemplateParts::Name(name).url();
        let answer = self.ask(wire, Method::GET, &path, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let read: Value = serde_json::from_slice(&answer.body)
                    .map_err(|error| Trouble::retry(format!("the answer cannot be read: {error}")))?;
                Ok(read.pointer("/index_templates/0/index_template").cloned())
            }
            _ => Err(refused(wire, &answer, &format!("the index template {name} could not be looked at"))),
        }
    }

    /// Whether a template that is there is to be replaced by ours.
    fn may_replace(&self, name: &str, there: &Value) -> bool {
        let meta = there.get("_meta").unwrap_or(&Value::Null);
        let version = there.get("version").and_then(Value::as_u64);
        if meta.get("managed_by").and_then(Value::as_str) != Some(MANAGED_BY) {
            self.note(
                name,
                format!("the index template {name} is somebody else's, and stays: see that it has our fields' types"),
            );
            return false;
        }
        match version {
            Some(version) if version > VERSION => {
                self.note(
                    name,
                    format!(
                        "the index template {name} is of version {version}, installed by a newer Pressroom, and stays; \
                         ours is {VERSION}"
                    ),
                );
                false
            }
            Some(VERSION) => *meta != template::meta(self.lifecycle.as_deref()),
            _ => true,
        }
    }

    async fn look_for_policy(&self, wire: &Wire, policy: &str) -> Result<(), Trouble> {
        let path = IlmGetLifecycleParts::Policy(policy).url();
        let answer = self.ask(wire, Method::GET, &path, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            self.note(
                "lifecycle",
                format!("the server has no lifecycle policy \"{policy}\" yet: indices wait for it"),
            );
        }
        Ok(())
    }

    /// Notes that something was written to an index.
    pub(super) fn written(&self, kind: Kind, index: String) {
        let mut indices = self.indices.lock();
        if !indices.seen.contains(&index) && indices.new.len() < MAX_SEEN {
            indices.new.insert(index, kind);
        }
    }

    /// Looks at the fields of today's indices, which may have been there before the templates.
    pub(super) async fn look_at_today(&self, wire: &Wire) -> Result<(), Trouble> {
        let part = self.target.today();
        for kind in KINDS {
            self.written(kind, self.target.index(kind, part));
        }
        self.look(wire).await
    }

    /// Looks at the fields of indices that have been written to, each once.
    pub(super) async fn look(&self, wire: &Wire) -> Result<(), Trouble> {
        loop {
            let next = self.indices.lock().new.first_key_value().map(|(index, kind)| (index.clone(), *kind));
            let Some((index, kind)) = next else { return Ok(()) };
            let there = self.look_at(wire, kind, &index).await?;
            let mut indices = self.indices.lock();
            indices.new.remove(&index);
            if indices.seen.len() >= MAX_SEEN {
                indices.seen.clear();
            }
            // One that is not there yet may become what it should not be.
            if there {
                indices.seen.insert(index);
            }
        }
    }

    /// Says what is wrong with the fields of an index. False if there is no such index.
    async fn look_at(&self, wire: &Wire, kind: Kind, name: &str) -> Result<bool, Trouble> {
        let path = IndicesGetMappingParts::Index(&[name]).url();
        let path = format!("{path}?filter_path=*.mappings.properties.*.type");
        let answer = self.ask(wire, Method::GET, &path, None).await?;
        if !answer.status.is_success() {
            // Not there, or not ours to see: then its refusals will say what is wrong.
            return Ok(answer.status != StatusCode::NOT_FOUND);
        }
        let read: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let indices = read.as_object().into_iter().flatten();
        for (index, mapping) in indices {
            let wrong = wrong_fields(kind, mapping);
            if !wrong.is_empty() {
                self.note(
                    index,
                    format!(
                        "the index {index} was made without our template, and has other types: {}; reindex it, or \
                         wait for the next one",
                        wrong.join(", ")
                    ),
                );
            }
        }
        Ok(true)
    }

    async fn ask(
        &self,
        wire: &Wire,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Trouble> {
        let body = body.map(|body| Content { bytes: body.to_string().into(), gzip: false });
        wire.ask(&Question { method, path, body, bulk: false, limit: LIMIT }).await
    }
}

/// The fields that are not of the type that they should be.
fn wrong_fields(kind: Kind, mapping: &Value) -> Vec<String> {
    let found = template::fields(kind).filter_map(|(name, field)| {
        let found = mapping.get("mappings")?.get("properties")?.get(name)?.get("type")?.as_str()?;
        let right = field.types();
        (!right.contains(&found))
            .then(|| format!("{name} is {found}, not {}", right.first().copied().unwrap_or_default()))
    });
    found.take(MAX_TOLD).collect()
}

/// What an answer means that is neither yes nor about what was asked.
fn refused(wire: &Wire, answer: &Answer, what: &str) -> Trouble {
    let reason = format!("{what}: {}", wire.refusal(answer));
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::hold(format!(
            "{reason}; mend the credentials, or install the template yourself and set install_template = false"
        )),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Trouble::Retry { reason, after: answer.retry_after }
        }
        status if status.is_server_error() => Trouble::Retry { reason, after: answer.retry_after },
        _ => Trouble::Hold { reason },
    }
}
