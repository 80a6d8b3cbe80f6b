//! Why the host is not ready: what `/readyz` says.

use super::Inner;
use crate::delivery::State;
use crate::journal::Refused;
use crate::output::escape;

/// A question of its own for each kind of reason.
const CHECKS: [fn(&Inner) -> Vec<String>; 4] = [shutting_down, refusing, holding, setting_aside];

/// Everything that keeps the host from being ready; nothing if it is.
pub(super) fn reasons(host: &Inner) -> Vec<String> {
    CHECKS.iter().flat_map(|check| check(host)).collect()
}

fn shutting_down(host: &Inner) -> Vec<String> {
    if *host.stop.borrow() { vec!["the host is shutting down".to_owned()] } else { Vec::new() }
}

/// What is sent in is answered 429.
fn refusing(host: &Inner) -> Vec<String> {
    match host.journal.would_take() {
        Err(refused @ Refused::Full { .. }) => vec![format!("records are refused: {refused}")],
        _ => Vec::new(),
    }
}

/// A publisher waits for an operator.
fn holding(host: &Inner) -> Vec<String> {
    let held = host.publishers().into_iter().filter(|status| status.state == State::Held);
    held.map(|status| {
        let reason = status.reason.unwrap_or_default();
        format!("publisher \"{}\" is held: {}", status.label, escape::line(&reason))
    })
    .collect()
}

/// Refused records cannot be written to the dead letters.
fn setting_aside(host: &Inner) -> Vec<String> {
    let trouble = host.registry.dead_letters().trouble();
    let told = |trouble: crate::delivery::DeadLettersTrouble| {
        format!("dead letters cannot be written: {}", escape::line(&trouble.reason))
    };
    trouble.map(told).into_iter().collect()
}
