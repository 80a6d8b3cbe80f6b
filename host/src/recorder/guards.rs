//! Guards: an event or a network operation from its start to its end.
//!
//! Invariant: a guard ends its record exactly once; dropped without a word, it cancels it.

use super::{Outcome, Recorder};
use crate::collector::{LaneRecord, OpenRef};
use crate::record::{Attributes, EventMetrics, NetworkMetrics, Status, Text, Value};

/// An event that has not started.
#[must_use = "the event is recorded once it is started"]
pub struct EventBuilder<'r> {
    recorder: &'r Recorder,
    name: Text,
    task: Text,
    pipeline: Option<Text>,
    attributes: Attributes,
}

/// An event that has started. Dropping it cancels it.
#[must_use = "dropping an event at once cancels it"]
pub struct Event<'r>(Guard<'r>);

/// A network operation that has not started.
#[must_use = "the network operation is recorded once it is started"]
pub struct NetworkBuilder<'r> {
    recorder: &'r Recorder,
    operation: Text,
    host: Text,
    port: u16,
    task: Text,
    attributes: Attributes,
}

/// A network operation that has started. Dropping it ends it with the error `cancelled`.
#[must_use = "dropping a network operation at once cancels it"]
pub struct Network<'r>(Guard<'r>);

/// A guard borrows its recorder, because counting handles up and down would be a fifth of the price of an event; one
/// that must outlive the borrow owns a handle.
struct Guard<'r> {
    recorder: Handle<'r>,
    open: OpenRef,
    ended: bool,
}

enum Handle<'r> {
    Borrowed(&'r Recorder),
    Owned(Recorder),
}

impl Guard<'_> {
    #[inline]
    fn recorder(&self) -> &Recorder {
        match &self.recorder {
            Handle::Borrowed(recorder) => recorder,
            Handle::Owned(recorder) => recorder,
        }
    }
}

impl<'r> EventBuilder<'r> {
    #[inline]
    pub(super) fn new(recorder: &'r Recorder, name: &str) -> Self {
        Self {
            recorder,
            name: Text::new(name),
            task: Text::const_new(""),
            pipeline: None,
            attributes: Attributes::new(),
        }
    }

    /// The task it is executed for.
    #[inline]
    pub fn task(mut self, task_id: &str) -> Self {
        self.task = Text::new(task_id);
        self
    }

    /// The pipeline it belongs to.
    #[inline]
    pub fn pipeline(mut self, pipeline_id: &str) -> Self {
        self.pipeline = Some(Text::new(pipeline_id));
        self
    }

    /// Something it carries beyond its fields.
    #[inline]
    pub fn attribute(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(key, value);
        self
    }

    /// It starts now.
    #[inline]
    pub fn start(self) -> Event<'r> {
        let recorder = self.recorder;
        let open = self.open();
        Event(Guard { recorder: Handle::Borrowed(recorder), open, ended: false })
    }

    /// It starts now, and its guard owns a handle: for a guard that is stored, or moved to another task.
    pub fn start_owned(self) -> Event<'static> {
        let recorder = self.recorder.clone();
        let open = self.open();
        Event(Guard { recorder: Handle::Owned(recorder), open, ended: false })
    }

    fn open(self) -> OpenRef {
        let recorder = self.recorder;
        let start = |id, time| {
            // Made in one piece, which is then made where it stays.
            EventMetrics {
                id,
                event_name: self.name,
                task_id: self.task,
                pipeline_id: self.pipeline,
                process_id: Some(recorder.0.process_id),
                start_time: time,
                end_time: None,
                status: Status::Pending,
                error: None,
                retry_count: 0,
                attributes: self.attributes,
            }
        };
        recorder.0.collector.start(start, 0, None)
    }
}

