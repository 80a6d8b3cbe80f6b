//! One call of a publisher: under a deadline, and with a panic caught.

use super::Drain;
use crate::publisher::panics::caught;
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
    tokio::select! {
        biased;
        answer = tokio::time::timeout(timeout, caught(call)) => match answer {
            Ok(Ok(answer)) => Called::Answered(answer),
            Ok(Err(text)) => Called::Panicked(text),
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
            Some(Drain { deadline, .. }) => tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                // The deadline may have been brought forward.
                Ok(()) = drain.changed() => {}
            },
            None if drain.changed().await.is_err() => return std::future::pending().await,
            None => {}
        }
    }
}
