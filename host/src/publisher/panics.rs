//! A publisher's panic: caught where its code is called, so that it costs nobody but the publisher.

use futures_util::FutureExt;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls a publisher, or what builds one. What panicked must not be called again.
///
/// # Errors
///
/// It panicked: what it said.
pub(crate) async fn caught<T>(call: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(call).catch_unwind().await.map_err(|panic| text_of(panic.as_ref()))
}

/// Lets go of what belongs to a publisher: that may run code of its own, and panic.
pub(crate) fn discard<T>(gone: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(gone))) {
        tracing::error!("a publisher panicked when it was let go: {}", text_of(panic.as_ref()));
    }
}

/// Asks a publisher for something that it is to answer at once. Nothing, if it panics.
pub(crate) fn ask<T>(ask: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(ask)).ok()
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(1_000).collect()
}
