//! Pressroom records what a pipeline does, answers questions about it, and publishes it: natively, and through
//! publisher plugins that run in a WebAssembly sandbox.
//!
//! The rooms, in reading order: a [`recorder`] (or an ingest) hands [`record`]s to the [`collector`], which appends
//! them to the [`journal`], which every [`publisher`]'s delivery reads at its own cursor.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod config;
pub mod output;
mod paths;
pub mod record;

pub mod collector;
pub mod recorder;

pub mod journal;

#[cfg(any(feature = "server", feature = "prometheus"))]
pub mod listen;

pub mod delivery;
pub mod publisher;
pub mod publishers;
#[cfg(feature = "wasm")]
pub mod wasm;

pub mod registry;
pub mod report;

#[cfg(feature = "server")]
pub mod ingest;
#[cfg(feature = "server")]
pub mod server;

pub mod host;
pub mod watch;

#[cfg(feature = "cli")]
pub mod cli;
