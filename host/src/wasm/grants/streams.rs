//! What a guest writes to a stream, of whatever kind.
//!
//! Invariant: it is charged to the instance from the call that hands it over until the host has passed it on.

use super::super::state::State;
use super::body::{Cut, charged};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::io::streams;
use wasmtime_wasi::p2::{DynOutputStream, StreamError};

/// As `wasmtime-wasi` names it; a guest of another 0.2 finds it all the same.
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// Puts a `write` that charges in the place of the one that is there.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(STREAMS)?.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, State>, (stream, bytes): (Resource<DynOutputStream>, Vec<u8>)| {
            Ok((write(store.data_mut(), &stream, bytes)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn write(
    state: &mut State,
    stream: &Resource<DynOutputStream>,
    bytes: Vec<u8>,
) -> wasmtime::Result<Result<(), streams::StreamError>> {
    let written = match charged(state.budget(), bytes.into()) {
        Some(bytes) => state.table.get_mut(stream)?.write(bytes),
        None => Err(StreamError::LastOperationFailed(Cut::Memory.into())),
    };
    Ok(match written {
        Ok(()) => Ok(()),
        Err(StreamError::Closed) => Err(streams::StreamError::Closed),
        Err(StreamError::LastOperationFailed(cause)) => {
            Err(streams::StreamError::LastOperationFailed(state.table.push(cause)?))
        }
        Err(StreamError::Trap(cause)) => return Err(cause),
    })
}
