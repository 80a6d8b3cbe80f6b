//! A plugin that writes JSON lines, rendered by the host, to a file in a granted directory.
//!
//! The file never keeps half a line, nor half a batch that is to come again: what an attempt left behind when it
//! failed is cut off before anything else is written.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]
#![cfg_attr(
    not(any(target_arch = "wasm32", test)),
    allow(dead_code, reason = "natively there are only its tests")
)]

mod lines;
#[cfg(target_arch = "wasm32")]
mod wasi;

use lines::{Lines, Storage};
use pressroom_plugin::{
    EventBatch, Format, NetworkBatch, PublishError, PublishResult, Publisher, config, warn,
};

/// How a directory's file is opened: by the granted directories, or in memory by a test.
type Open = fn(dir: &str, file: &str) -> Result<Box<dyn Storage>, PublishError>;

struct Ndjson {
    open: Open,
    dir: String,
    file: String,
    lines: Option<Lines>,
}

impl Ndjson {
    fn start(open: Open) -> Result<Self, String> {
        let dir = config::get("dir").unwrap_or_else(|| "/out".to_owned());
        let file = config::get("file").unwrap_or_else(|| "records.jsonl".to_owned());
        if file.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("config: \"file\" is \"{file}\", it must be a name within \"dir\""));
        }
        Ok(Self { open, dir, file, lines: None })
    }

    /// The file, opened and mended if it is not: before a batch is rendered that nobody takes.
    fn lines(&mut self) -> Result<&mut Lines, PublishError> {
        match &mut self.lines {
            Some(lines) => Ok(lines),
            empty => {
                let (lines, mended) = Lines::open((self.open)(&self.dir, &self.file)?)?;
                if let Some(mended) = mended {
                    warn!("{}/{}: {mended}", self.dir, self.file);
                }
                Ok(empty.insert(lines))
            }
        }
    }
}

impl Publisher for Ndjson {
    fn publish_event_metrics(&mut self, events: &EventBatch) -> PublishResult {
        self.lines()?.append(&events.encode(Format::JsonLines)?)?;
        Ok(Vec::new())
    }

    fn publish_network_metrics(&mut self, operations: &NetworkBatch) -> PublishResult {
        self.lines()?.append(&operations.encode(Format::JsonLines)?)?;
        Ok(Vec::new())
    }

    /// Brings the file to the disk and closes it: the next batch opens the name anew, so that it may be rotated.
    fn flush(&mut self) -> Result<(), PublishError> {
        if let Some(lines) = &mut self.lines {
            lines.sync()?;
        }
        self.lines = None;
        Ok(())
    }
}

#[cfg(target_arch = "wasm32")]
pressroom_plugin::export!(Ndjson, || Ndjson::start(wasi::open));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::memory;

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_again_with_every_batch() {
        let refused: Open = |_, _| Err(PublishError::hold("no grant"));
        let mut plugin = Ndjson::start(refused).unwrap();
        assert_eq!(plugin.lines().err(), Some(PublishError::hold("no grant")));
        plugin.open = |dir, file| {
            assert_eq!((dir, file), ("/out", "records.jsonl"));
            Ok(Box::new(memory::Disk::default()))
        };
        assert_eq!(plugin.lines().unwrap().append(b"{}\n"), Ok(()));
        assert_eq!(plugin.flush(), Ok(()));
        assert!(plugin.lines.is_none());
    }
}
