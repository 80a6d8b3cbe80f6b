//! What the demonstration works on: the files of a directory, and some of its own that make trouble.
//!
//! Invariant: the directory is only read; what the demonstration writes lies in its own, which goes with it.

use std::io::Write;
use std::path::{Path, PathBuf};

/// So many files of the directory are enough.
const MOST: usize = 150;
/// Larger ones are passed over: they would be read again and again.
const LARGEST: u64 = 4 << 20;
/// The size of the demonstration's own large file.
const BIG: usize = 8 << 20;

/// A file that the pipeline goes through.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Its name: the pipeline's task.
    pub(super) name: String,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Whether the loopback server is always too busy to serve it.
    pub(super) busy: bool,
}

/// A directory of the demonstration's own, removed with it unless it is to be kept.
pub(super) struct WorkDir {
    path: PathBuf,
    keep: bool,
}

impl WorkDir {
    pub(super) fn new(keep: bool) -> std::io::Result<Self> {
        let name = format!("pressroom-demo-{}-{:06x}", std::process::id(), fastrand::u32(..1 << 24));
        let path = std::env::temp_dir().join(name);
        // It must not exist yet: nobody else's directory is filled or removed.
        std::fs::create_dir(&path)?;
        Ok(Self { path, keep })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// The files of `dir`, if there is one, and those that make trouble, which are written to `own`.
pub(super) fn gather(dir: Option<&Path>, own: &Path) -> std::io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    match dir {
        Some(dir) => walk(dir, dir, &mut sources)?,
        None => write_ordinary(&own.join("texts"), &mut sources)?,
    }
    if sources.is_empty() {
        let message = "there is no file in it that the demo could work on";
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, message));
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources.truncate(MOST);
    sources.extend(write_troubles(&own.join("trouble"))?);
    Ok(sources)
}

fn walk(root: &Path, dir: &Path, sources: &mut Vec<Source>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || sources.len() >= 10 * MOST {
            continue;
        }
        if kind.is_dir() && !matches!(entry.file_name().to_str(), Some("target" | "node_modules")) {
            // A directory that may not be read is not worth ending for.
            let _ = walk(root, &path, sources);
        } else if kind.is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() <= LARGEST) {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { name, path, busy: false });
        }
    }
    Ok(())
}

fn write_ordinary(dir: &Path, sources: &mut Vec<Source>) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for number in 0..40 {
        let name = format!("text-{number:02}.txt");
        let path = dir.join(&name);
        std::fs::write(
            &path,
            "a step is an event, a call is a network operation\n".repeat(20 * (number + 1)),
        )?;
        sources.push(Source { name, path, busy: false });
    }
    Ok(())
}

/// A file that is not UTF-8, a large one, one that the server is too busy for, and one that has gone since it was
/// listed.
fn write_troubles(dir: &Path) -> std::io::Result<Vec<Source>> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("latin1.txt"), b"Gr\xfc\xdfe aus M\xfcnchen\n")?;
    std::fs::write(dir.join("popular.txt"), "everybody wants this one\n")?;
    let mut big = std::io::BufWriter::new(std::fs::File::create(dir.join("big.txt"))?);
    let line = "the same line again and again makes a large file\n";
    for _ in 0..BIG / line.len() {
        big.write_all(line.as_bytes())?;
    }
    big.flush()?;
    let trouble = |name: &str| Source {
        name: format!("trouble/{name}"),
        path: dir.join(name),
        busy: name == "popular.txt",
    };
    Ok(["latin1.txt", "popular.txt", "big.txt", "gone.txt"].map(trouble).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_and_troubles_are_added() {
        let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(dir.path().join("target")).unwrap();
        std::fs::create_dir_all(dir.path().join("src")).unwrap();
        for name in ["b.rs", "src/a.rs", ".hidden", "target/out"] {
            std::fs::write(dir.path().join(name), "text").unwrap();
        }
        let names = |sources: Vec<Source>| sources.into_iter().map(|source| source.name).collect::<Vec<_>>();
        assert_eq!(
            names(gather(Some(dir.path()), own.path()).unwrap()),
            [
                "b.rs",
                "src/a.rs",
                "trouble/latin1.txt",
                "trouble/popular.txt",
                "trouble/big.txt",
                "trouble/gone.txt"
            ]
        );
        assert_eq!(names(gather(None, own.path()).unwrap()).len(), 44);
    }

    #[test]
    fn its_directory_goes_with_it_unless_it_is_kept() {
        for keep in [false, true] {
            let work = WorkDir::new(keep).unwrap();
            let path = work.path().to_owned();
            std::fs::write(path.join("file"), "").unwrap();
            drop(work);
            assert_eq!(path.exists(), keep);
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
