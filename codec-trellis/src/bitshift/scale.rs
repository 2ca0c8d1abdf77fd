//! Scales of spans, in sixteenths of an octave below the tensor's scale.

/// Levels per octave.
const PER_OCTAVE: usize = 16;

/// The level of a span of zeros.
pub(super) const ZERO: u8 = 255;

/// `2^(−i/16)`, rounded to f32.
const FRACTIONS: [f32; PER_OCTAVE] = [
    1.0,
    0.957_603_3,
    0.917_004_05,
    0.878_126_1,
    0.840_896_4,
    0.805_245_16,
    0.771_105_4,
    0.738_413_1,
    0.707_106_77,
    0.677_127_8,
    0.648_419_8,
    0.620_928_9,
    0.594_603_54,
    0.569_394_3,
    0.545_253_9,
    0.522_136_87,
];

/// Factor of the tensor's scale for a level.
#[inline(always)]
pub(super) fn factor(level: u8) -> f32 {
    if level == ZERO {
        return 0.0;
    }
    let (octave, fraction) = (usize::from(level) / PER_OCTAVE, usize::from(level) % PER_OCTAVE);
    FRACTIONS[fraction] * f32::from_bits((127 - octave as u32) << 23)
}

/// The level nearest to a ratio from 0 to 1; [`ZERO`] below the last level.
pub(super) fn level(ratio: f64) -> u8 {
    // A ratio of 0 is infinitely many octaves below.
    let below = (-libm::log2(ratio) * PER_OCTAVE as f64).round();
    if below < f64::from(ZERO) { below as u8 } else { ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_sixteenths_of_octaves() {
        for found in 0..ZERO {
            let exact = libm::exp2(-f64::from(found) / 16.0);
            assert!((f64::from(factor(found)) / exact - 1.0).abs() < 6e-8, "level {found}");
            assert!((0..20).all(|i| level(exact * (0.98 + 0.002 * f64::from(i))) == found), "level {found}");
        }
        assert_eq!((level(0.0), factor(ZERO)), (ZERO, 0.0));
        assert_eq!(level(1e-300), ZERO);
    }
}
