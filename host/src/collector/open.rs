//! Unfinished records of one lane, oldest first.
//!
//! Invariant: a place is named by index and generation, so that whoever holds the name of a record that has gone
//! finds nothing, never another one's record.

/// Names an unfinished record within its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: u32,
    generation: u32,
}

/// The unfinished records of one kind.
pub(crate) struct Open<R> {
    slots: Vec<Slot<R>>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: usize,
}

struct Slot<R> {
    generation: u32,
    /// What the record is charged for, in bytes.
    charge: u32,
    /// Towards the older one; in a free slot, the next free one.
    older: u32,
    newer: u32,
    /// By the recorders' clock.
    started: u64,
    /// Absent in a free slot.
    content: Option<R>,
}

const NONE: u32 = u32::MAX;

impl<R> Open<R> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, oldest: NONE, newest: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts in what `record` makes: in its slot, so that nothing so large is moved on the way there. `charge` says what
    /// it is charged for; that is returned.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        started: u64,
        record: impl FnOnce() -> R,
        charge: impl FnOnce(&R) -> u32,
    ) -> (Ticket, u32) {
        if self.free == NONE {
            self.grow();
        }
        let (index, newest) = (self.free, self.newest);
        // There is one, for the index came out of `grow` or out of a ticket.
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return (Ticket { index: NONE, generation: 0 }, 0);
        };
        slot.charge = charge(slot.content.get_or_insert_with(record));
        slot.started = started;
        self.free = slot.older;
        (slot.older, slot.newer) = (newest, NONE);
        let (ticket, charge) = (Ticket { index, generation: slot.generation }, slot.charge);
        match self.slots.get_mut(newest as usize) {
            Some(before) => before.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.len += 1;
        (ticket, charge)
    }

    #[cold]
    fn grow(&mut self) {
        self.free = u32::try_from(self.slots.len()).unwrap_or(NONE);
        self.slots.push(Slot {
            generation: 0,
            charge: 0,
            older: NONE,
            newer: NONE,
            started: 0,
            content: None,
        });
    }

    /// The record, when it started, and what it is charged for.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<(&mut R, u64, &mut u32)> {
        let slot = self.slots.get_mut(ticket.index as usize)?;
        if slot.generation != ticket.generation {
            return None;
        }
        let Slot { content, started, charge, .. } = slot;
        content.as_mut().map(|record| (record, *started, charge))
    }

    #[inline(always)]
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<R> {
        let slot = self.slots.get_mut(ticket.index as usize)?;
        if slot.generation != ticket.generation || slot.content.is_none() {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        let (older, newer) = (slot.older, slot.newer);
        slot.older = self.free;
        self.free = ticket.index;
        match self.slots.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
        self.len -= 1;
        // Last, so that it is moved once on its way to the caller.
        self.slots.get_mut(ticket.index as usize)?.content.take()
    }

    /// The oldest, and when it started.
    pub(super) fn oldest(&self) -> Option<(Ticket, u64)> {
        let slot = self.slots.get(self.oldest as usize)?;
        Some((Ticket { index: self.oldest, generation: slot.generation }, slot.started))
    }

    /// The records in slots from `at` on, at most `most` slots of them; and the slot to go on at, if there is more.
    pub(super) fn peek(&self, at: usize, most: usize) -> (impl Iterator<Item = &R>, Option<usize>) {
        let end = at.saturating_add(most);
        let records = self.slots.iter().skip(at).take(most);
        let more = (end < self.slots.len()).then_some(end);
        (records.filter_map(|slot| slot.content.as_ref()), more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_queue_with_removal(choices in prop::collection::vec((any::<bool>(), any::<usize>()), 0..200)) {
            let mut open = Open::new();
            let mut model: Vec<(Ticket, usize)> = Vec::new();
            for (number, (insert, at)) in choices.into_iter().enumerate() {
                if insert || model.is_empty() {
                    let (ticket, charge) = open.insert(number as u64, || number, |number| *number as u32);
                    prop_assert_eq!(charge as usize, number);
                    model.push((ticket, number));
                } else {
                    let (ticket, number) = model.remove(at % model.len());
                    prop_assert_eq!(open.get_mut(ticket), Some((&mut { number }, number as u64, &mut (number as u32))));
                    prop_assert_eq!(open.remove(ticket), Some(number));
                    prop_assert!(open.remove(ticket).is_none());
                    prop_assert!(open.get_mut(ticket).is_none());
                }
                prop_assert_eq!(open.len(), model.len());
                prop_assert_eq!(open.oldest().map(|(ticket, _)| ticket), model.first().map(|(ticket, _)| *ticket));
                prop_assert_eq!(open.peek(0, usize::MAX).0.count(), model.len());
            }
        }
    }
}
