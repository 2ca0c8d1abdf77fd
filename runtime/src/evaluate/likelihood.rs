//! Distributions from logits.

use simd::{LANES, kernel, lanes, sum};

use crate::kernels::{exp, largest};

kernel! {
    /// `Σ eˣ⁻ᵐ`.
    fn sum_of_exponentials<'a>(_simd, logits: &'a [f32], largest: f32) -> f64 {
        let (blocks, rest) = logits.as_chunks::<LANES>();
        let mut sums = [0.0f64; LANES];
        for block in blocks {
            let e = exp(&lanes!(i => block[i] - largest));
            sums = lanes!(i => sums[i] + f64::from(e[i]));
        }
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let e = exp(&lanes!(i => last[i] - largest));
        sum(lanes!(i => sums[i] + f64::from(e[i])))
    }
}

kernel! {
    /// `Σ eᵖ⁻ᵐ·((p − m) − (q − n))`.
    fn weighted_differences<'a>(_simd, p: &'a [f32], m: f32, q: &'a [f32], n: f32) -> f64 {
        let ((p, p_rest), (q, q_rest)) = (p.as_chunks::<LANES>(), q.as_chunks::<LANES>());
        let mut sums = [0.0f64; LANES];
        for (p, q) in p.iter().zip(q) {
            let e = exp(&lanes!(i => p[i] - m));
            sums = lanes!(i => sums[i] + f64::from(e[i]) * (f64::from(p[i] - m) - f64::from(q[i] - n)));
        }
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..p_rest.len()].copy_from_slice(p_rest);
        let e = exp(&lanes!(i => last[i] - m));
        for (i, (p, q)) in p_rest.iter().zip(q_rest).enumerate() {
            sums[i] += f64::from(e[i]) * (f64::from(p - m) - f64::from(q - n));
        }
        sum(sums)
    }
}

/// The distribution of the next token.
#[derive(Debug)]
pub(crate) struct Distribution<'a> {
    logits: &'a [f32],
    /// The most likely token.
    best: usize,
    /// `Σ eˣ⁻ᵐ` of the logits, with the largest one `m`.
    sum: f64,
}

impl<'a> Distribution<'a> {
    /// The distribution of these logits, of which there is at least one.
    pub(crate) fn new(logits: &'a [f32]) -> Self {
        let best = largest(logits);
        Self { logits, best, sum: sum_of_exponentials(logits, logits[best]) }
    }

    fn most(&self) -> f32 {
        self.logits[self.best]
    }

    /// The logarithm of the probability of a token.
    pub(super) fn log_likelihood(&self, target: u32) -> f64 {
        f64::from(self.logits[target as usize]) - (f64::from(self.most()) + libm::log(self.sum))
    }

    /// The Kullback–Leibler divergence of another distribution from this one, in nats, and whether
    /// both have the same most likely token. Rounding never makes it negative.
    pub(crate) fn divergence_of(&self, other: &Distribution<'_>) -> (f64, bool) {
        // Σ p·(log p − log q), with log p = (x − m) − log Σ.
        let differences = weighted_differences(self.logits, self.most(), other.logits, other.most());
        let divergence = differences / self.sum + libm::log(other.sum / self.sum);
        (divergence.max(0.0), self.best == other.best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_definitions() {
        for n in [2, 16, 37, 512] {
            let logits = |factor: f64| (0..n).map(move |i| (factor * f64::from(i * 7919 % 1009) / 100.0) as f32);
            let (p, q): (Vec<f32>, Vec<f32>) = (logits(1.0).collect(), logits(0.9).collect());
            let distribution = |x: &[f32]| {
                let e: Vec<f64> = x.iter().map(|x| libm::exp(f64::from(*x))).collect();
                let sum: f64 = e.iter().sum();
                e.into_iter().map(|e| e / sum).collect::<Vec<_>>()
            };
            let (exact_p, exact_q) = (distribution(&p), distribution(&q));
            let (p, q) = (Distribution::new(&p), Distribution::new(&q));
            for (i, exact) in exact_p.iter().enumerate() {
                assert!((p.log_likelihood(i as u32) - exact.ln()).abs() < 1e-6);
            }
            let exact: f64 = exact_p.iter().zip(&exact_q).map(|(p, q)| p * (p / q).ln()).sum();
            let (found, same) = p.divergence_of(&q);
            assert!((found - exact).abs() < 1e-6 + 1e-5 * exact, "{found}, not {exact}");
            assert!(same);
            assert_eq!(p.divergence_of(&p), (0.0, true));
        }
        assert!(!Distribution::new(&[1.0, 2.0]).divergence_of(&Distribution::new(&[2.0, 1.0])).1);
    }
}
