//! The arithmetic: counts and latency quantiles per name, over columns, in bounded memory.
//!
//! It depends on nothing but `std`, so that the host's benchmark runs the very same code natively. A row of a name
//! that is known costs no allocation, and a name costs at most [`Sketch`]'s 4.4 KB.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{BuildHasherDefault, Hasher};

/// A column of texts: row `i` is `values[ends[i - 1]..ends[i]]`.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    /// The texts, one after the other.
    pub values: &'a str,
    /// Where each ends.
    pub ends: &'a [u32],
}

impl<'a> Texts<'a> {
    fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let end = *end as usize;
            let text = self.values.get(start..end).unwrap_or_default();
            start = end;
            text
        })
    }
}

/// What the rollup reads of a batch of events.
#[derive(Clone, Copy)]
pub struct Events<'a> {
    /// `event-name`.
    pub names: Texts<'a>,
    /// `start-time`.
    pub starts: &'a [u64],
    /// `end-time`, 0 where it has not ended.
    pub ends: &'a [u64],
    /// `status` by its number.
    pub status: &'a [u8],
    /// `retry-count`.
    pub retries: &'a [u32],
}

/// What the rollup reads of a batch of network operations.
#[derive(Clone, Copy)]
pub struct Operations<'a> {
    /// `operation`.
    pub names: Texts<'a>,
    /// `start-time`.
    pub starts: &'a [u64],
    /// `end-time`, 0 where it has not ended.
    pub ends: &'a [u64],
    /// Of `error`: 1 where there is one.
    pub failed: &'a [u8],
    /// `bytes-sent`.
    pub sent: &'a [u64],
    /// `bytes-received`.
    pub received: &'a [u64],
}

/// Totals per name, for a bounded number of names; those beyond share one entry.
pub struct Rollup<T> {
    max_names: usize,
    by_name: HashMap<Box<str>, usize, BuildHasherDefault<NameHasher>>,
    totals: Vec<T>,
    other: T,
}

/// The totals of one event name.
#[derive(Default)]
pub struct EventTotals {
    /// Events.
    pub count: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Retries of them all.
    pub retries: u64,
    /// Their durations.
    pub latency: Sketch,
}

/// The totals of one network operation.
#[derive(Default)]
pub struct OperationTotals {
    /// Operations.
    pub count: u64,
    /// Those with an error.
    pub failed: u64,
    /// Bytes that went out.
    pub sent: u64,
    /// Bytes that came in.
    pub received: u64,
    /// Their durations.
    pub latency: Sketch,
}

impl Rollup<EventTotals> {
    /// Counts a batch of events.
    pub fn add(&mut self, batch: Events<'_>) {
        let times = batch.starts.iter().zip(batch.ends);
        let states = batch.status.iter().zip(batch.retries);
        for ((name, (start, end)), (status, retries)) in batch.names.iter().zip(times).zip(states) {
            let totals = self.totals_of(name);
            totals.count += 1;
            totals.failed += u64::from(*status == 2);
            totals.cancelled += u64::from(*status == 3);
            totals.retries += u64::from(*retries);
            totals.latency.add_span(*start, *end);
        }
    }
}

impl Rollup<OperationTotals> {
    /// Counts a batch of network operations.
    pub fn add(&mut self, batch: Operations<'_>) {
        let times = batch.starts.iter().zip(batch.ends);
        let bytes = batch.sent.iter().zip(batch.received);
        for (((name, (start, end)), failed), (sent, received)) in
            batch.names.iter().zip(times).zip(batch.failed).zip(bytes)
        {
            let totals = self.totals_of(name);
            totals.count += 1;
            totals.failed += u64::from(*failed != 0);
            totals.sent = totals.sent.saturating_add(*sent);
            totals.received = totals.received.saturating_add(*received);
            totals.latency.add_span(*start, *end);
        }
    }
}

