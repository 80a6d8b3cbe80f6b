//! Room for what is to come: within the bounds, or made at the cost of the hindmost cursors.
//!
//! Invariant: what is held, what is reserved and the views are within the journal's bytes together.

use super::{Memory, Place};
use crate::journal::{Overflow, Refused};
use crate::record::{SharedBatch, Timestamp};

/// Records leave this part of the journal's bytes to views.
const VIEWS_PART: usize = 16;

impl Memory {
    /// Keeps room for records to come. What an overflow costs is settled now.
    pub(in crate::journal) fn reserve(&mut self, records: usize, bytes: usize) -> Result<(), Refused> {
        self.is_open()?;
        let alone = self.reserved == (0, 0);
        self.reserved.0 += records;
        self.reserved.1 += bytes + self.batch_bytes(records);
        // Before views are looked at: one that is built meanwhile finds that there is no room for it.
        self.limit_views();
        let made = self.make_room(alone);
        if made.is_err() {
            self.release(records, bytes);
        }
        made
    }

    /// Keeps no room any more for what has come, or does not come.
    pub(in crate::journal) fn release(&mut self, records: usize, bytes: usize) {
        self.reserved.0 = self.reserved.0.saturating_sub(records);
        self.reserved.1 = self.reserved.1.saturating_sub(bytes + self.batch_bytes(records));
        self.limit_views();
    }

    /// What the batches of so many records occupy beside them at most.
    fn batch_bytes(&self, records: usize) -> usize {
        let batches = if records == 0 { 0 } else { records / self.settings.batch_records + 1 };
        batches * size_of::<SharedBatch>()
    }

    pub(super) fn limit_views(&self) {
        self.gauge.limit(self.settings.max_bytes.saturating_sub(self.held_bytes() + self.reserved.1));
    }

    pub(in crate::journal) fn is_open(&self) -> Result<(), Refused> {
        if self.closed { Err(Refused::Closed) } else { Ok(()) }
    }

    /// Whether what is held and what is reserved is within the bounds, and leaves room for views.
    fn has_room(&self) -> bool {
        let views = self.gauge.bytes().max(self.room_for_views());
        self.held_records() + self.reserved.0 <= self.settings.max_records
            && self.held_bytes() + self.reserved.1 + views <= self.settings.max_bytes
    }

    /// What records leave for views, so that publishers share them in a full journal, too.
    fn room_for_views(&self) -> usize {
        self.settings.max_bytes / VIEWS_PART
    }

    /// Drops the oldest batches until there is room, moving the hindmost cursors on. Nothing is dropped if there is no
    /// room to be made that way, because a cursor that must not lose anything is in it. `alone` says that nothing else is
    /// reserved.
    fn make_room(&mut self, alone: bool) -> Result<(), Refused> {
        if self.has_room() {
            return Ok(());
        }
        let hindmost = self.hindmost_blocking();
        let limit = hindmost.map_or(u64::MAX, |place| place.acknowledged);
        let label = hindmost.map(|place| place.label.clone());
        if let Some(label) = label
            && !self.could_have_room(limit, alone)
        {
            return Err(Refused::Full { label });
        }
        while !self.has_room() {
            let Some(oldest) = self.batches.front().filter(|oldest| oldest.end() <= limit) else {
                // What is left to let go are views: they can be built again.
                self.batches.iter().for_each(|batch| batch.forget_views());
                break;
            };
            let (first, end) = (oldest.first(), oldest.end());
            for place in self.cursors.iter_mut().filter(|place| place.is_behind(end)) {
                let lost = end - place.next.clamp(first, end);
                if lost > 0 {
                    place.overflows += 1;
                    place.last_loss = Some(Timestamp::now());
                    place.books.dropped.overflow += lost;
                    // The first time, the second, the fourth …: loud, and no flood while it goes on.
                    if place.overflows.is_power_of_two() {
                        self.overflowed.push((place.label.clone(), place.books.dropped.overflow));
                    }
                }
                place.next = place.next.max(end);
                place.acknowledged = place.acknowledged.max(end);
            }
            self.forget_oldest();
        }
        Ok(())
    }

    /// The hindmost of the cursors that must not lose anything.
    fn hindmost_blocking(&self) -> Option<&Place> {
        let blocking = self.cursors.iter().filter(|place| place.overflow == Overflow::Block);
        let unfinished = blocking.filter(|place| place.stop.is_none_or(|stop| place.acknowledged < stop));
        unfinished.min_by_key(|place| place.acknowledged)
    }

    /// What an append of one record would be told now; its bytes are not weighed.
    pub(in crate::journal) fn would_take(&mut self) -> Result<(), Refused> {
        self.is_open()?;
        let alone = self.reserved == (0, 0);
        self.reserved.0 += 1;
        let hindmost = self.hindmost_blocking();
        let refusing =
            hindmost.filter(|place| !self.has_room() && !self.could_have_room(place.acknowledged, alone));
        let answer = refusing.map_or(Ok(()), |place| Err(Refused::Full { label: place.label.clone() }));
        self.reserved.0 -= 1;
        answer
    }

    /// Whether there would be room if all views were gone, and all batches that end at `limit` or before. Where nothing
    /// would be left there is for one that comes alone: a journal that is empty takes anything, or it would never be
    /// taken.
    fn could_have_room(&self, limit: u64, alone: bool) -> bool {
        let stay = self.batches.partition_point(|batch| batch.end() <= limit);
        let first = self.batches.get(stay).map(|oldest| oldest.first());
        if first.is_none() && self.tail.is_empty() && alone {
            return true;
        }
        let held = self.end - first.unwrap_or_else(|| self.sealed_end());
        let held = usize::try_from(held).unwrap_or(usize::MAX);
        let held_bytes: usize = self.batches.iter().skip(stay).map(|batch| batch.held_bytes()).sum();
        held + self.reserved.0 <= self.settings.max_records
            && held_bytes + self.tail_weight() + self.reserved.1 + self.room_for_views()
                <= self.settings.max_bytes
    }
}
