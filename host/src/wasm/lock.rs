//! The lock: which files run under which labels and what they may do, as somebody approved of it.
//!
//! Invariant: what is asked for must be locked, line by line; who asks for less is let in. No value of a credential is
//! in it.

use super::settings::{AwsGrant, BasicGrant, DirGrant, Grant, HmacGrant, InjectGrant};
use crate::paths;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

const VERSION: u32 = 1;
const HEAD: &str = "# Written by `pressroom plugin lock`: what each plugin is and may do. Under `plugins.locked = true` a file with\n\
                    # another digest, or a section that grants more, is refused. Keep it with the configuration.\n";

/// The content of `pressroom.lock`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    #[serde(default)]
    publishers: BTreeMap<String, Locked>,
}

/// What is locked of one label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    plugin: String,
    sha256: String,
    #[serde(default)]
    grants: BTreeSet<String>,
}

impl Grant {
    /// What is granted, a line for each thing, the same for the same whatever the order. Of a credential that the host
    /// adds, where it goes and how, never what it is.
    pub fn summary(&self) -> Vec<String> {
        // Whole, so that a new kind of grant cannot be forgotten here.
        let Self { dirs, env, http, private, sockets, ca_file, inject } = self;
        let dir = |DirGrant { host, guest, write }: &DirGrant| {
            // Quoted, so that no name of a directory makes one grant look like another.
            format!("dirs {host:?} -> {guest:?} {}", if *write { "rw" } else { "ro" })
        };
        let mut lines: BTreeSet<String> = dirs.iter().map(dir).collect();
        for (kind, texts) in [("env", env), ("http", http), ("private", private), ("sockets", sockets)] {
            lines.extend(texts.iter().map(|text| format!("{kind} {text}")));
        }
        lines.extend(ca_file.iter().map(|file| format!("ca_file {file:?}")));
        lines.extend(inject.iter().flat_map(InjectGrant::summary));
        lines.into_iter().collect()
    }
}

impl InjectGrant {
    /// What it adds, and a line for each header that it lets through.
    fn summary(&self) -> Vec<String> {
        // Whole, as above; what is secret is passed over by name.
        let Self { to, header, value: _, bearer, basic, sigv4, hmac, allow } = self;
        let mut line = format!("inject {to:?}");
        if let Some(header) = header {
            let _ = write!(line, " header {header:?}");
        }
        if bearer.is_some() {
            line.push_str(" bearer");
        }
        if let Some(BasicGrant { user, password: _ }) = basic {
            let _ = write!(line, " basic {user:?}");
        }
        if let Some(AwsGrant { access_key: _, secret_key: _, session_token: _, region, service }) = sigv4 {
            let _ = write!(line, " sigv4 {region:?} {service:?}");
        }
        if let Some(HmacGrant { header, secret: _, algorithm, prefix }) = hmac {
            let _ = write!(line, " hmac {header:?} {algorithm:?} {prefix:?}");
        }
        let allowed = allow.iter().map(|name| format!("{line} allow {name:?}"));
        std::iter::once(line.clone()).chain(allowed).collect()
    }
}

impl Locked {
    /// The plugin in `file`, with its digest, and what its section grants.
    pub fn new(file: &Path, digest: &str, grant: &Grant) -> Self {
        let plugin = crate::output::escape::path(file.file_stem().unwrap_or_default());
        Self { plugin, sha256: digest.to_owned(), grants: grant.summary().into_iter().collect() }
    }

