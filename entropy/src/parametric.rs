//! Distributions of rounded numbers, for tables that need no counts. They use only arithmetic and
//! the `libm` crate, so the results are the same on every platform.

/// Probabilities of the integers from `−reach` to `reach`, for a sample of N(0, 1) divided by
/// `step` and rounded to the nearest integer. The tails beyond `reach` are left out, so the sum is
/// below 1.
pub fn gaussian(step: f64, reach: u32) -> Vec<f64> {
    // For an interval on one side of 0, this subtracts small tails instead of numbers near 1.
    let tail = |x: f64| 0.5 * libm::erfc(x * std::f64::consts::FRAC_1_SQRT_2);
    rounded(reach, |middle| {
        let (low, high) = ((middle - 0.5) * step, (middle + 0.5) * step);
        if low < 0.0 { 1.0 - 2.0 * tail(high) } else { tail(low) - tail(high) }
    })
}

/// Like [`gaussian`], for the Laplace distribution of unit variance.
pub fn laplace(step: f64, reach: u32) -> Vec<f64> {
    let tail = |x: f64| 0.5 * libm::exp(-x * std::f64::consts::SQRT_2);
    rounded(reach, |middle| {
        let (low, high) = ((middle - 0.5) * step, (middle + 0.5) * step);
        if low < 0.0 { 1.0 - 2.0 * tail(high) } else { tail(low) - tail(high) }
    })
}

/// Symmetric probabilities of the integers, from those of 0, 1, ….
fn rounded(reach: u32, probability: impl Fn(f64) -> f64) -> Vec<f64> {
    let reach = i64::from(reach);
    (-reach..=reach).map(|k| probability(k.unsigned_abs() as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_and_have_the_right_variance() {
        for (step, reach) in [(0.1, 100), (0.5, 20), (1.0, 12)] {
            for distribution in [gaussian(step, reach), laplace(step, 4 * reach)] {
                let half = distribution.len() as f64 / 2.0 - 0.5;
                let sum: f64 = distribution.iter().sum();
                let moment = |(i, p): (usize, &f64)| p * ((i as f64 - half) * step).powi(2);
                let variance: f64 = distribution.iter().enumerate().map(moment).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{sum}");
                // Rounding adds the variance of a uniform step, or slightly less where steps are
                // wide.
                assert!((variance - 1.0 - step * step / 12.0).abs() < 0.02 * step, "{variance}");
            }
        }
    }
}
