//! Where a path leads, and what it passes on the way.
//!
//! Invariant: a directory is known by what it is on the disk, not by how it is spelled.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// What tells one directory from every other.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(_: &Path, metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &Metadata) -> Identity {
    path.to_owned()
}

/// Where a path leads. What is not there yet is taken as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Without links and dots.
    real: PathBuf,
    /// The directories from the root to it; itself the last, if it is one.
    dirs: Vec<Identity>,
    /// The directories in which a name was looked up, those that a link or `..` left again included.
    passed: Vec<Identity>,
    is_dir: bool,
}

impl Place {
    /// Follows `path` through all links.
    ///
    /// # Errors
    ///
    /// A directory on the way may not be looked into, or the links have no end.
    pub(crate) fn find(path: &Path) -> io::Result<Self> {
        let mut todo = parts(&std::path::absolute(path)?);
        let mut place = Self { real: PathBuf::new(), dirs: Vec::new(), passed: Vec::new(), is_dir: true };
        // How many of the last names are no directories: a file, or what is not there.
        let (mut beyond, mut links) = (0_usize, 0);
        while let Some(part) = todo.pop() {
            if Path::new(&part).is_absolute() {
                place.real = PathBuf::from(&part);
                let root = place.real.metadata()?;
                place.dirs = vec![identity(&place.real, &root)];
                beyond = 0;
                continue;
            }
            if part == ".." {
                place.real.pop();
                if beyond > 0 {
                    beyond -= 1;
                } else if place.dirs.len() > 1 {
                    place.dirs.pop();
                }
                continue;
            }
            place.real.push(&part);
            if beyond > 0 {
                beyond += 1;
                continue;
            }
            place.passed.extend(place.dirs.last().cloned());
            match place.real.symlink_metadata() {
                Ok(found) if found.is_symlink() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::other("Too many levels of symbolic links"));
                    }
                    todo.extend(parts(&place.real.read_link()?));
                    place.real.pop();
                }
                Ok(found) if found.is_dir() => place.dirs.push(identity(&place.real, &found)),
                Ok(_) => beyond = 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => beyond = 1,
                Err(error) => return Err(error),
            }
        }
        place.is_dir = beyond == 0;
        Ok(place)
    }

    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// It is none, it cannot be opened, or another one has taken its place since it was found.
    pub(crate) fn open_dir(&self) -> io::Result<File> {
        if !self.is_dir {
            // The system's own words.
            return self.real.read_dir().and(Err(io::ErrorKind::NotADirectory.into()));
        }
        let mut options = std::fs::OpenOptions::new();
        options.read(true);
        #[cfg(windows)]
        {
            /// Without it no directory is opened.
            const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
            std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, FILE_FLAG_BACKUP_SEMANTICS);
        }
        let dir = options.open(&self.real)?;
        if Some(&identity(&self.real, &dir.metadata()?)) != self.dirs.last() {
            return Err(io::Error::other("another directory was put in its place while it was opened"));
        }
        Ok(dir)
    }

    /// Whether it is the same as `other`.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = self.is_dir && other.is_dir && self.dirs.last() == other.dirs.last();
        same || self.real == other.real
    }

    /// Whether it lies in `dir`, however deep, and is not `dir` itself.
    pub(crate) fn lies_in(&self, dir: &Self) -> bool {
        let above = self.dirs.split_last().map_or(&[][..], |(_, above)| above);
        let above = if self.is_dir { above } else { &self.dirs };
        let within = dir.is_dir && dir.dirs.last().is_some_and(|dir| above.contains(dir));
        within || (self.real != dir.real && self.real.starts_with(&dir.real))
    }

    /// Whether a name is looked up in `dir` on the way to it: it lies there, or a link that leads to it does.
    pub(crate) fn passes(&self, dir: &Self) -> bool {
        let passed = dir.is_dir && dir.dirs.last().is_some_and(|dir| self.passed.contains(dir));
        passed || self.lies_in(dir)
    }

    /// The path of it, without links and dots.
    pub(crate) fn path(&self) -> &Path {
        &self.real
    }
}

/// The names in a path, the first one last. The root is one of them.
fn parts(path: &Path) -> Vec<OsString> {
    let mut parts = Vec::new();
    let mut root = OsString::new();
    for component in path.components() {
        match component {
            Component::Prefix(prefix) => root.push(prefix.as_os_str()),
            Component::RootDir => {
                root.push(std::path::MAIN_SEPARATOR_STR);
                parts.push(std::mem::take(&mut root));
            }
            Component::CurDir => {}
            name => parts.push(name.as_os_str().to_owned()),
        }
    }
    parts.reverse();
    parts
}
