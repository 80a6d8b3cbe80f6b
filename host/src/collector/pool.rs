//! What all lanes share: places and bytes, leased some at a time, so that the shared counters stay off the path of a
//! record.
//!
//! Invariant: what all lanes have leased and what is left make up the pool.

use super::CollectorSettings;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of places, or of bytes.
pub(super) struct Pool {
    left: AtomicUsize,
    pub(super) chunk: usize,
}

impl Pool {
    fn new(amount: usize, lanes: usize, largest_chunk: usize) -> Self {
        Self { left: AtomicUsize::new(amount), chunk: (amount / (lanes * 8)).clamp(1, largest_chunk) }
    }

    /// A lease of `chunk`, or what is left; 0 if nothing is.
    pub(super) fn lease(&self) -> usize {
        let take = |left: usize| left.checked_sub(self.chunk.min(left));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        before.min(self.chunk)
    }

    pub(super) fn give_back(&self, amount: usize) {
        if amount > 0 {
            self.left.fetch_add(amount, Ordering::Relaxed);
        }
    }
}

/// The pools of a collector.
pub(super) struct Pools {
    pub(super) open_places: Pool,
    pub(super) open_bytes: Pool,
    pub(super) finished_places: Pool,
    pub(super) finished_bytes: Pool,
}

impl Pools {
    pub(super) fn new(settings: &CollectorSettings, lanes: usize) -> Self {
        const PLACES: usize = 256;
        const BYTES: usize = 64 << 10;
        Self {
            // Without a single place, nothing could ever be started.
            open_places: Pool::new(settings.max_pending.max(1), lanes, PLACES),
            open_bytes: Pool::new(settings.max_pending_bytes, lanes, BYTES),
            finished_places: Pool::new(settings.max_buffered, lanes, PLACES),
            finished_bytes: Pool::new(settings.max_buffered_bytes, lanes, BYTES),
        }
    }
}

/// What one lane uses of the bytes of a pool, and what it has leased of them.
#[derive(Default)]
pub(super) struct Share {
    used: usize,
    leased: usize,
}

impl Share {
    /// Uses `bytes` more. False if the pool has too little left for what is used now.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize, pool: &Pool) -> bool {
        self.used += bytes;
        self.used <= self.leased || self.cover(pool)
    }

    /// Uses `bytes` more if the pool has so much left.
    #[inline]
    pub(super) fn try_take(&mut self, bytes: usize, pool: &Pool) -> bool {
        let taken = self.take(bytes, pool);
        if !taken {
            self.used -= bytes;
        }
        taken
    }

    /// Uses `bytes` more for a moment: they are released before anything else is taken.
    #[inline]
    pub(super) fn add(&mut self, bytes: usize) {
        self.used += bytes;
    }

    /// Leases until what is used is covered. False if the pool has too little left.
    #[cold]
    pub(super) fn cover(&mut self, pool: &Pool) -> bool {
        while self.used > self.leased {
            match pool.lease() {
                0 => return false,
                leased => self.leased += leased,
            }
        }
        true
    }

    /// Uses `bytes` less.
    #[inline]
    pub(super) fn release(&mut self, bytes: usize, pool: &Pool) {
        self.used = self.used.saturating_sub(bytes);
        if self.leased.saturating_sub(self.used) > 2 * pool.chunk {
            self.return_spare(pool);
        }
    }

    /// Gives back what is leased and not used.
    #[cold]
    pub(super) fn return_spare(&mut self, pool: &Pool) {
        let spare = self.leased.saturating_sub(self.used);
        self.leased -= spare;
        pool.give_back(spare);
    }

    /// Uses nothing any more, and says what was leased: that goes back later.
    pub(super) fn hand_over(&mut self) -> usize {
        self.used = 0;
        std::mem::take(&mut self.leased)
    }
}

/// What finished records hold of the pools.
#[derive(Default)]
pub(super) struct Lease {
    pub(super) places: usize,
    pub(super) bytes: usize,
}

impl Lease {
    pub(super) fn add(&mut self, other: Self) {
        self.places += other.places;
        self.bytes += other.bytes;
    }

    pub(super) fn give_back(self, pools: &Pools) {
        pools.finished_places.give_back(self.places);
        pools.finished_bytes.give_back(self.bytes);
    }
}
