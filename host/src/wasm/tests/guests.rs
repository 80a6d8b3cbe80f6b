//! Builds the guests, once per run of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const TARGET: &str = "wasm32-wasip2";

/// The file of a plugin of the workspace `plugins`.
pub(crate) fn plugin(name: &str) -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(build);
    BUILT.join(format!("{name}.wasm"))
}

fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("plugins");
    let target_dir =
        std::env::var_os("PRESSROOM_GUESTS_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    if !cargo(&workspace, &target_dir) {
        // The target is missing, or the code is wrong: then the second try says so.
        let added = Command::new("rustup").args(["target", "add", TARGET]).status();
        assert!(
            added.is_ok_and(|status| status.success()),
            "add the target with `rustup target add {TARGET}`"
        );
        assert!(cargo(&workspace, &target_dir), "the guests do not build");
    }
    target_dir.join(TARGET).join("release")
}

fn cargo(workspace: &Path, target_dir: &Path) -> bool {
    Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--target", TARGET, "--manifest-path"])
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        // What is set for the host's build is not meant for the guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .is_ok_and(|status| status.success())
}
