//! Floats of four and eight bits: rounding f32 to them (to nearest, ties to even) and widening
//! back.

use simd::{LANES, Simd, lanes};

/// Exponent field of an f32.
const EXPONENT: u32 = 0x7f80_0000;
/// Bits of an f32's mantissa.
const F32_MANTISSA: u32 = 23;
/// Exponent bias of an f32.
const F32_BIAS: i32 = 127;

/// A float format with a sign, an exponent, a mantissa and subnormal numbers.
pub(crate) trait Minifloat {
    /// Bits of the mantissa.
    const MANTISSA: u32;
    /// Exponent of the smallest normal number.
    const MIN_EXPONENT: i32;
    /// The code's sign bit.
    const SIGN: u8;
    /// The code of the largest number.
    const LARGEST: u8;
    /// The largest number.
    const MOST: f32;

    /// The values of codes; unspecified for a code that is not a number.
    fn widen<S: Simd>(simd: S, codes: &[u8; LANES]) -> [f32; LANES];

    /// The number nearest to a magnitude, and its code. Ties go to the even code; magnitudes above
    /// [`Self::MOST`] become [`Self::MOST`].
    #[inline(always)]
    fn round_magnitude(x: f32) -> (f32, u8) {
        let least = ((Self::MIN_EXPONENT + F32_BIAS) as u32) << F32_MANTISSA;
        // NaN fails the comparison and becomes the largest number.
        let x = if x < Self::MOST { x } else { Self::MOST };
        let exponent = x.to_bits() & EXPONENT;
        let exponent = if exponent < least { least } else { exponent };
        // The last place of this f32 equals the spacing of the format's numbers here, so adding it
        // rounds.
        let anchor = f32::from_bits(exponent + ((F32_MANTISSA - Self::MANTISSA) << F32_MANTISSA));
        let sum = x + anchor;
        // Steps within this exponent, plus the steps below it. The first number of an exponent is
        // also the last step of the exponent below.
        let code = (sum.to_bits() - anchor.to_bits()) + ((exponent - least) >> (F32_MANTISSA - Self::MANTISSA));
        (sum - anchor, code as u8)
    }

    /// The number nearest to a number with a sign, and its code.
    #[inline(always)]
    fn round_one(x: f32) -> (f32, u8) {
        let (magnitude, code) = Self::round_magnitude(x.abs());
        (magnitude.copysign(x), code | if x.is_sign_negative() { Self::SIGN } else { 0 })
    }

    /// The codes of the numbers nearest to sixteen numbers with signs.
    #[inline(always)]
    fn round(x: &[f32; LANES]) -> [u8; LANES] {
        lanes!(i => Self::round_one(x[i]).1)
    }
}

/// Four bits: ±0, 0.5, 1, 1.5, 2, 3, 4, 6.
pub(crate) struct E2m1;

impl Minifloat for E2m1 {
    const MANTISSA: u32 = 1;
    const MIN_EXPONENT: i32 = 0;
    const SIGN: u8 = 8;
    const LARGEST: u8 = 7;
    const MOST: f32 = 6.0;

    #[inline(always)]
    fn widen<S: Simd>(simd: S, codes: &[u8; LANES]) -> [f32; LANES] {
        const LEVELS: [f32; LANES] =
            [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
        simd.lookup16(&LEVELS, codes)
    }
}

/// Eight bits without infinities ("fn"): magnitudes up to 448; the code above is NaN.
pub(crate) struct E4m3;

impl Minifloat for E4m3 {
    const MANTISSA: u32 = 3;
    const MIN_EXPONENT: i32 = -6;
    const SIGN: u8 = 0x80;
    const LARGEST: u8 = 0x7e;
    const MOST: f32 = 448.0;

    #[inline(always)]
    fn widen<S: Simd>(simd: S, codes: &[u8; LANES]) -> [f32; LANES] {
        // Read as F16, these bits mean 1/256 of the value: the exponent biases differ by 8.
        let halves = lanes!(i => u16::from(codes[i] & 0x80) << 8 | u16::from(codes[i] & 0x7f) << 7);
        let values = simd.f16_to_f32(&halves);
        lanes!(i => values[i] * 256.0)
    }
}

/// Eight bits by the rules of IEEE 754, the upper half of an F16: magnitudes up to 57 344; the
/// codes above are infinity and NaN.
pub(crate) struct E5m2;

impl Minifloat for E5m2 {
    const MANTISSA: u32 = 2;
    const MIN_EXPONENT: i32 = -14;
    const SIGN: u8 = 0x80;
    const LARGEST: u8 = 0x7b;
    const MOST: f32 = 57_344.0;

