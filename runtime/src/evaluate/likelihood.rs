//! Distributions from logits.

use simd::{LANES, kernel, lanes, sum};

use crate::kernels::exp;

/// The logarithm of `Σ eˣ`.
fn log_sum(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    f64::from(largest) + libm::log(sum_of_exponentials(logits, largest))
}

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

/// The logarithm of the probability of a token.
pub(super) fn log_likelihood(logits: &[f32], target: u32) -> f64 {
    f64::from(logits[target as usize]) - log_sum(logits)
}

/// The Kullback–Leibler divergence of the distribution of the logits `q` from that of `p`, in nats,
/// and whether both have the same most likely token. Rounding never makes it negative.
pub(super) fn divergence(p: &[f32], q: &[f32]) -> (f64, bool) {
    let (best_p, best_q) = (largest(p), largest(q));
    let (m, n) = (p[best_p], q[best_q]);
    let (sum_p, sum_q) = (sum_of_exponentials(p, m), sum_of_exponentials(q, n));
    // Σ p·(log p − log q), with log p = (x − m) − log Σ.
    let difference = weighted_differences(p, m, q, n) / sum_p + libm::log(sum_q / sum_p);
    (difference.max(0.0), best_p == best_q)
}

/// The first of the largest values.
fn largest(values: &[f32]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
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
            for (i, exact) in exact_p.iter().enumerate() {
                assert!((log_likelihood(&p, i as u32) - exact.ln()).abs() < 1e-6);
            }
            let exact: f64 = exact_p.iter().zip(&exact_q).map(|(p, q)| p * (p / q).ln()).sum();
            let (found, same) = divergence(&p, &q);
            assert!((found - exact).abs() < 1e-6 + 1e-5 * exact, "{found}, not {exact}");
            assert!(same);
            assert_eq!(divergence(&p, &p), (0.0, true));
        }
        assert!(!divergence(&[1.0, 2.0], &[2.0, 1.0]).1);
    }
}
