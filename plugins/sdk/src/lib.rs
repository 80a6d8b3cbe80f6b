//! Write a publisher for Pressroom in Rust: implement [`Publisher`], export it,
//! build for `wasm32-wasip2`, drop the `.wasm` into the host's plugin directory.
//!
//! ```
//! use pressroom_plugin::{EventBatch, NetworkBatch, PublishResult, Publisher, config, info};
//!
//! #[derive(Default)]
//! struct Failures;
//!
//! impl Publisher for Failures {
//!     fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
//!         for event in events.rows() {
//!             if let Some(error) = event.error() {
//!                 info!("{} of task {} failed: {error}", event.event_name(), event.task_id());
//!             }
//!         }
//!         Ok(vec![])
//!     }
//!
//!     fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
//!         let prefix = config::get("prefix").unwrap_or_default();
//!         info!("{prefix}{} network operations", operations.len());
//!         Ok(vec![])
//!     }
//! }
//!
//! pressroom_plugin::export!(Failures);
//! ```
//!
//! # What to know
//!
//! - **A batch stays on the host.** Ask for the one view that suits: [`EventBatch::rows`] to read fields (fast: a
//!   batch crosses as a few columns), [`EventBatch::encode`] to forward bytes that the host renders (fastest),
//!   [`EventBatch::records`] for owned structs (slow: each text crosses alone).
//! - **`Ok` is final**: the host forgets the rows, except for those listed. Errors say what is to become of the
//!   batch: [`PublishError`].
//! - **Calls never overlap**, and an instance has one thread. It may be discarded at any time (a trap, a deadline,
//!   a changed file); the host then starts another one.
//! - **Nothing is granted by default**: files, environment and network are given by the operator's `grant` table.
//! - **A panic is a trap**: the host reports its text, discards the instance and tries the batch again. Answer with an
//!   error instead.
//! - **Unit tests run natively**: batches are made of records (`EventBatch::from(vec![…])`), settings are absent,
//!   and the log goes to standard error.
//!
//! The contract behind this crate is `wit/0.1/publisher.wit`.

/// The plugin in `plugins/README.md` compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod batch;
pub mod config;
mod export;
#[cfg(feature = "http")]
pub mod http;
pub mod log;
mod outcome;
mod rows;

/// What `wit-bindgen` makes of the contract; for what this crate does not cover.
#[allow(missing_docs, unsafe_code, clippy::all, clippy::indexing_slicing, clippy::unwrap_used)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/0.1",
        world: "stateful-plugin",
        pub_export_macro: true,
        export_macro_name: "export_guest",
        default_bindings_module: "pressroom_plugin::bindings",
    });
}

pub use batch::{EventBatch, Format, NetworkBatch};
pub use bindings::pressroom::publisher::records::{
    Attribute as AttributeRecord, AttributeColumns, EventColumns, EventMetrics, EventStatus, NetworkColumns,
    NetworkMetrics, OptionalTextColumn, TextColumn,
};
pub use outcome::{Fate, PublishError, PublishResult, Unpublished};
pub use rows::{Attribute, Event, NetworkOperation, Value};

#[doc(hidden)]
pub use export::__private;

/// A publisher: what a plugin's author writes.
///
/// # Order of calls
///
/// It is made once per instance, before anything else: by `Default`, or by the function given to
/// [`export!`]. Then `publish_*` and `flush` come in any order, never two at once. `flush` comes at the configured
/// interval and before the instance is retired. An instance that trapped or ran past a deadline is discarded
/// without a further call.
pub trait Publisher {
    /// Publishes events; at least one row.
    ///
    /// `Ok` lists the rows that were left out, none as a rule, and is final for the others: the host forgets them.
    /// What the publisher still holds of them is lost with the instance, unless the operator has set
    /// `acknowledge = "flush"`: then they are forgotten when `flush` has returned ok, and come again otherwise.
    ///
    /// # Errors
    ///
    /// The batch as a whole was not published; [`PublishError`] says whether to try again.
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult;

    /// Publishes network operations; as [`Publisher::publish_event_metrics`].
    ///
    /// # Errors
    ///
    /// As there.
    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult;

    /// Hands on what is held back. After an error it is called again.
    ///
    /// # Errors
    ///
    /// What is held back could not be handed on; [`PublishError::Reject`] gives it up.
    fn flush(&mut self) -> Result<(), PublishError> {
        Ok(())
    }
}
