//! Plugins as their authors build them: with `pressroom plugin build`, once for all runs while nothing changes.

use super::{root, say, skipped};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Instant;

/// `pressroom plugin ARGUMENTS`, run to its end with the tools of the tests on its path.
pub fn plugin(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressroom"));
    command.arg("plugin").args(arguments).env("PATH", path()).env_remove("RUST_LOG").stdin(Stdio::null());
    // What plugins in Rust stand on is built once.
    command.env("CARGO_TARGET_DIR", target().join("tests-plugins/rust"));
    command.output().unwrap()
}

/// What a command wrote, both ways.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether plugins in Python can be built here; says it loudly where not.
pub fn has_python() -> bool {
    let found = venv().join("bin/componentize-py").is_file();
    if !found {
        skipped("a plugin in Python: no componentize-py");
    }
    found
}

/// Whether plugins in JavaScript can be built here; says it loudly where not.
pub fn has_js() -> bool {
    let found = modules().join("@bytecodealliance/componentize-js").is_dir();
    if !found {
        skipped("a plugin in JavaScript: no componentize-js");
    }
    found
}

/// The component of the plugin in `sources`, called `name`: built, unless it was built of the very same files before.
pub fn component(name: &str, sources: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|failed| failed.into_inner());
    let files = files(sources);
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    let kept = target().join("tests-plugins");
    let file = kept.join(format!("{name}-{:016x}.wasm", hasher.finish()));
    if file.is_file() {
        return file;
    }
    std::fs::create_dir_all(&kept).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(name);
    for (path, bytes) in &files {
        std::fs::create_dir_all(copy.join(path).parent().unwrap()).unwrap();
        std::fs::write(copy.join(path), bytes).unwrap();
    }
    if copy.join("package.json").is_file() {
        std::os::unix::fs::symlink(modules(), copy.join("node_modules")).unwrap();
    }
    let (began, out) = (Instant::now(), file.with_extension("new"));
    let built = plugin(&["build", copy.to_str().unwrap(), "--no-check", "--out", out.to_str().unwrap()]);
    assert!(built.status.success(), "{name} does not build: {}", text(&built));
    say(&format!("built {name} in {:.1?}", began.elapsed()));
    std::fs::rename(out, &file).unwrap();
    file
}

/// The files that a plugin is built of, links followed.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if ["target", "node_modules", "__pycache__"].contains(&name) || name.ends_with(".wasm") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The tools of `tests/run` before those of the machine.
fn path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([venv().join("bin")].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

fn venv() -> PathBuf {
    std::env::var_os("PRESSROOM_TESTS_VENV").map_or_else(|| target().join("tests-venv"), PathBuf::from)
}

fn modules() -> PathBuf {
    let folder =
        std::env::var_os("PRESSROOM_TESTS_JS").map_or_else(|| target().join("tests-js"), PathBuf::from);
    folder.join("node_modules")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    match Path::new(env!("CARGO_BIN_EXE_pressroom")).ancestors().nth(2) {
        Some(target) => target.to_owned(),
        None => root().join("target"),
    }
}
