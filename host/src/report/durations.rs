//! How the durations of one name are distributed, in a bounded space.
//!
//! Invariants: count, sum, least and greatest are exact. A quantile is within [`QUANTILE_ERROR`] of one that occurred, as
//! long as all names together are within their bytes; a name that cannot have more counts in bins of twice the width,
//! and says how far its quantiles may be from the truth.

use super::answers::Quantiles;
use std::time::Duration;

/// A quantile is at most this far from the true one, as a part of it.
pub const QUANTILE_ERROR: f64 = 0.02;

/// The bins that every name has: enough for all durations of 64 bits of nanoseconds at the greatest width.
const LEAST_BINS: usize = 32;

/// A range of bins grows by so many at a time.
const STEP: usize = 16;

/// The bytes that all names may still occupy.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    /// Takes `bytes`, if there are so many left.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Counts of durations in bins whose width grows with the duration.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// Bin `i` counts durations from `gamma^(first + i)` nanoseconds on, up to the next; gamma is that of the level.
    bins: Vec<u64>,
    first: usize,
    /// Each level doubles the width of all bins, on a logarithmic scale.
    level: u32,
    zeros: u64,
    count: u64,
    seconds: f64,
    min: u64,
    max: u64,
}

impl Durations {
    /// What a name is charged for at least, beside the size of this type.
    pub(super) const LEAST_BYTES: usize = LEAST_BINS * size_of::<u64>();

    pub(super) fn add(&mut self, elapsed: Duration, budget: &mut Budget) {
        // 64 bits of nanoseconds last for 584 years.
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.min = if self.count == 0 { nanos } else { self.min.min(nanos) };
        self.max = self.max.max(nanos);
        self.count += 1;
        self.seconds += elapsed.as_secs_f64();
        if nanos == 0 {
            self.zeros += 1;
            return;
        }
        let key = finest_key(nanos);
        loop {
            let at = (key >> self.level).checked_sub(self.first);
            if let Some(bin) = at.and_then(|at| self.bins.get_mut(at)) {
                *bin += 1;
                return;
            }
            self.reach(key >> self.level, budget);
        }
    }

    /// Extends the bins to `key`, or makes them wider where they may not be more.
    #[cold]
    fn reach(&mut self, key: usize, budget: &mut Budget) {
        let end = self.first + self.bins.len();
        let (first, end) = match self.bins.is_empty() {
            true => (key, key + 1),
            false if key < self.first => (key.min(self.first.saturating_sub(STEP)), end),
            false => (self.first, (key + 1).max(end + STEP)),
        };
        let charged = self.bins.capacity().max(LEAST_BINS);
        let more = (end - first).saturating_sub(charged) * size_of::<u64>();
        if more > 0 && !budget.take(more) {
            return self.widen();
        }
        let mut bins = Vec::with_capacity((end - first).max(self.bins.capacity()));
        bins.resize(self.first.max(first) - first, 0);
        bins.append(&mut self.bins);
        bins.resize(end - first, 0);
        (self.bins, self.first) = (bins, first);
    }

    fn widen(&mut self) {
        let first = self.first / 2;
        let mut wider = 0;
        for at in 0..self.bins.len() {
            let into = (self.first + at) / 2 - first;
            let count = self.bins.get_mut(at).map_or(0, std::mem::take);
            if let Some(bin) = self.bins.get_mut(into) {
                *bin += count;
            }
            wider = into + 1;
        }
        self.bins.truncate(wider);
        (self.first, self.level) = (first, self.level + 1);
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<u64>()
    }

    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        if self.count == 0 {
            return None;
        }
        let [min, max] = [self.min, self.max].map(|nanos| Duration::from_nanos(nanos).as_secs_f64());
        // An estimate may lie beyond what was seen; what is shown never does.
        let at = |quantile: f64| self.quantile(quantile).clamp(min, max);
        Some(Quantiles {
            min,
            mean: self.seconds / self.count as f64,
            max,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            quantile_error: (self.level > 0).then(|| error(gamma(self.level))),
        })
    }

    /// An estimate, in seconds.
    fn quantile(&self, quantile: f64) -> f64 {
        let rank = (quantile * (self.count - 1) as f64) as u64;
        let mut seen = self.zeros;
        if rank < seen {
            return 0.0;
        }
        let found = self.bins.iter().position(|bin| {
            seen += bin;
            seen > rank
        });
        let (gamma, key) = (gamma(self.level), self.first + found.unwrap_or(self.bins.len()));
        // Of all that lie in the bin, none is further from this than the error.
        gamma.powf(key as f64) * 2.0 * gamma / (1.0 + gamma) * 1e-9
    }
}

/// A bin's end, in terms of its beginning.
fn gamma(level: u32) -> f64 {
    let finest: f64 = (1.0 + QUANTILE_ERROR) / (1.0 - QUANTILE_ERROR);
    finest.powi(1 << level)
}

/// The error of quantiles, of bins whose ends are `gamma` times their beginnings.
fn error(gamma: f64) -> f64 {
    (gamma - 1.0) / (gamma + 1.0)
}

fn finest_key(nanos: u64) -> usize {
    ((nanos as f64).ln() / gamma(0).ln()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The quantile as it is defined, from all values.
    fn exact(sorted: &[u64], quantile: f64) -> f64 {
        sorted[(quantile * (sorted.len() - 1) as f64) as usize] as f64 * 1e-9
    }

    proptest! {
        #[test]
        fn quantiles_are_as_exact_as_they_say_whatever_the_bytes_allow(
            // Every magnitude is as likely as another.
            nanos in prop::collection::vec((0..64_u32, any::<u64>()), 1..400),
            bytes in prop_oneof![Just(0_usize), 0..12_000_usize],
        ) {
            let mut nanos: Vec<u64> = nanos.into_iter().map(|(shift, number)| number >> shift).collect();
            let (mut durations, mut budget) = (Durations::default(), Budget(bytes));
            for nanos in &nanos {
                durations.add(Duration::from_nanos(*nanos), &mut budget);
            }
            let held = durations.heap_bytes();
            prop_assert!(held <= Durations::LEAST_BYTES + bytes - budget.0, "{} of {}", held, bytes);
            nanos.sort_unstable();
            let found = durations.quantiles().unwrap();
            let error = found.quantile_error.unwrap_or(QUANTILE_ERROR);
            prop_assert!(error < 1.0);
            let shown = [(0.5, found.p50), (0.9, found.p90), (0.95, found.p95), (0.99, found.p99)];
            for (at, estimate) in shown {
                let truth = exact(&nanos, at);
                prop_assert!(
                    (estimate - truth).abs() <= truth * error * 1.0001,
                    "p{}: {} instead of {}, error {}", at, estimate, truth, error
                );
            }
            prop_assert_eq!(found.min, Duration::from_nanos(nanos[0]).as_secs_f64());
        }
    }

    #[test]
    fn with_bytes_enough_the_error_is_the_least_and_without_it_is_told() {
        let spread = (0..64).map(|shift| Duration::from_nanos(1 << shift));
        let (mut fine, mut coarse) = (Durations::default(), Durations::default());
        let (mut enough, mut none) = (Budget(usize::MAX), Budget(0));
        for elapsed in spread {
            fine.add(elapsed, &mut enough);
            coarse.add(elapsed, &mut none);
        }
        assert_eq!(fine.quantiles().unwrap().quantile_error, None);
        assert!(coarse.quantiles().unwrap().quantile_error.unwrap() > QUANTILE_ERROR);
        assert!(coarse.bins.capacity() <= LEAST_BINS && fine.bins.capacity() <= 1_152);
    }
}
