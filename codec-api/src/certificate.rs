//! The error of an encoded tensor, measured on the weights that a decoder returns.

use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, load, sum};

/// The error of an encoded tensor against its source `w`. `ŵ` are the decoded weights, rounded to
/// the stored dtype, as [`crate::EncodedTensor::decode_stored`] returns them. Differences are
/// rounded to f32, and sums have a relative error below 2⁻²⁰.
///
/// The certificates of a tensor's chunks [add up](Self::add) to the certificate of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Certificate {
    /// Every bit of the stored bytes is restored.
    pub exact: bool,
    /// `max |w − ŵ|`.
    pub max_abs: f64,
    /// `Σ (w − ŵ)²`.
    pub squared_error: f64,
    /// `Σ w²`. For an exact tensor the sum covers only finite values; it is 0 if the dtype is not
    /// a float.
    pub energy: f64,
}

impl Certificate {
    /// The certificate of zero weights: the start value for a sum of certificates.
    pub const EMPTY: Self = Self { exact: true, max_abs: 0.0, squared_error: 0.0, energy: 0.0 };

    /// The start value for a sum of measured errors.
    pub(crate) const LOSSY: Self = Self { exact: false, ..Self::EMPTY };

    /// Largest relative difference between two measurements of the same weights: each has a
    /// relative error below 2⁻²⁰.
    pub const TOLERANCE: f64 = 1.0 / (1 << 19) as f64;

    /// The certificate of a tensor that decodes to its stored bytes.
    pub fn exact(energy: f64) -> Self {
        Self { energy, ..Self::EMPTY }
    }

    /// Measures decoded values. The result is never marked as exact. A decoded value that is not
    /// finite makes the errors infinite or NaN. If the lengths differ, only the shorter length is
    /// compared.
    pub fn measure(source: &[f32], decoded: &[f32]) -> Self {
        let len = source.len().min(decoded.len());
        let (max_abs, squared_error, energy) = errors(&source[..len], &decoded[..len]);
        Self { exact: false, max_abs, squared_error, energy }
    }

    /// Adds the certificate of the next chunk.
    pub fn add(&mut self, chunk: &Self) {
        self.exact &= chunk.exact;
        self.max_abs = self.max_abs.max(chunk.max_abs);
        self.squared_error += chunk.squared_error;
        self.energy += chunk.energy;
    }

    /// Whether two measurements of the same weights agree. They may have added their terms in
    /// another order.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let close = |a: f64, b: f64| (a - b).abs() <= Self::TOLERANCE * a.abs().max(b.abs());
        self.exact == other.exact
            && close(self.max_abs, other.max_abs)
            && close(self.squared_error, other.squared_error)
            && close(self.energy, other.energy)
    }

    /// Normalised mean squared error, `Σ (w − ŵ)² / Σ w²`; 0 without any error.
    pub fn nmse(&self) -> f64 {
        if self.squared_error == 0.0 { 0.0 } else { self.squared_error / self.energy }
    }

    /// Relative error in the Frobenius norm, `‖w − ŵ‖ / ‖w‖`: the square root of
    /// [`Self::nmse`].
    pub fn rel_frobenius(&self) -> f64 {
        self.nmse().sqrt()
    }

    /// Whether all numbers are finite and non-negative, and an exact certificate has no error.
    pub fn is_valid(&self) -> bool {
        let numbers = [self.max_abs, self.squared_error, self.energy];
        numbers.iter().all(|n| n.is_finite() && *n >= 0.0)
            && (!self.exact || self.max_abs == 0.0 && self.squared_error == 0.0)
    }
}

/// Largest error, squared error and energy.
fn errors(source: &[f32], decoded: &[f32]) -> (f64, f64, f64) {
    let found = narrow_errors(source, decoded);
    let (largest, squares, energy) = found;
    // Squares far from 1 overflow or lose bits in f32; squares in this range do not, and those of
    // smaller values beside them do not count. A NaN is in no range.
    let fits = |sum: f64| (SMALLEST..LARGEST).contains(&sum);
    if fits(energy) && (fits(squares) || largest == 0.0 && squares == 0.0) {
        found
    } else {
        wide_errors(source, decoded)
    }
}

/// Sums of squares that f32 represents well.
const SMALLEST: f64 = 1e-30;
const LARGEST: f64 = 1e30;

/// Blocks whose squares are added in f32: their sum is rounded so often that its relative error is
/// below 2⁻²⁰.
const NARROW: usize = 16;

