//! Which records reach a publisher.

use crate::config::{Only, OnlyKind, OnlyStatus};
use crate::record::{Kind, Record, Status};

/// An `only` table, applied.
#[derive(Clone, Debug)]
pub struct Filter(Only);

impl Filter {
    /// Lets through what `only` says.
    pub fn new(only: Only) -> Self {
        Self(only)
    }

    /// Whether the record is let through.
    pub fn admits<R: Record>(&self, record: &R) -> bool {
        let Self(only) = self;
        let event = R::KIND == Kind::Event;
        only.kind.is_none_or(|kind| (kind == OnlyKind::Event) == event)
            && only.event_name.as_ref().is_none_or(|glob| event && glob.matches(record.name()))
            && (only.status.is_empty() || only.status.iter().any(|status| same(*status, record.status())))
            && only
                .pipeline
                .as_ref()
                .is_none_or(|glob| record.pipeline_id().is_some_and(|id| glob.matches(id)))
            && only.min_duration.is_none_or(|least| record.elapsed().is_some_and(|elapsed| elapsed >= least))
            && only.attributes.iter().all(|(key, wanted)| {
                record.attributes().get(key).is_some_and(|value| value.as_text() == wanted.as_str())
            })
    }
}

fn same(wanted: OnlyStatus, status: Status) -> bool {
    match wanted {
        OnlyStatus::Completed => status == Status::Completed,
        OnlyStatus::Failed => status == Status::Failed,
        OnlyStatus::Cancelled => status == Status::Cancelled,
    }
}
