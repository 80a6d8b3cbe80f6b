//! Which records reach a publisher.
//!
//! Invariant: tables that say the same are one rule, so that a record is judged once however many publishers ask
//! ([`Rules`]; the verdicts are kept with the journal's batch).

use super::sampling::Sample;
use crate::config::{Only, OnlyKind, OnlyStatus};
use crate::record::{Kind, Record, Rule, RuleId, Status};
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};

/// An `only` table, applied. A clone is the same rule.
#[derive(Clone)]
pub struct Filter(Arc<Applied>);

struct Applied {
    id: RuleId,
    only: Only,
    sample: Option<Sample>,
    #[cfg(test)]
    asked: std::sync::atomic::AtomicUsize,
}

/// The rules that are in force, whatever uses them.
#[derive(Default)]
pub struct Rules(Mutex<Vec<Weak<Applied>>>);

impl Rules {
    /// What lets through what `only` says: the rule that says so already, if there is one. `None` if it lets everything
    /// through.
    pub fn filter(&self, only: &Only) -> Option<Filter> {
        if *only == Only::default() {
            return None;
        }
        let mut rules = self.0.lock();
        rules.retain(|rule| rule.strong_count() > 0);
        if let Some(known) = rules.iter().filter_map(Weak::upgrade).find(|rule| rule.only == *only) {
            return Some(Filter(known));
        }
        let filter = Filter::new(only.clone());
        rules.push(Arc::downgrade(&filter.0));
        Some(filter)
    }
}

impl Filter {
    /// A rule of its own that lets through what `only` says.
    pub fn new(only: Only) -> Self {
        let (id, sample) = (RuleId::unique(), only.keep.map(Sample::new));
        Self(Arc::new(Applied {
            id,
            only,
            sample,
            #[cfg(test)]
            asked: Default::default(),
        }))
    }

    /// Whether the record is let through.
    pub fn admits<R: Record>(&self, record: &R) -> bool {
        #[cfg(test)]
        self.0.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Applied { only, sample, .. } = &*self.0;
        let event = R::KIND == Kind::Event;
        let matches_one =
            |globs: &[crate::config::Glob], text: &str| globs.iter().any(|glob| glob.matches(text));
        only.kind.is_none_or(|kind| (kind == OnlyKind::Event) == event)
            && (only.event_name.is_empty() || event && matches_one(&only.event_name, record.name()))
            && (only.status.is_empty() || only.status.iter().any(|status| same(*status, record.status())))
            && (only.pipeline.is_empty()
                || record.pipeline_id().is_some_and(|id| matches_one(&only.pipeline, id)))
            && only.min_duration.is_none_or(|least| record.elapsed().is_some_and(|elapsed| elapsed >= least))
            && only.attributes.iter().all(|(key, wanted)| {
                let found = record.attributes().get(key).map(|value| value.as_text());
                found.is_some_and(|text| wanted.iter().any(|wanted| *wanted == text))
            })
            && sample.is_none_or(|sample| record.status() == Status::Failed || sample.keeps(record))
    }

    /// How many records it has judged.
    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        self.0.asked.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Rule for Filter {
    fn id(&self) -> RuleId {
        self.0.id
    }

    fn admits<R: Record>(&self, record: &R) -> bool {
        Filter::admits(self, record)
    }
}

/// What it says, whichever rule it is.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.only).finish()
    }
}

fn same(wanted: OnlyStatus, status: Status) -> bool {
    match wanted {
        OnlyStatus::Completed => status == Status::Completed,
        OnlyStatus::Failed => status == Status::Failed,
        OnlyStatus::Cancelled => status == Status::Cancelled,
    }
}
