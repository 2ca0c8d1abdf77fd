//! The operations of [`Simd`] with AVX-512.

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, __m256i, __m512, __m512i, _CMP_GE_OQ, _CMP_GT_OQ, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT,
    _mm_cvtsi32_si128, _mm_loadu_si128, _mm_maddubs_epi16, _mm_packus_epi16, _mm_set1_epi16, _mm_storel_epi64,
    _mm_storeu_si128, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_castps_si512, _mm512_castsi256_si512, _mm512_cmp_ps_mask, _mm512_cmplt_epu32_mask,
    _mm512_cvtepi32_epi8, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16, _mm512_cvtepu8_epi32,
    _mm512_cvtph_ps, _mm512_cvtps_epi32, _mm512_cvtps_ph, _mm512_fmadd_ps, _mm512_i32gather_epi32, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_add_epi32, _mm512_mask_mov_epi32,
    _mm512_maskz_expand_epi32, _mm512_max_epu32, _mm512_min_ps, _mm512_mul_ps, _mm512_mulhi_epu16,
    _mm512_multishift_epi64_epi8, _mm512_permutexvar_epi8, _mm512_permutexvar_ps, _mm512_reduce_max_ps,
    _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srl_epi32, _mm512_srli_epi16, _mm512_srli_epi32, _mm512_srlv_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi8,
    _mm512_unpacklo_epi8, _pdep_u64, _pext_u64,
};
use std::mem::transmute;

use super::{common_operations, paired, window_bytes, window_shifts, words};
use crate::LANES;
use crate::table::Table;
use crate::vector::{MAGNITUDE, Simd};

/// For `vpternlog`: the bits of the second operand where the first one has ones, else those of the
/// third one.
const SELECT: i32 = 0xca;

/// AVX-512 F, BW, DQ, VL, VBMI, VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Callable only where the features are enabled: the value proves that the CPU has them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,bmi2")]
    pub(crate) fn new() -> Self {
        Self(())
    }
}

// The operations of the hottest loops take arrays by value. In builds with debug assertions, loads
// and stores through pointers are checked, and the checks would keep the values of the loop in
// memory.

/// The lanes as a vector of sixteen.
#[inline(always)]
fn vector(lanes: &[f32; LANES]) -> __m512 {
    // SAFETY: both types hold the same number of floats, and every bit pattern is a valid float.
    unsafe { transmute::<[f32; LANES], __m512>(*lanes) }
}

/// The lanes as a vector of sixteen integers.
#[inline(always)]
fn integers(lanes: &[u32; LANES]) -> __m512i {
    // SAFETY: both types hold the same number of integers, and every bit pattern is a valid
    // integer.
    unsafe { transmute::<[u32; LANES], __m512i>(*lanes) }
}

/// The lanes as a vector of sixteen signed integers.
#[inline(always)]
fn signed(lanes: &[i32; LANES]) -> __m512i {
    // SAFETY: as above.
    unsafe { transmute::<[i32; LANES], __m512i>(*lanes) }
}

/// The lanes of a vector.
#[inline(always)]
fn lanes_of(vector: __m512i) -> [u32; LANES] {
    // SAFETY: as above.
    unsafe { transmute::<__m512i, [u32; LANES]>(vector) }
}

