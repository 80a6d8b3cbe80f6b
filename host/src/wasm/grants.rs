//! What of the host a guest is given: by default clocks and randomness, and nothing else.
//!
//! Invariant: of files, the environment and the network exactly what the operator's section names; no arguments. And
//! never, whatever it names, the writing of what decides which code runs (`dirs`).
//!
//! `rules` and `addresses` say what may be reached by HTTP, `lookups` asks for names, `http` is the gate that holds
//! requests against them, `body` what flows through it, `client` what sends; `streams` charges what a guest writes, to
//! whatever; `requests` bounds what it says of a request, `listings` reads directories piece by piece, `buffers` charges for
//! handles that keep more than a few words; `inject` adds credentials and `echo` keeps them from coming back; `sockets` is the
//! gate of the other protocols, `counts` what reports show.

mod addresses;
mod body;
mod buffers;
mod client;
mod counts;
mod dirs;
mod echo;
mod http;
mod inject;
mod listings;
mod lookups;
mod requests;
mod rules;
mod sigv4;
mod sockets;
mod streams;
#[cfg(test)]
mod tests;

pub(super) use counts::Counts;
pub(super) use dirs::{Dirs, overlaps, problems as dir_problems, writable};
pub(super) use http::Gate;

use self::http::Http;
use super::limits::Budget;
use super::output::{Lines, Stdio};
use super::settings::{Grant, Limits};
use super::state::State;
use crate::config::Secrets;
use addresses::Network;
use inject::Injection;
use rules::Rule;
use sockets::{Peer, Sockets};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmtime::component::Linker;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};
use wasmtime_wasi_http::WasiHttpCtx;

/// The most random bytes that one call gets: what it asks for is first held by the host.
const MAX_RANDOM: u64 = 64 << 10;

/// Puts what is charged or bounded in the place of what is not.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    streams::add_to_linker(linker)?;
    requests::add_to_linker(linker)?;
    dirs::add_to_linker(linker)?;
    listings::add_to_linker(linker)?;
    buffers::add_to_linker(linker)
}

/// What is wrong with a grant, as (key, message).
pub(super) fn problems(grant: &Grant) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut check = |key: &str, at: usize, text: &str, checked: Result<(), String>| {
        if let Err(cause) = checked {
            problems.push((format!("grant.{key}.{at}"), format!("\"{text}\" {cause}")));
        }
    };
    for (at, text) in grant.http.iter().enumerate() {
        check("http", at, text, Rule::parse(text).map(drop));
    }
    for (at, text) in grant.private.iter().enumerate() {
        check("private", at, text, Network::parse(text).map(drop));
    }
    for (at, text) in grant.sockets.iter().enumerate() {
        check("sockets", at, text, Peer::parse(text).map(drop));
    }
    let rules: Vec<_> = grant.http.iter().filter_map(|text| Rule::parse(text).ok()).collect();
    for (at, entry) in grant.inject.iter().enumerate() {
        let checked = Injection::parse(entry, &Secrets::default()).and_then(|injection| {
            let to = injection.to();
            match rules.iter().any(|rule| rule.target().same_server(to)) {
                true => Ok(()),
                false => {
                    Err(format!("goes to {to}, where no request is granted: add http = [\"POST {to}\"]"))
                }
            }
        });
        if let Err(cause) = checked {
            problems.push((format!("grant.inject.{at}"), cause));
        }
    }
    problems
}

/// `known`, and what the grant's credentials hold that nobody may see.
///
/// # Errors
///
/// A credential cannot be read.
pub(super) fn secrets(grant: &Grant, known: &Secrets) -> Result<Secrets, String> {
    let mut values = Vec::new();
    for entry in &grant.inject {
        values.extend_from_slice(Injection::parse(entry, known)?.secrets());
    }
    Ok(if values.is_empty() { known.clone() } else { known.with(values) })
}

/// A write beyond the limit on the size of files is an error for who writes, and by default the end of the process: a
/// plugin need only make a sparse file. From the first call on it is the error alone. Needs tokio's runtime.
pub(super) fn survive_full_files() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        /// SIGXFSZ, where this runs.
        const FILE_TOO_LARGE: i32 = 25;
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // Its handler stays when it is dropped.
            if let Err(cause) = signal(SignalKind::from_raw(FILE_TOO_LARGE)) {
                tracing::warn!(%cause, "a plugin that makes a file larger than the host may ends it: SIGXFSZ cannot be caught");
            }
        });
    }
}

