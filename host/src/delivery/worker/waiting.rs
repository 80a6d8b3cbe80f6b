//! What a worker does with the rows that wait beside the others.
//!
//! Invariant: a row that is held is with the rows that wait, or becomes a dead letter, and is booked as that; it never holds
//! up the rows that are not held.

use super::super::window::{InHand, Verdict};
use super::{Arc, Trouble, Worker};

impl Worker {
    /// Takes the rows that are held out of `verdict`: they wait. Those that cannot join the rejected: while the publisher
    /// ends, for nothing waits longer than that, and where there is no room.
    pub(super) fn park<R: InHand>(&mut self, verdict: &mut Verdict<R>) {
        for (on, held) in std::mem::take(&mut verdict.held) {
            let reason = if self.draining {
                format!("the publisher ends while {on} refuses: {}", held.reason)
            } else if self.waiting.add(&on, &held, self.plan.config.retry.hold) {
                continue;
            } else if self.waiting.others_go_on() {
                format!("too many records wait, and {on} refuses: {}", held.reason)
            } else {
                // Nothing else is published anyway: the journal keeps what is behind this.
                let trouble =
                    Trouble { hold: held.hold, ..Trouble::retry(format!("{on} refuses: {}", held.reason)) };
                verdict.trouble = Some(trouble.and(verdict.trouble.take()));
                verdict.keep.append(held.rows);
                continue;
            };
            let mut rows = held.rows;
            if self.draining {
                rows.append(self.waiting.take_all(&on));
            }
            verdict.reasons.extend(std::iter::repeat_n(Arc::from(reason), rows.len()));
            verdict.rejected.append(rows);
        }
    }

    /// Takes one row of each group in hand, to be tried. What has waited for as long as it may becomes dead letters.
    pub(super) async fn probe(&mut self) {
        let config = self.plan.config.retry.clone();
        for (on, reason, age) in self.waiting.too_old(&config) {
            let age = humantime::format_duration(age);
            self.give_up_waiting(&on, &format!("{on} refused for {age}: {reason}")).await;
        }
        let probes = self.waiting.probe(self.plan.config.batch.max_records, config.hold);
        if self.draining {
            // There may be no time for another interval.
            self.waiting.hurry();
        }
        self.window.read_on(probes);
        self.pace.hurry();
        self.show_waiting();
    }

    /// What waits for `on` becomes dead letters.
    async fn give_up_waiting(&mut self, on: &Arc<str>, reason: &str) {
        let (events, operations) = (self.waiting.take_all(on), self.waiting.take_all(on));
        let reasons = |count| vec![Arc::<str>::from(reason); count];
        if let Err(error) = self.set_aside(&events, reasons(events.len())).await {
            tracing::warn!(publisher = %self.label, "they are published again: {error}");
            self.window.events.append(events);
        }
        if let Err(error) = self.set_aside(&operations, reasons(operations.len())).await {
            tracing::warn!(publisher = %self.label, "they are published again: {error}");
            self.window.operations.append(operations);
        }
    }

    /// Takes rows in hand that wait no longer.
    pub(super) fn release(&mut self) {
        let open = self.waiting.take_open(&self.plan.config.batch);
        self.waiting.tried();
        self.window.read_on(open);
        self.pace.hurry();
        self.show_waiting();
    }

    /// Shows what waits, and logs it when it begins and when it ends.
    pub(super) fn show_waiting(&self) {
        let told = self.waiting.told();
        let before = self.shared.state.lock().waits.clone();
        match (&before, &told) {
            (None, Some(waits)) => {
                tracing::error!(publisher = %self.label, "records wait: {}", waits.reason);
            }
            (Some(_), None) => tracing::info!(publisher = %self.label, "no record waits any longer"),
            _ => {}
        }
        if before != told {
            self.shared.update(|live| live.waits = told);
        }
    }
}