impl<T: Default> Rollup<T> {
    /// An empty one.
    pub fn new(max_names: usize) -> Self {
        Self { max_names, by_name: HashMap::default(), totals: Vec::new(), other: T::default() }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.max_names);
    }

    /// Every name with its totals, in the order of their first appearance.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let mut names: Vec<_> = self.by_name.iter().map(|(name, at)| (*at, &**name)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).zip(&self.totals)
    }

    /// The totals of the names beyond the bound.
    pub fn other(&self) -> &T {
        &self.other
    }

    #[inline]
    fn totals_of(&mut self, name: &str) -> &mut T {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => self.admit(name),
        };
        self.totals.get_mut(at).unwrap_or(&mut self.other)
    }

    #[cold]
    fn admit(&mut self, name: &str) -> usize {
        let at = self.totals.len();
        if at >= self.max_names {
            return usize::MAX;
        }
        self.by_name.insert(name.into(), at);
        self.totals.push(T::default());
        at
    }
}

impl fmt::Display for EventTotals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, failed, cancelled, retries, latency } = self;
        write!(out, "count={count} failed={failed} cancelled={cancelled} retries={retries}{latency}")
    }
}

impl fmt::Display for OperationTotals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, failed, sent, received, latency } = self;
        write!(out, "count={count} failed={failed} bytes_sent={sent} bytes_received={received}{latency}")
    }
}

/// Durations in buckets that grow with them: 32 to each doubling, so that a quantile is within 1.6 % of the truth,
/// from a microsecond to 4.8 hours. Shorter and longer ones count at the bounds.
#[derive(Default)]
pub struct Sketch {
    buckets: Vec<u32>,
    count: u64,
    min: u64,
    max: u64,
}

const SUB_BITS: u32 = 5;
const LOWEST: u32 = 10; // 2^10 ns
const HIGHEST: u32 = 44; // 2^44 ns
const BUCKETS: usize = ((HIGHEST - LOWEST) << SUB_BITS) as usize;

impl Sketch {
    /// Adds what lies between two times; nothing if it has not ended.
    #[inline]
    pub fn add_span(&mut self, start: u64, end: u64) {
        if end != 0 {
            self.add(end.saturating_sub(start));
        }
    }

    /// Adds a duration in nanoseconds.
    #[inline]
    pub fn add(&mut self, nanos: u64) {
        if self.count == 0 {
            self.buckets.resize(BUCKETS, 0);
            self.min = nanos;
        }
        self.count += 1;
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
        if let Some(bucket) = self.buckets.get_mut(Self::bucket(nanos)) {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// The duration, in nanoseconds, that a share of `q` does not exceed.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        // The q-th of n in order, counted from 1.
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|bucket| {
            seen += u64::from(*bucket);
            seen >= rank
        })?;
        Some(Self::middle(at).clamp(self.min, self.max))
    }

    /// The longest.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    #[inline]
    fn bucket(nanos: u64) -> usize {
        let nanos = nanos.clamp(1 << LOWEST, (1 << HIGHEST) - 1);
        let exponent = nanos.ilog2();
        let sub = (nanos >> (exponent - SUB_BITS)) as usize & ((1 << SUB_BITS) - 1);
        ((exponent - LOWEST) << SUB_BITS) as usize + sub
    }

    fn middle(bucket: usize) -> u64 {
        let exponent = LOWEST + (bucket >> SUB_BITS) as u32;
        let width = 1_u64 << (exponent - SUB_BITS);
        let sub = (bucket & ((1 << SUB_BITS) - 1)) as u64;
        (1 << exponent) + sub * width + width / 2
    }
}

impl fmt::Display for Sketch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantiles = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];
        let values = quantiles.into_iter().map(|(name, q)| (name, self.quantile(q)));
        for (name, nanos) in values.chain([("max", self.max())]) {
            if let Some(nanos) = nanos {
                write!(out, " {name}={}", Seconds(nanos))?;
            }
        }
        Ok(())
    }
}

/// Nanoseconds as seconds, to the microsecond and without trailing zeros.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write!(text, "{}.{:06}", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1_000)?;
        out.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A short hash for short names. It does not resist names that were made to collide; what those cost is bounded by the
/// number of names kept.
#[derive(Default)]
pub struct NameHasher(u64);

impl NameHasher {
    #[inline]
    fn fold(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for NameHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        self.fold(rest.iter().fold(rest.len() as u64, |word, byte| word << 8 | u64::from(*byte)));
    }

