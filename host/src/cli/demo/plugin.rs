//! Builds `plugins/rollup` with cargo, while everything else goes on.
//!
//! Invariant: what cannot be built is said in a sentence that names what to do; nothing is left running.

use super::Story;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

const TARGET: &str = "wasm32-wasip2";
const INSTEAD: &str = "or give a plugin that is built already: --plugin FILE";

/// The checkout that this command was built from, or the one it is called in.
pub(super) fn checkout() -> Option<PathBuf> {
    let here = std::env::current_dir().ok();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    [here, built_in].into_iter().flatten().find(|dir| dir.join("plugins/rollup/Cargo.toml").is_file())
}

/// Builds the plugin and says where it lies.
pub(super) async fn build(checkout: &Path, story: &Story) -> Result<PathBuf, String> {
    ensure_target(checkout, story).await?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--locked", "--target", TARGET, "-p", "rollup"]);
    build.args(["--manifest-path", "plugins/Cargo.toml", "--message-format", "json-render-diagnostics"]);
    build
        .current_dir(checkout)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = build.spawn().map_err(|error| {
        format!("cargo cannot be run ({error}): install Rust from https://rustup.rs, {INSTEAD}")
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let messages = async {
        let mut text = String::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(text)
    };
    let progress = async {
        let mut last = String::new();
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                story.say(&format!("  cargo: {}", super::words::cut(line.trim(), 160)));
                if line.starts_with("error") {
                    last = line;
                }
            }
        }
        last
    };
    let (messages, error, status) = tokio::join!(messages, progress, child.wait());
    let status = status.map_err(|error| format!("cargo was lost: {error}"))?;
    if !status.success() {
        let error = if error.is_empty() { status.to_string() } else { error };
        return Err(format!("plugins/rollup could not be built ({error}): mend that, {INSTEAD}"));
    }
    artifact(&messages?).ok_or_else(|| format!("cargo built no rollup.wasm, {INSTEAD}"))
}

/// Adds the target for plugins, if this machine's Rust does not have it yet.
async fn ensure_target(checkout: &Path, story: &Story) -> Result<(), String> {
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program)
            .args(arguments)
            .current_dir(checkout)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
    };
    let found = run("rustc", &["--print", "target-libdir", "--target", TARGET]).await.map_err(|error| {
        format!("rustc cannot be run ({error}): install Rust from https://rustup.rs, {INSTEAD}")
    })?;
    let libraries = String::from_utf8_lossy(&found.stdout);
    if found.status.success() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    story.say(&format!("this Rust has no target {TARGET} yet: rustup target add {TARGET}"));
    let why = match run("rustup", &["target", "add", TARGET]).await {
        Ok(added) if added.status.success() => return Ok(()),
        Ok(added) => super::words::cut(String::from_utf8_lossy(&added.stderr).trim(), 200),
        Err(error) => format!("rustup cannot be run, {error}"),
    };
    Err(format!(
        "plugins need Rust's target {TARGET}, and it could not be added ({why}): run `rustup target add {TARGET}`, {INSTEAD}"
    ))
}

/// The component among cargo's messages.
fn artifact(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let files = messages
        .filter(|message| message.get("reason").is_some_and(|reason| reason == "compiler-artifact"))
        .filter_map(|message| message.get("filenames")?.as_array().cloned())
        .flatten();
    let mut paths = files.filter_map(|file| file.as_str().map(PathBuf::from));
    paths.find(|path| path.file_name().is_some_and(|name| name == "rollup.wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","filenames":["/t/libpressroom_plugin.rlib"]}
not json
{"reason":"build-script-executed","filenames":["/t/rollup.wasm.no"]}
{"reason":"compiler-artifact","target":{"name":"rollup"},"filenames":["/t/release/rollup.wasm"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(artifact(messages), Some("/t/release/rollup.wasm".into()));
        assert_eq!(artifact("{}"), None);
    }
}
