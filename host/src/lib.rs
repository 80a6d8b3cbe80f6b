//! Pressroom records what a pipeline does, answers questions about it, and publishes it: natively, and through
//! publisher plugins that run in a WebAssembly sandbox.
//!
//! The rooms, in reading order:
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod publisher;
pub mod record;
