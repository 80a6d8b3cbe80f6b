//! What a guest writes to a stream and reads from one, of whatever kind.
//!
//! Invariant: the bytes are charged to the instance before the host allocates them, and until the host has passed them
//! on. What does not fit is refused with an error that the guest can read.

use super::super::limits::{Budget, Charge};
use super::super::state::State;
use super::body::{Cut, with_charge};
use bytes::Bytes;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmList};
use wasmtime_wasi::p2::bindings::io::streams;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError};

/// As `wasmtime-wasi` names it; a guest of another 0.2 finds it all the same.
const STREAMS: &str = "wasi:io/streams@0.2.12";
/// The most that one `blocking-write-…-and-flush` takes, by the contract of `wasi:io`.
const MOST_BLOCKING: usize = 4 << 10;
/// The most that one call moves from a stream to another.
const MOST_SPLICED: usize = 64 << 10;

type Output = Resource<DynOutputStream>;
type Input = Resource<DynInputStream>;
type Answer<T> = wasmtime::Result<(Result<T, streams::StreamError>,)>;

/// Puts functions that charge in the place of those that are there.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut instance = linker.instance(STREAMS)?;
    instance.resource_async(
        "input-stream",
        ResourceType::host::<DynInputStream>(),
        |mut store, stream| {
            Box::new(async move {
                let state = store.data_mut();
                let mut dropped = state.table.delete(Input::new_own(stream))?;
                dropped.cancel().await;
                state.drop_charge(stream);
                Ok(())
            })
        },
    )?;
    // Handed to the guest as they are: the bytes of a body are shared with what is charged for it, and not copied.
    instance.func_wrap("[method]input-stream.read", |mut store, (from, most): (Input, u64)| {
        let state: &mut State = store.data_mut();
        let read = state.table.get_mut(&from)?.read(length(most));
        answer(state, read)
    })?;
    instance.func_wrap_async(
        "[method]input-stream.blocking-read",
        |mut store, (from, most): (Input, u64)| {
            Box::new(async move {
                let state: &mut State = store.data_mut();
                let read = state.table.get_mut(&from)?.blocking_read(length(most)).await;
                answer(state, read)
            })
        },
    )?;
    instance.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, State>, (to, list): (Output, WasmList<u8>)| {
            let bytes = copied(&store, &list);
            let state = store.data_mut();
            let written = bytes.and_then(|bytes| state.table.get_mut(&to)?.write(bytes));
            answer(state, written)
        },
    )?;
    instance.func_wrap_async(
        "[method]output-stream.blocking-write-and-flush",
        |mut store: StoreContextMut<'_, State>, (to, list): (Output, WasmList<u8>)| {
            Box::new(async move {
                let bytes = match list.len() {
                    0..=MOST_BLOCKING => copied(&store, &list),
                    _ => Err(too_large()),
                };
                let state = store.data_mut();
                let written = flushed(state, &to, bytes).await;
                answer(state, written)
            })
        },
    )?;
    instance.func_wrap("[method]output-stream.write-zeroes", |mut store, (to, many): (Output, u64)| {
        let state: &mut State = store.data_mut();
        let written = write_zeroes(state, &to, length(many));
        answer(state, written)
    })?;
    instance.func_wrap_async(
        "[method]output-stream.blocking-write-zeroes-and-flush",
        |mut store, (to, many): (Output, u64)| {
            Box::new(async move {
                let state: &mut State = store.data_mut();
                let bytes = match length(many) {
                    many @ 0..=MOST_BLOCKING => charged_zeroes(state.budget(), many),
                    _ => Err(too_large()),
                };
                let written = flushed(state, &to, bytes).await;
                answer(state, written)
            })
        },
    )?;
    instance.func_wrap(
        "[method]output-stream.splice",
        |mut store, (to, from, most): (Output, Input, u64)| {
            let state: &mut State = store.data_mut();
            let moved = splice(state, &to, &from, length(most));
            answer(state, moved)
        },
    )?;
    instance.func_wrap_async(
        "[method]output-stream.blocking-splice",
        |mut store, (to, from, most): (Output, Input, u64)| {
            Box::new(async move {
                let state: &mut State = store.data_mut();
                let moved = blocking_splice(state, &to, &from, length(most)).await;
                answer(state, moved)
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn length(many: u64) -> usize {
    usize::try_from(many).unwrap_or(usize::MAX)
}

fn too_large() -> StreamError {
    StreamError::trap("wrote more than 4096 bytes in one call that writes and flushes")
}

fn charge(budget: &Arc<Budget>, bytes: usize) -> Result<Charge, StreamError> {
    budget.charge(bytes).ok_or_else(|| StreamError::LastOperationFailed(Cut::Memory.into()))
}

/// What a guest hands over, charged before it is copied.
fn copied(store: &StoreContextMut<'_, State>, list: &WasmList<u8>) -> Result<Bytes, StreamError> {
    let charge = charge(store.data().budget(), list.len())?;
    Ok(with_charge(Bytes::copy_from_slice(list.as_le_slice(store)), charge))
}

fn charged_zeroes(budget: &Arc<Budget>, many: usize) -> Result<Bytes, StreamError> {
    let charge = charge(budget, many)?;
    Ok(with_charge(vec![0; many].into(), charge))
}

fn write_zeroes(state: &mut State, to: &Output, many: usize) -> Result<(), StreamError> {
    if many > state.table.get_mut(to)?.check_write()? {
        return Err(StreamError::trap("cannot write more zeroes than `check_write` allows"));
    }
    let bytes = charged_zeroes(state.budget(), many)?;
    state.table.get_mut(to)?.write(bytes)
}

async fn flushed(
    state: &mut State,
    to: &Output,
    bytes: Result<Bytes, StreamError>,
) -> Result<(), StreamError> {
    state.table.get_mut(to)?.blocking_write_and_flush(bytes?).await
}

fn splice(state: &mut State, to: &Output, from: &Input, most: usize) -> Result<u64, StreamError> {
    let most = most.min(state.table.get_mut(to)?.check_write()?).min(MOST_SPLICED);
    if most == 0 {
        return Ok(0);
    }
    let room = charge(state.budget(), most)?;
    let bytes = state.table.get_mut(from)?.read(most)?;
    let moved = bytes.len();
    if moved > 0 {
        state.table.get_mut(to)?.write(within(room, bytes))?;
    }
    Ok(moved as u64)
}

async fn blocking_splice(
    state: &mut State,
    to: &Output,
    from: &Input,
    most: usize,
) -> Result<u64, StreamError> {
    let most = most.min(state.table.get_mut(to)?.write_ready().await?).min(MOST_SPLICED);
    if most == 0 {
        return Ok(0);
    }
    let room = charge(state.budget(), most)?;
    let bytes = state.table.get_mut(from)?.blocking_read(most).await?;
    let moved = bytes.len();
    if moved > 0 {
        state.table.get_mut(to)?.blocking_write_and_flush(within(room, bytes)).await?;
    }
    Ok(moved as u64)
}

/// `bytes` for which there was `room`.
fn within(mut room: Charge, bytes: Bytes) -> Bytes {
    room.shrink(bytes.len());
    with_charge(bytes, room)
}

fn answer<T>(state: &mut State, result: Result<T, StreamError>) -> Answer<T> {
    Ok((match result {
        Ok(it) => Ok(it),
        Err(StreamError::Closed) => Err(streams::StreamError::Closed),
        Err(StreamError::LastOperationFailed(cause)) => {
            Err(streams::StreamError::LastOperationFailed(state.table.push(cause)?))
        }
        Err(StreamError::Trap(cause)) => return Err(cause),
    },))
}
