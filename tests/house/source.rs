//! The sources of this repository, read as text.

use std::path::{Path, PathBuf};

/// A Rust file.
pub struct Source {
    /// Its path within the repository, with `/`.
    pub name: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// Its lines with their numbers from 1, without comments. (`//` in a text ends the line as well, which hides
    /// nothing that the rules look for.)
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.text.lines().map(|line| line.split("//").next().unwrap_or_default());
        code.enumerate().map(|(number, line)| (number + 1, line)).filter(|(_, line)| !line.trim().is_empty())
    }

    /// The lines on which one of `words` stands, as they are to be shown.
    pub fn lines_with<'a>(&'a self, words: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
        let found = self.code().filter(|(_, line)| words.iter().any(|word| has(line, word)));
        found.map(|(number, line)| format!("{}:{number}: {}", self.name, line.trim()))
    }
}

/// Whether `word` is in `line`, not as the end of a longer name.
fn has(line: &str, word: &str) -> bool {
    let within = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(within))
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file within `folder`.
pub fn sources(folder: &Path) -> Vec<Source> {
    files(folder, "rs")
        .into_iter()
        .map(|path| Source { text: std::fs::read_to_string(&path).unwrap(), name: name(&path) })
        .collect()
}

/// `path` within the repository.
pub fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/")
}

/// Every file within `folder` with that extension, but for what is built or hidden. A folder that is not there has none.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
