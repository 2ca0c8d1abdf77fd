//! Figures that follow from an NMSE and a size, in f64.

/// Signal-to-noise ratio in dB; `None` without noise.
pub(crate) fn snr_db(nmse: f64) -> Option<f64> {
    finite(10.0 * nmse.recip().log10())
}

/// Bits per weight above ½·log₂(1/NMSE), the rate of a Gaussian source at this error; `None`
/// without an error.
pub(crate) fn shannon_gap_bits(bits_per_weight: f64, nmse: f64) -> Option<f64> {
    finite(bits_per_weight + 0.5 * nmse.log2())
}

/// `None` for NaN and infinities, which JSON cannot hold.
pub(crate) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
