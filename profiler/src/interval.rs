//! Means over tokens, with intervals over windows.

use planner::Estimate;

/// Quantiles of 97.5 % of Student's t distribution for 1, 2, … degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// That of a normal distribution.
const NORMAL: f64 = 1.960;

/// The mean of a figure per token, from its sum and the number of tokens of each window, with its
/// confidence interval of 95 %: the ratio estimator of cluster sampling (Cochran, Sampling
/// Techniques, 3rd ed., section 6.3), because the tokens of a window depend on each other. `None`
/// for fewer than two windows.
pub(crate) fn mean(windows: &[(f64, u64)]) -> Option<Estimate> {
    let count = windows.len();
    let freedom = count.checked_sub(1).filter(|freedom| *freedom > 0)?;
    let (sum, tokens) = windows.iter().fold((0.0, 0.0), |(sum, all), (x, n)| (sum + x, all + *n as f64));
    let value = sum / tokens;
    let squares: f64 = windows.iter().map(|(x, n)| (x - value * *n as f64).powi(2)).sum();
    let error = (squares * count as f64 / (count - 1) as f64).sqrt() / tokens;
    let half = STUDENT.get(freedom - 1).unwrap_or(&NORMAL) * error;
    Some(Estimate { value, low: value - half, high: value + half })
}

/// An estimate through a function that rises.
pub(crate) fn through(estimate: Estimate, rises: impl Fn(f64) -> f64) -> Estimate {
    Estimate { value: rises(estimate.value), low: rises(estimate.low), high: rises(estimate.high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_windows_have_the_interval_of_a_mean() {
        let windows: Vec<_> = [1.0, 2.0, 3.0, 4.0, 5.0].iter().map(|mean| (mean * 10.0, 10)).collect();
        let Estimate { value, low, high } = mean(&windows).unwrap();
        // The deviation is √2.5, the t quantile of 4 degrees 2.776.
        let half = 2.776 * (2.5f64 / 5.0).sqrt();
        assert!((value - 3.0).abs() < 1e-12 && (low - 3.0 + half).abs() < 1e-9 && (high - 3.0 - half).abs() < 1e-9);
        assert_eq!(mean(&windows[..1]), None);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn long_windows_count_more() {
        let found = mean(&[(100.0, 100), (3.0, 1), (1.0, 1)]).unwrap();
        assert!((found.value - 104.0 / 102.0).abs() < 1e-12 && found.low < found.value && found.value < found.high);
        let equal = mean(&[(2.0, 2), (5.0, 5), (1.0, 1)]).unwrap();
        assert_eq!((equal.low, equal.value, equal.high), (1.0, 1.0, 1.0));
    }

    /// An interval of 95 % has the true mean in 95 of 100 cases: 2000 samples of 20 windows.
    #[test]
    fn intervals_cover_the_mean_as_often_as_they_say() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut covered = 0;
        for _ in 0..2000 {
            let windows: Vec<_> = (0..20)
                .map(|_| {
                    let tokens = 5 + (uniform() * 20.0) as u64;
                    (tokens as f64 * (2.0 + uniform()), tokens)
                })
                .collect();
            let found = mean(&windows).unwrap();
            covered += u32::from(found.low <= 2.5 && 2.5 <= found.high);
        }
        assert!((1860..=1940).contains(&covered), "{covered}");
    }
}