/// `vpdpwssd`. The compiler would replace the intrinsic by a product and a sum, which take twice as
/// many instructions.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_products_of_pairs(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
    let mut sums = sums;
    // SAFETY: the caller's CPU has AVX-512 F and VNNI; the instruction changes only its first
    // operand.
    unsafe {
        asm!(
            "vpdpwssd {sums}, {a}, {b}",
            sums = inout(zmm_reg) sums,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

// SAFETY, for every block below: `self` exists, so the CPU has the features; the pointers come from
// arrays of exactly the length that is read or written, and all loads and stores are unaligned
// ones.
impl Simd for Avx512 {
    const VECTORS: usize = 32;

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
            // A binary search. It is a macro because the compiler does not always unroll a loop
            // over the steps.
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
    fn multiply_add(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        // SAFETY: see above; a vector has the bits of an array.
        unsafe { transmute::<__m512, [f32; LANES]>(_mm512_fmadd_ps(vector(a), vector(b), vector(c))) }
    }

    #[inline(always)]
    fn add(self, a: &[f32; LANES], b: &[f32; LANES]) -> [f32; LANES] {
        // SAFETY: as above.
        unsafe { transmute::<__m512, [f32; LANES]>(_mm512_add_ps(vector(a), vector(b))) }
    }

    #[inline(always)]
    fn subtract_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        // SAFETY: as above.
        unsafe { transmute::<__m512, [f32; LANES]>(_mm512_sub_ps(vector(a), _mm512_mul_ps(vector(b), vector(c)))) }
    }

    #[inline(always)]
    fn keep_least(self, values: &[f32; LANES], index: u32, least: &mut [f32; LANES], indices: &mut [u32; LANES]) {
        // SAFETY: as above; a vector of integers has the bits of its array.
        unsafe {
            let (v, m) = (vector(values), vector(least));
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(v, m);
            let i = transmute::<[u32; LANES], __m512i>(*indices);
            let i = _mm512_mask_mov_epi32(i, less, _mm512_set1_epi32(index as i32));
            *least = transmute::<__m512, [f32; LANES]>(_mm512_min_ps(v, m));
            *indices = transmute::<__m512i, [u32; LANES]>(i);
        }
    }

    #[inline(always)]
    fn at_least(self, a: &[f32; LANES], b: &[f32; LANES]) -> u16 {
        // SAFETY: as above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(vector(a), vector(b)) }
    }

    #[inline(always)]
    fn below(self, a: &[u32; LANES], b: &[u32; LANES]) -> u16 {
        // SAFETY: as above.
        unsafe { _mm512_cmplt_epu32_mask(integers(a), integers(b)) }
    }

    #[inline(always)]
    fn divide(self, a: &[u32; LANES], b: &[u32; LANES]) -> [[u32; LANES]; 2] {
        // SAFETY: see above.
        let (quotients, rests) = unsafe { words::divide_avx512(integers(a), integers(b)) };
        [lanes_of(quotients), lanes_of(rests)]
    }

    #[inline(always)]
    fn drain(self, lanes: &[u32; LANES], limits: &[u32; LANES], words: &mut [[u8; 2]; LANES]) -> ([u32; LANES], usize) {
        // SAFETY: see above.
        let (lanes, count) = unsafe { words::drain_avx512(integers(lanes), integers(limits), words) };
        (lanes_of(lanes), count)
    }

    #[inline(always)]
    fn refill(self, lanes: &[u32; LANES], words: &[[u8; 2]; LANES]) -> ([u32; LANES], usize) {
        // SAFETY: see above.
        let (lanes, count) = unsafe { words::refill_avx512(integers(lanes), words) };
        (lanes_of(lanes), count)
    }

    #[inline(always)]
    fn gather(self, table: Table<'_>, indices: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: as above; a masked index is below the table's length, which is at most 2^31.
        unsafe {
            let index = _mm512_and_si512(integers(indices), _mm512_set1_epi32(table.mask() as i32));
            lanes_of(_mm512_i32gather_epi32::<4>(index, table.entries().as_ptr().cast::<i32>()))
        }
    }

    #[inline(always)]
    fn expand(self, values: &[u32; LANES], mask: u16) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe { lanes_of(_mm512_maskz_expand_epi32(mask, integers(values))) }
    }

    #[inline(always)]
    fn windows<const BITS: usize>(self, bytes: &[u8; LANES]) -> [u32; LANES] {
        // SAFETY: as above; vectors of integers have the bits of their arrays.
        unsafe {
            let sources = transmute::<[u8; 4 * LANES], __m512i>(const { window_bytes::<BITS>() });
            let stream = _mm512_broadcast_i32x4(transmute::<[u8; LANES], __m128i>(*bytes));
            let shifts = integers(&const { window_shifts::<BITS>() });
            lanes_of(_mm512_srlv_epi32(_mm512_shuffle_epi8(stream, sources), shifts))
        }
    }

    #[inline(always)]
    fn sum_bytes(self, lanes: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let pairs = _mm512_maddubs_epi16(integers(lanes), _mm512_set1_epi8(1));
            lanes_of(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
        }
    }

    #[inline(always)]
    fn low_halves(self, lanes: &[u32; LANES]) -> [u16; LANES] {
        let mut out = [0; LANES];
        // SAFETY: see above.
        unsafe {
            let halves = _mm512_cvtepi32_epi16(integers(lanes));
            _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), halves);
        }
        out
    }

    #[inline(always)]
    fn lookup64(self, table: &[u8; 64], indices: &[u8; 64]) -> [u8; 64] {
        let mut out = [0; 64];
        // SAFETY: see above. The permutation uses the low six bits of each index.
        unsafe {
            let [table, indices] = [table, indices].map(|bytes| _mm512_loadu_si512(bytes.as_ptr().cast::<__m512i>()));
            _mm512_storeu_si512(out.as_mut_ptr().cast::<__m512i>(), _mm512_permutexvar_epi8(indices, table));
        }
        out
    }

    #[inline(always)]
    fn add_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        // SAFETY: as above.
        unsafe { transmute::<__m512, [f32; LANES]>(_mm512_add_ps(vector(a), _mm512_mul_ps(vector(b), vector(c)))) }
    }

    #[inline(always)]
    fn i32_to_f32(self, values: &[i32; LANES]) -> [f32; LANES] {
        // SAFETY: as above; vectors of integers have the bits of their arrays.
        unsafe { transmute::<__m512, [f32; LANES]>(_mm512_cvtepi32_ps(signed(values))) }
    }

    #[inline(always)]
    fn round_products(self, values: &[f32; LANES], factor: f32) -> [i16; LANES] {
        // SAFETY: as above.
        unsafe {
            let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(vector(values), _mm512_set1_ps(factor)));
            transmute::<__m256i, [i16; LANES]>(_mm512_cvtepi32_epi16(rounded))
        }
    }

    #[inline(always)]
    fn bits(self, lanes: &[u32; LANES], shift: u32, mask: u32) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe {
            let shifted = _mm512_srl_epi32(integers(lanes), _mm_cvtsi32_si128(shift as i32));
            lanes_of(_mm512_and_si512(shifted, _mm512_set1_epi32(mask as i32)))
        }
    }

    #[inline(always)]
    fn high_bits<const SHIFT: u32>(self, lanes: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: the caller's CPU has AVX-512 BW too.
        unsafe { lanes_of(_mm512_srli_epi16::<SHIFT>(integers(lanes))) }
    }

    #[inline(always)]
    fn add_shifted<const SHIFT: u32>(self, a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe { lanes_of(_mm512_add_epi32(integers(a), _mm512_slli_epi32::<SHIFT>(integers(b)))) }
    }

    #[inline(always)]
    fn add_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: u32) -> [i32; LANES] {
        // SAFETY: as above; vectors of integers have the bits of their arrays.
        unsafe {
            let sums = signed(sums);
            let sums = add_products_of_pairs(sums, integers(a), _mm512_set1_epi32(b as i32));
            transmute::<__m512i, [i32; LANES]>(sums)
        }
    }

    #[inline(always)]
    fn add_lane_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: &[i16; 2 * LANES]) -> [i32; LANES] {
        // SAFETY: as above.
        unsafe {
            let b = transmute::<[i16; 2 * LANES], __m512i>(*b);
            let sums = add_products_of_pairs(signed(sums), integers(a), b);
            transmute::<__m512i, [i32; LANES]>(sums)
        }
    }

    #[inline(always)]
    fn widen_pairs(self, bytes: &[u8; 2 * LANES]) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe { lanes_of(_mm512_cvtepu8_epi16(transmute::<[u8; 2 * LANES], __m256i>(*bytes))) }
    }

    #[inline(always)]
    fn high_products(self, lanes: &[u32; LANES], factor: u16) -> [u32; LANES] {
        // SAFETY: as above.
        unsafe { lanes_of(_mm512_mulhi_epu16(integers(lanes), _mm512_set1_epi16(factor as i16))) }
    }

    #[inline(always)]
    fn coded_bf16(self, floats: &[f32; LANES], codes: &[u8; 2 * LANES], low: &[u8; 4 * LANES]) -> [[f32; LANES]; 4] {
        // SAFETY: as above; the CPU has AVX-512 VBMI too. A permutation of bytes uses the low six
        // bits of each index, and the table has its sixteen exponents four times.
        unsafe {
            let table = _mm512_cvtepi32_epi8(_mm512_srli_epi32::<23>(_mm512_castps_si512(vector(floats))));
            let table = _mm512_broadcast_i32x4(table);
            let bytes = |bytes: &[u8; 4 * LANES]| transmute::<[u8; 4 * LANES], __m512i>(*bytes);
            let codes = _mm512_castsi256_si512(transmute::<[u8; 2 * LANES], __m256i>(*codes));
            let codes = _mm512_permutexvar_epi8(bytes(&paired::CODES), codes);
            let codes = _mm512_multishift_epi64_epi8(bytes(&paired::SHIFTS), codes);
            let exponents = _mm512_permutexvar_epi8(codes, table);
            let low = _mm512_permutexvar_epi8(bytes(&paired::NUMBERS), bytes(low));
            let numbers = |halves: __m512i| {
                // Exponent, sign and mantissa of each half take their places.
                let (right, left) = (_mm512_srli_epi16::<1>(halves), _mm512_slli_epi16::<8>(halves));
                let halves = _mm512_ternarylogic_epi32::<SELECT>(_mm512_set1_epi16(i16::MIN), left, halves);
                let halves = _mm512_ternarylogic_epi32::<SELECT>(_mm512_set1_epi16(0x7f80), right, halves);
                let high = _mm512_and_si512(halves, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                [_mm512_slli_epi32::<16>(halves), high]
            };
            let [first, second] = numbers(_mm512_unpacklo_epi8(low, exponents));
            let [third, fourth] = numbers(_mm512_unpackhi_epi8(low, exponents));
            [first, second, third, fourth].map(|lanes| transmute::<__m512i, [f32; LANES]>(lanes))
        }
    }

    common_operations!();

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
