//! The thread that writes: one for each write, for writes are rare. Nothing joins it, and it may hang for ever.

use super::Letters;
use crate::output::file::{Failure, LineFile};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// Writes `letters`, all of one publisher. Returns the file again, and why they were not written. The file is absent where
/// the thread was lost; it is opened anew then.
pub(super) async fn write(
    mut file: LineFile,
    letters: Vec<Arc<Letters>>,
) -> (Option<LineFile>, Result<(), String>) {
    let (answer, answered) = oneshot::channel();
    let work = move || {
        let result = append(&mut file, &letters).map_err(|failure| failure.reason);
        let _ = answer.send((Some(file), result));
    };
    if let Err(error) = std::thread::Builder::new().name("dead-letters".to_owned()).spawn(work) {
        return (None, Err(format!("no thread can be started: {error}")));
    }
    #[cfg(test)]
    let _clock = hold_the_clock();
    answered.await.unwrap_or_else(|_| (None, Err("the thread that writes panicked".to_owned())))
}

/// Appends `letters`, and books them when they are on the disk.
fn append(file: &mut LineFile, letters: &[Arc<Letters>]) -> Result<(), Failure> {
    let Some(first) = letters.first() else { return Ok(()) };
    let lines: Vec<u8> = letters.iter().flat_map(|letters| &letters.lines).copied().collect();
    file.ready(SystemTime::now())?;
    file.append(&lines)?;
    file.sync()?;
    if !file.is_in_place() {
        // Whoever moved it may compress it, or remove it: these belong into the new one.
        let moved = io::Error::other("it was moved away just now");
        return file.revoke().and(Err(Failure::new("write to", file.path(), &moved)));
    }
    if first.of.cursor.set_aside(letters.iter().map(|letters| letters.rows).sum()) {
        file.confirm();
        Ok(())
    } else {
        // Their publisher has ended meanwhile, and has booked them as dropped.
        file.revoke()
    }
}

/// Paused time advances when the runtime is idle, of which this thread is no part: it stands still until the write has ended.
#[cfg(test)]
fn hold_the_clock() -> std::sync::mpsc::Sender<()> {
    let (hold, released) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || released.recv());
    hold
}
