//! What a plugin's file shows to whoever asks before it runs: for its author, and for who is to grant it something.
//!
//! Invariant: nothing of the file is compiled or run, and every word out of it is cut to a length and free of control
//! characters.

use super::component::{self, LoadError};
use super::settings::Grant;
use super::{HostSettings, cache};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use wasmtime::wasmparser::{KnownCustom, Parser, Payload};

/// How much of what a file names is shown.
const MAX_NAMES: usize = 200;
const MAX_WORD: usize = 120;
/// The part of its exports that tells the version of the contract.
const PUBLISHER: &str = "pressroom:publisher/publisher@";

/// What a file is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Description {
    /// Its SHA-256 in hexadecimal: what `sha256` in a section pins.
    pub digest: String,
    /// Its length.
    pub bytes: u64,
    /// The version of `pressroom:publisher` that it exports, known to this host or not.
    pub interface: Option<String>,
    /// What it was written in, as far as its toolchain says so.
    pub language: Option<String>,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The tools that made it, with their versions.
    pub producers: Vec<String>,
    /// Custom sections at the top and within, by name, with the bytes of all of a name.
    pub sections: Vec<(String, u64)>,
    /// Why this host would not load it, if it would not.
    pub problem: Option<String>,
}

/// A part of the host that a plugin imports and an operator grants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Want {
    /// What is imported: `wasi:http`.
    pub import: &'static str,
    /// What may be granted for it: `grant.http`.
    pub grant: &'static str,
    /// Whether a section with this grant gives any of it.
    pub granted: bool,
    /// Whether languages import it whether a plugin uses it or not.
    pub by_habit: bool,
}

/// Describes the file at `path`: a plugin, or one that is none.
///
/// # Errors
///
/// It cannot be read, is larger than a host reads, or is not WebAssembly.
pub fn describe(path: &Path) -> Result<Description, LoadError> {
    let max_bytes = HostSettings::default().max_file_bytes;
    let bytes = component::read_bounded(path, max_bytes)?;
    let not_wasm = bytes.is_empty() || !bytes.starts_with(b"\0asm");
    let problem = match component::read(path, None, max_bytes) {
        Ok(_) => None,
        Err(refused) if not_wasm => return Err(refused),
        Err(refused) => Some(refused.to_string()),
    };
    let mut found = Found::default();
    // What comes before the first damage is still of use.
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload {
            Ok(payload) => found.take(&payload),
            Err(_) => break,
        }
    }
    let interface = found.exports.iter().find_map(|name| name.strip_prefix(PUBLISHER)).map(str::to_owned);
    Ok(Description {
        digest: cache::digest_of(&bytes),
        bytes: bytes.len() as u64,
        interface,
        language: language(&found.languages, &found.producers),
        imports: found.imports,
        exports: found.exports,
        producers: found.producers.into_iter().collect(),
        sections: found.sections,
        problem,
    })
}

impl Description {
    /// What of the host it imports that an operator grants, beside the contract, clocks and randomness.
    pub fn wants(&self, grant: &Grant) -> Vec<Want> {
        let all = [
            ("wasi:http/outgoing-handler", "grant.http", !grant.http.is_empty(), false),
            ("wasi:filesystem/", "grant.dirs", !grant.dirs.is_empty(), true),
            ("wasi:cli/environment", "grant.env", !grant.env.is_empty(), true),
            ("wasi:sockets/", "grant.sockets", !grant.sockets.is_empty(), true),
        ];
        let imported = |prefix: &str| self.imports.iter().any(|name| name.starts_with(prefix));
        let wanted = all.into_iter().filter(|(import, ..)| imported(import));
        wanted.map(|(import, grant, granted, by_habit)| Want { import, grant, granted, by_habit }).collect()
    }
}

/// What a walk through a file came across.
#[derive(Default)]
struct Found {
    depth: usize,
    imports: Vec<String>,
    exports: Vec<String>,
    languages: BTreeSet<String>,
    producers: BTreeSet<String>,
    sections: Vec<(String, u64)>,
}

