//! A plugin in C: clang makes a core module of it, for WASI's first version, which is then packed.
//!
//! Invariant: the sources are those of the folder, and of `src` and `pressroom` in it, in the order of their names; clang,
//! its linker and wasi-libc are all that is asked of the author.

use super::super::super::Failure;
use super::{Job, pack};
use std::path::{Path, PathBuf};
use std::process::Command;

const INSTALL: &str = "install clang, lld and a C library for WASI (Debian: `apt-get install clang lld wasi-libc libclang-rt-dev-wasm32`)";

/// Where sources are, and where headers are looked for.
const FOLDERS: &[&str] = &["", "src", "pressroom"];

pub(super) fn build(job: &Job) -> Result<Vec<u8>, Failure> {
    let core = job.scratch.join("core.wasm");
    let mut clang = Command::new("clang");
    clang
        .args(["--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-Wall", "-Wl,--strip-debug", "-o"])
        .arg(&core);
    for folder in FOLDERS.iter().map(|folder| job.dir.join(folder)).filter(|folder| folder.is_dir()) {
        clang.arg("-I").arg(&folder).args(sources(&folder));
    }
    job.run(&mut clang, INSTALL).map_err(says_what_may_be_missing)?;
    pack::component(job.read(&core)?)
        .map_err(|cause| Failure::failed(format!("{} cannot be packed: {cause:#}", job.name)))
}

/// clang is often there without what it needs to build for WASI.
fn says_what_may_be_missing(mut failure: Failure) -> Failure {
    if failure.message.contains("could not build") {
        failure.message =
            format!("{}; if a header, wasm-ld or libclang_rt is missing: {INSTALL}", failure.message);
    }
    failure
}

/// The C files right in `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|found| found == "c")).collect();
    files.sort();
    files
}