/// A plugin's grant under one label, ready for its instances.
pub(super) struct Granted {
    env: Vec<String>,
    opened: dirs::Opened,
    http: Arc<Http>,
    sockets: Arc<Sockets>,
}

impl Granted {
    /// Reads a grant of the section `label` that has no [`problems`], and opens its directories; none of `guarded` may be
    /// written to.
    ///
    /// # Errors
    ///
    /// The certificates cannot be read, or a directory cannot be opened; or it has problems all the same.
    pub(super) fn new(
        (label, grant): (&str, Grant),
        limits: &Limits,
        base_dir: &Path,
        guarded: &[PathBuf],
        lines: &Arc<Lines>,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        if let Some((key, cause)) = problems(&grant).into_iter().next() {
            return Err(format!("{key}: {cause}"));
        }
        let counts = Arc::new(Counts::default());
        let rules = read_all(&grant.http, Rule::parse)?;
        let peers = read_all(&grant.sockets, Peer::parse)?.into_iter().flatten().collect();
        let injections: Vec<_> = grant
            .inject
            .iter()
            .map(|entry| Injection::parse(entry, secrets).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let http = Http {
            client: client(&grant, limits, base_dir, &rules)?,
            rules,
            guarded: inject::guarded(&injections),
            injections,
            limits: limits.clone(),
            lines: lines.clone(),
            counts: counts.clone(),
        };
        let sockets = Sockets { peers, lines: lines.clone(), counts };
        let opened = dirs::open(&grant, base_dir, label, guarded)?;
        Ok(Self { env: grant.env, opened, http: Arc::new(http), sockets: Arc::new(sockets) })
    }

    /// The directories of every instance.
    pub(super) fn dirs(&self) -> Dirs {
        self.opened.dirs.clone()
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.http.counts
    }

    /// The gate for the requests of one instance, and what bounds their headers.
    pub(super) fn gate(&self, budget: &Arc<Budget>) -> (Gate, WasiHttpCtx) {
        let mut context = WasiHttpCtx::new();
        let gate = Gate::new(self.http.clone(), budget.clone());
        context.set_field_size_limit(gate.max_headers());
        (gate, context)
    }

    /// The surroundings of one instance.
    ///
    /// # Errors
    ///
    /// A variable is not set; the text names it.
    pub(super) fn surroundings(&self, stdout: &Stdio, stderr: &Stdio) -> Result<WasiCtx, String> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(stdout.clone()).stderr(stderr.clone());
        self.sockets.grant(&mut wasi);
        wasi.max_random_size(MAX_RANDOM);
        for name in &self.env {
            match std::env::var(name) {
                Ok(value) => wasi.env(name, value),
                Err(std::env::VarError::NotPresent) => {
                    return Err(format!(
                        "the granted variable {name} is not set; set it or remove it from grant.env"
                    ));
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(format!("the granted variable {name} is not valid Unicode"));
                }
            };
        }
        Ok(wasi.build())
    }
}

fn read_all<T>(texts: &[String], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    texts.iter().map(|text| read(text)).collect()
}

/// The client for what `rules` allow; none without a rule.
fn client(
    grant: &Grant,
    limits: &Limits,
    base_dir: &Path,
    rules: &[Rule],
) -> Result<Result<reqwest::Client, String>, String> {
    if rules.is_empty() {
        return Ok(Err("no request is granted".to_owned()));
    }
    let ca_file = grant.ca_file.as_ref().map(|file| base_dir.join(file));
    let wanted = client::Wanted {
        private: read_all(&grant.private, Network::parse)?.into(),
        lookup: lookups::by_the_machine(),
        connections: limits.connections,
        connect_timeout: limits.call_timeout,
        tls: rules.iter().any(|rule| rule.target().scheme == "https"),
        ca_file: ca_file.as_deref(),
    };
    client::client(&wanted).map(Ok)
}
