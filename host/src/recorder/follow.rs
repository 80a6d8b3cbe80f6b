//! Events of other processes, followed by the messages that tell of their start, retries and end.
//!
//! Invariant: a record that ends here waits in no buffer: it goes to whoever follows, who appends it before the sender is
//! told that it was accepted.

use super::{EventKey, Outcome, Recorder};
use crate::record::{Batch, EventMetrics};

/// Follows the messages of one request.
pub struct Follower<'a> {
    recorder: &'a Recorder,
    ended: &'a mut Batch,
}

impl<'a> Follower<'a> {
    pub(super) fn new(recorder: &'a Recorder, ended: &'a mut Batch) -> Self {
        Self { recorder, ended }
    }

    /// Starts an event. One that is open under the same key is closed as cancelled; then the answer is false. So are the
    /// oldest open ones, if there are too many.
    pub fn start(&mut self, key: EventKey<'_>) -> bool {
        self.recorder.start_keyed(&key, None, Some(self.ended))
    }

    /// Notes that an event is tried again. False if there is no such event.
    pub fn retry(&mut self, key: EventKey<'_>) -> bool {
        self.recorder.record_retry(key)
    }

    /// Ends an event. False if there is no such event.
    pub fn end(&mut self, key: EventKey<'_>, outcome: Outcome<'_>) -> bool {
        let Self { recorder, ended } = self;
        let end = |event: &mut EventMetrics| outcome.apply(event);
        recorder.end_keyed(&key, |open| recorder.0.collector.take(open, end, ended))
    }
}

impl std::fmt::Debug for Follower<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("ended", &self.ended.len()).finish_non_exhaustive()
    }
}
