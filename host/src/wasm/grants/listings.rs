//! Directories that a guest lists.
//!
//! Invariant: few listings are held at once: the host reads each whole, and charges nothing for it.

use super::super::state::State;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Descriptor, DirectoryEntryStream, ErrorCode, HostDescriptor as _,
};

/// As `wasmtime-wasi` names it; a guest of another 0.2 finds it all the same.
const TYPES: &str = "wasi:filesystem/types@0.2.12";
/// Enough for a walk of sixteen levels.
const MAX_LISTINGS: usize = 16;

/// Puts a `read-directory` that counts in the place of the one that is there.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<DirectoryEntryStream>(),
        |mut store: StoreContextMut<'_, State>, listing| {
            let state = store.data_mut();
            state.table.delete(Resource::<DirectoryEntryStream>::new_own(listing))?;
            state.listings = state.listings.saturating_sub(1);
            Ok(())
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (directory,): (Resource<Descriptor>,)| {
            Box::new(async move { Ok((list(store.data_mut(), directory).await?,)) })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn list(
    state: &mut State,
    directory: Resource<Descriptor>,
) -> wasmtime::Result<Result<Resource<DirectoryEntryStream>, ErrorCode>> {
    if state.listings >= MAX_LISTINGS {
        return Ok(Err(ErrorCode::InsufficientMemory));
    }
    match state.filesystem().read_directory(directory).await {
        Ok(listing) => {
            state.listings += 1;
            Ok(Ok(listing))
        }
        Err(cause) => cause.downcast().map(Err),
    }
}
