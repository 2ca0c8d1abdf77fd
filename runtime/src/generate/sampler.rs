//! Chooses the next token.

use std::collections::HashSet;

use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::kernels::{exponentials, largest};

/// How the next token is chosen. The steps have the order of transformers: penalty, temperature,
/// the most likely `top_k` tokens, the most likely ones that together have the probability `top_p`,
/// and those with at least `min_p` times the probability of the most likely one.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Divides the logits; 0 for the most likely token.
    pub temperature: f32,
    /// Number of tokens to choose from.
    pub top_k: Option<usize>,
    /// Probability of the tokens to choose from.
    pub top_p: Option<f32>,
    /// Probability of a token to choose, relative to the most likely one.
    pub min_p: Option<f32>,
    /// Divides positive logits, and multiplies negative ones, of tokens that the text has already;
    /// 1 for no penalty.
    pub repetition_penalty: f32,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: None, min_p: None, repetition_penalty: 1.0, seed: 0 }
    }
}

/// Chooses tokens, and knows those that the text has already.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Xoshiro256PlusPlus,
    seen: HashSet<u32>,
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler for a new text.
    pub fn new(sampling: Sampling) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(sampling.seed);
        Self { sampling, random, seen: HashSet::new(), weights: Vec::new() }
    }

    /// Notes a token of the text.
    pub fn note(&mut self, id: u32) {
        self.seen.insert(id);
    }

    /// Chooses a token.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, repetition_penalty: penalty, .. } = self.sampling;
        self.weights.clear();
        self.weights.extend_from_slice(logits);
        if penalty != 1.0 {
            for id in &self.seen {
                if let Some(logit) = self.weights.get_mut(*id as usize) {
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
            }
        }
        if temperature == 0.0 {
            return largest(&self.weights) as u32;
        }
        for logit in &mut self.weights {
            *logit /= temperature;
        }
        let sum = exponentials(&mut self.weights);
        let kept = self.keep(sum);
        self.draw(&kept)
    }

    /// The tokens to choose from.
    fn keep(&self, sum: f64) -> Vec<u32> {
        let Sampling { top_k, top_p, min_p, .. } = self.sampling;
        let weight = |id: &u32| self.weights[*id as usize];
        let mut kept: Vec<u32> = (0..self.weights.len() as u32).collect();
        if top_k.is_none() && top_p.is_none() && min_p.is_none() {
            return kept;
        }
        let (mut total, most) = (sum, top_k.unwrap_or(kept.len()).clamp(1, kept.len()));
        let order = |a: &u32, b: &u32| weight(b).total_cmp(&weight(a)).then(a.cmp(b));
        if most < kept.len() {
            kept.select_nth_unstable_by(most - 1, order);
            kept.truncate(most);
            total = kept.iter().map(|id| f64::from(weight(id))).sum();
        }
        if let Some(top_p) = top_p.map(f64::from) {
            // All tokens below this weight have less than 1 − top_p together.
            let least = (1.0 - top_p).max(0.0) * total / kept.len() as f64;
            kept.retain(|id| f64::from(weight(id)) >= least);
            kept.sort_unstable_by(order);
            let mut before = 0.0;
            let end = kept.iter().position(|id| {
                let enough = before >= top_p * total;
                before += f64::from(weight(id));
                enough
            });
            kept.truncate(end.unwrap_or(kept.len()).max(1));
        }
        if let Some(min_p) = min_p {
            // The largest weight is 1.
            kept.retain(|id| weight(id) >= min_p);
        }
        kept
    }

    /// One of the tokens, with the probability of its weight.
    fn draw(&mut self, kept: &[u32]) -> u32 {
        let total: f64 = kept.iter().map(|id| f64::from(self.weights[*id as usize])).sum();
        // 53 random bits: a number from 0 to below 1.
        let mut left = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        for id in kept {
            left -= f64::from(self.weights[*id as usize]);
            if left < 0.0 {
                return *id;
            }
        }
        kept.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Probabilities 0.4, 0.3, 0.2, 0.1.
    const SHARES: [f32; 4] = [0.2, 0.4, 0.1, 0.3];

    fn counts(sampling: Sampling, seen: &[u32]) -> BTreeMap<u32, usize> {
        let logits = SHARES.map(|share| share.ln() + 3.0);
        let mut sampler = Sampler::new(sampling);
        for id in seen {
            sampler.note(*id);
        }
        let mut counts = BTreeMap::new();
        (0..4000).for_each(|_| *counts.entry(sampler.choose(&logits)).or_insert(0) += 1);
        counts
    }

    fn near(found: &BTreeMap<u32, usize>, shares: &[(u32, f64)]) {
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), shares.iter().map(|share| share.0).collect::<Vec<_>>());
        for (id, share) in shares {
            assert!((found[id] as f64 / 4000.0 - share).abs() < 0.03, "{found:?}, not {shares:?}");
        }
    }

    #[test]
    fn tokens_have_their_probabilities() {
        let warm = Sampling { temperature: 1.0, ..Sampling::default() };
        near(&counts(Sampling::default(), &[]), &[(1, 1.0)]);
        near(&counts(warm, &[]), &[(0, 0.2), (1, 0.4), (2, 0.1), (3, 0.3)]);
        near(&counts(Sampling { top_k: Some(2), ..warm }, &[]), &[(1, 4.0 / 7.0), (3, 3.0 / 7.0)]);
        near(&counts(Sampling { top_k: Some(0), ..warm }, &[]), &[(1, 1.0)]);
        near(&counts(Sampling { top_p: Some(0.65), ..warm }, &[]), &[(1, 4.0 / 7.0), (3, 3.0 / 7.0)]);
        near(&counts(Sampling { top_p: Some(0.0), ..warm }, &[]), &[(1, 1.0)]);
        near(&counts(Sampling { top_p: Some(1.0), ..warm }, &[]), &[(0, 0.2), (1, 0.4), (2, 0.1), (3, 0.3)]);
        near(&counts(Sampling { min_p: Some(0.45), ..warm }, &[]), &[(0, 2.0 / 9.0), (1, 4.0 / 9.0), (3, 3.0 / 9.0)]);
        let cool = Sampling { temperature: 0.5, ..warm };
        near(&counts(cool, &[]), &[(0, 4.0 / 30.0), (1, 16.0 / 30.0), (2, 1.0 / 30.0), (3, 9.0 / 30.0)]);
        near(&counts(Sampling { repetition_penalty: 2.0, ..Sampling::default() }, &[1]), &[(3, 1.0)]);
        assert_ne!(counts(warm, &[]), counts(Sampling { seed: 1, ..warm }, &[]));
    }
}
