//! One call of a publisher: under a deadline, and with a panic caught.

use super::Drain;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::watch;

/// What a call came to.
pub(super) enum Called<T> {
    /// The publisher answered.
    Answered(T),
    /// It did not, in time.
    TimedOut(Duration),
    /// It panicked: it must not be called again.
    Panicked(String),
    /// The drain's deadline passed: nothing is waited for any more.
    GivenUp,
}

/// Calls a publisher. The call is dropped at the deadline.
pub(super) async fn call<T>(
    call: impl Future<Output = T>,
    timeout: Duration,
    drain: &mut watch::Receiver<Option<Drain>>,
) -> Called<T> {
    let caught = AssertUnwindSafe(call).catch_unwind();
    tokio::select! {
        biased;
        answer = tokio::time::timeout(timeout, caught) => match answer {
            Ok(Ok(answer)) => Called::Answered(answer),
            Ok(Err(panic)) => Called::Panicked(text_of(panic.as_ref())),
            Err(_) => Called::TimedOut(timeout),
        },
        () = drained(drain) => Called::GivenUp,
    }
}

/// Returns when a drain was asked for and its deadline has passed.
pub(super) async fn drained(drain: &mut watch::Receiver<Option<Drain>>) {
    loop {
        let asked = *drain.borrow_and_update();
        match asked {
            Some(Drain { deadline, .. }) => return tokio::time::sleep_until(deadline).await,
            None if drain.changed().await.is_err() => return std::future::pending().await,
            None => {}
        }
    }
}

/// Lets go of what belongs to a publisher: that may run code of its own, and panic.
pub(super) fn discard<T>(gone: T) {
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(gone))) {
        tracing::error!("a publisher panicked when it was let go: {}", text_of(panic.as_ref()));
    }
}

/// Asks a publisher for something that it is to answer at once. Nothing, if it panics.
pub(super) fn ask<T>(ask: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(ask)).ok()
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(1_000).collect()
}
