//! Plugins, built once per run of the tests, and files that are none.

use super::root;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

const TARGET: &str = "wasm32-wasip2";

/// The bytes of a plugin of the workspace `plugins`.
pub fn guest(name: &str) -> Vec<u8> {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(build);
    let file = BUILT.join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn build() -> PathBuf {
    let workspace = root().join("plugins");
    let target_dir = match std::env::var_os("PRESSROOM_GUESTS_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => workspace.join("target"),
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--target", TARGET, "--manifest-path"])
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        // What is set for the host's build is not meant for the guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    let is_built = built.is_ok_and(|status| status.success());
    assert!(is_built, "the plugins do not build; if the target is missing: rustup target add {TARGET}");
    target_dir.join(TARGET).join("release")
}

/// A component of `tests/fixtures`.
pub fn fixture(name: &str) -> Vec<u8> {
    wat::parse_file(root().join("tests/fixtures").join(name)).unwrap()
}

/// The same plugin in another file: with a custom section, which says nothing.
pub fn another_version(plugin: &[u8], version: &str) -> Vec<u8> {
    let name = b"version";
    let mut section = vec![u8::try_from(name.len()).unwrap()];
    section.extend_from_slice(name);
    section.extend_from_slice(version.as_bytes());
    let length = u8::try_from(section.len()).unwrap();
    assert!(length < 128, "one byte of LEB128");
    [plugin, &[0, length], &section].concat()
}