impl Found {
    fn take(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if self.depth == 0 => {
                let names = imports.clone().into_iter().flatten().map(|import| clip(import.name.name));
                self.imports.extend(names.take(MAX_NAMES.saturating_sub(self.imports.len())));
            }
            Payload::ComponentExportSection(exports) if self.depth == 0 => {
                let names = exports.clone().into_iter().flatten().map(|export| clip(export.name.name));
                self.exports.extend(names.take(MAX_NAMES.saturating_sub(self.exports.len())));
            }
            Payload::CustomSection(section) => {
                self.count(&clip(section.name()), section.data().len() as u64);
                if let KnownCustom::Producers(fields) = section.as_known() {
                    self.take_producers(fields.into_iter().flatten());
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, name: &str, bytes: u64) {
        if let Some((_, sum)) = self.sections.iter_mut().find(|(known, _)| known == name) {
            *sum = sum.saturating_add(bytes);
        } else if self.sections.len() < MAX_NAMES {
            self.sections.push((name.to_owned(), bytes));
        }
    }

    fn take_producers<'a>(&mut self, fields: impl Iterator<Item = wasmtime::wasmparser::ProducersField<'a>>) {
        for field in fields {
            for value in field.values.into_iter().flatten() {
                let (name, version) = (clip(value.name), clip(value.version));
                let into = if field.name == "language" { &mut self.languages } else { &mut self.producers };
                if into.len() < MAX_NAMES {
                    into.insert(if version.is_empty() { name } else { format!("{name} {version}") });
                }
            }
        }
    }
}

/// What an author wrote. An interpreter is written in a language of its own, and so is an adapter or a standard library.
fn language(languages: &BTreeSet<String>, producers: &BTreeSet<String>) -> Option<String> {
    let made_by = |tool: &str| producers.iter().any(|name| name.contains(tool));
    let written_in = |name: &str| languages.iter().any(|found| found.split(' ').next() == Some(name));
    let known = if made_by("componentize-py") || made_by("component-init-transform") {
        "Python"
    } else if made_by("ComponentizeJS") {
        "JavaScript"
    } else if made_by("Go cmd/compile") || written_in("Go") {
        "Go"
    } else if made_by("wit-bindgen-rust") {
        "Rust"
    } else if made_by("clang") {
        "C"
    } else if written_in("Rust") {
        "Rust"
    } else {
        return languages.first().cloned();
    };
    Some(known.to_owned())
}

/// A word out of a stranger's file, fit to be shown.
fn clip(word: &str) -> String {
    word.chars().filter(|letter| !letter.is_control()).take(MAX_WORD).collect()
}

#[cfg(test)]
mod tests {
    use super::{Want, describe};
    use crate::wasm::settings::Grant;
    use crate::wasm::tests::guests;

    #[test]
    fn a_plugin_is_described_and_its_wants_are_told_from_its_grants() {
        let found = describe(&guests::plugin("ndjson")).unwrap();
        assert_eq!(found.digest, crate::wasm::digest(guests::plugin("ndjson")).unwrap());
        assert_eq!((found.interface.as_deref(), found.problem), (Some("0.1.0"), None));
        assert_eq!(found.language.as_deref(), Some("Rust"));
        assert!(
            found.producers.iter().any(|tool| tool.starts_with("wit-bindgen-rust 0.")),
            "{:?}",
            found.producers
        );
        assert!(found.imports.iter().any(|name| name == "pressroom:publisher/batches@0.1.0"));
        assert!(found.exports.iter().any(|name| name == "pressroom:publisher/lifecycle@0.1.0"));
        assert!(found.sections.iter().any(|(name, bytes)| name == "producers" && *bytes > 0));
        let found = describe(&guests::plugin("ndjson")).unwrap();
        let dirs =
            |wants: Vec<Want>| wants.into_iter().find(|want| want.grant == "grant.dirs").unwrap().granted;
        assert!(!dirs(found.wants(&Grant::default())));
        let grant: Grant = toml::from_str("dirs = [{ host = '.', guest = '/out' }]").unwrap();
        assert!(dirs(found.wants(&grant)));
    }

    #[test]
    fn what_is_no_plugin_is_described_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.wasm");
        let text = r#"(component (instance) (export "pressroom:publisher/publisher@9.1.0" (instance 0)))"#;
        std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
        let found = describe(&file).unwrap();
        assert_eq!(found.interface.as_deref(), Some("9.1.0"));
        assert!(
            found
                .problem
                .unwrap()
                .contains("built against pressroom:publisher@9.1.0, and this host knows 0.1.0")
        );
        std::fs::write(&file, "no wasm").unwrap();
        assert!(describe(&file).unwrap_err().to_string().contains("is not WebAssembly"));
    }
}
