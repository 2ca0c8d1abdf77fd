//! The best of several profiles within limits.

use std::cmp::Ordering;

use crate::error::{not_negative, positive};
use crate::limit::{Limit, Miss};
use crate::profile::Profile;
use crate::simulate::cost_per_million;

/// Limits on what was measured; `None` is no limit. A value that was not measured misses its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Constraints {
    /// Most rise of the perplexity over that of the dense model, as a share: 0.02 is 2 %.
    pub max_perplexity_change: Option<f64>,
    /// Most KL divergence in nats per token.
    pub max_kl: Option<f64>,
    /// Most p99 in ms, of every length that was timed.
    pub max_p99_ms: Option<f64>,
    /// Least number of decoded tokens per second.
    pub min_tokens_per_s: Option<f64>,
    /// Most memory of the process in bytes.
    pub max_memory: Option<u64>,
    /// Most bytes on disk.
    pub max_size: Option<u64>,
}

impl Constraints {
    /// Whether all limits are finite numbers.
    ///
    /// # Errors
    /// The limit, and what it has to be.
    pub fn check(&self) -> Result<(), String> {
        // A variant may have to be better than the dense model.
        if let Some(change) = self.max_perplexity_change.filter(|change| !change.is_finite()) {
            return Err(format!("the limit of the perplexity is {change}; it has to be a finite number"));
        }
        let limits =
            [("max_kl", self.max_kl), ("max_p99_ms", self.max_p99_ms), ("min_tokens_per_s", self.min_tokens_per_s)];
        limits.into_iter().try_for_each(|(key, limit)| limit.map_or(Ok(()), |limit| not_negative(key, limit)))
    }

    /// The limits that a profile does not keep.
    pub fn misses(&self, profile: &Profile) -> Vec<Miss> {
        let pairs = self.limits().into_iter().zip(Self::values(profile));
        pairs.filter_map(|((limit, wanted), (_, found))| limit.miss(wanted, found)).collect()
    }

    /// The limits, if they are set.
    pub(crate) fn limits(&self) -> [(Limit, Option<f64>); 6] {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        [
            (Limit::PerplexityChange, self.max_perplexity_change),
            (Limit::Kl, self.max_kl),
            (Limit::P99, self.max_p99_ms),
            (Limit::Throughput, self.min_tokens_per_s),
            (Limit::Memory, bytes(self.max_memory)),
            (Limit::Size, bytes(self.max_size)),
        ]
    }

    /// What a profile has for each of the limits, in the same order.
    pub(crate) fn values(profile: &Profile) -> [(Limit, Option<f64>); 6] {
        [
            (Limit::PerplexityChange, profile.perplexity_change.map(|change| change.value)),
            (Limit::Kl, profile.kl.map(|kl| kl.value)),
            (Limit::P99, profile.latencies.iter().map(|latency| latency.p99_ms).reduce(f64::max)),
            (Limit::Throughput, profile.decode_tokens_per_s),
            (Limit::Memory, profile.memory().map(|bytes| bytes as f64)),
            (Limit::Size, Some(profile.bytes_on_disk as f64)),
        ]
    }
}

/// Objective to minimise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Dollars per million decoded tokens.
    Cost {
        /// Price of the machine in dollars per hour.
        price_per_hour: f64,
    },
    /// Bytes on disk.
    Size,
    /// The largest p99 of all timed lengths.
    Latency,
    /// KL divergence; without it, perplexity.
    Quality,
}

impl Objective {
    /// Whether the price is one.
    ///
    /// # Errors
    /// What it has to be.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Cost { price_per_hour } => positive("price per hour", *price_per_hour),
            _ => Ok(()),
        }
    }

    /// The value of a profile, smaller is better; `None` if it was not measured.
    pub fn value(&self, profile: &Profile) -> Option<f64> {
        match self {
            Self::Cost { price_per_hour } => {
                profile.decode_tokens_per_s.map(|speed| cost_per_million(*price_per_hour, speed))
            }
            Self::Size => Some(profile.bytes_on_disk as f64),
            Self::Latency => profile.latencies.iter().map(|latency| latency.p99_ms).reduce(f64::max),
            Self::Quality => profile.kl.or(profile.perplexity).map(|measure| measure.value),
        }
    }
}

/// A profile that does not keep all limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Near {
    /// Its place in the list.
    pub index: usize,
    /// The limits that it misses.
    pub misses: Vec<Miss>,
}

impl Near {
    /// The sum of the relative distances from the limits.
    pub fn by(&self) -> f64 {
        self.misses.iter().map(Miss::by).sum()
    }
}

