//! What a plugin's file is, found out before anything of it is compiled.
//!
//! Invariant: the compiler sees only a whole component that exports a version of the contract that this host knows,
//! imports nothing from worlds that it does not, and is built of a bounded number of parts.

use crate::config::units::ByteSize;
use crate::paths;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmtime::wasmparser::{Encoding, Parser, Payload};

/// The versions of `pressroom:publisher` whose plugins this host runs.
const VERSIONS: &[&str] = &["0.1.0"];
const PUBLISHER: &str = "pressroom:publisher/publisher@";
const LIFECYCLE: &str = "pressroom:publisher/lifecycle@";
const PACKAGE: &str = "pressroom:publisher/";
/// What plugins may import, by the beginning of its name.
const IMPORTS: &[&str] = &[
    PACKAGE,
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/outgoing-handler@",
    "wasi:http/types@",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// How deep components may be nested, and of how many modules, components and instances a file may be made: the
/// compiler's memory grows with them beyond any relation to the file's size. A Python plugin has some 40 instances.
const MAX_DEPTH: usize = 16;
const MAX_PARTS: usize = 1_000;
/// The functions of all modules together; a JavaScript plugin has some 20,000.
const MAX_FUNCTIONS: u64 = 500_000;

/// The instances of core modules times the functions and globals of the largest: each instance has room for them beside
/// its memories, which no limit of the guest's counts. A Python plugin has half a million.
const MAX_COPIES: u64 = 4_000_000;

/// Why a plugin was refused. The texts name the file, the cause and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read plugin {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The file has another digest than the configuration pins.
    #[error(
        "plugin {} has the digest {found}, and its section pins sha256 = \"{pinned}\"; put the pinned file back, or \
         pin this one once you trust it", path.display()
    )]
    Pin {
        /// The file.
        path: PathBuf,
        /// What the section says.
        pinned: String,
        /// What the file has.
        found: String,
    },
    /// It is not a plugin that this host can run.
    #[error("plugin {} {cause}", path.display())]
    NotAPlugin {
        /// The file.
        path: PathBuf,
        /// What it is instead, and what to do.
        cause: String,
    },
    /// It could not be compiled.
    #[error("plugin {} cannot be compiled: {cause}", path.display())]
    Compile {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// What it imports or exports is not what the contract says.
    #[error("plugin {} does not fit the contract pressroom:publisher@{version}: {cause}; build it against \
             wit/{}/publisher.wit of this host", path.display(), minor(version))]
    Link {
        /// The file.
        path: PathBuf,
        /// The version that it exports.
        version: String,
        /// What does not fit.
        cause: String,
    },
    /// A directory or variable that it was granted is not there.
    #[error("plugin {}: {cause}", path.display())]
    Grant {
        /// The file.
        path: PathBuf,
        /// What is missing.
        cause: String,
    },
    /// It did not start.
    #[error("plugin {} did not start: {cause}", path.display())]
    Start {
        /// The file.
        path: PathBuf,
        /// Why not: its own words, or how it failed.
        cause: String,
    },
    /// It is not signed as it should be.
    #[error("plugin {} is not let in: {cause}", path.display())]
    Signature {
        /// The file.
        path: PathBuf,
        /// What is wrong with its signature.
        cause: String,
    },
    /// It is not what was locked, or may do more.
    #[error(
        "plugin {} is not let in, plugins.locked is true and {} says otherwise: {cause}; once you approve of it, lock it \
         anew with `pressroom plugin lock`", path.display(), lock.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// The lock.
        lock: PathBuf,
        /// What differs.
        cause: String,
    },
    /// A key that is to be trusted cannot be read.
    #[error("{0}")]
    Keys(String),
    /// The machinery that runs plugins cannot be set up.
    #[error("cannot run plugins on this machine: {0}")]
    Engine(String),
}

/// `0.1` of `0.1.0`: the folder of the contract.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

/// A plugin's file, read and found to be one.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) path: PathBuf,
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) digest: String,
    pub(super) version: &'static str,
    /// Whether it keeps something between calls: the name of its `lifecycle` interface.
    pub(super) lifecycle: bool,
}

impl Checked {
    pub(super) fn publisher_name(version: &str) -> String {
        format!("{PUBLISHER}{version}")
    }

    pub(super) fn lifecycle_name(version: &str) -> String {
        format!("{LIFECYCLE}{version}")
    }
}

