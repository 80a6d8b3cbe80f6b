//! How the pushing goes: for reports, and for the log, which is told of what goes on failing once.

use crate::config::Secrets;
use crate::publisher::{PublishError, Stall};
use crate::record::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::mem::discriminant;
use std::time::Duration;

/// What happened to a push.
pub(super) enum Event {
    /// The receiver took so many samples.
    Pushed(u64),
    /// It will be tried again.
    Failed(String),
    /// Somebody must mend something first.
    Held(String),
    /// The receiver did not want that snapshot.
    Discarded(String),
    /// The clock was set back, by so much.
    Early(Duration),
}

/// How the pushing goes. Outlives the publisher where a successor goes on.
#[derive(Default)]
pub(super) struct Status(Mutex<Live>);

#[derive(Default)]
struct Live {
    stall: Option<Stall>,
    last_push: Option<Timestamp>,
    pushes: u64,
    samples: u64,
    failed_pushes: u64,
    discarded_snapshots: u64,
}

impl Status {
    /// Takes note, and tells the log what is new.
    pub(super) fn note(&self, label: &str, secrets: &Secrets, event: Event) {
        let mut live = self.0.lock();
        let error = match event {
            Event::Pushed(samples) => {
                live.pushes += 1;
                live.samples += samples;
                live.last_push = Some(Timestamp::now());
                if live.stall.take().is_some() {
                    tracing::info!(publisher = %label, "pushing again");
                }
                return;
            }
            Event::Failed(reason) => PublishError::retry(secrets.redact(&reason)),
            Event::Held(reason) => PublishError::hold(secrets.redact(&reason)),
            Event::Discarded(reason) => {
                live.discarded_snapshots += 1;
                PublishError::reject(secrets.redact(&reason))
            }
            Event::Early(behind) => PublishError::retry(format!(
                "the clock is {} behind the last push: nothing is sent before it has caught up, for no receiver takes \
                 what is older than what it has; where that is too long, restart the host, whose series are new ones",
                humantime::format_duration(behind)
            )),
        };
        live.failed_pushes += 1;
        let known = live.stall.as_ref();
        let same_kind = known.is_some_and(|known| discriminant(&known.error) == discriminant(&error));
        match &error {
            // What is lost is told every time.
            PublishError::Reject { reason } => {
                tracing::error!(publisher = %label, "a snapshot was discarded: {reason}");
            }
            _ if same_kind => {}
            PublishError::Hold { reason } => {
                tracing::error!(publisher = %label, "nothing is pushed until somebody mends it: {reason}");
            }
            PublishError::Retry { reason, .. } => {
                tracing::warn!(publisher = %label, "will be pushed again: {reason}");
            }
        }
        let since = known.filter(|_| same_kind).map_or_else(Timestamp::now, |known| known.since);
        live.stall = Some(Stall { error, since });
    }

    /// What keeps the series from the receiver.
    pub(super) fn stall(&self) -> Option<Stall> {
        self.0.lock().stall.clone()
    }

    /// As reports show it.
    pub(super) fn report(&self) -> Value {
        let live = self.0.lock();
        json!({
            "last_push": live.last_push,
            "pushes": live.pushes,
            "samples": live.samples,
            "failed_pushes": live.failed_pushes,
            "discarded_snapshots": live.discarded_snapshots,
        })
    }
}
