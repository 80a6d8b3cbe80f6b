//! How large a request may be, as a server's refusals (413) tell.
//!
//! Invariant: a limit that was learnt is not kept for ever: it grows again, ever more slowly where that goes wrong.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// A record that is no larger than this is never what makes a request too large: then the server, or a proxy in front of
/// it, is set up wrongly. No server that stores records has a lower limit.
pub(super) const SANE: usize = 64 << 10;

/// What rows wait for that the server finds too large, in words.
pub(super) const LARGER: &str = "a larger limit of requests";

/// How many requests of one row each may be too large, and none be taken, before nothing more is sent.
pub(super) const TOO_MANY: usize = 8;

/// How long a limit that was learnt is kept before it is doubled, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// The limit of one server.
#[derive(Debug)]
pub(super) struct Limit {
    most: usize,
    learnt: Mutex<Learnt>,
}

#[derive(Debug)]
struct Learnt {
    size: usize,
    /// The smallest request that was refused.
    refused: usize,
    grow_at: Instant,
    pause: Duration,
    /// It has grown since it was learnt.
    grew: bool,
}

impl Limit {
    /// Requests of up to `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, learnt: Mutex::new(Learnt::nothing(most)) }
    }

    /// The size of a request that is not too large, as far as is known.
    pub(super) fn get(&self) -> usize {
        let mut learnt = self.learnt.lock();
        if learnt.size < self.most && Instant::now() >= learnt.grow_at {
            learnt.size = learnt.size.saturating_mul(2).min(self.most);
            learnt.grow_at = Instant::now() + learnt.pause;
            learnt.grew = true;
        }
        learnt.size
    }

    /// A request of so many bytes was too large. Returns the new limit if it is lower than before.
    pub(super) fn refused(&self, bytes: usize) -> Option<usize> {
        let half = (bytes / 2).max(1);
        let mut learnt = self.learnt.lock();
        if half >= learnt.size {
            return None;
        }
        if std::mem::take(&mut learnt.grew) {
            learnt.pause = (learnt.pause * 2).min(LONGEST_PAUSE);
        }
        (learnt.size, learnt.refused) = (half, bytes);
        learnt.grow_at = Instant::now() + learnt.pause;
        Some(half)
    }

    /// A request of so many bytes was taken.
    pub(super) fn taken(&self, bytes: usize) {
        let mut learnt = self.learnt.lock();
        if bytes >= learnt.refused {
            (learnt.refused, learnt.pause, learnt.grew) = (usize::MAX, FIRST_PAUSE, false);
        }
    }

    /// What was refused was refused whatever its size.
    pub(super) fn forget(&self) {
        *self.learnt.lock() = Learnt::nothing(self.most);
    }
}

impl Learnt {
    fn nothing(most: usize) -> Self {
        Self { size: most, refused: usize::MAX, grow_at: Instant::now(), pause: FIRST_PAUSE, grew: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn what_was_halved_grows_again() {
        let limit = Limit::new(2_000_000);
        let mut bytes = 2_000_000;
        while bytes > 1_000 {
            assert_eq!(limit.refused(bytes), Some(bytes / 2));
            bytes /= 2;
        }
        assert_eq!(limit.refused(1_000_000), None, "that was known");
        assert_eq!(limit.get(), bytes);
        let mut steps = 0;
        while limit.get() < 2_000_000 {
            advance(FIRST_PAUSE).await;
            steps += 1;
        }
        assert_eq!(steps, 12, "it doubles");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_grow_is_tried_ever_more_seldom_until_it_can() {
        let limit = Limit::new(1_000);
        limit.refused(1_000);
        let mut pause = FIRST_PAUSE;
        for _ in 0..10 {
            advance(pause - Duration::from_secs(1)).await;
            assert_eq!(limit.get(), 500);
            advance(Duration::from_secs(1)).await;
            assert_eq!(limit.get(), 1_000);
            limit.refused(1_000);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        advance(pause).await;
        assert_eq!(limit.get(), 1_000);
        limit.taken(1_000);
        limit.refused(1_000);
        advance(FIRST_PAUSE).await;
        assert_eq!(limit.get(), 1_000, "what was taken once is tried soon");
    }
}
