//! Blocking work on something that is owned, off the runtime's threads.
//!
//! Invariant: there is one use at a time. A use whose caller was dropped runs to its end, and the next one waits for
//! it; so at most one blocking thread is ever stuck per publisher, and nothing is seen half done.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A `T` that is used on blocking threads only.
pub(super) struct Offloaded<T> {
    idle: Option<T>,
    running: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Offloaded<T> {
    pub(super) fn new(state: T) -> Self {
        Self { idle: Some(state), running: None }
    }

    /// The state, once a use that was given up has ended. Absent when the runtime went down meanwhile.
    pub(super) async fn settled(&mut self) -> Option<&mut T> {
        if let Some(running) = &mut self.running {
            let ended = running.await;
            self.running = None;
            match ended {
                Ok(state) => self.idle = Some(state),
                // The caller's own panic: delivery builds another publisher.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return None,
                },
            }
        }
        self.idle.as_mut()
    }

    /// Works on the state. When this returns, nothing is running: what it says can be acted upon at once through
    /// [`Offloaded::idle`], which a caller that was dropped never gets to do. Absent as in [`Offloaded::settled`].
    pub(super) async fn run<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Option<R> {
        self.settled().await?;
        let mut state = self.idle.take()?;
        let (answer, answered) = oneshot::channel();
        self.running = Some(tokio::task::spawn_blocking(move || {
            let result = work(&mut state);
            // Nobody listens where the caller was dropped.
            let _ = answer.send(result);
            state
        }));
        self.settled().await?;
        answered.await.ok()
    }

    /// The state, unless a use that was given up may still be running.
    pub(super) fn idle(&mut self) -> Option<&mut T> {
        self.idle.as_mut()
    }
}
