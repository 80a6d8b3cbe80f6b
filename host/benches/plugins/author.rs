//! The plugins that are measured: what `pressroom plugin new` gives an author of each language, built as the author
//! builds it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The languages, as the command knows them, and as people do.
pub const LANGUAGES: &[(&str, &str)] =
    &[("rust", "Rust"), ("python", "Python"), ("js", "JavaScript"), ("go", "Go"), ("c", "C")];

/// The command, which also compiles what is measured.
pub const BINARY: &str = env!("CARGO_BIN_EXE_pressroom");

/// Makes and builds the template of a language.
///
/// # Errors
///
/// It does not build here: a tool is missing, for one. The text is the command's.
pub fn forwarder(language: &str) -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("forwarders");
    let name = format!("forward-{language}");
    let dir = home.join(&name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&home).map_err(|cause| cause.to_string())?;
    pressroom(&home, &["plugin", "new", "--lang", language, &name])?;
    pressroom(&dir, &["plugin", "build", "--no-check"])?;
    let built = dir.join(format!("{name}.wasm"));
    if built.is_file() { Ok(built) } else { Err(format!("{} is not there", built.display())) }
}

fn pressroom(dir: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(BINARY);
    let output = command.current_dir(dir).args(arguments).output().map_err(|cause| cause.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("it said nothing").to_owned())
}
