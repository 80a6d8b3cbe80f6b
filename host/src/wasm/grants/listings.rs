//! Directories that a guest lists.
//!
//! Invariant: of a directory of any size the host holds a few entries at a time, and what it holds is charged to the
//! instance until the listing is dropped.

use super::super::state::State;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

/// As `wasmtime-wasi` names it; a guest of another 0.2 finds it all the same.
const TYPES: &str = "wasi:filesystem/types@0.2.12";
/// How many entries are read at once: each has a name of at most 255 bytes.
const AT_ONCE: usize = 64;
/// What a listing holds: these entries, and what the system hands over at once.
const LISTING: usize = 64 << 10;

/// A directory that is being listed.
pub(super) struct Listing {
    /// Elsewhere while it is read, and gone when it has come to its end.
    dir: Option<Dir>,
    entries: VecDeque<DirectoryEntry>,
}

type Listed<T> = Result<T, ErrorCode>;

/// Puts listings that are read piece by piece in the place of those that hold all of a directory.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<Listing>(),
        |mut store: StoreContextMut<'_, State>, listing| {
            let state = store.data_mut();
            state.table.delete(Resource::<Listing>::new_own(listing))?;
            state.drop_charge(listing);
            Ok(())
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (directory,): (Resource<Descriptor>,)| {
            Box::new(async move { Ok((begin(store.data_mut(), &directory).await?,)) })
        },
    )?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, State>, (listing,): (Resource<Listing>,)| {
            Box::new(async move { Ok((next(store.data_mut(), &listing).await?,)) })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn begin(
    state: &mut State,
    directory: &Resource<Descriptor>,
) -> wasmtime::Result<Listed<Resource<Listing>>> {
    let directory = match state.table.get(directory)? {
        Descriptor::Dir(directory) => directory.dir.clone(),
        Descriptor::File(_) => return Ok(Err(ErrorCode::NotDirectory)),
    };
    let Some(charge) = state.budget().charge(LISTING) else {
        return Ok(Err(ErrorCode::InsufficientMemory));
    };
    Ok(match tokio::task::spawn_blocking(move || open(&directory)).await? {
        Ok(dir) => {
            let listing = Listing { dir: Some(dir), entries: VecDeque::new() };
            let handle = state.table.push(listing)?;
            state.keep_charge(handle.rep(), charge);
            Ok(handle)
        }
        Err(cause) => Err(code(cause)),
    })
}

/// A descriptor of its own, which has a position of its own.
fn open(directory: &Arc<std::fs::File>) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Dir::new(rustix::fs::openat(directory, c".", flags, Mode::empty())?)
}

async fn next(
    state: &mut State,
    listing: &Resource<Listing>,
) -> wasmtime::Result<Listed<Option<DirectoryEntry>>> {
    let listing = state.table.get_mut(listing)?;
    if listing.entries.is_empty()
        && let Some(mut dir) = listing.dir.take()
    {
        let (dir, read) = tokio::task::spawn_blocking(move || {
            let read = read(&mut dir);
            (dir, read)
        })
        .await?;
        match read {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => (listing.dir, listing.entries) = (Some(dir), entries),
            Err(cause) => return Ok(Err(cause)),
        }
    }
    Ok(Ok(listing.entries.pop_front()))
}

fn read(dir: &mut Dir) -> Listed<VecDeque<DirectoryEntry>> {
    let mut entries = VecDeque::new();
    while entries.len() < AT_ONCE {
        let Some(entry) = dir.read() else { break };
        let entry = entry.map_err(code)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                match rustix::fs::statat(dir.fd().map_err(code)?, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    // It has gone meanwhile.
                    Err(Errno::NOENT) => continue,
                    Err(cause) => return Err(code(cause)),
                }
            }
            known => known,
        };
        let name = name.to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
        entries.push_back(DirectoryEntry { type_: descriptor_type(kind), name });
    }
    Ok(entries)
}

fn code(cause: Errno) -> ErrorCode {
    std::io::Error::from(cause).into()
}

fn descriptor_type(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo | FileType::Socket | FileType::Unknown => DescriptorType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, DescriptorType, open, read};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn a_directory_is_read_piece_by_piece_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = BTreeMap::new();
        for number in 0..AT_ONCE * 3 {
            let name = format!("{number:0>200}");
            std::fs::write(dir.path().join(&name), "").unwrap();
            all.insert(name, DescriptorType::RegularFile);
        }
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("b")).unwrap();
        all.extend([("a".into(), DescriptorType::Directory), ("b".into(), DescriptorType::SymbolicLink)]);
        let file = Arc::new(std::fs::File::open(dir.path()).unwrap());
        // Each listing has a place of its own in it.
        for _ in 0..2 {
            let (mut listing, mut found) = (open(&file).unwrap(), BTreeMap::new());
            loop {
                let entries = read(&mut listing).unwrap();
                assert!(entries.len() <= AT_ONCE);
                if entries.is_empty() {
                    break;
                }
                found.extend(entries.into_iter().map(|entry| (entry.name, entry.type_)));
            }
            assert!(found == all, "{} of {}", found.len(), all.len());
        }
    }
}
