//! Scales as F16 times one power of two for the tensor. Until they are stored as F16, steps are
//! normalised (divided by that power), so that f32 arithmetic neither overflows nor loses
//! significant digits.

use super::decode::Params;
use simd::{f16_to_f32, f32_to_f16};

/// Exponents for which the power of two and its inverse are normal f32 numbers, and all scales are
/// finite.
const EXPONENTS: std::ops::RangeInclusive<i32> = -126..=113;
/// Up to this exponent no weight can overflow f32: an F16 is below 2^16, a code below 2^8.
const SAFE_EXPONENT: i8 = 103;

/// The exponent with which a step is stored as an F16 number in `[2^octave, 2^(octave+1))`.
pub(super) fn exponent_for(step: f64, octave: i32) -> i8 {
    (floor_log2(step) - octave).clamp(*EXPONENTS.start(), *EXPONENTS.end()) as i8
}

/// Whether an exponent read from a file can be a result of [`exponent_for`].
pub(super) fn valid_exponent(exponent: i8) -> bool {
    EXPONENTS.contains(&i32::from(exponent))
}

/// Normalised quantisers of groups before rounding: `ŵ = (code − zero) · step`.
#[derive(Debug, Default)]
pub(super) struct Grids {
    pub(super) steps: Vec<f32>,
    pub(super) zeros: Vec<f32>,
}

impl Grids {
    /// Rounds the steps to F16: returns their bits and replaces the steps by their values. Steps
    /// that would take one of the codes `0..=max_code` beyond f32 become smaller. `None` if a step
    /// overflows F16.
    pub(super) fn round(&mut self, max_code: f32, exponent: i8) -> Option<Vec<u16>> {
        let largest = f64::from(f32::MAX) / f64::from(power_of_two(exponent.into()));
        let reach = |zero: f32| f64::from(zero.max(max_code - zero));
        if exponent > SAFE_EXPONENT {
            for (step, zero) in self.steps.iter_mut().zip(&self.zeros) {
                let most = (largest / reach(*zero)) as f32;
                *step = step.clamp(-most, most);
            }
        }
        let mut halves = vec![0; self.steps.len()];
        f32_to_f16(&self.steps, &mut halves);
        f16_to_f32(&halves, &mut self.steps);
        if self.steps.iter().any(|step| step.is_infinite()) {
            return None;
        }
        if exponent > SAFE_EXPONENT {
            // Rounding may have raised a step by half a unit in the last place, not more.
            for ((half, step), zero) in halves.iter_mut().zip(&self.steps).zip(&self.zeros) {
                *half -= u16::from(f64::from(step.abs()) * reach(*zero) > largest);
            }
            f16_to_f32(&halves, &mut self.steps);
        }
        Some(halves)
    }

    /// The decoders' parameters, for rounded steps.
    pub(super) fn decoders(&self, exponent: i8) -> Vec<Params> {
        let groups = self.steps.iter().zip(&self.zeros);
        groups.map(|(step, zero)| Params::new(*step, exponent, *zero)).collect()
    }
}

/// `2^exponent` for the exponents of normal f32 numbers.
pub(super) fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent.clamp(-126, 127)) as u32) << 23)
}

/// `⌊log₂ x⌋` of a positive normal number.
fn floor_log2(x: f64) -> i32 {
    (x.to_bits() >> 52) as i32 - 1023
}
