//! The publisher `stdout`: a JSON line per record on the standard output.
//!
//! Invariant: lines come out whole and in order whatever ended an attempt. What has been written cannot be taken back,
//! so an attempt that was given up is completed by the next one if that brings the same batch, and ended by a newline
//! if not.

#[cfg(test)]
mod tests;

use super::offload::Offloaded;
use crate::publisher::{Context, PublishError, PublishResult, Publisher, PublisherType};
use crate::record::{EventBatch, Format, NetworkBatch};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use std::any::Any;
use std::io::{self, ErrorKind, Write};

/// Settings of a `stdout` publisher: none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StdoutConfig {}

/// Writes JSON lines to the standard output.
pub struct StdoutPublisher {
    context: Context,
    output: Offloaded<Output>,
}

/// Two publishers take turns, batch by batch.
static TURN: Mutex<()> = Mutex::new(());

type Target = Box<dyn Write + Send>;

struct Output {
    target: Target,
    /// The batch of an attempt that nobody saw end well, and how much of it is out.
    unconfirmed: Option<(Bytes, usize)>,
}

impl Output {
    fn write(&mut self, lines: Bytes) -> io::Result<()> {
        let _turn = TURN.lock();
        let (mut written, torn) = match self.unconfirmed.take() {
            Some((before, written)) if before == lines => (written, false),
            Some((before, written)) => {
                let out = before.get(..written).unwrap_or_default();
                (0, out.last().is_some_and(|last| *last != b'\n'))
            }
            None => (0, false),
        };
        if torn && let Err(error) = self.target.write_all(b"\n") {
            // Still torn, and this batch has not begun: an empty tail of a line stands for that.
            self.unconfirmed = Some((Bytes::from_static(b"{"), 1));
            return Err(error);
        }
        let result = loop {
            let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) else {
                break self.target.flush();
            };
            match self.target.write(rest) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.unconfirmed = Some((lines, written));
        result
    }
}

/// The standard output without the buffer of `std::io::Stdout`, which would keep, and write later, what a failed
/// write has left in it.
#[cfg(unix)]
fn standard_output() -> Target {
    use std::os::fd::AsFd;
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(io::stdout()),
    }
}

#[cfg(not(unix))]
fn standard_output() -> Target {
    Box::new(io::stdout())
}

impl StdoutPublisher {
    pub(crate) fn to(target: Target, context: Context) -> Self {
        Self { context, output: Offloaded::new(Output { target, unconfirmed: None }) }
    }

    async fn write(&mut self, lines: Bytes) -> PublishResult {
        match self.output.run(move |output| output.write(lines)).await {
            Some(Ok(())) => {
                if let Some(output) = self.output.idle() {
                    output.unconfirmed = None;
                }
                Ok(Vec::new())
            }
            Some(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Err(PublishError::hold(format!(
                "nobody reads the standard output any more: remove [publishers.{}], or start the host with a reader",
                self.context.label
            ))),
            Some(Err(error)) => {
                Err(PublishError::retry(format!("cannot write to the standard output: {error}")))
            }
            None => Err(PublishError::retry("the host is going down")),
        }
    }
}

#[async_trait::async_trait]
impl Publisher for StdoutPublisher {
    async fn open(&mut self, predecessor: Option<&mut dyn Publisher>) -> anyhow::Result<()> {
        let predecessor = predecessor.and_then(|old| (old as &mut dyn Any).downcast_mut::<StdoutPublisher>());
        if let Some(old) = predecessor
            && let Some(old) = old.output.settled().await
            && let Some(output) = self.output.settled().await
        {
            output.unconfirmed = old.unconfirmed.take();
        }
        Ok(())
    }

    async fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.write(events.encode(Format::JsonLines)).await
    }

    async fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.write(operations.encode(Format::JsonLines)).await
    }
}

impl PublisherType for StdoutPublisher {
    const TYPE: &'static str = "stdout";
    type Config = StdoutConfig;

    fn build(_: StdoutConfig, context: Context) -> anyhow::Result<Self> {
        Ok(Self::to(standard_output(), context))
    }
}
