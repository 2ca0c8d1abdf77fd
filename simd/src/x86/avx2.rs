//! The operations of [`Simd`] with AVX2.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_GE_OQ, _CMP_GT_OQ, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT, _mm_cvtsi32_si128,
    _mm_cvtsi64_si128, _mm_cvtss_f32, _mm_loadl_epi64, _mm_loadu_si128, _mm_maddubs_epi16, _mm_max_ps, _mm_max_ss,
    _mm_movehl_ps, _mm_packus_epi16, _mm_set1_epi16, _mm_shuffle_ps, _mm_storel_epi64, _mm_storeu_si128,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_blendv_epi8, _mm256_blendv_ps,
    _mm256_broadcastsi128_si256, _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cmp_ps,
    _mm256_cmpeq_epi32, _mm256_cmpgt_epi8, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16,
    _mm256_cvtepu8_epi32, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_i32gather_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_max_epu32, _mm256_max_ps, _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_mulhi_epu16,
    _mm256_packs_epi32, _mm256_packus_epi32, _mm256_permute4x64_epi64, _mm256_permutevar8x32_epi32,
    _mm256_permutevar8x32_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sll_epi32, _mm256_slli_epi32, _mm256_srl_epi16, _mm256_srl_epi32,
    _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps, _pdep_u64, _pext_u64,
};
use std::mem::transmute;

use super::{common_operations, window_bytes, window_shifts, words};
use crate::LANES;
use crate::table::Table;
use crate::vector::{MAGNITUDE, Simd};

/// AVX2, FMA, F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Callable only where the features are enabled: the value proves that the CPU has them.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,bmi2")]
    pub(crate) fn new() -> Self {
        Self(())
    }
}

// The operations of the hottest loops take arrays by value. In builds with debug assertions, loads
// and stores through pointers are checked, and the checks would keep the values of the loop in
// memory.

/// The lanes as two vectors of eight.
#[inline(always)]
fn halves(lanes: &[f32; LANES]) -> [__m256; 2] {
    // SAFETY: both types hold the same number of floats, and every bit pattern is a valid float.
    unsafe { transmute::<[f32; LANES], [__m256; 2]>(*lanes) }
}

/// The lanes as two vectors of eight integers.
#[inline(always)]
fn integers(lanes: &[u32; LANES]) -> [__m256i; 2] {
    // SAFETY: both types hold the same number of integers, and every bit pattern is a valid
    // integer.
    unsafe { transmute::<[u32; LANES], [__m256i; 2]>(*lanes) }
}

/// The lanes as two vectors of eight signed integers.
#[inline(always)]
fn signed(lanes: &[i32; LANES]) -> [__m256i; 2] {
    // SAFETY: as above.
    unsafe { transmute::<[i32; LANES], [__m256i; 2]>(*lanes) }
}

/// The lanes of two vectors.
#[inline(always)]
fn lanes_of(vectors: [__m256i; 2]) -> [u32; LANES] {
    // SAFETY: as above.
    unsafe { transmute::<[__m256i; 2], [u32; LANES]>(vectors) }
}

/// The numbers of the eight lanes, one byte each.
const LANE_NUMBERS: u64 = 0x0706_0504_0302_0100;

/// Expands each bit of `mask` to a byte of equal bits.
#[inline(always)]
unsafe fn byte_mask(mask: u8) -> u64 {
    // SAFETY: the caller's CPU has BMI2.
    unsafe { _pdep_u64(mask.into(), 0x0101_0101_0101_0101) }.wrapping_mul(0xff)
}

/// Moves the first values to the lanes whose bits are set; the other lanes are 0.
#[inline(always)]
unsafe fn expand_eight(values: [u32; 8], mask: u8) -> __m256i {
    // SAFETY: the caller's CPU has AVX2 and BMI2; an array of eight values has the bits of its
    // vector.
    unsafe {
        let bytes = byte_mask(mask);
        let sources = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(_pdep_u64(LANE_NUMBERS, bytes) as i64));
        let set = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes as i64));
        let values = transmute::<[u32; 8], __m256i>(values);
        _mm256_and_si256(_mm256_permutevar8x32_epi32(values, sources), set)
    }
}

// SAFETY, for every block below: `self` exists, so the CPU has the features; the pointers come from
// arrays of exactly the length that is read or written, and all loads and stores are unaligned
// ones.
impl Simd for Avx2 {
    const VECTORS: usize = 8;

