//! What is known of a candidate, and how sure it is.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Stage;
use crate::choose::{Constraints, Objective};
use crate::limit::{Limit, Miss};
use crate::profile::{Estimate, Profile};
use crate::simulate::cost_per_million;

/// How much wider than its interval of 95 % a measure of quality is taken to be.
const QUALITY: f64 = 2.0;
/// Factors between the times, the medians of times, and the memory of two runs.
const TIME: f64 = 1.5;
const MEDIAN: f64 = 1.2;
const MEMORY: f64 = 1.1;

/// The values of a candidate, each with the least and the most that it may be.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    values: BTreeMap<Limit, Estimate>,
    /// What was measured so far.
    pub(super) profile: Option<Profile>,
    /// Whether it was measured in full: its values then count as they are, except for times, of
    /// which more requests may decide.
    pub(super) full: bool,
}

impl Known {
    /// Before anything is measured.
    pub(super) fn estimated(bytes: Option<&RangeInclusive<u64>>) -> Self {
        let range = |bytes: &RangeInclusive<u64>| {
            let (low, high) = (*bytes.start() as f64, *bytes.end() as f64);
            Estimate { value: high, low, high }
        };
        let values = bytes.map(|bytes| (Limit::Size, range(bytes))).into_iter().collect();
        Self { values, ..Self::default() }
    }

    /// Adds measurements of a stage; values of the last one count as they are.
    pub(super) fn add(&mut self, profile: &Profile, stage: Stage, is_last: bool) {
        let full = stage >= Stage::Full;
        let exactly = |value| Estimate { value, low: value, high: value };
        for (limit, found) in Constraints::values(profile) {
            let Some(found) = found.filter(|found| !found.is_nan()) else { continue };
            let range = match limit {
                // The longest time of a few requests is chance; their median is steady, and p99 is
                // not below it.
                Limit::P99 if !is_last => {
                    let median = slowest_p50(profile) / if full { 1.0 } else { MEDIAN };
                    Estimate { low: median, ..by_factor(found, TIME) }
                }
                Limit::Throughput if !is_last => by_factor(found, if full { MEDIAN } else { TIME }),
                _ if full => exactly(found),
                Limit::PerplexityChange => profile.perplexity_change.map_or(exactly(found), wider),
                Limit::Kl => profile.kl.map_or(exactly(found), wider),
                Limit::Memory => by_factor(found, MEMORY),
                Limit::P99 | Limit::Throughput | Limit::Quality | Limit::Size => exactly(found),
            };
            self.values.insert(limit, range);
        }
        let before = self.profile.take();
        self.profile = Some(before.map_or_else(|| profile.clone(), |before| profile.or(&before)));
        self.full = full;
    }

    /// Takes times and memory of a candidate that is packed in the same way at another rate. One of
    /// a higher rate is not faster.
    pub(super) fn borrow(&mut self, other: &Self, higher: bool) {
        let faster = if higher { 1.0 } else { TIME };
        if let Some(Estimate { value, low, high }) = other.values.get(&Limit::P99) {
            self.values.insert(Limit::P99, Estimate { value: *value, low: low / faster, high: high * TIME });
        }
        if let Some(Estimate { value, low, high }) = other.values.get(&Limit::Throughput) {
            self.values.insert(Limit::Throughput, Estimate { value: *value, low: low / TIME, high: high * faster });
        }
        let (theirs, own) = (other.values.get(&Limit::Size), self.values.get(&Limit::Size));
        let (Some(theirs), Some(own), Some(memory)) = (theirs, own, other.values.get(&Limit::Memory)) else { return };
        // Memory holds the weights, and differs by no more than the files do.
        let difference = (theirs.high - own.low).max(own.high - theirs.low);
        let range = Estimate { low: memory.low - difference, high: memory.high + difference, ..*memory };
        self.values.insert(Limit::Memory, range);
    }

    /// The limits that it misses even by the optimistic bound.
    pub(super) fn surely_misses(&self, constraints: &Constraints) -> Vec<Miss> {
        let limits = constraints.limits().into_iter();
        let miss = |(limit, wanted): (Limit, Option<f64>)| {
            let Some(Estimate { value, low, high }) = self.values.get(&limit) else {
                // What was not measured yet may be anything.
                return limit.miss(wanted.filter(|_| self.full), None);
            };
            limit.miss(wanted, Some(if limit.is_least() { *high } else { *low }))?;
            Some(Miss { limit, wanted: wanted?, found: Some(*value) })
        };
        limits.filter_map(miss).collect()
    }

    /// Whether even the median time, measured in full, is above the limit on p99. The longest time
    /// alone may be chance.
    pub(super) fn is_slow(&self, constraints: &Constraints) -> bool {
        let median = self.profile.as_ref().filter(|_| self.full).map(slowest_p50);
        median.zip(constraints.max_p99_ms).is_some_and(|(median, most)| median > most)
    }

    /// Whether it keeps all limits even by the pessimistic bound.
    pub(super) fn surely_keeps(&self, constraints: &Constraints) -> bool {
        constraints.limits().into_iter().all(|(limit, wanted)| {
            let worst = |range: &Estimate| if limit.is_least() { range.low } else { range.high };
            limit.miss(wanted, self.values.get(&limit).map(worst)).is_none()
        })
    }

    /// Whether nothing is open: it was measured in full, keeps all limits, and its objective counts
    /// as it is.
    pub(super) fn is_settled(&self, constraints: &Constraints, objective: Objective) -> bool {
        let exact = |objective: Estimate| objective.low.total_cmp(&objective.high).is_eq();
        self.full && self.surely_keeps(constraints) && self.objective(objective).is_none_or(exact)
    }

    /// The objective; `None` if it was not measured.
    pub(super) fn objective(&self, objective: Objective) -> Option<Estimate> {
        let get = |limit: Limit| self.values.get(&limit).copied();
        match objective {
            Objective::Size => get(Limit::Size),
            Objective::Latency => get(Limit::P99),
            Objective::Quality => get(Limit::Kl).or_else(|| get(Limit::PerplexityChange)),
            Objective::Cost { price_per_hour } => get(Limit::Throughput).map(|speed| {
                let cost = |speed| cost_per_million(price_per_hour, speed);
                Estimate { value: cost(speed.value), low: cost(speed.high), high: cost(speed.low) }
            }),
        }
    }
}

/// The largest median of the kinds of requests, in ms.
fn slowest_p50(profile: &Profile) -> f64 {
    profile.latencies.iter().map(|latency| latency.p50_ms).fold(0.0, f64::max)
}

fn by_factor(value: f64, factor: f64) -> Estimate {
    Estimate { value, low: value / factor, high: value * factor }
}

fn wider(Estimate { value, low, high }: Estimate) -> Estimate {
    Estimate { value, low: value - QUALITY * (value - low), high: value + QUALITY * (high - value) }
}
