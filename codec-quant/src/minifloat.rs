//! Floats of four and eight bits: rounding to them, to nearest with ties to even, and back.

use simd::{LANES, Simd, lanes};

/// Exponent field of an f32.
const EXPONENT: u32 = 0x7f80_0000;
/// Bits of an f32's mantissa.
const F32_MANTISSA: u32 = 23;
/// Exponent bias of an f32.
const F32_BIAS: i32 = 127;

/// A format of a sign, an exponent and a mantissa, with subnormal numbers.
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

    /// The values that codes mean. A code that is no number gives any value.
    fn widen<S: Simd>(simd: S, codes: &[u8; LANES]) -> [f32; LANES];

    /// The number nearest to a magnitude, ties to the even code, and its code; beyond [`Self::MOST`] that.
    #[inline(always)]
    fn round_magnitude(x: f32) -> (f32, u8) {
        let least = ((Self::MIN_EXPONENT + F32_BIAS) as u32) << F32_MANTISSA;
        // NaN, too, is not below.
        let x = if x < Self::MOST { x } else { Self::MOST };
        let exponent = x.to_bits() & EXPONENT;
        let exponent = if exponent < least { least } else { exponent };
        // An f32 whose last place is the distance of the format's numbers here: added, it rounds.
        let anchor = f32::from_bits(exponent + ((F32_MANTISSA - Self::MANTISSA) << F32_MANTISSA));
        let sum = x + anchor;
        // The steps within this exponent, and those up to it. The first of an exponent is the last of the one below.
        let code = (sum.to_bits() - anchor.to_bits()) + ((exponent - least) >> (F32_MANTISSA - Self::MANTISSA));
        (sum - anchor, code as u8)
    }

    /// The nearest numbers of the format, as [`Self::round_magnitude`] has them, with their signs.
    #[inline(always)]
    fn round(x: &[f32; LANES]) -> Rounded {
        let (mut values, mut codes) = ([0.0; LANES], [0; LANES]);
        for i in 0..LANES {
            let (value, code) = Self::round_magnitude(x[i].abs());
            let sign = x[i].to_bits() & !(u32::MAX >> 1);
            values[i] = f32::from_bits(value.to_bits() | sign);
            codes[i] = code | if sign == 0 { 0 } else { Self::SIGN };
        }
        Rounded { values, codes }
    }
}

/// Sixteen numbers of a format.
pub(crate) struct Rounded {
    pub(crate) values: [f32; LANES],
    pub(crate) codes: [u8; LANES],
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

/// Eight bits without infinities ("fn"): to 448; NaN is the code above.
pub(crate) struct E4m3;

impl Minifloat for E4m3 {
    const MANTISSA: u32 = 3;
    const MIN_EXPONENT: i32 = -6;
    const SIGN: u8 = 0x80;
    const LARGEST: u8 = 0x7e;
    const MOST: f32 = 448.0;

    #[inline(always)]
    fn widen<S: Simd>(simd: S, codes: &[u8; LANES]) -> [f32; LANES] {
        // As F16 bits they mean a 256th: exponents are 8 apart.
        let halves = lanes!(i => u16::from(codes[i] & 0x80) << 8 | u16::from(codes[i] & 0x7f) << 7);
        let values = simd.f16_to_f32(&halves);
        lanes!(i => values[i] * 256.0)
    }
}

/// Eight bits as IEEE 754 would have them, the upper half of an F16: to 57 344; infinity and NaN are the codes above.
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

/// The f32 scale under which `largest` becomes `most`, 0 for 0. Times `most` it is not beyond f32.
pub(crate) fn scale_for(largest: f32, most: f32) -> f32 {
    let scale = largest / most;
    if largest == 0.0 {
        0.0
    } else if scale.is_normal() {
        if (scale * most).is_finite() { scale } else { scale.next_down() }
    } else {
        // With few digits left, rounding down would put `largest` far beyond `most`.
        scale.next_up()
    }
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
            let all = values.chunks(LANES).map(round);
            all.flat_map(|r| r.codes.into_iter().zip(r.values.map(f32::to_bits))).take(values.len()).collect()
        }
    }

    /// Each number of a format, its neighbours' middle and the f32 beside that, and beyond the end; both signs.
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
                    expected.extend([(code, number.to_bits()), (code | sign, (-number).to_bits())]);
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