    #[inline(always)]
    fn lookup16(self, table: &[f32; LANES], codes: &[u8; LANES]) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: see above.
        unsafe {
            let (low, high) = (_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8)));
            for half in 0..2 {
                let eight = _mm_loadl_epi64(codes.as_ptr().add(8 * half).cast::<__m128i>());
                let index = _mm256_and_si256(_mm256_cvtepu8_epi32(eight), _mm256_set1_epi32(15));
                // Bit 3 of the code becomes the sign, which selects the upper half of the table.
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
            // A binary search: the first step selects the half of the table for the other steps.
            let (low, high) = (_mm256_loadu_ps(thresholds.as_ptr()), _mm256_loadu_ps(thresholds.as_ptr().add(8)));
            for half in 0..2 {
                let v = _mm256_loadu_ps(values.as_ptr().add(8 * half));
                let upper = _mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_set1_ps(thresholds[7]));
                let mut index = _mm256_setzero_si256();
                for step in [4, 2, 1] {
                    let at = _mm256_add_epi32(index, _mm256_set1_epi32(step - 1));
                    let (a, b) = (_mm256_permutevar8x32_ps(low, at), _mm256_permutevar8x32_ps(high, at));
                    let above = _mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_blendv_ps(a, b, upper));
                    index =
                        _mm256_add_epi32(index, _mm256_and_si256(_mm256_castps_si256(above), _mm256_set1_epi32(step)));
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
                let most = _mm256_max_epu32(_mm256_loadu_si256(largest.as_ptr().add(8 * half).cast::<__m256i>()), bits);
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
    fn multiply_add(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        // SAFETY: see above; two vectors have the bits of an array.
        unsafe {
            let (a, b, c) = (halves(a), halves(b), halves(c));
            transmute::<[__m256; 2], [f32; LANES]>([
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ])
        }
    }

    #[inline(always)]
    fn add(self, a: &[f32; LANES], b: &[f32; LANES]) -> [f32; LANES] {
        // SAFETY: as above.
        unsafe {
            let (a, b) = (halves(a), halves(b));
            transmute::<[__m256; 2], [f32; LANES]>([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
        }
    }

    #[inline(always)]
    fn subtract_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        // SAFETY: as above.
        unsafe {
            let (a, b, c) = (halves(a), halves(b), halves(c));
            transmute::<[__m256; 2], [f32; LANES]>([
                _mm256_sub_ps(a[0], _mm256_mul_ps(b[0], c[0])),
                _mm256_sub_ps(a[1], _mm256_mul_ps(b[1], c[1])),
            ])
        }
    }

    #[inline(always)]
    fn keep_least(self, values: &[f32; LANES], index: u32, least: &mut [f32; LANES], indices: &mut [u32; LANES]) {
        // SAFETY: as above; vectors of floats and of integers have the bits of their arrays.
        unsafe {
            let (v, m) = (halves(values), halves(least));
            let mut i = transmute::<[u32; LANES], [__m256; 2]>(*indices);
            let k = _mm256_castsi256_ps(_mm256_set1_epi32(index as i32));
            for half in 0..2 {
                i[half] = _mm256_blendv_ps(i[half], k, _mm256_cmp_ps::<_CMP_LT_OQ>(v[half], m[half]));
            }
            *least = transmute::<[__m256; 2], [f32; LANES]>([_mm256_min_ps(v[0], m[0]), _mm256_min_ps(v[1], m[1])]);
            *indices = transmute::<[__m256; 2], [u32; LANES]>(i);
        }
    }

    #[inline(always)]
    fn at_least(self, a: &[f32; LANES], b: &[f32; LANES]) -> u16 {
        // SAFETY: as above.
        unsafe {
            let (a, b) = (halves(a), halves(b));
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a[0], b[0]));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a[1], b[1]));
            (low | high << 8) as u16
        }
    }

    #[inline(always)]
    fn below(self, a: &[u32; LANES], b: &[u32; LANES]) -> u16 {
        // SAFETY: as above.
        unsafe {
            let (a, b) = (integers(a), integers(b));
            // AVX2 compares signed integers only.
            let at_least = |half: usize| {
                let equal = _mm256_cmpeq_epi32(_mm256_max_epu32(a[half], b[half]), a[half]);
                _mm256_movemask_ps(_mm256_castsi256_ps(equal))
            };
            !(at_least(0) | at_least(1) << 8) as u16
        }
    }

    #[inline(always)]
    fn divide(self, a: &[u32; LANES], b: &[u32; LANES]) -> [[u32; LANES]; 2] {
        let ([a0, a1], [b0, b1]) = (integers(a), integers(b));
        // SAFETY: see above.
        let ((low, low_rest), (high, high_rest)) = unsafe { (words::divide_avx2(a0, b0), words::divide_avx2(a1, b1)) };
        [lanes_of([low, high]), lanes_of([low_rest, high_rest])]
    }

    #[inline(always)]
    fn drain(self, lanes: &[u32; LANES], limits: &[u32; LANES], words: &mut [[u8; 2]; LANES]) -> ([u32; LANES], usize) {
        // SAFETY: see above.
        let (lanes, count) = unsafe { words::drain_avx2(integers(lanes), integers(limits), words) };
        (lanes_of(lanes), count)
    }

    #[inline(always)]
    fn refill(self, lanes: &[u32; LANES], words: &[[u8; 2]; LANES]) -> ([u32; LANES], usize) {
        // SAFETY: see above.
        let (lanes, count) = unsafe { words::refill_avx2(integers(lanes), words) };
        (lanes_of(lanes), count)
    }

    #[inline(always)]
    fn gather(self, table: Table<'_>, indices: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: as above; a masked index is below the table's length, which is at most 2^31.
        unsafe {
            let (indices, mask) = (integers(indices), _mm256_set1_epi32(table.mask() as i32));
            let entries = table.entries().as_ptr().cast::<i32>();
            let half = |index| _mm256_i32gather_epi32::<4>(entries, _mm256_and_si256(index, mask));
            lanes_of([half(indices[0]), half(indices[1])])
        }
    }

    #[inline(always)]
    fn expand(self, values: &[u32; LANES], mask: u16) -> [u32; LANES] {
        // The values of the upper half follow those of the lower half.
        let first = (mask & 0xff).count_ones() as usize;
        let (mut low, mut high) = ([0; 8], [0; 8]);
        low.copy_from_slice(&values[..8]);
        high.copy_from_slice(&values[first..first + 8]);
        // SAFETY: as above.
        unsafe { lanes_of([expand_eight(low, mask as u8), expand_eight(high, (mask >> 8) as u8)]) }
    }

    #[inline(always)]
    fn windows<const BITS: usize>(self, bytes: &[u8; LANES]) -> [u32; LANES] {
        // SAFETY: as above; vectors of integers have the bits of their arrays.
        unsafe {
            let sources = transmute::<[u8; 4 * LANES], [__m256i; 2]>(const { window_bytes::<BITS>() });
            let stream = _mm256_broadcastsi128_si256(transmute::<[u8; LANES], __m128i>(*bytes));
            let shifts = integers(&const { window_shifts::<BITS>() });
            let half = |sources, shifts| _mm256_srlv_epi32(_mm256_shuffle_epi8(stream, sources), shifts);
            lanes_of([half(sources[0], shifts[0]), half(sources[1], shifts[1])])
        }
    }

    #[inline(always)]
    fn sum_bytes(self, lanes: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let sums = |x| _mm256_madd_epi16(_mm256_maddubs_epi16(x, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
            let [low, high] = integers(lanes);
            lanes_of([sums(low), sums(high)])
        }
    }

    #[inline(always)]
    fn low_halves(self, lanes: &[u32; LANES]) -> [u16; LANES] {
        let mut out = [0; LANES];
        // SAFETY: see above.
        unsafe {
            let [low, high] = integers(lanes);
            // It packs within halves of 128 bits; the permutation puts the quarters in order.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
            _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), packed);
        }
        out
    }

    #[inline(always)]
    fn lookup64(self, table: &[u8; 64], indices: &[u8; 64]) -> [u8; 64] {
        let mut out = [0; 64];
        // SAFETY: see above.
        unsafe {
            for half in [0, 32] {
                let index = _mm256_loadu_si256(indices.as_ptr().add(half).cast::<__m256i>());
                let index = _mm256_and_si256(index, _mm256_set1_epi8(63));
                let mut found = _mm256_setzero_si256();
                for part in [48, 32, 16, 0] {
                    let entries = _mm_loadu_si128(table.as_ptr().add(part).cast::<__m128i>());
                    let entries = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), index);
                    let below = _mm256_cmpgt_epi8(_mm256_set1_epi8(part as i8 + 16), index);
                    found = _mm256_blendv_epi8(found, entries, below);
                }
                _mm256_storeu_si256(out.as_mut_ptr().add(half).cast::<__m256i>(), found);
            }
        }
        out
    }

    #[inline(always)]
    fn add_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        let ([a0, a1], [b0, b1], [c0, c1]) = (halves(a), halves(b), halves(c));
        // SAFETY: as above.
        unsafe {
            let sums = [_mm256_add_ps(a0, _mm256_mul_ps(b0, c0)), _mm256_add_ps(a1, _mm256_mul_ps(b1, c1))];
            transmute::<[__m256; 2], [f32; LANES]>(sums)
        }
    }

    #[inline(always)]
    fn i32_to_f32(self, values: &[i32; LANES]) -> [f32; LANES] {
        // SAFETY: as above; vectors of integers have the bits of their arrays.
        unsafe {
            let [low, high] = signed(values);
            transmute::<[__m256; 2], [f32; LANES]>([_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)])
        }
    }

    #[inline(always)]
    fn round_products(self, values: &[f32; LANES], factor: f32) -> [i16; LANES] {
        // SAFETY: as above.
        unsafe {
            let half = |x| _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(factor)));
            let [low, high] = halves(values);
            // The pack works within halves of 128 bits.
            let packed = _mm256_packs_epi32(half(low), half(high));
            transmute::<__m256i, [i16; LANES]>(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
        }
    }

    #[inline(always)]
    fn bits(self, lanes: &[u32; LANES], shift: u32, mask: u32) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let (shift, mask) = (_mm_cvtsi32_si128(shift as i32), _mm256_set1_epi32(mask as i32));
            let half = |x| _mm256_and_si256(_mm256_srl_epi32(x, shift), mask);
            let [low, high] = integers(lanes);
            lanes_of([half(low), half(high)])
        }
    }

    #[inline(always)]
    fn high_bits<const SHIFT: u32>(self, lanes: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let shift = _mm_cvtsi32_si128(SHIFT as i32);
            let [low, high] = integers(lanes);
            lanes_of([_mm256_srl_epi16(low, shift), _mm256_srl_epi16(high, shift)])
        }
    }

    #[inline(always)]
    fn add_shifted<const SHIFT: u32>(self, a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let shift = _mm_cvtsi32_si128(SHIFT as i32);
            let half = |a, b| _mm256_add_epi32(a, _mm256_sll_epi32(b, shift));
            let ([a, c], [b, d]) = (integers(a), integers(b));
            lanes_of([half(a, b), half(c, d)])
        }
    }

    #[inline(always)]
    fn add_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: u32) -> [i32; LANES] {
        // SAFETY: as above.
        unsafe {
            let (pair, [low, high]) = (_mm256_set1_epi32(b as i32), integers(a));
            let [first, second] = signed(sums);
            let first = _mm256_add_epi32(first, _mm256_madd_epi16(low, pair));
            let second = _mm256_add_epi32(second, _mm256_madd_epi16(high, pair));
            transmute::<[__m256i; 2], [i32; LANES]>([first, second])
        }
    }

    #[inline(always)]
    fn add_lane_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: &[i16; 2 * LANES]) -> [i32; LANES] {
        // SAFETY: as above.
        unsafe {
            let [b0, b1] = transmute::<[i16; 2 * LANES], [__m256i; 2]>(*b);
            let ([first, second], [a0, a1]) = (signed(sums), integers(a));
            let first = _mm256_add_epi32(first, _mm256_madd_epi16(a0, b0));
            let second = _mm256_add_epi32(second, _mm256_madd_epi16(a1, b1));
            transmute::<[__m256i; 2], [i32; LANES]>([first, second])
        }
    }

    #[inline(always)]
    fn widen_pairs(self, bytes: &[u8; 2 * LANES]) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let [low, high] = transmute::<[u8; 2 * LANES], [__m128i; 2]>(*bytes);
            lanes_of([_mm256_cvtepu8_epi16(low), _mm256_cvtepu8_epi16(high)])
        }
    }

    #[inline(always)]
    fn high_products(self, lanes: &[u32; LANES], factor: u16) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let (factor, [low, high]) = (_mm256_set1_epi16(factor as i16), integers(lanes));
            lanes_of([_mm256_mulhi_epu16(low, factor), _mm256_mulhi_epu16(high, factor)])
        }
    }

    common_operations!();

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
