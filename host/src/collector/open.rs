//! Unfinished records of one lane, oldest first.
//!
//! Invariant: a place is named by index and generation, so that whoever holds the name of a record that has gone
//! finds nothing, never another one's record.

use std::time::Instant;

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
    /// Towards the older one; in a free slot, the next free one.
    older: u32,
    newer: u32,
    content: Option<(Instant, R)>,
}

const NONE: u32 = u32::MAX;

impl<R> Open<R> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, oldest: NONE, newest: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, started: Instant, record: R) -> Ticket {
        let index = match self.slots.get_mut(self.free as usize) {
            Some(slot) => {
                let index = self.free;
                self.free = slot.older;
                slot.content = Some((started, record));
                (slot.older, slot.newer) = (self.newest, NONE);
                index
            }
            None => {
                let index = u32::try_from(self.slots.len()).unwrap_or(NONE);
                let content = Some((started, record));
                self.slots.push(Slot { generation: 0, older: self.newest, newer: NONE, content });
                index
            }
        };
        match self.slots.get_mut(self.newest as usize) {
            Some(before) => before.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.len += 1;
        Ticket { index, generation: self.slots.get(index as usize).map_or(0, |slot| slot.generation) }
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut R> {
        let slot = self.slots.get_mut(ticket.index as usize)?;
        if slot.generation != ticket.generation {
            return None;
        }
        slot.content.as_mut().map(|(_, record)| record)
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<(Instant, R)> {
        let slot = self.slots.get_mut(ticket.index as usize)?;
        if slot.generation != ticket.generation {
            return None;
        }
        let content = slot.content.take()?;
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
        Some(content)
    }

    /// The oldest, and when it started.
    pub(super) fn oldest(&self) -> Option<(Ticket, Instant)> {
        let slot = self.slots.get(self.oldest as usize)?;
        let (started, _) = slot.content.as_ref()?;
        Some((Ticket { index: self.oldest, generation: slot.generation }, *started))
    }

    /// The records in slots from `at` on, at most `most` slots of them; and the slot to go on at, if there is more.
    pub(super) fn peek(&self, at: usize, most: usize) -> (impl Iterator<Item = &R>, Option<usize>) {
        let end = at.saturating_add(most);
        let records = self.slots.iter().skip(at).take(most);
        let more = (end < self.slots.len()).then_some(end);
        (records.filter_map(|slot| slot.content.as_ref().map(|(_, record)| record)), more)
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
                    model.push((open.insert(Instant::now(), number), number));
                } else {
                    let (ticket, number) = model.remove(at % model.len());
                    prop_assert_eq!(open.remove(ticket).map(|(_, record)| record), Some(number));
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