/// Reads `path`, which must be a plugin of at most `max_bytes`, with the digest `pin` if there is one.
pub(super) fn read(path: &Path, pin: Option<&str>, max_bytes: u64) -> Result<Checked, LoadError> {
    let not_a_plugin = |cause: String| LoadError::NotAPlugin { path: path.to_owned(), cause };
    let bytes = read_bounded(path, max_bytes)?;
    let digest = hex(&Sha256::digest(&bytes));
    if let Some(pinned) = pin
        && !pinned.eq_ignore_ascii_case(&digest)
    {
        return Err(LoadError::Pin { path: path.to_owned(), pinned: pinned.to_owned(), found: digest });
    }
    let surface = Surface::of(&bytes).map_err(not_a_plugin)?;
    let version = surface.version().map_err(not_a_plugin)?;
    let lifecycle = surface.exports.iter().any(|name| *name == Checked::lifecycle_name(version));
    surface.check_imports(version).map_err(not_a_plugin)?;
    Ok(Checked { path: path.to_owned(), bytes: Arc::new(bytes), digest, version, lifecycle })
}

pub(super) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, LoadError> {
    let failed = |cause| LoadError::Read { path: path.to_owned(), cause };
    // Who could write to the file would decide what code runs.
    paths::check(path).map_err(failed)?;
    let metadata = std::fs::metadata(path).map_err(failed)?;
    // Opening a pipe waits for a writer, and some files that tell no length never answer a read.
    if metadata.is_file() && metadata.len() == 0 {
        return Ok(Vec::new());
    }
    if !metadata.is_file() {
        return Err(LoadError::NotAPlugin { path: path.to_owned(), cause: "is not a file".to_owned() });
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(max_bytes)).unwrap_or(0));
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
        let cause = format!("is larger than {}; strip it (`wasm-tools strip`)", ByteSize(max_bytes));
        return Err(LoadError::NotAPlugin { path: path.to_owned(), cause });
    }
    Ok(bytes)
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a component shows to the outside.
#[derive(Debug, Default)]
struct Surface {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Surface {
    /// Walks through all of `bytes` without compiling or validating what the functions do.
    fn of(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("is empty; it may still be being written".to_owned());
        }
        if !bytes.starts_with(b"\0asm") {
            return Err("is not WebAssembly; build it for wasm32-wasip2".to_owned());
        }
        let mut surface = Self::default();
        let mut parts = Parts::default();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|cause| {
                format!("is truncated or damaged: {}; copy it again, whole", cause.message())
            })?;
            surface.take(&payload, parts.open)?;
            parts.take(&payload)?;
        }
        Ok(surface)
    }

    fn take(&mut self, payload: &Payload<'_>, depth: usize) -> Result<(), String> {
        let damaged =
            |cause: wasmtime::wasmparser::BinaryReaderError| format!("is damaged: {}", cause.message());
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(
                    "is a core WebAssembly module, not a component; build it for wasm32-wasip2, or make a \
                            component of it (`wasm-tools component new`)"
                        .to_owned(),
                );
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports.clone() {
                    self.imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports.clone() {
                    self.exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The version of the contract that it exports.
    fn version(&self) -> Result<&'static str, String> {
        let exported: Vec<_> = self.exports.iter().filter_map(|name| name.strip_prefix(PUBLISHER)).collect();
        if let Some(known) = VERSIONS.iter().find(|known| exported.contains(known)) {
            return Ok(known);
        }
        if let Some(other) = exported.first() {
            return Err(format!(
                "is built against pressroom:publisher@{}, and this host knows {}; update the host, or build the \
                 plugin against a version that it knows",
                clip(other),
                VERSIONS.join(", ")
            ));
        }
        Err(format!(
            "is of another world: it exports {}, not {PUBLISHER}{}; export the world `plugin` of \
             wit/0.1/publisher.wit (a file cut short may show less than it exports)",
            listed(&self.exports),
            VERSIONS.last().copied().unwrap_or_default()
        ))
    }

    /// Says what is imported that this host does not give, by name, rather than the linker with its own words.
    fn check_imports(&self, version: &str) -> Result<(), String> {
        let foreign = |name: &&String| !IMPORTS.iter().any(|known| name.starts_with(known));
        if let Some(name) = self.imports.iter().find(foreign) {
            return Err(format!(
                "imports {}, which this host does not give; a plugin may import pressroom:publisher@{version} and WASI 0.2",
                clip(name)
            ));
        }
        Ok(())
    }
}

/// Counts what the compiler would have to hold.
#[derive(Debug, Default)]
struct Parts {
    open: usize,
    parts: usize,
    functions: u64,
    /// Functions and globals of the module that is being read, and of the largest.
    held: u64,
    largest: u64,
    /// Instances of core modules.
    copies: u64,
}

impl Parts {
    fn take(&mut self, payload: &Payload<'_>) -> Result<(), String> {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.open += 1;
                self.parts += 1;
                self.held = 0;
            }
            Payload::InstanceSection(instances) => {
                self.parts += instances.count() as usize;
                let copies = instances.clone().into_iter().filter(|instance| {
                    matches!(instance, Ok(wasmtime::wasmparser::Instance::Instantiate { .. }))
                });
                self.copies += copies.count() as u64;
            }
            Payload::ComponentInstanceSection(instances) => self.parts += instances.count() as usize,
            Payload::FunctionSection(functions) => {
                self.functions += u64::from(functions.count());
                self.hold(functions.count());
            }
            Payload::GlobalSection(globals) => self.hold(globals.count()),
            Payload::End(_) => self.open = self.open.saturating_sub(1),
            _ => {}
        }
        let excess = if self.open > MAX_DEPTH {
            format!("nests components deeper than {MAX_DEPTH}")
        } else if self.parts > MAX_PARTS {
            format!("is made of more than {MAX_PARTS} modules, components and instances")
        } else if self.functions > MAX_FUNCTIONS {
            format!("has more than {MAX_FUNCTIONS} functions")
        } else if self.copies.saturating_mul(self.largest) > MAX_COPIES {
            format!(
                "has {} instances of modules of up to {} functions and globals",
                self.copies, self.largest
            )
        } else {
            return Ok(());
        };
        Err(format!("{excess}, more than any honest plugin; it is not compiled"))
    }

    fn hold(&mut self, more: u32) {
        self.held += u64::from(more);
        self.largest = self.largest.max(self.held);
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => {
            let mut list = names.iter().take(4).map(|name| clip(name)).collect::<Vec<_>>().join(", ");
            if names.len() > 4 {
                list.push_str(", …");
            }
            list
        }
    }
}

