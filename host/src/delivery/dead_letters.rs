//! Dead letters: what could not be published is set aside in a file of JSON lines, each with its label and reason.
//!
//! Invariant: a row counts as dead-lettered when its line is on the disk, not before. A line is whole or not there.

use crate::record::{Record, Rows, Timestamp};
use parking_lot::Mutex;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file of dead letters. It is made when the first one comes.
pub struct DeadLetters {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

#[derive(Serialize)]
struct Letter<'a, R> {
    time: Timestamp,
    publisher: &'a str,
    reason: &'a str,
    record: &'a R,
}

impl DeadLetters {
    /// Dead letters at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: Mutex::new(None) }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets `rows` of the publisher `label` aside. `reasons` has a text for each row.
    ///
    /// # Errors
    ///
    /// None of the rows was set aside.
    pub(super) async fn set_aside<R: Record>(
        self: &Arc<Self>,
        label: &str,
        rows: &Rows<R>,
        reasons: Vec<Arc<str>>,
    ) -> io::Result<()> {
        let (letters, label, rows) = (self.clone(), label.to_owned(), rows.clone());
        let written = tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            let time = Timestamp::now();
            for (record, reason) in rows.iter().zip(&reasons) {
                serde_json::to_writer(&mut lines, &Letter { time, publisher: &label, reason, record })?;
                lines.push(b'\n');
            }
            letters.append(&lines)
        });
        written.await.map_err(io::Error::other)?.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("dead letters cannot be written to {}: {error}", self.path.display()),
            )
        })
    }

    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut slot = self.file.lock();
        let mut file = match slot.take() {
            Some(file) if self.path.exists() => file,
            _ => self.open()?,
        };
        let good = file.seek(SeekFrom::End(0))?;
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would garble the next one. If even this fails the file is opened anew, and mended there.
            file.set_len(good)?;
        }
        *slot = Some(file);
        written
    }

    /// Opens the file; a last line that a crash has torn is cut.
    fn open(&self) -> io::Result<File> {
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        cut_torn_line(&mut file)?;
        Ok(file)
    }
}

/// Cuts what follows the last newline.
fn cut_torn_line(file: &mut File) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut chunk = [0; 4096];
    let length = end;
    while end > 0 {
        let size = end.min(chunk.len() as u64);
        file.seek(SeekFrom::Start(end - size))?;
        let piece = chunk.get_mut(..usize::try_from(size).unwrap_or(0)).unwrap_or_default();
        file.read_exact(piece)?;
        if let Some(newline) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = end - size + newline as u64 + 1;
            break;
        }
        end -= size;
    }
    if end < length { file.set_len(end) } else { Ok(()) }
}