impl Event<'_> {
    /// It is tried again.
    pub fn retry(&self) {
        self.change(|event| event.retry_count = event.retry_count.saturating_add(1));
    }

    /// Something it carries beyond its fields.
    pub fn attribute(&self, key: &str, value: impl Into<Value>) {
        self.change(|event| event.attributes.insert(key, value));
    }

    /// It ended as it should.
    #[inline]
    pub fn complete(self) {
        self.end(Outcome::Completed);
    }

    /// It ended with an error.
    pub fn fail(self, error: impl AsRef<str>) {
        self.end(Outcome::Failed(error.as_ref()));
    }

    /// It was given up; the same as dropping it.
    pub fn cancel(self) {
        self.end(Outcome::Cancelled);
    }

    fn change(&self, change: impl FnOnce(&mut EventMetrics)) {
        self.0.recorder().0.collector.update(self.0.open, change);
    }

    #[inline]
    fn end(mut self, outcome: Outcome<'_>) {
        self.0.ended = true;
        self.0.recorder().0.collector.finish(self.0.open, |event: &mut EventMetrics| outcome.apply(event));
    }
}

impl Drop for Event<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.ended {
            self.0.recorder().0.collector.finish(self.0.open, EventMetrics::cancel);
        }
    }
}

impl<'r> NetworkBuilder<'r> {
    #[inline]
    pub(super) fn new(recorder: &'r Recorder, operation: &str, host: &str, port: u16) -> Self {
        Self {
            recorder,
            operation: Text::new(operation),
            host: Text::new(host),
            port,
            task: Text::const_new(""),
            attributes: Attributes::new(),
        }
    }

    /// The task it is made for.
    #[inline]
    pub fn task(mut self, task_id: &str) -> Self {
        self.task = Text::new(task_id);
        self
    }

    /// Something it carries beyond its fields.
    #[inline]
    pub fn attribute(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(key, value);
        self
    }

    /// It starts now.
    #[inline]
    pub fn start(self) -> Network<'r> {
        let recorder = self.recorder;
        let open = self.open();
        Network(Guard { recorder: Handle::Borrowed(recorder), open, ended: false })
    }

    /// It starts now, and its guard owns a handle: for a guard that is stored, or moved to another task.
    pub fn start_owned(self) -> Network<'static> {
        let recorder = self.recorder.clone();
        let open = self.open();
        Network(Guard { recorder: Handle::Owned(recorder), open, ended: false })
    }

    fn open(self) -> OpenRef {
        let start = |id, time| {
            let mut operation =
                NetworkMetrics::started(id, self.task, self.operation, self.host, self.port, time);
            operation.attributes = self.attributes;
            operation
        };
        self.recorder.0.collector.start(start, 0, None)
    }
}

impl Network<'_> {
    /// Something it carries beyond its fields.
    pub fn attribute(&self, key: &str, value: impl Into<Value>) {
        let change = |operation: &mut NetworkMetrics| operation.attributes.insert(key, value);
        self.0.recorder().0.collector.update(self.0.open, change);
    }

    /// It ended as it should, after so many bytes.
    pub fn finish(self, bytes_sent: u64, bytes_received: u64) {
        self.end(bytes_sent, bytes_received, None);
    }

    /// It ended with an error, after so many bytes.
    pub fn fail(self, error: impl AsRef<str>, bytes_sent: u64, bytes_received: u64) {
        self.end(bytes_sent, bytes_received, Some(error.as_ref()));
    }

    #[inline]
    fn end(mut self, bytes_sent: u64, bytes_received: u64, error: Option<&str>) {
        self.0.ended = true;
        self.0.recorder().0.collector.finish(self.0.open, |operation: &mut NetworkMetrics| {
            operation.bytes_sent = bytes_sent;
            operation.bytes_received = bytes_received;
            operation.error = error.map(Text::new);
        });
    }
}

impl Drop for Network<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.ended {
            let cancel =
                |operation: &mut NetworkMetrics| operation.error = Some(Text::const_new("cancelled"));
            self.0.recorder().0.collector.finish(self.0.open, cancel);
        }
    }
}
