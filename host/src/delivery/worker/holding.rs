//! What a worker has its publisher hand on: flush and close, and the books of what is delivered only by that.
//!
//! Invariant: rows that a publisher holds back are settled when its flush has returned ok; if they are lost they are in hand
//! again, in their place.

use super::{Called, Instant, Settled, State, Trouble, Worker, ask, call, discard};
use crate::publisher::{PublishError, Standing, close, flush};
use std::sync::Arc;

impl Worker {
    /// Has the publisher flush, and builds it again if that killed it.
    pub(super) async fn tend(&mut self) {
        self.flush().await;
        if self.publisher.is_none()
            && !self.suspended
            && let Err(trouble) = self.rebuild().await
        {
            self.wait(&trouble);
        }
    }

    /// Has the publisher flush before it is handed network operations, if what it holds back has been lost before: the next
    /// call may cost as much. False if there is nothing to hand over, or it could not flush: then that comes first.
    pub(super) async fn flush_between(&mut self) -> bool {
        if self.window.operations.is_empty() {
            return false;
        }
        if !self.careful || self.unflushed.is_empty() {
            return true;
        }
        self.flush().await;
        self.publisher.is_some() && !self.recalled && !self.unflushed.is_stuck()
    }

    pub(super) async fn flush(&mut self) {
        self.flush_at = Instant::now() + self.plan.config.flush_interval;
        let Some(publisher) = self.publisher.as_deref_mut() else { return };
        let called = call(flush(publisher), self.plan.config.timeout, &mut self.drain).await;
        // What was lost by this is in hand again, and not among what is looked at now.
        self.look();
        let trouble = match &called {
            Called::Answered(Ok(())) => {
                self.flushed();
                None
            }
            Called::Answered(Err(PublishError::Reject { reason })) => {
                let reason = self.plan.context.secrets.redact(reason).into_owned();
                self.give_up_unflushed(&reason).await;
                None
            }
            Called::Answered(Err(PublishError::Retry { reason, after })) => {
                Some(Trouble { after: *after, ..Trouble::retry(reason.as_str()) })
            }
            Called::Answered(Err(PublishError::Hold { reason })) => {
                Some(Trouble { hold: true, ..Trouble::retry(reason.as_str()) })
            }
            Called::TimedOut(after) => {
                Some(Trouble::retry(format!("no answer within {}", humantime::format_duration(*after))))
            }
            Called::GivenUp | Called::Panicked(_) => None,
        };
        if let Some(trouble) = trouble {
            self.not_flushed(trouble).await;
        }
        self.note_called(called, "flush");
        if self.publisher.is_none() {
            // What it held back went with it.
            self.look();
        }
    }

    /// Everything that was held back has been handed on.
    fn flushed(&mut self) {
        let delivered = self.unflushed.take().len() as u64;
        if delivered > 0 {
            self.cursor.settle(Settled { delivered, ..Settled::default() });
            self.pass();
        }
        if self.unflushed.settled() {
            self.pace.reset();
            self.show_pace();
            self.cursor.set_active(true);
            if self.window.is_empty() && self.shared.set(State::Running, None) {
                tracing::info!(publisher = %self.label, "flushes again");
            }
        }
    }

    /// What is held back could not be handed on, and is delivered only by that: it is tried again, and nothing else before.
    async fn not_flushed(&mut self, mut trouble: Trouble) {
        trouble.reason = self.plan.context.secrets.redact(&trouble.reason).into_owned();
        if self.unflushed.is_empty() {
            if self.standing.quarantined && self.window.is_empty() {
                self.stands(State::Quarantined, &trouble);
            }
            return;
        }
        let config = &self.plan.config.retry;
        let tried_for = self.unflushed.stuck_for(trouble.hold);
        let (age, max_age) = match trouble.hold {
            false => (tried_for, Some(config.max_age)),
            true => (self.unflushed.stuck_in_all(), config.hold_max_age),
        };
        if let Some(max_age) = max_age.filter(|max_age| age >= *max_age && !self.past_deadline()) {
            let age = humantime::format_duration(max_age);
            return self.give_up_unflushed(&format!("not flushed within {age}: {}", trouble.reason)).await;
        }
        let (state, pause) = if trouble.hold {
            (self.held(), self.pace.held(config))
        } else {
            (State::Retrying, self.pace.failed(config, trouble.after))
        };
        self.flush_at = Instant::now() + self.before_the_end(pause);
        self.show_pace();
        self.stands(state, &trouble);
    }

    /// What is held back never will be handed on.
    async fn give_up_unflushed(&mut self, reason: &str) {
        let reason: Arc<str> = reason.into();
        let mut held = self.unflushed.take();
        self.unflushed.settled();
        if let Err(error) = self.set_aside(&held.events, vec![reason.clone(); held.events.len()]).await {
            tracing::warn!(publisher = %self.label, "they are published again: {error}");
            return self.window.come_again(held);
        }
        held.events = Default::default();
        if let Err(error) = self.set_aside(&held.operations, vec![reason; held.operations.len()]).await {
            tracing::warn!(publisher = %self.label, "they are published again: {error}");
            return self.window.come_again(held);
        }
        self.pass();
    }

    /// Asks how the publisher stands. What it has lost of what it held back is in hand again.
    pub(super) fn look(&mut self) -> Standing {
        let Some(publisher) = self.publisher.as_deref() else {
            self.recall();
            self.standing = Standing::default();
            return self.standing;
        };
        let standing = ask(|| publisher.standing()).unwrap_or_default();
        if standing.lost != self.standing.lost {
            self.recall();
        }
        self.standing = standing;
        standing
    }

    /// What was held back is in hand again.
    pub(super) fn recall(&mut self) {
        let held = self.unflushed.take();
        self.unflushed.settled();
        if !held.is_empty() {
            tracing::warn!(publisher = %self.label, rows = held.len(), "what was held back is lost, it is published again");
            self.window.come_again(held);
            (self.recalled, self.careful) = (true, true);
            self.pace.hurry();
        }
    }

    /// Has the publisher say its last words: nobody takes its place.
    pub(super) async fn close(&mut self) {
        let late = self.past_deadline();
        let Some(publisher) = self.publisher.as_deref_mut().filter(|_| !late) else { return };
        let called = call(close(publisher), self.plan.config.timeout, &mut self.drain).await;
        self.note_called(called, "close");
    }

    /// Says what became of a call that publishes nothing, unless it went well.
    fn note_called(&mut self, called: Called<Result<(), PublishError>>, what: &str) {
        let error = match called {
            Called::Answered(Ok(())) => return,
            Called::Answered(Err(error)) => error.to_string(),
            Called::TimedOut(after) => format!("no answer within {}", humantime::format_duration(after)),
            Called::GivenUp => "given up at the deadline".to_owned(),
            Called::Panicked(text) => {
                discard(self.publisher.take());
                format!("the publisher panicked: {text}")
            }
        };
        let error = self.plan.context.secrets.redact(&error);
        tracing::warn!(publisher = %self.label, "could not {what}: {error}");
        self.shared.update(|live| live.last_error = Some(format!("could not {what}: {error}")));
    }
}
