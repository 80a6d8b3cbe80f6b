//! What is known of rows that were handed back, until they come again.
//!
//! Invariant: rows are told by their records' ids, for their numbers change; of what does not come again nothing is kept.

use super::number;
use super::sift::Parts;
use crate::record::{Record, Rows};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How often a record is tried again that an instance died of, while nothing comes that could be published beside it.
pub(super) const LONELY: Duration = Duration::from_secs(60);

/// What is known of rows of one kind that were handed back.
#[derive(Default)]
pub(super) struct Doubts {
    /// Those that killed an instance alone, by their record's id.
    pub(super) suspects: HashMap<Uuid, Suspect>,
    /// The others, in the parts in which they are to be tried; what is in none comes before them.
    pub(super) parts: Vec<Vec<Uuid>>,
    /// The last call stopped so as not to run past its deadline, and had published others beside them: it is not the
    /// plugin. The next one goes on with it.
    pub(super) proven: bool,
}

pub(super) struct Suspect {
    pub(super) text: String,
    pub(super) tried: Instant,
}

/// What a call is to try.
pub(super) struct Plan {
    pub(super) parts: Parts,
    /// To be tried once something else has been published.
    pub(super) suspects: Vec<(u32, Suspect)>,
    /// It is one record, alone, that killed an instance before.
    pub(super) lonely: bool,
}

impl Doubts {
    /// How to go about `rows`.
    ///
    /// # Errors
    ///
    /// There is nothing but one suspect, and it has been tried just now: why, and for how long it is to be left alone.
    pub(super) fn plan<R: Record>(&mut self, rows: &Rows<R>) -> Result<Plan, (String, Duration)> {
        let mut plan = Plan { parts: Parts::new(), suspects: Vec::new(), lonely: false };
        let all = || (0..number(rows.len())).collect::<Vec<u32>>();
        if self.suspects.is_empty() && self.parts.is_empty() {
            plan.parts.push_back(all());
            return Ok(plan);
        }
        // What is not there any more is forgotten.
        let mut known = std::mem::take(&mut self.suspects);
        let parted = std::mem::take(&mut self.parts);
        let part_of: HashMap<Uuid, usize> =
            parted.iter().enumerate().flat_map(|(at, part)| part.iter().map(move |id| (*id, at))).collect();
        let mut parts = vec![Vec::new(); parted.len()];
        let mut new = Vec::new();
        for (row, record) in (0..).zip(rows.iter()) {
            if let Some(suspect) = known.remove(&record.id()) {
                plan.suspects.push((row, suspect));
            } else {
                let part = part_of.get(&record.id()).and_then(|at| parts.get_mut(*at));
                part.unwrap_or(&mut new).push(row);
            }
        }
        plan.parts = std::iter::once(new).chain(parts).filter(|part| !part.is_empty()).collect();
        match plan.suspects.as_slice() {
            _ if !plan.parts.is_empty() || self.proven => {}
            [(_, suspect)] => {
                let wait = LONELY.saturating_sub(suspect.tried.elapsed());
                if !wait.is_zero() {
                    let reason = format!(
                        "{}; it is not known whether that is the record's fault: waits for one beside it",
                        suspect.text
                    );
                    let suspects = plan.suspects.into_iter().zip(rows.iter());
                    self.suspects.extend(suspects.map(|((_, suspect), record)| (record.id(), suspect)));
                    return Err((reason, wait));
                }
                plan = Plan { parts: [all()].into(), suspects: Vec::new(), lonely: true };
            }
            // It is the plugin, as far as is known. Once more from the start.
            _ => plan = Plan { parts: [all()].into(), suspects: Vec::new(), lonely: false },
        }
        Ok(plan)
    }
}