/// The profile that keeps all limits with the least value of the objective, as its place in the
/// list. Of equal ones, the first by the names of recipe and model is taken, then the first of the
/// list.
///
/// # Errors
/// If none keeps all limits and has a value: those that miss limits, the nearest first.
pub fn choose(profiles: &[Profile], constraints: &Constraints, objective: Objective) -> Result<usize, Vec<Near>> {
    let (mut best, mut near) = (None::<(f64, usize)>, Vec::new());
    for (index, profile) in profiles.iter().enumerate() {
        let misses = constraints.misses(profile);
        let value = objective.value(profile).filter(|value| !value.is_nan());
        match value {
            Some(value) if misses.is_empty() => {
                let better = |(least, at): (f64, usize)| {
                    value.total_cmp(&least).then_with(|| named(profile, &profiles[at])) == Ordering::Less
                };
                if best.is_none_or(better) {
                    best = Some((value, index));
                }
            }
            _ => near.push(Near { index, misses }),
        }
    }
    near.retain(|near| !near.misses.is_empty());
    near.sort_by(|a, b| a.by().total_cmp(&b.by()).then_with(|| named(&profiles[a.index], &profiles[b.index])));
    best.map(|(_, index)| index).ok_or(near)
}

fn named(a: &Profile, b: &Profile) -> Ordering {
    (&a.key.recipe, &a.model).cmp(&(&b.key.recipe, &b.model))
}

/// The profiles that no other one beats: none is at least as good in every objective and better in
/// one. Places in the list, in its order. A profile without one of the values is left out.
pub fn pareto(profiles: &[Profile], objectives: &[Objective]) -> Vec<usize> {
    let values: Vec<Option<Vec<f64>>> =
        profiles.iter().map(|profile| objectives.iter().map(|objective| objective.value(profile)).collect()).collect();
    let beats = |a: &[f64], b: &[f64]| {
        let pairs = || a.iter().zip(b);
        pairs().all(|(a, b)| a <= b) && pairs().any(|(a, b)| a < b)
    };
    let known = |index: &usize| values[*index].as_deref();
    let is_front =
        |index: &usize| known(index).is_some_and(|own| !values.iter().flatten().any(|other| beats(other, own)));
    (0..profiles.len()).filter(is_front).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Estimate;
    use crate::profile::tests::profile;

    fn sized(recipe: &str, bytes: u64, kl: f64) -> Profile {
        let kl = Some(Estimate { value: kl, low: kl, high: kl });
        Profile { bytes_on_disk: bytes, kl, ..profile(recipe) }
    }

    #[test]
    fn the_smallest_within_the_limits_wins() {
        let profiles = [sized("c", 300, 0.001), sized("b", 200, 0.01), sized("a", 100, 0.1), sized("B", 200, 0.01)];
        let within = |max_kl| Constraints { max_kl: Some(max_kl), ..Constraints::default() };
        assert_eq!(choose(&profiles, &within(1.0), Objective::Size), Ok(2));
        assert_eq!(choose(&profiles, &within(0.05), Objective::Size), Ok(3), "equal ones by name");
        assert_eq!(choose(&profiles, &within(0.005), Objective::Size), Ok(0));
        let near = choose(&profiles, &within(0.0005), Objective::Size).unwrap_err();
        assert_eq!(near.iter().map(|near| near.index).collect::<Vec<_>>(), [0, 3, 1, 2]);
        assert_eq!(near[0].misses, [Miss { limit: Limit::Kl, wanted: 0.0005, found: Some(0.001) }]);
        assert_eq!(pareto(&profiles, &[Objective::Size, Objective::Quality]), [0, 1, 2, 3]);
        assert_eq!(pareto(&profiles, &[Objective::Size]), [2]);
        assert_eq!(choose(&[], &within(1.0), Objective::Size), Err(vec![]));
    }

    #[test]
    fn every_limit_counts_and_what_is_not_measured_misses_it() {
        let one = profile("int8");
        let none = Constraints::default();
        let limits = [
            (Limit::PerplexityChange, Constraints { max_perplexity_change: Some(0.009), ..none }),
            (Limit::Kl, Constraints { max_kl: Some(0.001), ..none }),
            (Limit::P99, Constraints { max_p99_ms: Some(89.0), ..none }),
            (Limit::Throughput, Constraints { min_tokens_per_s: Some(2001.0), ..none }),
            (Limit::Memory, Constraints { max_memory: Some(8_999_999), ..none }),
            (Limit::Size, Constraints { max_size: Some(299_999), ..none }),
        ];
        let mut bare = one.clone();
        (bare.perplexity_change, bare.kl, bare.decode_tokens_per_s) = (None, None, None);
        (bare.peak_rss_bytes, bare.resident_bytes) = (None, None);
        bare.latencies.clear();
        assert_eq!(none.misses(&one), []);
        for (limit, constraints) in limits {
            assert_eq!(constraints.misses(&one).iter().map(|miss| miss.limit).collect::<Vec<_>>(), [limit]);
            let unknown = constraints.misses(&bare);
            assert_eq!(unknown[0].found.is_none(), limit != Limit::Size, "{limit}");
        }
        let (cost, size) = (Objective::Cost { price_per_hour: 0.5 }, Objective::Size);
        assert_eq!(choose(&[bare, one], &none, cost), Ok(1));
        assert!(Objective::Cost { price_per_hour: f64::NAN }.check().is_err() && size.check().is_ok());
        assert!(Constraints { max_kl: Some(f64::NAN), ..none }.check().is_err());
    }
}
