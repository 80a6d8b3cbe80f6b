//! The plugin directory: which files lie there, and what tells one version of a file from the next.

use crate::output::escape;
use crate::watch::{Mark, is_plugin};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The plugin directory.
pub(super) struct PluginDir {
    dir: PathBuf,
    /// Digests by path, so that a file that did not change is not read again.
    digests: Mutex<BTreeMap<PathBuf, (Mark, String)>>,
}

/// A file of the plugin directory.
#[derive(Clone, Debug)]
pub(super) struct PluginFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The SHA-256 digest; or why the file cannot be read.
    pub(super) digest: Result<String, String>,
    /// What lies beside it as its signature.
    pub(super) signature: Option<Mark>,
}

/// A file beyond this is no plugin, and is not read.
const MAX_BYTES: u64 = 64 << 20;

impl PluginDir {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, digests: Mutex::default() }
    }

    /// Where the plugin `name` lies, or would.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.wasm"))
    }

    /// The plugins that lie there now, by name. A directory that does not exist has none.
    pub(super) fn scan(&self) -> Vec<PluginFile> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let mut files: Vec<_> = paths
            .filter(|path| is_plugin(path))
            .filter_map(|path| {
                let stem = path.file_stem()?;
                let (name, digest) = match stem.to_str() {
                    Some(name) => (name.to_owned(), self.digest(&path).map_err(|error| error.to_string())),
                    None => (escape::path(stem), Err("its name is not UTF-8: rename it".to_owned())),
                };
                let signature = std::fs::metadata(crate::watch::signature_of(&path)).ok();
                Some(PluginFile { name, path, digest, signature: signature.as_ref().map(Mark::of) })
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        self.digests.lock().retain(|path, _| files.iter().any(|file| file.path == *path));
        files
    }

    fn digest(&self, path: &Path) -> std::io::Result<String> {
        crate::paths::check(path)?;
        let metadata = std::fs::metadata(path)?;
        let mark = Mark::of(&metadata);
        if let Some((known, digest)) = self.digests.lock().get(path)
            && *known == mark
        {
            return Ok(digest.clone());
        }
        if !metadata.is_file() {
            return Err(std::io::Error::other("not a file"));
        }
        if metadata.len() > MAX_BYTES {
            return Err(std::io::Error::other("larger than the 64MiB that a plugin may have"));
        }
        let digest = digest_of(path)?;
        self.digests.lock().insert(path.to_owned(), (mark, digest.clone()));
        Ok(digest)
    }
}

#[cfg(feature = "wasm")]
fn digest_of(path: &Path) -> std::io::Result<String> {
    crate::wasm::digest(path)
}

#[cfg(not(feature = "wasm"))]
fn digest_of(_: &Path) -> std::io::Result<String> {
    Err(std::io::Error::other("this program was built without the feature `wasm`"))
}
