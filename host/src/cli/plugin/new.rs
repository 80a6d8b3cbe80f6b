//! `pressroom plugin new`: a folder with a plugin that works, to be changed into another.
//!
//! Invariant: what is written is in this binary, so that it fits this host, and is complete but for the language's own
//! toolchain; nothing that is there already is overwritten.

mod c;
mod go;
mod js;
mod python;
mod rust;

use super::super::{Failure, to_stdout};
use super::language::Language;
use crate::output::escape;
use std::path::{Path, PathBuf};

/// Begin a plugin
///
/// Writes a folder with a plugin that forwards what it is given over HTTP, in the language of your choice: sources, the
/// contract that it is built against, a README, and a configuration with the grant that it needs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin new --lang python alerts
  pressroom plugin new --lang rust alerts --path plugins/alerts")]
pub(super) struct Args {
    /// Its language
    #[arg(long, value_enum)]
    lang: Language,
    /// What it is called: small letters, digits and hyphens
    name: String,
    /// Where it goes; a folder of its name otherwise
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

/// A file of a template: its path in the folder, and its text. Where the text says `forwarder`, the plugin's name goes.
type File = (&'static str, &'static str);

/// What the templates are called, and what stands where a plugin's name goes.
const PLACEHOLDER: &str = "forwarder";

/// What every folder has.
const COMMON: &[File] = &[
    (".gitignore", include_str!("../../../../plugins/templates/gitignore")),
    ("pressroom.toml", include_str!("../../../../plugins/templates/pressroom.toml")),
];

/// The contract and HTTP, for languages whose tools read them: `wit/plugin.wit` says what of them a plugin uses.
const WIT: &[File] = &[
    ("wit/plugin.wit", include_str!("../../../../plugins/templates/wit/plugin.wit")),
    ("wit/deps/publisher.wit", include_str!("../../../../wit/0.1/publisher.wit")),
    ("wit/deps/http.wit", include_str!("../../../../plugins/templates/wit/http.wit")),
    ("wit/deps/io.wit", include_str!("../../../../plugins/templates/wit/io.wit")),
    ("wit/deps/clocks.wit", include_str!("../../../../plugins/templates/wit/clocks.wit")),
];

pub(super) fn new(args: &Args) -> Result<(), Failure> {
    check_name(&args.name)?;
    let dir = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let files = files(args.lang, &args.name);
    if files.len() <= COMMON.len() {
        return Err(Failure::failed(format!(
            "this version has nothing to begin a plugin in {} with",
            args.lang
        )));
    }
    write_all(&dir, &files)?;
    to_stdout(&format!(
        "{} is a plugin in {}; its README.md says how it is built and run:\n  cd {}\n  pressroom plugin build\n",
        escape::path(&dir),
        args.lang,
        escape::path(&dir)
    ))?;
    Ok(())
}

/// Every language can make an identifier of it.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
    };
    if name.len() <= 64 && name.split('-').all(is_word) {
        return Ok(());
    }
    Err(Failure::wrong(format!(
        "a plugin cannot be called \"{name}\": it takes words of small letters and digits, joined by hyphens, such as \
         slack-alerts"
    )))
}

/// The files of a new plugin.
fn files(language: Language, name: &str) -> Vec<(String, String)> {
    let own = match language {
        Language::Rust => rust::files(),
        Language::Python => named(python::FILES.iter().chain(WIT)),
        Language::Js => named(js::FILES.iter().chain(WIT)),
        Language::C => c::files(),
        Language::Go => go::files(),
    };
    let all = named(COMMON.iter()).into_iter().chain(own);
    all.map(|(path, text)| (path, text.replace(PLACEHOLDER, name))).collect()
}

fn named<'a>(files: impl Iterator<Item = &'a File>) -> Vec<(String, String)> {
    files.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

fn write_all(dir: &Path, files: &[(String, String)]) -> Result<(), Failure> {
    let failed = |path: &Path, cause: std::io::Error| {
        Failure::failed(format!("cannot write {}: {cause}", escape::path(path)))
    };
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::wrong(format!(
            "{} is there and not empty; say another --path",
            escape::path(dir)
        )));
    }
    for (path, text) in files {
        let file = dir.join(path);
        let folder = file.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(|cause| failed(folder, cause))?;
        std::fs::write(&file, text).map_err(|cause| failed(&file, cause))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
