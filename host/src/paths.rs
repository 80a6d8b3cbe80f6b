//! Paths that the host follows, and the directories that plugins may write to.
//!
//! Invariant: no path that decides something (a plugin, a key, a certificate, a secret) or records something (an output,
//! dead letters) leads through a directory that a plugin may write to, neither because it lies there nor by a link that
//! does. A plugin can therefore change no part of such a path: what a check finds is still true when the path is opened.
#![cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "only plugins are granted directories"))]

mod place;

pub(crate) use place::Place;

use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// The directories that plugins of this process may write to. The process has one file system, so it has one list,
/// whatever number of hosts run in it.
static WRITABLE: Mutex<Vec<Weak<Root>>> = Mutex::new(Vec::new());

struct Root {
    /// The label of the section whose plugin may write there.
    label: String,
    path: PathBuf,
    /// The directory that is open; without one the path is followed at each check.
    opened: Option<Place>,
}

/// Keeps a directory on the list of those that plugins may write to, for as long as it lives.
#[derive(Clone)]
pub(crate) struct Writable {
    root: Arc<Root>,
}

impl Writable {
    /// Puts `path` on the list, where the plugin of the section `label` may write.
    pub(crate) fn new(label: &str, path: &Path, opened: Option<Place>) -> Self {
        let root = Arc::new(Root { label: label.to_owned(), path: path.to_owned(), opened });
        let mut all = WRITABLE.lock();
        all.retain(|root| root.strong_count() > 0);
        all.push(Arc::downgrade(&root));
        Self { root }
    }
}

/// Refuses a path that leads through a directory that a plugin may write to, or to one.
///
/// # Errors
///
/// It does, or it cannot be followed. The text names the directory and the section.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    refuse(path, all(), |place, dir| place.passes(dir) || place.is(dir))
}

/// As [`check`], and does not refuse a directory that a plugin may write to: it may be granted again.
///
/// # Errors
///
/// As [`check`].
pub(crate) fn check_grant(path: &Path) -> io::Result<()> {
    refuse(path, all(), Place::passes)
}

/// As [`check`], with regard to `writable` alone: so a configuration is judged by what it says itself.
///
/// # Errors
///
/// As [`check`].
pub(crate) fn check_beside(path: &Path, writable: &[Writable]) -> io::Result<()> {
    let roots = writable.iter().map(|writable| writable.root.clone()).collect();
    refuse(path, roots, |place, dir| place.passes(dir) || place.is(dir))
}

fn all() -> Vec<Arc<Root>> {
    WRITABLE.lock().iter().filter_map(Weak::upgrade).collect()
}

fn refuse(path: &Path, roots: Vec<Arc<Root>>, touches: impl Fn(&Place, &Place) -> bool) -> io::Result<()> {
    if roots.is_empty() {
        return Ok(());
    }
    let place = Place::find(path)?;
    for root in roots {
        // What cannot be found now cannot be granted now either.
        let found = if root.opened.is_some() { None } else { Place::find(&root.path).ok() };
        if root.opened.iter().chain(&found).any(|dir| touches(&place, dir)) {
            let (path, dir, label) = (path.display(), root.path.display(), &root.label);
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{path} leads through {dir}, where the plugin of publishers.{label} may write (grant.dirs); keep it outside \
                     of that directory"
                ),
            ));
        }
    }
    Ok(())
}

/// Opens a file for reading that [`check`] does not refuse.
///
/// # Errors
///
/// As [`check`], or it cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    check(path)?;
    File::open(path)
}

/// Reads a file that [`check`] does not refuse.
///
/// # Errors
///
/// As [`check`], or it cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    check(path)?;
    std::fs::read(path)
}

#[cfg(all(test, unix))]
mod tests {
    use super::{Writable, check, check_grant, open};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_through_a_directory_that_a_plugin_may_write_to_is_refused_while_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["out/deep", "safe", "own"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("safe/file"), "text").unwrap();
        std::fs::write(at("out/deep/file"), "text").unwrap();
        for (link, to) in [
            ("out/link", "../safe"),
            ("out/file", "../safe/file"),
            ("out/deep/absolute", at("safe").to_str().unwrap()),
            ("own/into", "../out/link/file"),
            ("own/twice", "into"),
            ("own/plain", "../safe/file"),
            ("own/out", "../out"),
            ("own/dangling", "../out/nothing"),
        ] {
            symlink(to, at(link)).unwrap();
        }
        let through = [
            "out/link/file",
            "out/file",
            "out/deep/absolute/file",
            "out/deep/file",
            "out/new",
            "out/new/deep/file",
            "out/deep/../../safe/file",
            "own/into",
            "own/twice",
            "own/out/new",
            "own/dangling",
            "own/out",
            "out",
            "safe/../out/new",
        ];
        let beside = ["safe/file", "own/plain", "own/new", "outer", "own/out/../safe/file"];
        let refused = |name: &str| check(&at(name)).err().map(|error| error.to_string());
        for name in through.iter().chain(&beside) {
            assert_eq!(refused(name), None, "{name}: nothing is granted");
        }
        let granted = Writable::new("a", &at("out"), None);
        for name in through {
            let text = refused(name).unwrap_or_else(|| panic!("{name} is followed"));
            assert!(text.contains("the plugin of publishers.a may write"), "{name}: {text}");
            assert!(open(&at(name)).is_err(), "{name}");
        }
        assert!(check_grant(&at("own/out")).is_ok() && check_grant(&at("own/out/deep")).is_err());
        for name in beside {
            assert_eq!(refused(name), None, "{name}");
        }
        drop(granted);
        assert_eq!(refused("out/file"), None);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_counts_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let _granted = Writable::new("a", &at("later/out"), None);
        assert!(check(&at("later/out/file")).is_err());
        assert!(check(&at("later/other")).is_ok());
        std::fs::create_dir_all(at("later/out")).unwrap();
        assert!(check(&at("later/out/file")).is_err());
    }

    #[test]
    fn a_directory_that_is_open_counts_where_it_has_been_moved_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("out")).unwrap();
        let place = super::Place::find(&at("out")).unwrap();
        let _granted = Writable::new("a", &at("out"), Some(place));
        std::fs::rename(at("out"), at("moved")).unwrap();
        assert!(check(&at("moved/file")).is_err());
    }
}