    #[inline(always)]
    fn widen<S: Simd>(simd: S, codes: &[u8; LANES]) -> [f32; LANES] {
        simd.f16_to_f32(&lanes!(i => u16::from(codes[i]) << 8))
    }
}

/// The f32 scale that maps `largest` to `most`; 0 if `largest` is 0. Scale times `most` stays
/// finite.
pub(crate) fn scale_for(largest: f32, most: f32) -> f32 {
    let scale = largest / most;
    if largest == 0.0 {
        0.0
    } else if scale.is_normal() {
        if (scale * most).is_finite() { scale } else { scale.next_down() }
    } else {
        // A subnormal scale has few digits: rounding it down would put `largest` far above `most`.
        scale.next_up()
    }
}

/// The index of the least error; `kept` if no error is below its own, otherwise the first one.
#[inline(always)]
pub(crate) fn least<T: PartialOrd + Copy>(errors: &[T], kept: usize) -> usize {
    let mut best = kept;
    for (i, error) in errors.iter().enumerate() {
        if *error < errors[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use simd::{Level, kernel, load, with_level};

    use super::*;

    kernel! {
        fn widen_all<'a>(simd, format: u8, codes: &'a [u8]) -> Vec<f32> {
            let widen = |codes| match format {
                4 => E2m1::widen(simd, codes),
                5 => E4m3::widen(simd, codes),
                _ => E5m2::widen(simd, codes),
            };
            codes.as_chunks().0.iter().flat_map(widen).collect()
        }
    }

    kernel! {
        fn round_all<'a>(_simd, format: u8, values: &'a [f32]) -> Vec<(u8, u32)> {
            let round = |x: &[f32]| match format {
                4 => E2m1::round(&load(x)),
                5 => E4m3::round(&load(x)),
                _ => E5m2::round(&load(x)),
            };
            let magnitude = |x: &f32| match format {
                4 => E2m1::round_magnitude(x.abs()),
                5 => E4m3::round_magnitude(x.abs()),
                _ => E5m2::round_magnitude(x.abs()),
            };
            values.chunks(LANES).flat_map(round).zip(values.iter().map(|x| magnitude(x).0.to_bits())).collect()
        }
    }

    /// Checks each number of a format, the midpoint to the next number and the f32s beside the
    /// midpoint, and values beyond the largest number; all with both signs.
    fn check(format: u8, sign: u8, largest: u8) {
        let codes: Vec<u8> = (0..=u8::MAX).collect();
        for level in Level::available() {
            let numbers = with_level(level, || widen_all(format, &codes));
            let (mut values, mut expected) = (Vec::new(), Vec::new());
            for code in 0..=largest {
                let number = numbers[usize::from(code)];
                let mut expect = |x: f32, code: u8| {
                    values.extend([x, -x]);
                    let number = numbers[usize::from(code)];
                    expected.extend([(code, number.to_bits()), (code | sign, number.to_bits())]);
                };
                expect(number, code);
                if code == largest {
                    for beyond in [number.next_up(), number * 1.5, 3e38] {
                        expect(beyond, code);
                    }
                } else {
                    let middle = f32::midpoint(number, numbers[usize::from(code) + 1]);
                    expect(middle.next_down(), code);
                    expect(middle, code + code % 2);
                    expect(middle.next_up(), code + 1);
                }
                assert_eq!(numbers[usize::from(code | sign)].to_bits(), (-number).to_bits(), "{level}, code {code}");
            }
            assert_eq!(with_level(level, || round_all(format, &values)), expected, "{level}");
        }
    }

    #[test]
    fn rounding_is_to_nearest_with_ties_to_even_at_every_level() {
        check(4, E2m1::SIGN, E2m1::LARGEST);
        check(5, E4m3::SIGN, E4m3::LARGEST);
        check(6, E5m2::SIGN, E5m2::LARGEST);
    }

    #[test]
    fn a_scale_keeps_the_largest_number_finite() {
        for most in [E4m3::MOST, E5m2::MOST, 1536.0] {
            for largest in [f32::MAX, 3.4e38, 1.0, 1e-30, 1e-40, f32::from_bits(1)] {
                let scale = scale_for(largest, most);
                assert!(scale > 0.0 && (scale * most).is_finite(), "{largest:e} over {most}: {scale:e}");
                assert!(largest / scale <= most * (1.0 + 2.0 * f32::EPSILON), "{largest:e} over {most}: {scale:e}");
            }
            assert_eq!(scale_for(0.0, most), 0.0);
        }
    }
}