    #[inline]
    fn write_u8(&mut self, _: u8) {
        // The end mark of a text; its length is in the last word already.
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> (String, Vec<u32>) {
        let mut values = String::new();
        let ends = texts.iter().map(|text| {
            values.push_str(text);
            values.len() as u32
        });
        let ends = ends.collect();
        (values, ends)
    }

    fn add(rollup: &mut Rollup<EventTotals>, texts: &[&str]) {
        let (values, ends) = names(texts);
        let rows = texts.len();
        rollup.add(Events {
            names: Texts { values: &values, ends: &ends },
            starts: &vec![1_000_000_000; rows],
            ends: &(0..rows as u64).map(|row| 1_000_000_000 + (row + 1) * 1_000_000).collect::<Vec<_>>(),
            status: &(0..rows).map(|row| [1, 2, 3][row % 3]).collect::<Vec<_>>(),
            retries: &vec![2; rows],
        });
    }

    #[test]
    fn events_are_counted_by_name() {
        let mut rollup = Rollup::<EventTotals>::new(10);
        add(&mut rollup, &["resize", "", "resize", "größe"]);
        add(&mut rollup, &["resize"]);
        let seen: Vec<_> =
            rollup.iter().map(|(name, of)| (name, of.count, of.failed, of.cancelled)).collect();
        assert_eq!(seen, [("resize", 3, 0, 1), ("", 1, 1, 0), ("größe", 1, 0, 0)]);
        let (_, resize) = rollup.iter().next().unwrap();
        assert_eq!((resize.retries, resize.latency.max()), (6, Some(3_000_000)));
        let line = resize.to_string();
        assert!(line.starts_with("count=3 failed=0 cancelled=1 retries=6 p50=0.00"), "{line}");
        assert!(line.ends_with(" max=0.003"), "{line}");
        rollup.clear();
        assert_eq!(rollup.iter().count(), 0);
    }

    #[test]
    fn operations_are_counted_by_name() {
        let mut rollup = Rollup::<OperationTotals>::new(10);
        let (values, ends) = names(&["GET", "PUT", "GET"]);
        rollup.add(Operations {
            names: Texts { values: &values, ends: &ends },
            starts: &[5, 5, 5],
            ends: &[0, 1_500_000_005, 0],
            failed: &[1, 0, 0],
            sent: &[1, 2, u64::MAX],
            received: &[10, 20, 30],
        });
        let lines: Vec<_> = rollup.iter().map(|(name, totals)| format!("{name} {totals}")).collect();
        assert_eq!(lines[0], format!("GET count=2 failed=1 bytes_sent={} bytes_received=40", u64::MAX));
        assert_eq!(
            lines[1],
            "PUT count=1 failed=0 bytes_sent=2 bytes_received=20 p50=1.5 p95=1.5 p99=1.5 max=1.5"
        );
    }

    #[test]
    fn names_beyond_the_bound_share_one_entry() {
        let mut rollup = Rollup::<EventTotals>::new(2);
        add(&mut rollup, &["a", "b", "c", "d", "a"]);
        assert_eq!(
            rollup.iter().map(|(name, of)| (name, of.count)).collect::<Vec<_>>(),
            [("a", 2), ("b", 1)]
        );
        assert_eq!(rollup.other().count, 2);
    }

    #[test]
    fn quantiles_are_within_their_promise() {
        for scale in [1_500, 77_777, 1_000_003, 60_000_000_000] {
            let mut sketch = Sketch::default();
            (1..=1_000).for_each(|step| sketch.add(scale * step / 10 + 1_024));
            for (q, step) in [(0.0, 1), (0.5, 500), (0.95, 950), (0.99, 990), (1.0, 1_000)] {
                let truth = (scale * step / 10 + 1_024) as f64;
                let error = (sketch.quantile(q).unwrap() as f64 - truth).abs() / truth;
                assert!(error <= 0.016, "{scale} {q}: {error}");
            }
        }
    }

    #[test]
    fn the_extremes_are_kept_within_bounds() {
        let mut sketch = Sketch::default();
        assert_eq!((sketch.quantile(0.5), sketch.max()), (None, None));
        sketch.add_span(10, 5);
        sketch.add_span(10, 0);
        assert_eq!((sketch.quantile(0.5), sketch.max()), (Some(0), Some(0)));
        sketch.add(u64::MAX);
        assert_eq!((sketch.quantile(0.0), sketch.max()), (Some(1_024 + 16), Some(u64::MAX)));
        assert_eq!(sketch.buckets.len(), BUCKETS);
    }
}
