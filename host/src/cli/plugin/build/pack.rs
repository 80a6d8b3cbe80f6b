//! A core module becomes a component: what a plugin in C or Go needs after its own compiler.
//!
//! Invariant: nothing but the module is asked of the author's machine: the contract, WASI's outgoing HTTP and the adapter
//! between WASI's first and second version are carried here; and what comes out has been validated.

use anyhow::{Context, Result, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const CONTRACT: &str = include_str!("../../../../../wit/0.1/publisher.wit");
const WORLD: &str = include_str!("../../../../../plugins/worlds/guest.wit");

/// Makes a component of the core module `core`, which was compiled against the world of `plugins/worlds/guest.wit`.
///
/// # Errors
///
/// The module does not export what the world asks for, or imports what is not in it.
pub(super) fn component(mut core: Vec<u8>) -> Result<Vec<u8>> {
    ensure!(core.starts_with(b"\0asm"), "the compiler gave no WebAssembly module");
    let mut resolve = Resolve::default();
    resolve.push_str("publisher.wit", CONTRACT)?;
    let guest = resolve.push_str("guest.wit", WORLD)?;
    let world = resolve.select_world(&[guest], Some("guest"))?;
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .context("the module does not fit the contract")?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .encode()
        .context("the module does not fit the contract")
}

#[cfg(test)]
mod tests {
    use super::component;

    #[test]
    fn what_is_no_plugin_is_not_packed_and_the_reason_is_said() {
        let failed = |core: Vec<u8>| format!("{:#}", component(core).unwrap_err());
        let garbage = failed(b"#!/bin/sh".to_vec());
        assert!(garbage.starts_with("the compiler gave no WebAssembly module"), "{garbage}");
        let empty = failed(wat::parse_str("(module)").unwrap());
        assert!(empty.contains("publish-event-metrics"), "{empty}");
        // What Go makes of an import that lost its function.
        let invalid = failed(wat::parse_str("(module (func (result i32) nop))").unwrap());
        assert!(!invalid.is_empty(), "{invalid}");
    }
}
