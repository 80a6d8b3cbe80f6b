//! Directories of the host that a section grants.
//!
//! Invariant: each is opened once, when the section is applied, and all instances get that handle; its path leads through
//! no directory that a plugin may write to. A directory that a plugin may write to overlaps no other grant, and neither
//! holds, is, nor lies in what decides which code runs: code in the cache is run as it lies there.

use super::super::settings::{DirGrant, Grant};
use super::super::state::State;
use crate::paths::{self, Place, Writable};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, Dir, OpenMode};

/// As `wasmtime-wasi` names it; a guest of another 0.2 finds it all the same.
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

/// Hands a guest the directories that are open, where `wasmtime-wasi` would open paths for each instance.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(PREOPENS)?.func_wrap(
        "get-directories",
        |mut store: StoreContextMut<'_, State>, (): ()| {
            let state = store.data_mut();
            let mut given: Vec<(Resource<Descriptor>, String)> = Vec::new();
            for (dir, name) in &*state.dirs.clone() {
                given.push((state.table.push(Descriptor::Dir(dir.clone()))?, name.clone()));
            }
            Ok((given,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The directories of a section, open, each with the guest's name for it.
pub(in crate::wasm) type Dirs = Arc<[(Dir, String)]>;

/// The directories of a section, open.
pub(super) struct Opened {
    pub(super) dirs: Dirs,
    /// Keeps other paths out of those that the plugin may write to.
    _writable: Vec<Writable>,
}

/// Opens the directories of `grant`, in which relative paths start at `base_dir`; none of `guarded` may be written to.
///
/// # Errors
///
/// A directory is not there or must not be granted; the text names it.
pub(super) fn open(
    grant: &Grant,
    base_dir: &Path,
    label: &str,
    guarded: &[PathBuf],
) -> Result<Opened, String> {
    if let Some((_, _, problem)) = overlaps(&[(label, grant)], base_dir).into_iter().next() {
        return Err(problem);
    }
    let (mut dirs, mut writable) = (Vec::new(), Vec::new());
    for dir in &grant.dirs {
        let path = base_dir.join(&dir.host);
        let failed = |cause: std::io::Error| {
            let path = path.display();
            format!("the granted directory {path} cannot be opened: {cause}; create it or correct grant.dirs")
        };
        paths::check_grant(&path).map_err(|cause| {
            format!("the granted directory cannot be opened: {cause}, or stop that plugin before this section is applied")
        })?;
        let place = Place::find(&path).map_err(failed)?;
        if dir.write {
            unguarded(&place, guarded)?;
        }
        let file = place.open_dir().map_err(failed)?;
        dirs.push((handle(file, dir.write), dir.guest.clone()));
        if dir.write {
            writable.push(Writable::new(label, &path, Some(place)));
        }
    }
    Ok(Opened { dirs: dirs.into(), _writable: writable })
}

fn handle(dir: File, write: bool) -> Dir {
    match write {
        true => Dir::new(dir, FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE, false),
        false => Dir::new(dir, FsPerms::ReadOnly, OpenMode::READ, false),
    }
}

/// Keeps all other paths out of the directories that the section `label` lets its plugin write to, before they are open.
pub(in crate::wasm) fn writable(grant: &Grant, base_dir: &Path, label: &str) -> Vec<Writable> {
    let granted = grant.dirs.iter().filter(|dir| dir.write);
    granted.map(|dir| Writable::new(label, &base_dir.join(&dir.host), None)).collect()
}

/// What is wrong with the directories of a grant, as (key, message): none of `guarded` may be written to.
pub(in crate::wasm) fn problems(
    grant: &Grant,
    base_dir: &Path,
    guarded: &[PathBuf],
) -> Vec<(String, String)> {
    let writable = grant.dirs.iter().enumerate().filter(|(_, dir)| dir.write);
    writable
        .filter_map(|(at, dir)| {
            // What cannot be found now is refused when it is opened.
            let place = Place::find(&base_dir.join(&dir.host)).ok()?;
            Some((key(at), unguarded(&place, guarded).err()?))
        })
        .collect()
}

fn key(at: usize) -> String {
    format!("grant.dirs.{at}.host")
}

/// Refuses to let a plugin write to `dir` if that touches what is guarded.
fn unguarded(dir: &Place, guarded: &[PathBuf]) -> Result<(), String> {
    for path in guarded {
        let Ok(place) = Place::find(path) else { continue };
        let how = if place.is(dir) {
            "decides which plugins run and what they may do".to_owned()
        } else if place.passes(dir) {
            format!("holds {}, which decides which plugins run and what they may do", path.display())
        } else if dir.lies_in(&place) {
            format!("lies in {}, which decides which plugins run and what they may do", path.display())
        } else {
            continue;
        };
        return Err(format!(
            "no plugin may write to {}: it {how}; grant a directory of its own, or leave out write = true",
            dir.path().display()
        ));
    }
    Ok(())
}

/// A directory of one of several sections.
struct Granted<'a> {
    label: &'a str,
    at: usize,
    dir: &'a DirGrant,
    place: Place,
}

impl Granted<'_> {
    /// Whether what a plugin does in the one could change what another finds in the other, or on the way there.
    fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (&self.place, &other.place);
        (self.dir.write || other.dir.write) && (a.is(b) || a.lies_in(b) || b.lies_in(a))
            || (self.dir.write && b.passes(a))
            || (other.dir.write && a.passes(b))
    }
}

