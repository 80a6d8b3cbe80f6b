//! Rows that wait beside the others, each for something that the others do not need ([`Fate::Wait`]).
//!
//! Invariants: the rows are read, and not settled, so they count as backlog; the cursor passes them, so they hold up no
//! other row; they are bounded in records and bytes, and keep nothing else of their batches in memory.
//!
//! Rows that wait for the same thing are a group. When the groups are due, one row of each is tried. A group whose row is
//! not held again is open: its other rows follow, as many at once as a batch holds.
//!
//! [`Fate::Wait`]: crate::publisher::Fate::Wait

use super::window::{Held, InHand, Window};
use crate::config::{BatchConfig, RetryConfig};
use crate::record::{Record, Rows, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many groups reports name.
const TOLD: usize = 3;

/// The rows that wait, by what they wait for.
pub(super) struct Waiting {
    groups: BTreeMap<Arc<str>, Group>,
    records: usize,
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
    /// When one of each is tried.
    probe_at: Instant,
    /// Something else was published since the first of them began to wait.
    others_go_on: bool,
}

struct Group {
    rows: Window,
    reason: Arc<str>,
    hold: bool,
    since: Instant,
    since_time: Timestamp,
    /// When one of its rows was last tried.
    tried: Instant,
    stage: Stage,
}

impl Group {
    /// How long it may wait; absent: for as long as it takes.
    fn max_age(&self, config: &RetryConfig) -> Option<Duration> {
        if self.hold { config.hold_max_age } else { Some(config.max_age) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waits,
    /// One of its rows is being tried.
    Probed,
    /// That row was not held again.
    Open,
}

/// What reports show of the rows that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) reason: String,
    /// Somebody must mend something first.
    pub(super) hold: bool,
    pub(super) since: Timestamp,
}

impl Waiting {
    /// None yet; at most `most` records, and bytes.
    pub(super) fn new(most: (usize, usize)) -> Self {
        Self {
            groups: BTreeMap::new(),
            records: 0,
            bytes: 0,
            max_records: most.0,
            max_bytes: most.1,
            probe_at: Instant::now(),
            others_go_on: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether rows of an open group can be taken.
    pub(super) fn is_open(&self) -> bool {
        self.groups.values().any(|group| group.stage == Stage::Open)
    }

    /// Something was published.
    pub(super) fn note_delivery(&mut self) {
        self.others_go_on = !self.groups.is_empty();
    }

    /// Whether rows that find no room may be given up for the sake of the others: not where nothing else is published
    /// anyway.
    pub(super) fn others_go_on(&self) -> bool {
        self.others_go_on
    }

    /// When something is to be done: one row of each is to be tried, or what has waited for long enough ends.
    pub(super) fn due(&self, config: &RetryConfig) -> Instant {
        let ends = self.groups.values().filter_map(|group| Some(group.since + group.max_age(config)?));
        ends.min().map_or(self.probe_at, |ends| ends.min(self.probe_at))
    }

    /// One row of each is tried at once.
    pub(super) fn hurry(&mut self) {
        self.probe_at = Instant::now();
    }

    /// Has rows wait for `on`. Returns false, and takes none, if there is no room.
    pub(super) fn add<R: InHand>(&mut self, on: &Arc<str>, held: &Held<R>, hold: Duration) -> bool {
        let (records, bytes) = (held.rows.len(), weigh(&held.rows));
        // One that was taken out to be tried comes back whatever has come since.
        let comes_back = self.groups.get(on).is_some_and(|group| group.stage != Stage::Waits);
        let room = self.records + records <= self.max_records && self.bytes + bytes <= self.max_bytes;
        if !room && !comes_back {
            return false;
        }
        if self.groups.is_empty() {
            self.others_go_on = false;
            self.probe_at = Instant::now() + hold;
        }
        (self.records, self.bytes) = (self.records + records, self.bytes + bytes);
        let group = self.groups.entry(on.clone()).or_insert_with(|| Group {
            rows: Window::default(),
            reason: held.reason.clone(),
            hold: held.hold,
            since: Instant::now(),
            since_time: Timestamp::now(),
            tried: Instant::now(),
            stage: Stage::Waits,
        });
        (group.reason, group.hold) = (held.reason.clone(), held.hold);
        let rows = R::rows(&mut group.rows);
        let before = std::mem::replace(rows, R::copied(&held.rows));
        if comes_back {
            rows.append(before);
        } else {
            let new = std::mem::replace(rows, before);
            rows.append(new);
        }
        group.stage = Stage::Waits;
        true
    }

    /// Takes one row of each group, of `most` groups at most: those that were tried the longest ago come first.
    pub(super) fn probe(&mut self, most: usize, hold: Duration) -> Window {
        self.probe_at = Instant::now() + hold;
        let mut probes = Window::default();
        let mut due: Vec<_> = self.groups.values_mut().filter(|group| group.stage == Stage::Waits).collect();
        due.sort_by_key(|group| group.tried);
        for group in due.into_iter().take(most) {
            let (records, bytes) = take(&mut group.rows, 1, usize::MAX, &mut probes);
            (self.records, self.bytes) = (self.records - records, self.bytes.saturating_sub(bytes));
            (group.stage, group.tried) = (Stage::Probed, Instant::now());
        }
        probes
    }

    /// Everything that was tried is settled: the groups of which nothing came back are open.
    pub(super) fn tried(&mut self) {
        for group in self.groups.values_mut().filter(|group| group.stage == Stage::Probed) {
            (group.stage, group.since, group.since_time) = (Stage::Open, Instant::now(), Timestamp::now());
        }
        self.groups.retain(|_, group| group.stage != Stage::Open || !group.rows.is_empty());
    }

    /// Takes rows of open groups, as many as a batch holds.
    pub(super) fn take_open(&mut self, batch: &BatchConfig) -> Window {
        let mut taken = Window::default();
        let (mut room, mut bytes_left) = (batch.max_records, batch.max_bytes.as_usize());
        for group in self.groups.values_mut().filter(|group| group.stage == Stage::Open) {
            let (records, bytes) = take(&mut group.rows, room, bytes_left, &mut taken);
            (self.records, self.bytes) = (self.records - records, self.bytes.saturating_sub(bytes));
            (room, bytes_left) = (room - records, bytes_left.saturating_sub(bytes));
            if room == 0 || bytes_left == 0 {
                break;
            }
        }
        taken
    }

    /// Takes all rows of a kind that wait for `on`.
    pub(super) fn take_all<R: InHand>(&mut self, on: &str) -> Rows<R> {
        let Some(group) = self.groups.get_mut(on) else { return Rows::default() };
        let rows = std::mem::take(R::rows(&mut group.rows));
        group.stage = Stage::Waits;
        if group.rows.is_empty() {
            self.groups.remove(on);
        }
        (self.records, self.bytes) = (self.records - rows.len(), self.bytes.saturating_sub(weigh(&rows)));
        rows
    }

    /// What of it has waited for long enough: what for, why, and how long that is.
    pub(super) fn too_old(&self, config: &RetryConfig) -> Vec<(Arc<str>, Arc<str>, Duration)> {
        let old = self.groups.iter().filter_map(|(on, group)| {
            let max_age = group.max_age(config).filter(|max_age| group.since.elapsed() >= *max_age)?;
            Some((on.clone(), group.reason.clone(), max_age))
        });
        old.collect()
    }

    /// What reports show; nothing where nothing waits.
    pub(super) fn told(&self) -> Option<Waits> {
        let since = self.groups.values().map(|group| group.since_time).min()?;
        let mut told: Vec<String> = self
            .groups
            .iter()
            .take(TOLD)
            .map(|(on, group)| format!("{} wait for {on}: {}", group.rows.len(), group.reason))
            .collect();
        if self.groups.len() > TOLD {
            told.push(format!("and {} more", self.groups.len() - TOLD));
        }
        let reason = format!("the rest is published, {} records wait: {}", self.records, told.join("; "));
        let hold = self.groups.values().any(|group| group.hold);
        Some(Waits { reason, hold, since })
    }
}

/// Moves the first rows of `from` to the end of `to`: so many, and no more once they have so many bytes. Returns how many,
/// and what they occupy.
fn take(from: &mut Window, most: usize, max_bytes: usize, to: &mut Window) -> (usize, usize) {
    let (events, bytes) = take_kind(&mut from.events, most, max_bytes, &mut to.events);
    let (operations, more) =
        take_kind(&mut from.operations, most - events, max_bytes.saturating_sub(bytes), &mut to.operations);
    (events + operations, bytes + more)
}

fn take_kind<R: InHand>(
    from: &mut Rows<R>,
    most: usize,
    max_bytes: usize,
    to: &mut Rows<R>,
) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for row in from.iter().take(most) {
        if bytes >= max_bytes {
            break;
        }
        (count, bytes) = (count + 1, bytes + row.bytes());
    }
    if count == 0 {
        return (0, 0);
    }
    let (first, end) =
        (u32::try_from(count).unwrap_or(u32::MAX), u32::try_from(from.len()).unwrap_or(u32::MAX));
    let taken = from.select(0..first);
    // A copy, so that what is rendered of it is not rendered of the rows beside it.
    to.append(R::copied(&taken));
    *from = from.select(first..end);
    (count, bytes)
}

fn weigh<R: Record>(rows: &Rows<R>) -> usize {
    rows.iter().map(Record::bytes).sum()
}
