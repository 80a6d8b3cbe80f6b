//! Plugins in Go and C, built by `pressroom plugin build`, once per run of the tests, where their compilers are.

use super::{path_of, root, skipped};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The file of the plugin in Go in `folder` of the repository; `None` if Go is not here, which is said.
pub fn go_guest(folder: &str) -> Option<PathBuf> {
    has_go().then(|| build(folder))
}

/// The file of the plugin in C in `folder` of the repository; `None` if what builds it is not here, which is said.
pub fn c_guest(folder: &str) -> Option<PathBuf> {
    has_c().then(|| build(folder))
}

/// Whether plugins in Go can be built; if not, that is said.
pub fn has_go() -> bool {
    let version = Command::new("go").args(["env", "GOVERSION"]).output();
    let version = version.map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned());
    let minor =
        version.ok().and_then(|version| version.strip_prefix("go1.")?.split('.').next()?.parse::<u32>().ok());
    let is_new = minor.is_some_and(|minor| minor >= 24);
    if !is_new {
        skipped("the plugins in Go want Go 1.24 or newer on the PATH");
    }
    is_new
}

/// Whether plugins in C can be built; if not, that is said.
pub fn has_c() -> bool {
    let header = tempfile::Builder::new().suffix(".c").tempfile().unwrap();
    std::fs::write(header.path(), "#include <stdio.h>\n").unwrap();
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "-fsyntax-only"]).arg(header.path()).stderr(Stdio::null());
    let is_here = clang.status().is_ok_and(|status| status.success()) && path_of("wasm-ld").is_some();
    if !is_here {
        skipped("the plugins in C want clang, lld, wasi-libc and libclang-rt-dev-wasm32");
    }
    is_here
}

fn build(folder: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let make = || {
        let pressroom = Path::new(env!("CARGO_BIN_EXE_pressroom"));
        let guests = pressroom.parent().unwrap().join("guests");
        std::fs::create_dir_all(&guests).unwrap();
        let file = guests.join(Path::new(folder).file_name().unwrap()).with_extension("wasm");
        let mut command = Command::new(pressroom);
        command.args(["plugin", "build", "--no-check"]).arg(root().join(folder)).arg("--out").arg(&file);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{folder} does not build: {said}");
        file
    };
    built.entry(folder.to_owned()).or_insert_with(make).clone()
}
