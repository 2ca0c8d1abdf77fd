//! The operations that compilers do not find by themselves, one implementation for each level.
#![allow(unsafe_code)]
// Every such pointer goes to an unaligned load or store.
#![allow(clippy::cast_ptr_alignment)]

use half::f16;

use crate::{LANES, lanes};

/// All bits of an f32 but the sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Operations on [`LANES`] values at one level. A value of such a type exists only where the CPU has the level.
pub trait Simd: Copy {
    /// `table[codes[i] & 15]` for each lane.
    fn lookup16(self, table: &[f32; LANES], codes: &[u8; LANES]) -> [f32; LANES];

    /// How many of the fifteen ascending `thresholds` (the sixteenth is not used) are below each value.
    fn rank16(self, thresholds: &[f32; LANES], values: &[f32; LANES]) -> [u8; LANES];

    /// The codes as numbers.
    fn u8_to_f32(self, codes: &[u8; LANES]) -> [f32; LANES];

    /// Lane by lane the larger of `largest`, bits of magnitudes, and the bits of `|x|`. As integers, bits of magnitudes are
    /// ordered as the numbers are, with infinity and NaN above all.
    fn max_magnitude(self, largest: &[u32; LANES], x: &[f32; LANES]) -> [u32; LANES];

    /// The largest lane; no lane is NaN.
    fn reduce_max(self, lanes: &[f32; LANES]) -> f32;

    /// The bits of `x` where `mask` is set, moved together at the low end.
    fn gather_bits(self, x: u64, mask: u64) -> u64;

    /// The inverse of [`Self::gather_bits`]: the low bits of `x`, moved to where `mask` is set.
    fn scatter_bits(self, x: u64, mask: u64) -> u64;

    /// Rounds finite values to BF16, nearest, ties to even; beyond its range gives infinity.
    #[inline(always)]
    fn f32_to_bf16(self, values: &[f32; LANES]) -> [u16; LANES] {
        let wide: [u32; LANES] = lanes!(i => values[i].to_bits());
        lanes!(i => (wide[i].wrapping_add(0x7fff + (wide[i] >> 16 & 1)) >> 16) as u16)
    }

    /// Widens BF16 bits; exact.
    #[inline(always)]
    fn bf16_to_f32(self, bits: &[u16; LANES]) -> [f32; LANES] {
        lanes!(i => f32::from_bits(u32::from(bits[i]) << 16))
    }

    /// Rounds to F16, nearest, ties to even; beyond its range gives infinity.
    fn f32_to_f16(self, values: &[f32; LANES]) -> [u16; LANES];

    /// Widens F16 bits; exact for every number. A signalling NaN becomes the quiet one of the same payload.
    fn f16_to_f32(self, bits: &[u16; LANES]) -> [f32; LANES];
}

