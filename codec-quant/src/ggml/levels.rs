//! Levels: the values of codes before scaling.

use simd::{LANES, Lanes, Simd, lanes};

/// The levels of a format: code 0 is the lowest.
pub(super) trait Levels {
    /// The lowest level.
    const LOWEST: f32;
    /// The highest level.
    const HIGHEST: f32;
    /// Approximate distance between neighbouring levels at the ends.
    const STEP: f32;

    /// The level nearest to each number.
    fn nearest<S: Simd>(simd: S, y: &Lanes<f32>) -> Lanes<f32>;

    /// The code of the level nearest to each number.
    fn code<S: Simd>(simd: S, y: &Lanes<f32>) -> Lanes<u8>;

    /// The level of a code.
    fn level(code: u8) -> f32;
}

/// The integers from `LOWEST` to `HIGHEST`.
pub(super) struct IntegerLevels<const LOWEST: i32, const HIGHEST: i32>;

impl<const LOWEST: i32, const HIGHEST: i32> Levels for IntegerLevels<LOWEST, HIGHEST> {
    const LOWEST: f32 = LOWEST as f32;
    const HIGHEST: f32 = HIGHEST as f32;
    const STEP: f32 = 1.0;

    #[inline(always)]
    fn nearest<S: Simd>(_: S, y: &Lanes<f32>) -> Lanes<f32> {
        let low: Lanes<f32> = lanes!(i => if y[i] > Self::LOWEST { y[i] } else { Self::LOWEST });
        lanes!(i => (if low[i] < Self::HIGHEST { low[i] } else { Self::HIGHEST }).round_ties_even())
    }

    #[inline(always)]
    fn code<S: Simd>(simd: S, y: &Lanes<f32>) -> Lanes<u8> {
        let nearest = Self::nearest(simd, y);
        lanes!(i => (nearest[i] - Self::LOWEST) as u8)
    }

    #[inline(always)]
    fn level(code: u8) -> f32 {
        f32::from(code) + Self::LOWEST
    }
}

/// The levels of the `IQ4` formats.
pub(super) const IQ4: Lanes<f32> =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// [`IQ4`] as levels.
pub(super) struct Iq4Levels;

impl Iq4Levels {
    /// Midpoints between the levels.
    const MIDDLES: Lanes<f32> = crate::middles(&IQ4);
}

impl Levels for Iq4Levels {
    const LOWEST: f32 = IQ4[0];
    const HIGHEST: f32 = IQ4[LANES - 1];
    const STEP: f32 = 23.0;

    #[inline(always)]
    fn nearest<S: Simd>(simd: S, y: &Lanes<f32>) -> Lanes<f32> {
        simd.lookup16(&IQ4, &Self::code(simd, y))
    }

    #[inline(always)]
    fn code<S: Simd>(simd: S, y: &Lanes<f32>) -> Lanes<u8> {
        simd.rank16(&Self::MIDDLES, y)
    }

    #[inline(always)]
    fn level(code: u8) -> f32 {
        IQ4[usize::from(code)]
    }
}
