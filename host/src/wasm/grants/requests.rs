//! What a guest says of a request before it sends it.
//!
//! Invariant: no text of it is longer than its bound, and there is room for the texts behind all handles: the gate charges
//! for them together, with the headers, before the first is kept.

use super::super::state::State;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method, OutgoingRequest};

/// As `wasmtime-wasi-http` names it; a guest of another 0.2 finds it all the same.
const TYPES: &str = "wasi:http/types@0.2.12";
/// The longest name of a method; the longest that is registered has 17 letters.
pub(super) const MAX_METHOD: usize = 64;
/// A name of a host has at most 253 letters.
const MAX_AUTHORITY: usize = 512;
/// Path and query; less where there is little memory. `http` itself would take 64 KiB.
const MAX_PATH: usize = 16 << 10;

type Request<T> = (Resource<OutgoingRequest>, T);

/// Puts bounded setters in the place of those that are there. (A scheme is bounded by `http` itself.)
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, State>, (request, method): Request<Method>| {
            let fits = !matches!(&method, Method::Other(name) if name.len() > MAX_METHOD);
            Ok((if fits { store.data_mut().http().set_method(request, method)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, State>, (request, authority): Request<Option<String>>| {
            let fits = fits(&authority, MAX_AUTHORITY) && store.data_mut().gate().affords_texts();
            Ok((if fits { store.data_mut().http().set_authority(request, authority)? } else { Err(()) },))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, State>, (request, path): Request<Option<String>>| {
            let gate = store.data_mut().gate();
            let fits = fits(&path, MAX_PATH.min(gate.max_headers())) && gate.affords_texts();
            Ok((if fits { store.data_mut().http().set_path_with_query(request, path)? } else { Err(()) },))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn fits(text: &Option<String>, most: usize) -> bool {
    text.as_ref().is_none_or(|text| text.len() <= most)
}