/// Which directories of `sections`, each with its label, overlap although a plugin may write to one of the two, as (number
/// of the section, key, message).
pub(in crate::wasm) fn overlaps(
    sections: &[(&str, &Grant)],
    base_dir: &Path,
) -> Vec<(usize, String, String)> {
    let mut all: Vec<Granted<'_>> = Vec::new();
    let mut problems = Vec::new();
    for (section, (label, grant)) in sections.iter().enumerate() {
        for (at, dir) in grant.dirs.iter().enumerate() {
            // What cannot be found now is refused when it is opened.
            let Ok(place) = Place::find(&base_dir.join(&dir.host)) else { continue };
            let granted = Granted { label, at, dir, place };
            if let Some(other) = all.iter().find(|other| granted.overlaps(other)) {
                let message = format!(
                    "{} overlaps {} of publishers.{}.{}, and a plugin may write to one of them: what it does there would change \
                     what the other grants; grant directories of which none holds the other, or leave out write = true",
                    dir.host.display(),
                    other.dir.host.display(),
                    other.label,
                    key(other.at),
                );
                problems.push((section, key(at), message));
            }
            all.push(granted);
        }
    }
    problems
}

#[cfg(all(test, unix))]
mod tests {
    use super::{open, overlaps, unguarded};
    use crate::paths::Place;
    use crate::wasm::settings::Grant;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A grant of directories; those with a `+` may be written to.
    fn grant(dirs: &[&str]) -> Grant {
        let dirs = dirs.iter().map(|dir| {
            let (host, write) = dir.strip_prefix('+').map_or((*dir, false), |host| (host, true));
            format!("{{ host = '{host}', guest = '/{}', write = {write} }}", host.len())
        });
        toml::from_str(&format!("dirs = [{}]", dirs.collect::<Vec<_>>().join(", "))).unwrap()
    }

