//! The languages that plugins are written in, and how the one of a folder is told.
//!
//! Invariant: a folder's language is told by the files that its toolchain needs anyway, or by the author; never guessed
//! between two.

use super::super::Failure;
use crate::output::escape;
use std::fmt;
use std::path::Path;

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Language {
    Rust,
    Python,
    Js,
    C,
    Go,
}

/// The files that tell a language: by name, or by extension where it begins with a dot.
const TRAITS: &[(Language, &[&str])] = &[
    (Language::Rust, &["Cargo.toml"]),
    (Language::Go, &["go.mod"]),
    (Language::Js, &["package.json", ".js", ".mjs"]),
    (Language::Python, &["pyproject.toml", ".py"]),
    (Language::C, &[".c"]),
];

impl Language {
    /// The language of the plugin in `dir`, by the files at its top.
    pub(super) fn of(dir: &Path) -> Result<Self, Failure> {
        let entries = std::fs::read_dir(dir)
            .map_err(|cause| Failure::wrong(format!("cannot read {}: {cause}", escape::path(dir))))?;
        let files: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        let is_there = |wanted: &&str| {
            files.iter().filter_map(|name| name.to_str()).any(|name| match wanted.strip_prefix('.') {
                Some(extension) => Path::new(name).extension().is_some_and(|found| found == extension),
                None => name == *wanted,
            })
        };
        let found: Vec<_> = TRAITS.iter().filter(|(_, traits)| traits.iter().any(is_there)).collect();
        match found.as_slice() {
            [(language, _)] => Ok(*language),
            [] => Err(Failure::wrong(format!(
                "{} holds no plugin's sources: none of Cargo.toml, go.mod, package.json, *.py, *.js, *.c; name its \
                 folder, or begin one with `pressroom plugin new`",
                escape::path(dir)
            ))),
            several => {
                let names: Vec<_> = several.iter().map(|(language, _)| language.to_string()).collect();
                Err(Failure::wrong(format!(
                    "{} could be {}; say which with --lang",
                    escape::path(dir),
                    names.join(" or ")
                )))
            }
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Js => "js",
            Self::C => "c",
            Self::Go => "go",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Language;

    #[test]
    fn a_folder_tells_its_language_or_has_to_be_told() {
        let dir = tempfile::tempdir().unwrap();
        let of = |files: &[&str]| {
            let folder = dir.path().join(files.join("+"));
            std::fs::create_dir(&folder).unwrap();
            files.iter().for_each(|file| std::fs::write(folder.join(file), "").unwrap());
            Language::of(&folder).map_err(|failure| failure.message)
        };
        assert_eq!(of(&["Cargo.toml", "build.rs"]), Ok(Language::Rust));
        assert_eq!(of(&["go.mod", "plugin.go"]), Ok(Language::Go));
        assert_eq!(of(&["package.json"]), Ok(Language::Js));
        assert_eq!(of(&["app.py"]), Ok(Language::Python));
        assert_eq!(of(&["plugin.c"]), Ok(Language::C));
        assert!(
            of(&["plugin.c", "app.py"]).unwrap_err().ends_with("could be python or c; say which with --lang")
        );
        assert!(of(&["README.md"]).unwrap_err().contains("holds no plugin's sources"));
    }
}
