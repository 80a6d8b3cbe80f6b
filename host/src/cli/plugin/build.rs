//! `pressroom plugin build`: a component out of a plugin's folder, by the tools that its language's people have.
//!
//! Invariant: the component appears whole or not at all, and nothing is installed that its sources do not name: a tool
//! that is missing is a sentence that says what to install.

mod c;
mod go;
mod js;
mod pack;
mod python;
mod rust;

use super::super::{Failure, to_stderr, to_stdout};
use super::{check, language::Language};
use crate::output::escape;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Build the plugin in a folder
///
/// Builds NAME.wasm with the toolchain of the plugin's language, which the folder's files tell, and tries what came
/// out as `pressroom plugin check` does. NAME is the folder's name, or the package's where the language has packages.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin build
  pressroom plugin build alerts --out plugins/alerts.wasm
  pressroom plugin build --lang c mixed

What it takes:
  rust    cargo, and the target wasm32-wasip2
  python  componentize-py
  js      node and npm
  c       clang, lld and wasi-libc
  go      go")]
pub(super) struct Args {
    /// The plugin's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Its language, where the files leave a doubt
    #[arg(long, value_enum)]
    lang: Option<Language>,
    /// Where the component goes; the folder's own NAME.wasm otherwise
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave out `pressroom plugin check` at the end
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    section: super::sandbox::SectionArgs,
}

/// A plugin that is being built: what the languages' builders work with.
struct Job {
    /// The plugin's folder, absolute.
    dir: PathBuf,
    /// What the plugin is called: the component is `NAME.wasm`.
    name: String,
    /// A folder for whatever arises on the way, made already: `target/pressroom` in the plugin's own.
    scratch: PathBuf,
}

pub(super) fn build(args: &Args) -> Result<(), Failure> {
    let began = Instant::now();
    let dir = std::path::absolute(&args.dir)?;
    let language = args.lang.map_or_else(|| Language::of(&dir), Ok)?;
    let job = Job::new(dir, language)?;
    let component = match language {
        Language::Rust => rust::build(&job),
        Language::Python => python::build(&job),
        Language::Js => js::build(&job),
        Language::C => c::build(&job),
        Language::Go => go::build(&job),
    }?;
    let out = args.out.clone().unwrap_or_else(|| args.dir.join(format!("{}.wasm", job.name)));
    put(&out, &component)?;
    let (size, took) = (component.len() as f64 / 1e6, began.elapsed().as_secs_f64());
    to_stdout(&format!("built {} ({size:.2} MB) in {took:.1} s", escape::path(&out)))?;
    if args.no_check {
        return Ok(());
    }
    check::check(&check::Args { file: out, section: args.section.clone() })
}

/// Writes the component in one step: a host may be watching that directory.
fn put(out: &Path, component: &[u8]) -> Result<(), Failure> {
    let failed =
        |cause: std::io::Error| Failure::failed(format!("cannot write {}: {cause}", escape::path(out)));
    let beside = out.with_extension(format!("{:08x}.tmp", fastrand::u32(..)));
    let written = std::fs::write(&beside, component).and_then(|()| std::fs::rename(&beside, out));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(failed)
}

impl Job {
    fn new(dir: PathBuf, language: Language) -> Result<Self, Failure> {
        let name = match language {
            Language::Rust => rust::name(&dir)?,
            _ => dir.file_name().and_then(|name| name.to_str()).unwrap_or("plugin").to_owned(),
        };
        let scratch = dir.join("target/pressroom");
        std::fs::create_dir_all(&scratch)
            .map_err(|cause| Failure::failed(format!("cannot make {}: {cause}", escape::path(&scratch))))?;
        Ok(Self { dir, name, scratch })
    }

    /// Runs a tool in the plugin's folder and shows what it says. `missing` is what to do where there is no such
    /// program: `install Go 1.24 or newer from https://go.dev/dl`.
    fn run(&self, command: &mut Command, missing: &str) -> Result<(), Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        to_stderr(&format!("{program} {}", words.join(" ")))?;
        // Standard output is for what the command itself has to say.
        let status = command.current_dir(&self.dir).stdin(Stdio::null()).stdout(std::io::stderr()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::failed(format!("{program} could not build {}: {status}", self.name))),
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                Err(Failure::failed(format!("`{program}` is not here: {missing}")))
            }
            Err(cause) => Err(Failure::failed(format!("{program} cannot be run: {cause}"))),
        }
    }

    /// What a tool has written.
    fn read(&self, file: &Path) -> Result<Vec<u8>, Failure> {
        std::fs::read(file).map_err(|cause| {
            Failure::failed(format!("{} was not built: {}: {cause}", self.name, escape::path(file)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, put};
    use crate::cli::plugin::language::Language;
    use std::process::Command;

    #[test]
    fn a_tool_that_is_missing_says_what_to_install_and_one_that_fails_how() {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(dir.path().join("alerts"), Language::C).unwrap();
        let missing =
            job.run(&mut Command::new("no-such-compiler"), "install it from somewhere").unwrap_err();
        assert_eq!(missing.message, "`no-such-compiler` is not here: install it from somewhere");
        let failed = job.run(Command::new("sh").args(["-c", "exit 3"]), "").unwrap_err();
        assert_eq!(failed.message, "sh could not build alerts: exit status: 3");
        job.run(Command::new("sh").args(["-c", "echo this > target/pressroom/out"]), "").unwrap();
        assert_eq!(job.read(&job.scratch.join("out")).unwrap(), b"this\n");
        let none = job.read(&job.scratch.join("none")).unwrap_err().message;
        assert!(none.starts_with("alerts was not built: ") && none.contains("none"), "{none}");
    }

    #[test]
    fn a_component_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("a.wasm"), b"a").unwrap();
        let failed = put(&dir.path().join("none/b.wasm"), b"b").unwrap_err();
        assert!(failed.message.starts_with("cannot write "), "{}", failed.message);
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a.wasm"]);
    }
}
