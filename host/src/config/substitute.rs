//! `${NAME}` and `${file:PATH}` in string values. What they stand for is not looked into again.

use std::io::Read;
use std::path::{Path, PathBuf};

/// A file that holds a secret is small; something larger was not meant.
const MAX_FILE: u64 = 1 << 20;

/// Replaces `${…}` and remembers what came of it.
pub(super) struct Expander<'a> {
    variables: &'a dyn Fn(&str) -> Option<String>,
    base_dir: PathBuf,
    values: Vec<String>,
    /// The files that were named since they were last asked for, whether they could be read or not.
    files: Vec<PathBuf>,
}

impl<'a> Expander<'a> {
    pub(super) fn new(variables: &'a dyn Fn(&str) -> Option<String>, base_dir: &Path) -> Self {
        Self { variables, base_dir: base_dir.to_owned(), values: Vec::new(), files: Vec::new() }
    }

    /// Everything that `${…}` was replaced by.
    pub(super) fn into_values(self) -> Vec<String> {
        self.values
    }

    /// The files that were named since the last call.
    pub(super) fn take_files(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.files)
    }

    /// `text` with every `${…}` replaced, and `$${` as `${`; `None` if nothing in it is secret and nothing changes.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what to do.
    pub(super) fn expand(&mut self, text: &str) -> Result<Option<Expanded>, String> {
        if !text.contains("${") {
            return Ok(None);
        }
        let (mut expanded, mut secret, mut rest) = (String::with_capacity(text.len()), false, text);
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = after;
                continue;
            }
            let (reference, after) = after
                .split_once('}')
                .ok_or_else(|| "\"${\" without \"}\", write \"$${\" for a literal \"${\"".to_owned())?;
            let value = self.resolve(reference)?;
            expanded.push_str(before);
            expanded.push_str(&value);
            self.values.push(value);
            secret = true;
            rest = after;
        }
        expanded.push_str(rest);
        Ok(Some(Expanded { text: expanded, secret }))
    }

    fn resolve(&mut self, reference: &str) -> Result<String, String> {
        if let Some(path) = reference.strip_prefix("file:") {
            return self.read(path);
        }
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if reference.is_empty()
            || reference.starts_with(|c: char| c.is_ascii_digit())
            || !reference.chars().all(letters)
        {
            return Err(format!(
                "\"${{{reference}}}\" is neither ${{NAME}} nor ${{file:PATH}}, write \"$${{\" for a literal \"${{\""
            ));
        }
        (self.variables)(reference).ok_or_else(|| format!("the environment variable {reference} is not set"))
    }

    fn read(&mut self, path: &str) -> Result<String, String> {
        if path.is_empty() {
            return Err("\"${file:}\" names no file".to_owned());
        }
        let path = self.base_dir.join(path);
        self.files.push(path.clone());
        let refuse = |reason: String| format!("the file {} cannot be read: {reason}", path.display());
        let file = crate::paths::open(&path).map_err(|error| refuse(error.to_string()))?;
        let mut text = String::new();
        let length =
            file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
        if length as u64 > MAX_FILE {
            return Err(refuse("it is larger than 1MiB".to_owned()));
        }
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }
}

/// A text in which something was replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// It holds a value that came through `${…}`.
    pub(super) secret: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<Option<(String, bool)>, String> {
        let variables = |name: &str| match name {
            "TOKEN" => Some("s3same".to_owned()),
            "NESTED" => Some("${TOKEN}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut expander = Expander::new(&variables, Path::new("/nowhere"));
        expander.expand(text).map(|expanded| expanded.map(|expanded| (expanded.text, expanded.secret)))
    }

    #[test]
    fn variables_are_replaced_once() {
        let secret = |text: &str| Ok(Some((text.to_owned(), true)));
        assert_eq!(expand("Bearer ${TOKEN}!"), secret("Bearer s3same!"));
        assert_eq!(expand("${TOKEN}${TOKEN}"), secret("s3sames3same"));
        assert_eq!(expand("${NESTED}"), secret("${TOKEN}"));
        assert_eq!(expand("a${EMPTY}b"), secret("ab"));
        assert_eq!(expand("$TOKEN {TOKEN} $$ }"), Ok(None));
        assert_eq!(expand("$${TOKEN}"), Ok(Some(("${TOKEN}".to_owned(), false))));
        assert_eq!(expand("$${a} ${TOKEN}"), secret("${a} s3same"));
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        for (text, message) in [
            ("${MISSING}", "the environment variable MISSING is not set"),
            ("${TOKEN", "\"${\" without \"}\", write \"$${\" for a literal \"${\""),
            ("${}", "\"${}\" is neither ${NAME} nor ${file:PATH}, write \"$${\" for a literal \"${\""),
            (
                "${A:-b}",
                "\"${A:-b}\" is neither ${NAME} nor ${file:PATH}, write \"$${\" for a literal \"${\"",
            ),
            ("${file:}", "\"${file:}\" names no file"),
        ] {
            assert_eq!(expand(text), Err(message.to_owned()));
        }
    }

    #[test]
    fn a_file_loses_one_newline() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let mut expander = Expander::new(&|_| None, dir.path());
            expander.expand(text).map(|expanded| expanded.unwrap().text)
        };
        for (content, value) in
            [("s3same", "s3same"), ("s3same\n", "s3same"), ("s3same\r\n", "s3same"), ("a\n\n", "a\n")]
        {
            std::fs::write(dir.path().join("token"), content).unwrap();
            assert_eq!(read("${file:token}").unwrap(), value, "relative paths start at the configuration");
            let absolute = format!("${{file:{}}}", dir.path().join("token").display());
            assert_eq!(read(&absolute).unwrap(), value);
        }
        std::fs::write(dir.path().join("bytes"), [0xff, 0xfe]).unwrap();
        assert!(read("${file:bytes}").unwrap_err().contains("UTF-8"));
        std::fs::write(dir.path().join("large"), "x".repeat(MAX_FILE as usize + 1)).unwrap();
        assert!(read("${file:large}").unwrap_err().ends_with("it is larger than 1MiB"));
        assert!(read("${file:missing}").unwrap_err().contains("missing cannot be read: No such file"));
    }
}
