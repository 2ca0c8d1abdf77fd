//! Values of the 16 exponents of a tensor.

use crate::block::{EXPONENTS, Shape};

/// Steps per octave and the lowest exponent: field `f` means `2^((bias + f) / per_octave)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) per_octave: i32,
    pub(crate) bias: i32,
}

/// 2^(i/4).
const ROOTS: [f64; 4] = [1.0, 1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];
/// Exponent of the largest power of two in f32.
const MAX_POWER: i32 = 127;
/// Exponent of the smallest positive f32.
const MIN_POWER: i32 = -149;

impl Grid {
    /// The finest grid whose mantissas reach coefficients up to `largest`, the largest norm of a
    /// block.
    pub(crate) fn reaching(largest: f64, per_octave: u32, shape: Shape) -> Self {
        let per_octave = per_octave as i32;
        let reach =
            |bias: i32| Self { per_octave, bias }.power(EXPONENTS - 1) * f64::from(shape.largest_mantissa() + 1);
        let mut bias = Self::lowest(per_octave);
        while reach(bias) < largest && bias < Self::highest(per_octave) {
            bias += 1;
        }
        Self { per_octave, bias }
    }

    /// The grid of a stored bias; `None` if no encoder writes this bias.
    pub(crate) fn stored(bias: i16, per_octave: u32) -> Option<Self> {
        let (per_octave, bias) = (per_octave as i32, i32::from(bias));
        (Self::lowest(per_octave) <= bias && bias <= Self::highest(per_octave)).then_some(Self { per_octave, bias })
    }

    fn lowest(per_octave: i32) -> i32 {
        MIN_POWER * per_octave
    }

    fn highest(per_octave: i32) -> i32 {
        MAX_POWER * per_octave - (EXPONENTS as i32 - 1)
    }

    /// Blocks with a norm below this become zeros: all their weights are below the finest step.
    pub(crate) fn floor(self) -> f64 {
        self.power(0)
    }

    /// Splits an exponent into a root `2^(r/per_octave)` and a power of two.
    fn parts(self, field: usize) -> (f64, i32) {
        let exponent = self.bias + field as i32;
        let root = exponent.rem_euclid(self.per_octave) * (ROOTS.len() as i32 / self.per_octave);
        (ROOTS[root as usize], exponent.div_euclid(self.per_octave))
    }

    fn power(self, field: usize) -> f64 {
        let (root, power) = self.parts(field);
        root * 2f64.powi(power)
    }

    /// The multiplier of a sum of mantissas times integer elements, for each exponent: a factor,
    /// then a power of two that may make the result subnormal.
    pub(crate) fn scales(self, shape: Shape) -> [(f32, f32); EXPONENTS] {
        std::array::from_fn(|field| {
            let (root, power) = self.parts(field);
            ((root / shape.divisor()) as f32, power_of_two(power))
        })
    }

    /// The multipliers, as one number each.
    pub(crate) fn steps(self, shape: Shape) -> [f64; EXPONENTS] {
        self.scales(shape).map(|(factor, power)| f64::from(factor) * f64::from(power))
    }
}

/// `2^power`; `power` is at least [`MIN_POWER`].
fn power_of_two(power: i32) -> f32 {
    const MIN_NORMAL: i32 = -126;
    if power >= MIN_NORMAL {
        f32::from_bits(((power + 127) as u32) << 23)
    } else {
        f32::from_bits(1 << (power - MIN_POWER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { seed_bits: 16, weights: 8, rank: 3, mantissa_bits: 4 };

    #[test]
    fn a_grid_reaches_every_magnitude_and_no_further_than_needed() {
        for per_octave in [1, 2, 4] {
            for power in -140..128 {
                let largest = 1.1 * 2f64.powi(power);
                let grid = Grid::reaching(largest, per_octave, SHAPE);
                let top = grid.steps(SHAPE)[EXPONENTS - 1] * 8.0 * SHAPE.divisor();
                let finest = grid.bias == Grid::lowest(per_octave as i32);
                assert!(top >= largest * 0.999, "{power}: {top:e} < {largest:e}");
                assert!(finest || top <= largest * 2.001, "{power}: {top:e} is far above {largest:e}");
                assert_eq!(Grid::stored(grid.bias as i16, per_octave), Some(grid));
            }
        }
    }

    #[test]
    fn steps_rise_by_the_same_factor() {
        for per_octave in [1u32, 2, 4] {
            let steps = Grid { per_octave: per_octave as i32, bias: -7 }.steps(SHAPE);
            let factor = 2f64.powf(1.0 / f64::from(per_octave));
            assert!(steps.windows(2).all(|s| (s[1] / s[0] / factor - 1.0).abs() < 1e-6), "{steps:?}");
        }
    }

    #[test]
    fn no_bias_beyond_f32_is_read() {
        assert!([i16::MIN, -150, 113, i16::MAX].into_iter().all(|bias| Grid::stored(bias, 1).is_none()));
    }
}
