//! How a worker comes by a publisher, and by another one: commands, building again, the end.
//!
//! Invariant: a successor takes over at a batch boundary, after its predecessor was flushed; what that could not hand on the
//! successor is handed again.

use super::{Absent, Called, Command, Instant, Plan, State, Trouble, Worker, ask, call, discard, drained};
use crate::journal::{Books, DropReason};
use crate::publisher::Publisher;

impl Worker {
    /// Builds and opens a publisher in the place of one that panicked.
    pub(super) async fn rebuild(&mut self) -> Result<(), Trouble> {
        let build = async {
            let mut publisher = (self.plan.factory)(self.plan.context.clone()).await?;
            publisher.open(None).await?;
            anyhow::Ok(publisher)
        };
        let error = match call(build, self.plan.config.timeout, &mut self.drain).await {
            Called::Answered(Ok(publisher)) => {
                self.adopt(publisher);
                return Ok(());
            }
            Called::Answered(Err(error)) => format!("{error:#}"),
            Called::TimedOut(after) => format!("not built within {}", humantime::format_duration(after)),
            Called::Panicked(text) => format!("building panicked: {text}"),
            Called::GivenUp => "given up at the deadline".to_owned(),
        };
        let error = self.plan.context.secrets.redact(&error);
        Err(Trouble::retry(format!("could not be built again: {error}")))
    }

    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            Command::Replace { publisher, plan, reply } => {
                let replaced = self.replace(publisher, *plan).await;
                // The one before goes on; if its last flush killed it, another one like it does.
                if replaced.is_err() && self.publisher.is_none() {
                    self.tend().await;
                }
                let _ = reply.send(replaced);
            }
            Command::Reset { reply } => {
                let _ = reply.send(self.reset());
            }
            Command::Suspend { absent, reply } => {
                self.flush().await;
                self.suspend(&absent);
                let _ = reply.send(());
            }
        }
    }

    async fn replace(&mut self, mut publisher: Box<dyn Publisher>, plan: Plan) -> Result<(), String> {
        self.flush().await;
        let opened = match self.publisher.as_deref_mut() {
            Some(predecessor) => {
                let open = async { publisher.open(Some(predecessor)).await };
                call(open, plan.config.timeout, &mut self.drain).await
            }
            None => call(async { publisher.open(None).await }, plan.config.timeout, &mut self.drain).await,
        };
        match opened {
            Called::Answered(Ok(())) => {}
            failed => {
                discard(publisher);
                return Err(match failed {
                    Called::Answered(Ok(())) | Called::GivenUp => "the delivery is ending".to_owned(),
                    Called::Answered(Err(error)) => {
                        plan.context.secrets.redact(&format!("{error:#}")).into_owned()
                    }
                    Called::TimedOut(after) => {
                        format!("not opened within {}", humantime::format_duration(after))
                    }
                    Called::Panicked(text) => format!("opening panicked: {text}"),
                });
            }
        }
        // What the old one still holds it may never hand on: it goes.
        self.recall();
        self.plan = plan;
        self.cursor.set_overflow(self.plan.overflow());
        self.shared.update(|live| live.kind = self.plan.kind.clone());
        self.adopt(publisher);
        // What the old one could not publish the new one may: at once, whatever the backoff was.
        self.pace.reset();
        self.waiting.hurry();
        self.show_pace();
        self.cursor.set_active(true);
        self.shared.set(State::Running, None);
        Ok(())
    }

    pub(super) fn adopt(&mut self, publisher: Box<dyn Publisher>) {
        let detail = ask(|| publisher.status()).flatten();
        let stall = ask(|| publisher.stall()).flatten();
        self.standing = ask(|| publisher.standing()).unwrap_or_default();
        discard(self.publisher.replace(publisher));
        (self.suspended, self.pending) = (false, false);
        self.batcher.hurry(&self.cursor);
        self.wants_company = false;
        self.flush_at = Instant::now() + self.plan.config.flush_interval;
        self.shared.update(|live| (live.detail, live.stall) = (detail, stall));
        if self.window.is_empty() {
            self.cursor.set_active(true);
            self.shared.set(State::Running, None);
        }
    }

    pub(super) fn suspend(&mut self, absent: &Absent) {
        discard(self.publisher.take());
        self.look();
        (self.suspended, self.pending) = (true, matches!(absent, Absent::Pending(_)));
        self.window.pause();
        self.cursor.set_active(false);
        self.shared.update(|live| (live.detail, live.stall) = (None, None));
        self.shared.set(absent.state(), Some(absent.reason()));
    }

    /// Has the publisher forget what is held against it, and tries at once what is in hand. False if there is nothing that
    /// it could forget.
    fn reset(&mut self) -> bool {
        let Some(publisher) = self.publisher.as_deref_mut() else { return false };
        let reset = ask(|| publisher.reset()).unwrap_or_default();
        if reset {
            self.look();
            self.wants_company = false;
            self.pace.reset();
            self.show_pace();
            if self.unflushed.is_stuck() {
                self.flush_at = Instant::now();
            } else if self.window.is_empty() {
                self.cursor.set_active(true);
                self.shared.set(State::Running, None);
            }
        }
        reset
    }

    pub(super) async fn end(mut self, reason: DropReason) -> Books {
        self.flush().await;
        self.close().await;
        discard(self.publisher.take());
        if self.drain.borrow().is_some() {
            tokio::select! {
                () = self.refusals.all_written() => {}
                () = drained(&mut self.drain) => {}
            }
        }
        let books = self.cursor.retire(reason);
        if books.dropped.removed + books.dropped.shutdown > 0 {
            tracing::warn!(
                publisher = %self.label,
                dropped = books.dropped.removed + books.dropped.shutdown,
                "ended before everything was published"
            );
        }
        books
    }
}
