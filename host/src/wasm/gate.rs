//! Who is let in: signatures and the lock, asked before anything of a file is compiled.
//!
//! Invariant: where keys are trusted nothing runs that none of them signed; where the lock is in force nothing runs, and
//! nothing is granted, that does not stand in it.

use super::LoadError;
use super::component::Checked;
use super::lock::{Lock, Locked};
use super::settings::Grant;
use crate::paths;
use minisign_verify::{Error, PublicKey, Signature};
use parking_lot::RwLock;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A signature's file is a few hundred bytes, a comment of the signer's included.
const MAX_SIGNATURE: u64 = 16 << 10;

/// What a file must satisfy beside being a plugin.
#[derive(Default)]
pub(super) struct Gate {
    /// Public keys, or the names of files with one.
    names: Vec<String>,
    keys: RwLock<Arc<[PublicKey]>>,
    /// The lock that is in force.
    lock: Option<PathBuf>,
}

/// Whether a text is a public key of minisign's, and not the name of a file with one.
pub fn is_public_key(text: &str) -> bool {
    text.len() == 56 && text.starts_with("RW") && PublicKey::from_base64(text).is_ok()
}

/// Where the signature of the plugin in `file` lies: `NAME.wasm.minisig` beside it.
pub(super) fn signature_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

impl Gate {
    /// `keys` are public keys, or the names of files with one.
    ///
    /// # Errors
    ///
    /// One of them cannot be read; the text names it.
    pub(super) fn new(keys: &[String], lock: Option<PathBuf>) -> Result<Self, String> {
        let gate = Self { names: keys.to_vec(), keys: RwLock::default(), lock };
        gate.read_keys()?;
        Ok(gate)
    }

    /// Reads the keys that are in files again.
    ///
    /// # Errors
    ///
    /// One of them cannot be read, and those from before are trusted; the text names it.
    pub(super) fn read_keys(&self) -> Result<(), String> {
        let read = |key: &String| {
            if is_public_key(key) {
                return PublicKey::from_base64(key).map_err(|cause| cause.to_string());
            }
            let refused = |cause: &dyn std::fmt::Display| {
                format!(
                    "plugins.trusted_keys: {key} is no public key of minisign's, nor a file with one: {cause}"
                )
            };
            paths::check(Path::new(key)).map_err(|cause| refused(&cause))?;
            PublicKey::from_file(key).map_err(|cause| refused(&cause))
        };
        *self.keys.write() = self.names.iter().map(read).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Lets a plugin in that is to run under `label` with `grant`, or says why not.
    pub(super) fn admit(&self, checked: &Checked, label: &str, grant: &Grant) -> Result<(), LoadError> {
        let path = || checked.path.clone();
        if !self.names.is_empty() {
            self.verify(checked).map_err(|cause| LoadError::Signature { path: path(), cause })?;
        }
        if let Some(lock) = &self.lock {
            let asks = Locked::new(&checked.path, &checked.digest, grant);
            let checked = Lock::read(lock).and_then(|lock| lock.check(label, &asks));
            checked.map_err(|cause| LoadError::Locked { path: path(), lock: lock.clone(), cause })?;
        }
        Ok(())
    }

    fn verify(&self, checked: &Checked) -> Result<(), String> {
        let file = signature_of(&checked.path);
        let text = match read_bounded(&file) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Err(format!(
                    "there is no {}, and plugins.trusted_keys asks for it: sign the plugin (`minisign -S -m {}`)",
                    file.display(),
                    checked.path.file_name().unwrap_or_default().display()
                ));
            }
            Err(cause) => return Err(format!("{} cannot be read: {cause}", file.display())),
        };
        let signature = Signature::decode(&text)
            .map_err(|_| format!("{} is not a signature of minisign's", file.display()))?;
        let mut reason = "it is signed with a key that is not among plugins.trusted_keys";
        for key in self.keys.read().clone().iter() {
            match key.verify(&checked.bytes, &signature, false) {
                Ok(()) => return Ok(()),
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnexpectedAlgorithm) => {
                    reason = "it is signed the old way; sign it with minisign 0.10 or later";
                }
                Err(_) => reason = "it has the signature of another file, or was changed after it was signed",
            }
        }
        Err(format!("{reason} ({})", file.display()))
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    paths::check(path)?;
    // Opening a pipe waits for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_SIGNATURE).read_to_string(&mut text)?;
    Ok(text)
}
