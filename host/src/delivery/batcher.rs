//! Waits for a batch that is worth a call: by count, by bytes, or by the age of its first record.

use crate::config::BatchConfig;
use crate::journal::Cursor;
use tokio::sync::watch;
use tokio::time::Instant;

/// Waits at one cursor. Its waiting may be given up at any time and taken up again.
pub(super) struct Batcher {
    sealed: watch::Receiver<u64>,
    /// When records were first seen that have not been read.
    first_seen: Option<Instant>,
    /// What can be read now has waited for something else than company.
    overdue: bool,
}

impl Batcher {
    pub(super) fn new(cursor: &Cursor) -> Self {
        Self { sealed: cursor.sealed(), first_seen: None, overdue: false }
    }

    /// There is somebody to publish at last: what is there by now waits no longer.
    pub(super) fn hurry(&mut self, cursor: &Cursor) {
        self.overdue = cursor.readable(1, 1).0 > 0;
    }

    /// Returns when a read is worth it.
    pub(super) async fn ready(&mut self, cursor: &Cursor, config: &BatchConfig) {
        let pressing = cursor.pressing();
        let enough = (config.max_records.min(pressing.0), config.max_bytes.as_usize().min(pressing.1));
        loop {
            self.sealed.mark_unchanged();
            let (records, bytes) = cursor.readable(enough.0, enough.1);
            if records == 0 {
                self.first_seen = None;
                if self.sealed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            if records >= enough.0 || bytes >= enough.1 || self.overdue {
                break;
            }
            let ripe = *self.first_seen.get_or_insert_with(Instant::now) + config.max_age;
            tokio::select! {
                () = tokio::time::sleep_until(ripe) => break,
                _ = self.sealed.changed() => {}
            }
        }
        (self.first_seen, self.overdue) = (None, false);
    }
}