/// A name out of a stranger's file, fit to be shown.
fn clip(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::{LoadError, read};

    fn refused(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broken.wasm");
        std::fs::write(&path, bytes).unwrap();
        let text = read(&path, None, 1 << 20).unwrap_err().to_string();
        let start = format!("plugin {} ", path.display());
        text.strip_prefix(&start).unwrap_or_else(|| panic!("does not name the file: {text}")).to_owned()
    }

    fn component(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    fn exporting(name: &str) -> String {
        format!(r#"(component (instance) (export "{name}" (instance 0)))"#)
    }

    #[test]
    fn what_is_no_plugin_is_refused_with_its_name_and_a_way_on() {
        assert_eq!(refused(b""), "is empty; it may still be being written");
        assert_eq!(refused(b"MZ..."), "is not WebAssembly; build it for wasm32-wasip2");
        assert!(
            refused(&component("(module)")).starts_with("is a core WebAssembly module, not a component;")
        );
        assert_eq!(
            refused(&component("(component)")),
            "is of another world: it exports nothing, not pressroom:publisher/publisher@0.1.0; export the world \
             `plugin` of wit/0.1/publisher.wit (a file cut short may show less than it exports)"
        );
        assert!(
            refused(&component(&exporting("wasi:cli/run@0.2.0")))
                .contains("it exports wasi:cli/run@0.2.0, not")
        );
        assert_eq!(
            refused(&component(&exporting("pressroom:publisher/publisher@9.0.0"))),
            "is built against pressroom:publisher@9.0.0, and this host knows 0.1.0; update the host, or build the \
             plugin against a version that it knows"
        );
        assert!(refused(&vec![0; (1 << 20) + 1]).starts_with("is larger than 1MiB"));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let whole = component(&exporting("pressroom:publisher/publisher@0.1.0"));
        for length in 0..whole.len() {
            let text = refused(&whole[..length]);
            assert!(!text.is_empty(), "{length}: {text}");
        }
        assert!(refused(&whole[..whole.len() - 1]).starts_with("is truncated or damaged: "));
    }

    #[test]
    fn imports_of_other_worlds_are_named() {
        let importing = |name: &str| {
            component(&format!(
                r#"(component (import "{name}" (instance)) (instance $i)
                   (export "pressroom:publisher/publisher@0.1.0" (instance $i)))"#
            ))
        };
        assert!(
            refused(&importing("wasi:http/incoming-handler@0.2.4"))
                .starts_with("imports wasi:http/incoming-handler")
        );
        assert!(
            refused(&importing("evil:world/all@1.0.0")).starts_with("imports evil:world/all@1.0.0, which")
        );
    }

    #[test]
    fn what_would_make_the_compiler_explode_is_refused() {
        let nested = (0..20).fold(String::new(), |inner, _| format!("(component {inner})"));
        assert!(refused(&component(&nested)).starts_with("nests components deeper than 16"));
        let wide = format!("(component {})", "(component)".repeat(1_001));
        assert!(refused(&component(&wide)).starts_with("is made of more than 1000"));
    }

    #[test]
    fn a_pin_must_match() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pinned.wasm");
        std::fs::write(&path, component(&exporting("pressroom:publisher/publisher@0.1.0"))).unwrap();
        let digest = super::super::digest(&path).unwrap();
        assert!(read(&path, Some(&digest.to_uppercase()), 1 << 20).is_ok());
        let refused = read(&path, Some(&"0".repeat(64)), 1 << 20).unwrap_err();
        assert!(matches!(&refused, LoadError::Pin { found, .. } if *found == digest), "{refused}");
        assert!(matches!(read(&dir.path().join("no.wasm"), None, 1), Err(LoadError::Read { .. })));
    }
}