/// The compiler's baseline.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    #[inline(always)]
    fn lookup16(self, table: &[f32; LANES], codes: &[u8; LANES]) -> [f32; LANES] {
        codes.map(|code| table[usize::from(code & 15)])
    }

    #[inline(always)]
    fn rank16(self, thresholds: &[f32; LANES], values: &[f32; LANES]) -> [u8; LANES] {
        values.map(|v| thresholds[..LANES - 1].iter().map(|t| u8::from(v > *t)).sum())
    }

    #[inline(always)]
    fn u8_to_f32(self, codes: &[u8; LANES]) -> [f32; LANES] {
        codes.map(f32::from)
    }

    #[inline(always)]
    fn max_magnitude(self, largest: &[u32; LANES], x: &[f32; LANES]) -> [u32; LANES] {
        lanes!(i => largest[i].max(x[i].to_bits() & MAGNITUDE))
    }

    #[inline(always)]
    fn reduce_max(self, lanes: &[f32; LANES]) -> f32 {
        lanes.iter().fold(lanes[0], |m, v| if *v > m { *v } else { m })
    }

    #[inline(always)]
    fn gather_bits(self, x: u64, mut mask: u64) -> u64 {
        let (mut out, mut place) = (0, 0);
        while mask != 0 {
            out |= (x >> mask.trailing_zeros() & 1) << place;
            place += 1;
            mask &= mask - 1;
        }
        out
    }

    #[inline(always)]
    fn scatter_bits(self, mut x: u64, mut mask: u64) -> u64 {
        let mut out = 0;
        while mask != 0 {
            out |= (x & 1) << mask.trailing_zeros();
            x >>= 1;
            mask &= mask - 1;
        }
        out
    }

    #[inline(always)]
    fn f32_to_f16(self, values: &[f32; LANES]) -> [u16; LANES] {
        values.map(|v| f16::from_f32_const(v).to_bits())
    }

    #[inline(always)]
    fn f16_to_f32(self, bits: &[u16; LANES]) -> [f32; LANES] {
        bits.map(|b| f16::from_bits(b).to_f32_const())
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, __m256i, __m512, __m512i, _CMP_GT_OQ, _MM_FROUND_TO_NEAREST_INT, _mm_cvtss_f32,
        _mm_loadl_epi64, _mm_loadu_si128, _mm_max_ps, _mm_max_ss, _mm_movehl_ps, _mm_shuffle_ps, _mm_storeu_si128,
        _mm256_add_epi32, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps256_ps128,
        _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtph_ps, _mm256_cvtps_ph,
        _mm256_extractf128_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_epu32, _mm256_max_ps,
        _mm256_permutevar8x32_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_slli_epi32,
        _mm256_storeu_ps, _mm256_storeu_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_cmp_ps_mask,
        _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_cvtps_ph,
        _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_add_epi32, _mm512_max_epu32, _mm512_permutexvar_ps,
        _mm512_reduce_max_ps, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_storeu_si512,
        _pdep_u64, _pext_u64,
    };

    use super::{LANES, MAGNITUDE, Simd};

    /// AVX2, FMA, F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    /// AVX-512 F, BW, DQ, VL, VBMI.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx2 {
        /// Callable only where the features are enabled: the value is their proof.
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c,bmi2")]
        pub(crate) fn new() -> Self {
            Self(())
        }
    }

    impl Avx512 {
        /// Callable only where the features are enabled: the value is their proof.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,bmi2")]
        pub(crate) fn new() -> Self {
            Self(())
        }
    }

    // SAFETY, for every block below: `self` exists, so the CPU has the features; the pointers come from arrays
    // of exactly the length that is read or written, and the loads and stores are the unaligned ones.
    impl Simd for Avx2 {
        #[inline(always)]
        fn lookup16(self, table: &[f32; LANES], codes: &[u8; LANES]) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: see above.
            unsafe {
                let (low, high) = (_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8)));
                for half in 0..2 {
                    let eight = _mm_loadl_epi64(codes.as_ptr().add(8 * half).cast::<__m128i>());
                    let index = _mm256_and_si256(_mm256_cvtepu8_epi32(eight), _mm256_set1_epi32(15));
                    // Bit 3 of the code, moved to the sign, chooses the upper half of the table.
                    let upper: __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
                    let (a, b) = (_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index));
                    _mm256_storeu_ps(out.as_mut_ptr().add(8 * half), _mm256_blendv_ps(a, b, upper));
                }
            }
            out
        }

        #[inline(always)]
        fn rank16(self, thresholds: &[f32; LANES], values: &[f32; LANES]) -> [u8; LANES] {
            let mut out = [0; LANES];
            // SAFETY: see above.
            unsafe {
                // A binary search; the first step chooses the half of the table that the others look into.
                let (low, high) = (_mm256_loadu_ps(thresholds.as_ptr()), _mm256_loadu_ps(thresholds.as_ptr().add(8)));
                for half in 0..2 {
                    let v = _mm256_loadu_ps(values.as_ptr().add(8 * half));
                    let upper = _mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_set1_ps(thresholds[7]));
                    let mut index = _mm256_setzero_si256();
                    for step in [4, 2, 1] {
                        let at = _mm256_add_epi32(index, _mm256_set1_epi32(step - 1));
                        let (a, b) = (_mm256_permutevar8x32_ps(low, at), _mm256_permutevar8x32_ps(high, at));
                        let above = _mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_blendv_ps(a, b, upper));
                        index = _mm256_add_epi32(
                            index,
                            _mm256_and_si256(_mm256_castps_si256(above), _mm256_set1_epi32(step)),
                        );
                    }
                    index = _mm256_add_epi32(index, _mm256_and_si256(_mm256_castps_si256(upper), _mm256_set1_epi32(8)));
                    let mut lanes = [0u32; 8];
                    _mm256_storeu_si256(lanes.as_mut_ptr().cast::<__m256i>(), index);
                    for (out, lane) in out[8 * half..].iter_mut().zip(lanes) {
                        *out = lane as u8;
                    }
                }
            }
            out
        }

        #[inline(always)]
        fn u8_to_f32(self, codes: &[u8; LANES]) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: see above.
            unsafe {
                for half in 0..2 {
                    let eight = _mm_loadl_epi64(codes.as_ptr().add(8 * half).cast::<__m128i>());
                    let values = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
                    _mm256_storeu_ps(out.as_mut_ptr().add(8 * half), values);
                }
            }
            out
        }

        #[inline(always)]
        fn max_magnitude(self, largest: &[u32; LANES], x: &[f32; LANES]) -> [u32; LANES] {
            let mut out = [0; LANES];
            // SAFETY: see above.
            unsafe {
                for half in 0..2 {
                    let bits = _mm256_loadu_si256(x.as_ptr().add(8 * half).cast::<__m256i>());
                    let bits = _mm256_and_si256(bits, _mm256_set1_epi32(MAGNITUDE as i32));
                    let most =
                        _mm256_max_epu32(_mm256_loadu_si256(largest.as_ptr().add(8 * half).cast::<__m256i>()), bits);
                    _mm256_storeu_si256(out.as_mut_ptr().add(8 * half).cast::<__m256i>(), most);
                }
            }
            out
        }

        #[inline(always)]
        fn reduce_max(self, lanes: &[f32; LANES]) -> f32 {
            // SAFETY: see above.
            unsafe {
                let eight = _mm256_max_ps(_mm256_loadu_ps(lanes.as_ptr()), _mm256_loadu_ps(lanes.as_ptr().add(8)));
                let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }

        #[inline(always)]
        fn gather_bits(self, x: u64, mask: u64) -> u64 {
            // SAFETY: see above.
            unsafe { _pext_u64(x, mask) }
        }

        #[inline(always)]
        fn scatter_bits(self, x: u64, mask: u64) -> u64 {
            // SAFETY: see above.
            unsafe { _pdep_u64(x, mask) }
        }

        #[inline(always)]
        fn f32_to_f16(self, values: &[f32; LANES]) -> [u16; LANES] {
            let mut out = [0; LANES];
            // SAFETY: see above.
            unsafe {
                for half in 0..2 {
                    let eight = _mm256_loadu_ps(values.as_ptr().add(8 * half));
                    let bits = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(eight);
                    _mm_storeu_si128(out.as_mut_ptr().add(8 * half).cast::<__m128i>(), bits);
                }
            }
            out
        }

        #[inline(always)]
        fn f16_to_f32(self, bits: &[u16; LANES]) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: see above.
            unsafe {
                for half in 0..2 {
                    let eight = _mm_loadu_si128(bits.as_ptr().add(8 * half).cast::<__m128i>());
                    _mm256_storeu_ps(out.as_mut_ptr().add(8 * half), _mm256_cvtph_ps(eight));
                }
            }
            out
        }
    }

    impl Simd for Avx512 {
        #[inline(always)]
        fn lookup16(self, table: &[f32; LANES], codes: &[u8; LANES]) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: see above. The permutation uses the low four bits of each index.
            unsafe {
                let index: __m512i = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast::<__m128i>()));
                let values: __m512 = _mm512_permutexvar_ps(index, _mm512_loadu_ps(table.as_ptr()));
                _mm512_storeu_ps(out.as_mut_ptr(), values);
            }
            out
        }

        #[inline(always)]
        fn rank16(self, thresholds: &[f32; LANES], values: &[f32; LANES]) -> [u8; LANES] {
            let mut out = [0; LANES];
            // SAFETY: see above.
            unsafe {
                let (table, v) = (_mm512_loadu_ps(thresholds.as_ptr()), _mm512_loadu_ps(values.as_ptr()));
                let mut index = _mm512_setzero_si512();
                // A binary search. A macro, for a loop over the steps is not always unrolled.
                macro_rules! narrow {
                    ($step:literal) => {
                        let at = _mm512_add_epi32(index, _mm512_set1_epi32($step - 1));
                        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, _mm512_permutexvar_ps(at, table));
                        index = _mm512_mask_add_epi32(index, above, index, _mm512_set1_epi32($step));
                    };
                }
                narrow!(8);
                narrow!(4);
                narrow!(2);
                narrow!(1);
                _mm_storeu_si128(out.as_mut_ptr().cast::<__m128i>(), _mm512_cvtepi32_epi8(index));
            }
            out
        }

        #[inline(always)]
        fn u8_to_f32(self, codes: &[u8; LANES]) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: see above.
            unsafe {
                let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast::<__m128i>()));
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtepi32_ps(codes));
            }
            out
        }

        #[inline(always)]
        fn max_magnitude(self, largest: &[u32; LANES], x: &[f32; LANES]) -> [u32; LANES] {
            let mut out = [0; LANES];
            // SAFETY: see above.
            unsafe {
                let bits = _mm512_loadu_si512(x.as_ptr().cast::<__m512i>());
                let bits = _mm512_and_si512(bits, _mm512_set1_epi32(MAGNITUDE as i32));
                let most = _mm512_max_epu32(_mm512_loadu_si512(largest.as_ptr().cast::<__m512i>()), bits);
                _mm512_storeu_si512(out.as_mut_ptr().cast::<__m512i>(), most);
            }
            out
        }

        #[inline(always)]
        fn reduce_max(self, lanes: &[f32; LANES]) -> f32 {
            // SAFETY: see above.
            unsafe { _mm512_reduce_max_ps(_mm512_loadu_ps(lanes.as_ptr())) }
        }

        #[inline(always)]
        fn gather_bits(self, x: u64, mask: u64) -> u64 {
            // SAFETY: see above.
            unsafe { _pext_u64(x, mask) }
        }

        #[inline(always)]
        fn scatter_bits(self, x: u64, mask: u64) -> u64 {
            // SAFETY: see above.
            unsafe { _pdep_u64(x, mask) }
        }

        #[inline(always)]
        fn f32_to_f16(self, values: &[f32; LANES]) -> [u16; LANES] {
            let mut out = [0; LANES];
            // SAFETY: see above.
            unsafe {
                let bits = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(values.as_ptr()));
                _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), bits);
            }
            out
        }

        #[inline(always)]
        fn f16_to_f32(self, bits: &[u16; LANES]) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: see above.
            unsafe {
                let sixteen = _mm256_loadu_si256(bits.as_ptr().cast::<__m256i>());
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtph_ps(sixteen));
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, kernel, with_level};

    kernel! {
        fn ranks<'a>(simd, thresholds: &'a [f32; LANES], values: &'a [f32; LANES]) -> [u8; LANES] {
            simd.rank16(thresholds, values)
        }
    }
    #[derive(Debug, PartialEq)]
    struct Found {
        lookup: [f32; LANES],
        numbers: [f32; LANES],
        magnitudes: [u32; LANES],
        largest: f32,
        gathered: u64,
        scattered: u64,
    }
    kernel! {
        fn others<'a>(simd, values: &'a [f32; LANES], codes: &'a [u8; LANES], x: u64, mask: u64) -> Found {
            Found {
                lookup: simd.lookup16(values, codes),
                numbers: simd.u8_to_f32(codes),
                magnitudes: simd.max_magnitude(&[x as u32; LANES], values),
                largest: simd.reduce_max(values),
                gathered: simd.gather_bits(x, mask),
                scattered: simd.scatter_bits(x, mask),
            }
        }
    }

    #[test]
    fn every_level_agrees_with_the_scalar_twin() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state ^ state >> 29
        };
        for _ in 0..500 {
            let mut thresholds = [0.0; LANES].map(|_: f32| (random() % 41) as f32 - 20.0);
            thresholds.sort_by(f32::total_cmp);
            // Often exactly on a threshold.
            let values = [0.0; LANES].map(|_: f32| (random() % 45) as f32 - 22.0);
            let codes = [0u8; LANES].map(|_| random() as u8);
            let (x, mask) = (random(), random() & random());
            let expected =
                with_level(Level::Scalar, || (ranks(&thresholds, &values), others(&values, &codes, x, mask)));
            for level in Level::available() {
                let found = with_level(level, || (ranks(&thresholds, &values), others(&values, &codes, x, mask)));
                assert_eq!(found, expected, "{level}");
            }
        }
    }
}
