//! Error measures between decoded weights and their source, in f64.

/// ‖w‖².
pub(super) fn energy(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum()
}

/// ‖w − ŵ‖²; not finite if a decoded value is not.
pub(super) fn squared_error(source: &[f32], decoded: &[f32]) -> f64 {
    let errors = source.iter().zip(decoded).map(|(w, d)| f64::from(*w) - f64::from(*d));
    errors.map(|error| error * error).sum()
}

/// ‖w − ŵ‖²/‖w‖²: 0 without an error, `None` if there is an error but ‖w‖ is 0.
pub(crate) fn nmse(squared: f64, energy: f64) -> Option<f64> {
    finite(if squared == 0.0 { 0.0 } else { squared / energy })
}

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