kernel! {
    /// [`errors`] for values of usual magnitudes: it squares, and adds a few squares, in f32.
    fn narrow_errors<'a>(_simd, source: &'a [f32], decoded: &'a [f32]) -> (f64, f64, f64) {
        let mut largest = [0.0; LANES];
        let (mut squares, mut energy) = ([0.0; LANES], [0.0; LANES]);
        for (source, decoded) in source.chunks(NARROW * LANES).zip(decoded.chunks(NARROW * LANES)) {
            let mut few = Narrow::default();
            let ((source, last_source), (decoded, last_decoded)) = (source.as_chunks(), decoded.as_chunks());
            for (x, y) in source.iter().zip(decoded) {
                few.add(x, y);
            }
            few.add(&load(last_source), &load(last_decoded));
            for i in 0..LANES {
                largest[i] = if few.largest[i] > largest[i] { few.largest[i] } else { largest[i] };
                squares[i] += f64::from(few.squares[i]);
                energy[i] += f64::from(few.energy[i]);
            }
        }
        (largest.into_iter().fold(0.0, f32::max).into(), sum(squares), sum(energy))
    }
}

/// Results of each lane for a few blocks.
#[derive(Default)]
struct Narrow {
    largest: [f32; LANES],
    squares: [f32; LANES],
    energy: [f32; LANES],
}

impl Narrow {
    #[inline(always)]
    fn add(&mut self, x: &[f32; LANES], y: &[f32; LANES]) {
        for i in 0..LANES {
            let error = (x[i] - y[i]).abs();
            self.largest[i] = if error > self.largest[i] { error } else { self.largest[i] };
            self.squares[i] += error * error;
            self.energy[i] += x[i] * x[i];
        }
    }
}

kernel! {
    /// [`errors`] for all values, in f64. A NaN makes the squared error NaN.
    fn wide_errors<'a>(_simd, source: &'a [f32], decoded: &'a [f32]) -> (f64, f64, f64) {
        let (mut largest, mut squares, mut energy) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let ((source, last_source), (decoded, last_decoded)) = (source.as_chunks(), decoded.as_chunks());
        let last = [(&load(last_source), &load(last_decoded))];
        for (x, y) in source.iter().zip(decoded).chain(last) {
            for i in 0..LANES {
                let (x, y) = (f64::from(x[i]), f64::from(y[i]));
                let error = (x - y).abs();
                largest[i] = if error > largest[i] { error } else { largest[i] };
                squares[i] += error * error;
                energy[i] += x * x;
            }
        }
        (largest.into_iter().fold(0.0, f64::max), sum(squares), sum(energy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_measures_the_same() {
        let source: Vec<f32> = (0..1003).map(|i| ((i * 7919) % 1009) as f32 / 331.0 - 1.5).collect();
        let decoded: Vec<f32> = source.iter().map(|v| (v * 4.0).round() / 4.0).collect();
        let found = simd::Level::available()
            .into_iter()
            .map(|level| simd::with_level(level, || Certificate::measure(&source, &decoded)));
        let expected = source.iter().zip(&decoded).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        for certificate in found {
            assert_eq!(certificate, Certificate::measure(&source, &decoded));
            assert!((certificate.squared_error / expected - 1.0).abs() < 1e-6);
            assert!(certificate.max_abs <= 0.125);
        }
    }

    #[test]
    fn small_and_large_values_are_measured_as_well() {
        for scale in [1e-40, 1e-30, 1e-16, 1e-13, 1.0, 1e13, 1e16, 1e36] {
            let source: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 1009) as f32 / 331.0 * scale).collect();
            for step in [0.5, 1e-3, 1e-12] {
                let decoded: Vec<f32> = source.iter().map(|v| v * (1.0 - step)).collect();
                let (mut expected, found) = (Certificate::LOSSY, Certificate::measure(&source, &decoded));
                for (x, y) in source.iter().zip(&decoded).map(|(x, y)| (f64::from(*x), f64::from(*y))) {
                    expected.add(&Certificate {
                        exact: false,
                        max_abs: (x - y).abs(),
                        squared_error: (x - y).powi(2),
                        energy: x * x,
                    });
                }
                assert!(found.agrees_with(&expected), "{scale} {step}: {found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_make_it_invalid() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 20] {
                let mut decoded = [1.0; 21];
                decoded[place] = odd;
                assert!(!Certificate::measure(&[1.0; 21], &decoded).is_valid());
            }
        }
    }

    #[test]
    fn the_range_of_f32_does_not_overflow() {
        let certificate = Certificate::measure(&[f32::MAX; 40], &[f32::MIN; 40]);
        assert!(certificate.is_valid());
        assert!((certificate.nmse() - 4.0).abs() < 1e-12);
    }
}
