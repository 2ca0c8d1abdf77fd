//! What is known of a candidate, and how sure it is.

use crate::choose::{Constraints, Objective};
use crate::limit::{Limit, Miss};
use crate::profile::{Estimate, Profile};

/// How much wider than its interval of 95 % a measure of quality is taken to be.
const QUALITY: f64 = 2.0;
/// Factors between the times and the memory of two runs.
const TIME: f64 = 1.5;
const MEMORY: f64 = 1.1;

/// A candidate's measurements so far.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) profile: Profile,
    /// Whether it was measured in full: its values then count as they are.
    pub(super) full: bool,
}

/// The least and the most that a value may be.
type Range = (f64, f64);

impl Known {
    /// The new measurements, and the old ones where there are no new ones.
    pub(super) fn after(profile: Profile, full: bool, before: Option<&Self>) -> Self {
        let Some(Self { profile: old, .. }) = before else { return Self { profile, full } };
        let mut profile = profile;
        profile.resident_bytes = profile.resident_bytes.or(old.resident_bytes);
        profile.peak_rss_bytes = profile.peak_rss_bytes.or(old.peak_rss_bytes);
        profile.perplexity = profile.perplexity.or(old.perplexity);
        profile.perplexity_change = profile.perplexity_change.or(old.perplexity_change);
        profile.kl = profile.kl.or(old.kl);
        profile.top1 = profile.top1.or(old.top1);
        profile.prefill_tokens_per_s = profile.prefill_tokens_per_s.or(old.prefill_tokens_per_s);
        profile.decode_tokens_per_s = profile.decode_tokens_per_s.or(old.decode_tokens_per_s);
        profile.load_ms = profile.load_ms.or(old.load_ms);
        if profile.latencies.is_empty() {
            profile.latencies.clone_from(&old.latencies);
        }
        Self { profile, full }
    }

    /// The limits that it misses even at the favourable end.
    pub(super) fn surely_misses(&self, constraints: &Constraints) -> Vec<Miss> {
        let misses = constraints.misses(&self.profile);
        misses.into_iter().filter(|miss| !self.may_keep(miss)).collect()
    }

    fn may_keep(&self, miss: &Miss) -> bool {
        if self.full {
            return false;
        }
        // What was not measured yet may be anything.
        let Some(found) = miss.found else { return true };
        let (low, high) = self.range(miss.limit, found);
        if miss.limit.is_least() { high >= miss.wanted } else { low <= miss.wanted }
    }

    /// Whether it keeps all limits even at the unfavourable end.
    pub(super) fn surely_keeps(&self, constraints: &Constraints) -> bool {
        constraints.found(&self.profile).into_iter().all(|(limit, wanted, found)| {
            let (Some(wanted), Some(found)) = (wanted, found) else { return wanted.is_none() };
            let (low, high) = self.range(limit, found);
            if limit.is_least() { low >= wanted } else { high <= wanted }
        })
    }

    /// The range of the objective; everything if it was not measured.
    pub(super) fn objective(&self, objective: Objective) -> Range {
        let Some(value) = objective.value(&self.profile).filter(|value| !value.is_nan()) else {
            return (f64::NEG_INFINITY, f64::INFINITY);
        };
        match objective {
            _ if self.full => (value, value),
            Objective::Cost { .. } | Objective::Latency => (value / TIME, value * TIME),
            Objective::Size => (value, value),
            Objective::Quality => wider(self.profile.kl.or(self.profile.perplexity), value),
        }
    }

    fn range(&self, limit: Limit, found: f64) -> Range {
        match limit {
            _ if self.full => (found, found),
            Limit::PerplexityChange => wider(self.profile.perplexity_change, found),
            Limit::Kl => wider(self.profile.kl, found),
            Limit::P99 | Limit::Throughput => (found / TIME, found * TIME),
            Limit::Memory => (found / MEMORY, found * MEMORY),
            Limit::Quality | Limit::Size => (found, found),
        }
    }
}

fn wider(estimate: Option<Estimate>, value: f64) -> Range {
    estimate.map_or((value, value), |Estimate { value, low, high }| {
        (value - QUALITY * (value - low), value + QUALITY * (high - value))
    })
}
