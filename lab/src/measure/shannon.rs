//! Shannon's rate–distortion bound for independent Gaussian weights.

/// The least NMSE at this rate, in bits per weight.
pub fn least_nmse(bits: f64) -> f64 {
    (-2.0 * bits).exp2()
}

/// Rate above the bound, in bits per weight: `bits − ½·log₂(1/nmse)`.
pub fn gap(bits: f64, nmse: f64) -> f64 {
    bits + 0.5 * nmse.log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_times_leaves_a_quarter_of_the_energy() {
        assert!((least_nmse(32.0 / 30.0) - 0.2279).abs() < 1e-4);
        assert_eq!(least_nmse(1.0), 0.25);
    }

    #[test]
    fn the_gap_is_zero_at_the_bound() {
        assert_eq!(gap(3.0, least_nmse(3.0)), 0.0);
        assert_eq!(gap(4.5, least_nmse(4.0)), 0.5);
    }
}
