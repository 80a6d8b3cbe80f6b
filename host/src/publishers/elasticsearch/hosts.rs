//! The servers of a cluster, and which of them is asked next.
//!
//! Invariant: those that answer take turns; one that did not is left alone for a while that grows, and is then asked
//! whether it lives before it gets work. If none lives, every one is tried: there is nothing to lose.

use elasticsearch::http::Url;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The first time that a server is left alone, about; it doubles with every failure in a row.
const FIRST_REST: Duration = Duration::from_secs(1);
/// What it doubles to at most.
const LONGEST_REST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Hosts {
    hosts: Vec<Host>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Host {
    url: Url,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    down: Option<Down>,
    /// Failures since it last answered.
    failures: u32,
}

#[derive(Clone, Debug)]
struct Down {
    since: Instant,
    ask_at: Instant,
    reason: String,
}

/// A server as reports show it.
#[derive(Debug, Serialize)]
pub(super) struct HostStatus {
    url: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_seconds: Option<u64>,
}

impl Hosts {
    pub(super) fn new(urls: Vec<Url>) -> Self {
        let hosts = urls.into_iter().map(|url| Host { url, state: Mutex::default() }).collect::<Vec<_>>();
        // Several hosts of ours do not all begin with the same server.
        let turn = AtomicUsize::new(fastrand::usize(..hosts.len().max(1)));
        Self { hosts, turn }
    }

    /// Whether they are the same servers.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.hosts.iter().map(|host| &host.url).eq(other.hosts.iter().map(|host| &host.url))
    }

    /// What is known of the same servers.
    pub(super) fn take_over(&self, before: &Self) {
        for host in &self.hosts {
            if let Some(known) = before.hosts.iter().find(|known| known.url == host.url) {
                *host.state.lock() = known.state.lock().clone();
            }
        }
    }

    pub(super) fn url(&self, host: usize) -> Option<&Url> {
        self.hosts.get(host).map(|host| &host.url)
    }

    /// The servers in the order in which they are to be tried: those that live, in turn; if none does, all.
    pub(super) fn in_turn(&self) -> Vec<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let all = (0..self.hosts.len()).map(|at| turn.wrapping_add(at) % self.hosts.len().max(1));
        let (mut live, down): (Vec<_>, Vec<_>) = all.partition(|host| self.is_up(*host));
        if live.is_empty() {
            live = down;
        }
        live
    }

    /// One that was down for long enough to be asked whether it lives. Who is given it asks: nobody else is, for the
    /// time that asking may take.
    pub(super) fn due(&self, patience: Duration) -> Option<usize> {
        let now = Instant::now();
        self.hosts.iter().position(|host| match &mut host.state.lock().down {
            Some(down) if down.ask_at <= now => {
                down.ask_at = now + patience;
                true
            }
            _ => false,
        })
    }

    fn is_up(&self, host: usize) -> bool {
        self.hosts.get(host).is_some_and(|host| host.state.lock().down.is_none())
    }

    /// It answered. True if that is news.
    pub(super) fn up(&self, host: usize) -> bool {
        let Some(host) = self.hosts.get(host) else { return false };
        std::mem::take(&mut *host.state.lock()).down.is_some()
    }

    /// It did not answer, or not as one that can work. True if that is news.
    pub(super) fn down(&self, host: usize, reason: &str) -> bool {
        let Some(host) = self.hosts.get(host) else { return false };
        let mut state = host.state.lock();
        let rest = FIRST_REST
            .saturating_mul(1_u32.checked_shl(state.failures).unwrap_or(u32::MAX))
            .min(LONGEST_REST);
        state.failures = state.failures.saturating_add(1);
        let now = Instant::now();
        // Between half and all of it, so that many hosts of ours do not ask at the same moment.
        let ask_at = now + rest.mul_f64(0.5 + fastrand::f64() / 2.0);
        let since = state.down.as_ref().map(|down| down.since);
        state.down = Some(Down { since: since.unwrap_or(now), ask_at, reason: reason.to_owned() });
        since.is_none()
    }

    pub(super) fn status(&self) -> Vec<HostStatus> {
        let status = |host: &Host| {
            let down = host.state.lock().down.clone();
            HostStatus {
                url: host.url.to_string(),
                state: if down.is_some() { "down" } else { "up" },
                for_seconds: down.as_ref().map(|down| down.since.elapsed().as_secs()),
                reason: down.map(|down| down.reason),
            }
        };
        self.hosts.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Hosts {
        Hosts::new((0..count).map(|at| Url::parse(&format!("http://h{at}:9200/")).unwrap()).collect())
    }

    #[test]
    fn those_that_live_take_turns() {
        let hosts = hosts(3);
        let firsts: Vec<usize> = (0..6).map(|_| hosts.in_turn()[0]).collect();
        assert_eq!(firsts[..3], firsts[3..]);
        let mut sorted = firsts[..3].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2]);
        assert!(hosts.down(1, "gone") && !hosts.down(1, "still gone"));
        for _ in 0..6 {
            let order = hosts.in_turn();
            assert!(order.len() == 2 && !order.contains(&1));
        }
        assert!(hosts.up(1) && !hosts.up(1));
        assert_eq!(hosts.in_turn().len(), 3);
    }

    #[test]
    fn if_none_lives_all_are_tried() {
        let hosts = hosts(2);
        hosts.down(0, "gone");
        hosts.down(1, "gone");
        assert_eq!(hosts.in_turn().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_down_is_asked_after_a_while_that_grows_and_by_one_at_a_time() {
        let (hosts, patience) = (hosts(2), Duration::from_secs(2));
        let mut rest = FIRST_REST;
        for _ in 0..8 {
            hosts.down(0, "gone");
            assert_eq!(hosts.due(patience), None);
            tokio::time::advance(rest / 2 - Duration::from_millis(1)).await;
            assert_eq!(hosts.due(patience), None, "not before half of {rest:?}");
            tokio::time::advance(rest / 2 + Duration::from_millis(2)).await;
            assert_eq!((hosts.due(patience), hosts.due(patience)), (Some(0), None));
            rest = (rest * 2).min(LONGEST_REST);
        }
        hosts.up(0);
        hosts.down(0, "gone again");
        tokio::time::advance(FIRST_REST + Duration::from_millis(1)).await;
        assert_eq!(hosts.due(patience), Some(0), "one that lived begins anew");
    }

    #[test]
    fn a_successor_knows_what_was_known_of_the_same_servers() {
        let (before, after) = (hosts(2), hosts(3));
        before.down(1, "gone");
        after.take_over(&before);
        assert!(after.is_up(0) && !after.is_up(1) && after.is_up(2));
        let status = serde_json::to_value(after.status()).unwrap();
        assert_eq!(status[1]["state"], "down");
        assert_eq!((&status[1]["reason"], &status[2]["state"]), (&"gone".into(), &"up".into()));
    }
}