    /// Directories, a secret outside of them, and links that lead from one to the other.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["rw/sub/deep", "ro/sub", "other", "outside", "links"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        for (link, to) in
            [("links/sub", "../rw/sub"), ("links/rw", "../rw"), ("rw/out", "../outside"), ("ro/rw", "../rw")]
        {
            symlink(to, at(link)).unwrap();
        }
        dir
    }

    fn refused(dirs: &[&str], base_dir: &Path) -> Option<String> {
        open(&grant(dirs), base_dir, "a", &[]).err()
    }

    #[test]
    fn what_decides_on_code_is_not_written_to_by_any_way() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["plugins", "plugins/data", "out", "plugins-of-others"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        // The cache is not there yet; a plugin could make it.
        let mut guarded = vec![at("plugins"), at("state/cache"), at("pressroom.lock")];
        let refused = |name: &str, guarded: &[_]| unguarded(&Place::find(&at(name)).unwrap(), guarded).err();
        for (name, how) in [
            ("", "holds "),
            ("out/..", "holds "),
            ("plugins", "decides "),
            ("plugins/data", "lies in "),
            ("state", "holds "),
            ("state/cache/deep", "lies in "),
        ] {
            let text = refused(name, &guarded).unwrap_or_else(|| panic!("{name} is granted"));
            assert!(
                text.contains(&format!("it {how}")) && text.contains("decides which plugins run"),
                "{text}"
            );
        }
        for name in ["out", "out/deep", "plugins-of-others"] {
            assert_eq!(refused(name, &guarded), None, "{name}");
        }
        symlink(at("plugins"), at("out/link")).unwrap();
        assert!(refused("out/link", &guarded).is_some_and(|text| text.contains("it decides ")));
        // And where what is guarded lies behind a link, or the link that leads to it lies there.
        symlink(at("out"), at("elsewhere")).unwrap();
        guarded = vec![at("elsewhere/cache")];
        assert!(refused("out", &guarded).is_some());
        guarded = vec![at("out/link/cache")];
        assert!(refused("out", &guarded).is_some());
    }

    #[test]
    fn directories_that_overlap_with_one_that_is_written_to_are_refused_in_one_section_and_in_two() {
        let dir = folder();
        let absolute = format!("{}/rw/sub", dir.path().display());
        for (first, second) in [
            ("+rw", "rw/sub"),
            ("+rw", "rw/sub/deep"),
            ("+rw", "+rw"),
            ("+rw", "rw"),
            ("rw", "+rw/sub"),
            (".", "+rw"),
            ("+rw", "./other/..//rw/sub/"),
            ("+rw", "links/sub"),
            ("+links/rw", "links/sub"),
            ("+rw", "ro/rw"),
            ("+rw", "rw/out"),
            ("+rw", "rw/not-there-yet"),
            ("+rw/not-there", "rw/not-there/deep"),
            ("+rw", absolute.as_str()),
        ] {
            for (first, second) in [(first, second), (second, first)] {
                let one = overlaps(&[("a", &grant(&[first, second]))], dir.path());
                let two = overlaps(&[("a", &grant(&[first])), ("b", &grant(&["other", second]))], dir.path());
                let [(0, key, text)] = &one[..] else { panic!("{first} and {second}: {one:?}") };
                assert!(
                    key == "grant.dirs.1.host" && text.contains("publishers.a.grant.dirs.0.host"),
                    "{text}"
                );
                let [(1, key, text)] = &two[..] else { panic!("{first} and {second}: {two:?}") };
                assert!(
                    key == "grant.dirs.1.host" && text.contains("publishers.a.grant.dirs.0.host"),
                    "{text}"
                );
                let named = format!("{} overlaps {} of ", second.trim_matches('+'), first.trim_matches('+'));
                assert!(text.starts_with(&named), "{text}");
                assert!(refused(&[first, second], dir.path()).is_some(), "{first} and {second}");
            }
        }
        for dirs in
            [&["rw", "rw/sub", "."][..], &["+rw", "ro/sub"], &["+rw/sub", "+other"], &["+rw", "rw-not"]]
        {
            assert_eq!(overlaps(&[("a", &grant(dirs))], dir.path()), [], "{dirs:?}");
        }
    }

    #[test]
    fn a_directory_within_one_that_a_running_plugin_may_write_to_is_not_opened() {
        let dir = folder();
        let opened = open(&grant(&["+rw"]), dir.path(), "a", &[]).unwrap();
        for name in ["rw/sub", "rw/out", "links/sub", "+rw/sub"] {
            let text = refused(&[name], dir.path()).unwrap_or_else(|| panic!("{name} is opened"));
            assert!(text.contains("where the plugin of publishers.a may write"), "{text}");
        }
        // A later version of the same section has it as before.
        assert_eq!(refused(&["+rw"], dir.path()), None);
        drop(opened);
        assert_eq!(refused(&["rw/sub"], dir.path()), None);
    }

    #[test]
    fn a_plugin_that_swaps_a_directory_for_a_link_while_it_is_opened_gains_nothing() {
        let dir = folder();
        let _opened = open(&grant(&["+rw"]), dir.path(), "a", &[]).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (sub, away) = (dir.path().join("rw/sub"), dir.path().join("rw/away"));
                while !over.load(Ordering::Relaxed) {
                    std::fs::rename(&sub, &away).unwrap();
                    symlink("../outside", &sub).unwrap();
                    std::fs::remove_file(&sub).unwrap();
                    std::fs::rename(&away, &sub).unwrap();
                }
            });
            let opened = (0..1_000).filter(|_| refused(&["rw/sub"], dir.path()).is_none()).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(opened, 0);
        });
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let dir = folder();
        std::fs::write(dir.path().join("file"), "").unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        for (name, cause) in [
            ("nowhere", "nowhere cannot be opened: No such file"),
            ("file", "file cannot be opened: "),
            ("loop", "loop cannot be opened: "),
        ] {
            let text = refused(&[name], dir.path()).unwrap();
            assert!(text.contains(cause), "{text}");
        }
    }
}