    /// How this differs from what is `locked`, so far as it must not.
    fn excess(&self, locked: &Self) -> Vec<String> {
        let mut excess = Vec::new();
        if self.plugin != locked.plugin {
            excess.push(format!("its section names the plugin {}, locked is {}", self.plugin, locked.plugin));
        }
        if !self.sha256.eq_ignore_ascii_case(&locked.sha256) {
            excess.push(format!("it has the digest {}, locked is {}", self.sha256, locked.sha256));
        }
        let more: Vec<_> = self.grants.difference(&locked.grants).map(String::as_str).collect();
        if !more.is_empty() {
            excess.push(format!("its section grants what is not locked: {}", more.join(", ")));
        }
        excess
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, publishers: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is not there, or is none.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = paths::check(path).and_then(|()| std::fs::read_to_string(path));
        let text = text.map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => "there is no lock".to_owned(),
            _ => format!("the lock cannot be read: {cause}"),
        })?;
        let lock: Self =
            toml::from_str(&text).map_err(|cause| format!("the lock cannot be read: {}", cause.message()))?;
        match lock.version {
            VERSION => Ok(lock),
            other => Err(format!("the lock is of version {other}, and this host knows {VERSION}")),
        }
    }

    /// Adds what is approved of for `label`.
    pub fn insert(&mut self, label: &str, locked: Locked) {
        self.publishers.insert(label.to_owned(), locked);
    }

    /// The labels that are locked.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.publishers.keys().map(String::as_str)
    }

    /// What of this is not in `before`, a line each: what whoever locks approves of.
    pub fn news(&self, before: &Self) -> Vec<String> {
        let news = |(label, now): (&String, &Locked)| match before.publishers.get(label) {
            None => {
                let grants: Vec<_> = now.grants.iter().map(String::as_str).collect();
                let grants = if grants.is_empty() { "nothing".to_owned() } else { grants.join(", ") };
                vec![format!("{label}: new, plugin {} {}, granted {grants}", now.plugin, now.sha256)]
            }
            Some(before) => now.excess(before).into_iter().map(|text| format!("{label}: {text}")).collect(),
        };
        self.publishers.iter().flat_map(news).collect()
    }

    /// Whether what `asks` is locked for `label`.
    ///
    /// # Errors
    ///
    /// What is not.
    pub(super) fn check(&self, label: &str, asks: &Locked) -> Result<(), String> {
        let Some(locked) = self.publishers.get(label) else {
            return Err(format!("the label \"{label}\" is not in it"));
        };
        match asks.excess(locked) {
            excess if excess.is_empty() => Ok(()),
            excess => Err(excess.join("; ")),
        }
    }

    /// The text of the file.
    pub fn to_toml(&self) -> String {
        let mut text = format!("{HEAD}version = {VERSION}\n");
        for (label, Locked { plugin, sha256, grants }) in &self.publishers {
            let (label, plugin, sha256) = (quoted(label), quoted(plugin), quoted(sha256));
            let _ = write!(text, "\n[publishers.{label}]\nplugin = {plugin}\nsha256 = {sha256}\n");
            if !grants.is_empty() {
                let grants: Vec<_> = grants.iter().map(|grant| format!("    {},\n", quoted(grant))).collect();
                let _ = write!(text, "grants = [\n{}]\n", grants.concat());
            }
        }
        text
    }
}

/// As TOML writes a text: JSON's escapes are its own, and one character more needs one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::{Lock, Locked};
    use crate::wasm::Grant;
    use std::path::Path;

    fn locked(digest: &str, grant: &str) -> Locked {
        let grant: Grant = toml::from_str(grant).unwrap();
        Locked::new(Path::new("plugins/alerts.wasm"), digest, &grant)
    }

    const GRANT: &str = r#"
        dirs = [{ host = "out \"x\" -> y", guest = "/out", write = true }, { host = "in", guest = "/in" }]
        env = ["REGION"]
        http = ["POST https://hooks.example/*"]
        sockets = ["udp://127.0.0.1:8125"]
        private = ["10.0.0.0/8"]
        ca_file = "ca.pem"
    "#;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pressroom.lock");
        assert_eq!(Lock::read(&path).unwrap_err(), "there is no lock");
        let mut lock = Lock::default();
        lock.insert("alerts", locked("aa", GRANT));
        lock.insert("odd\u{7f}\n\"label", locked("bb", ""));
        std::fs::write(&path, lock.to_toml()).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock, "{}", lock.to_toml());
        assert_eq!(lock.news(&lock), Vec::<String>::new());
        assert_eq!(lock.news(&Lock::default()).len(), 2);
        for broken in ["version = 2", "version = 1\nmore = 1", "publishers = {}", "["] {
            std::fs::write(&path, broken).unwrap();
            assert!(Lock::read(&path).unwrap_err().starts_with("the lock "), "{broken}");
        }
    }

    #[test]
    fn more_than_was_locked_is_refused_by_name_and_less_is_let_in() {
        let mut lock = Lock::default();
        lock.insert("alerts", locked("AA", GRANT));
        assert_eq!(lock.check("alerts", &locked("aa", GRANT)), Ok(()));
        assert_eq!(lock.check("alerts", &locked("aa", "env = ['REGION']")), Ok(()));
        let refused = |label: &str, asks: Locked| lock.check(label, &asks).unwrap_err();
        assert_eq!(refused("other", locked("aa", "")), "the label \"other\" is not in it");
        assert_eq!(refused("alerts", locked("bb", "")), "it has the digest bb, locked is AA");
        for (more, line) in [
            ("env = ['HOME']", "env HOME"),
            ("dirs = [{ host = 'in', guest = '/in', write = true }]", r#"dirs "in" -> "/in" rw"#),
            ("http = ['GET https://hooks.example/*']", "http GET https://hooks.example/*"),
            ("sockets = ['tcp://127.0.0.1:8125']", "sockets tcp://127.0.0.1:8125"),
            ("private = ['0.0.0.0/0']", "private 0.0.0.0/0"),
            ("ca_file = 'other.pem'", r#"ca_file "other.pem""#),
        ] {
            let text = refused("alerts", locked("aa", more));
            assert_eq!(text, format!("its section grants what is not locked: {line}"));
        }
    }
}
