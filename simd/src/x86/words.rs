//! 16-bit words that leave or enter lanes: the renormalisation of entropy coders.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512i, _mm_loadu_si128, _mm_shuffle_epi8, _mm_storeu_si128, _mm256_add_ps,
    _mm256_and_ps, _mm256_and_si256, _mm256_andnot_si256, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cmpeq_epi32, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvttps_epi32,
    _mm256_div_ps, _mm256_extracti128_si256, _mm256_fmsub_ps, _mm256_loadu_si256, _mm256_mask_storeu_epi16,
    _mm256_movemask_ps, _mm256_mullo_epi32, _mm256_or_si256, _mm256_packus_epi32, _mm256_permute4x64_epi64,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_sllv_epi32, _mm256_srai_epi32, _mm256_srli_epi32,
    _mm256_srlv_epi32, _mm256_sub_epi32, _mm512_cmpge_epu32_mask, _mm512_cmplt_epu32_mask, _mm512_cvtepi32_epi16,
    _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtepu32_ps, _mm512_cvttps_epi32, _mm512_div_ps, _mm512_fmsub_ps,
    _mm512_mask_add_epi32, _mm512_mask_slli_epi32, _mm512_mask_srli_epi32, _mm512_mask_sub_epi32,
    _mm512_maskz_compress_epi32, _mm512_maskz_expand_epi32, _mm512_mullo_epi32, _mm512_or_si512, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_srli_epi32, _mm512_sub_epi32,
};

use crate::LANES;

/// Lanes of an AVX2 vector.
const EIGHT: usize = LANES / 2;

/// Shuffles for each mask of eight lanes, of two bytes each; a byte of `0x80` becomes 0.
struct Shuffles([[u8; 2 * EIGHT]; 256]);

/// Moves the first words to the lanes whose bits are set.
static TO_LANES: Shuffles = Shuffles::new(false);
/// Moves the words of the lanes whose bits are set to the end.
static TO_END: Shuffles = Shuffles::new(true);

impl Shuffles {
    const fn new(to_end: bool) -> Self {
        let mut shuffles = [[0x80; 2 * EIGHT]; 256];
        let mut mask = 0;
        while mask < 256_usize {
            let mut word = if to_end { EIGHT - mask.count_ones() as usize } else { 0 };
            let mut lane = 0;
            while lane < EIGHT {
                if mask >> lane & 1 == 1 {
                    let (to, from) = if to_end { (word, lane) } else { (lane, word) };
                    shuffles[mask][2 * to] = 2 * from as u8;
                    shuffles[mask][2 * to + 1] = 2 * from as u8 + 1;
                    word += 1;
                }
                lane += 1;
            }
            mask += 1;
        }
        Self(shuffles)
    }

    /// Shuffles eight words.
    #[inline(always)]
    unsafe fn apply(&self, words: __m128i, mask: usize) -> __m128i {
        // SAFETY: the caller's CPU has AVX2; a shuffle has sixteen bytes.
        unsafe { _mm_shuffle_epi8(words, _mm_loadu_si128(self.0[mask & 0xff].as_ptr().cast::<__m128i>())) }
    }
}

/// A bit for each lane that is all ones.
#[inline(always)]
unsafe fn mask(lanes: __m256i) -> usize {
    // SAFETY: the caller's CPU has AVX2.
    unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(lanes)) as usize }
}

/// [`Simd::drain`](crate::Simd::drain) with AVX2.
#[inline(always)]
pub(super) unsafe fn drain_avx2(
    [low, high]: [__m256i; 2],
    limits: [__m256i; 2],
    places: &mut [[u8; 2]; LANES],
) -> ([__m256i; 2], usize) {
    // SAFETY: the caller's CPU has AVX2; of the sixteen places, eight that begin at 0 to 8 are
    // written.
    unsafe {
        let sixteen = _mm256_set1_epi32(16);
        let stays = |lanes, limits| _mm256_cmpgt_epi32(limits, _mm256_srli_epi32::<20>(lanes));
        let (low_stays, high_stays) = (stays(low, limits[0]), stays(high, limits[1]));
        let kept = |lanes, stays| _mm256_srlv_epi32(lanes, _mm256_andnot_si256(stays, sixteen));
        // The pack works within halves of 128 bits.
        let word = |lanes| _mm256_and_si256(lanes, _mm256_set1_epi32(0xffff));
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(word(low), word(high)));
        let (low_leaves, high_leaves) = (mask(low_stays) ^ 0xff, mask(high_stays) ^ 0xff);
        let last = high_leaves.count_ones() as usize;
        let mut write = |words, leaves, end| {
            _mm_storeu_si128(places.as_mut_ptr().add(end - EIGHT).cast::<__m128i>(), TO_END.apply(words, leaves));
        };
        write(_mm256_extracti128_si256::<1>(packed), high_leaves, LANES);
        write(_mm256_castsi256_si128(packed), low_leaves, LANES - last);
        ([kept(low, low_stays), kept(high, high_stays)], last + low_leaves.count_ones() as usize)
    }
}

/// [`Simd::refill`](crate::Simd::refill) with AVX2.
#[inline(always)]
pub(super) unsafe fn refill_avx2([low, high]: [__m256i; 2], words: &[[u8; 2]; LANES]) -> ([__m256i; 2], usize) {
    // SAFETY: the caller's CPU has AVX2; of the sixteen words, eight that begin at 0 to 8 are read.
    unsafe {
        let takes = |lanes| _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(lanes), _mm256_setzero_si256());
        let (low_takes, high_takes) = (takes(low), takes(high));
        let (low_mask, high_mask) = (mask(low_takes), mask(high_takes));
        let first = low_mask.count_ones() as usize;
        let refill = |lanes, takes, mask, at: usize| {
            let next = _mm_loadu_si128(words.as_ptr().add(at).cast::<__m128i>());
            let next = _mm256_cvtepu16_epi32(TO_LANES.apply(next, mask));
            _mm256_or_si256(_mm256_sllv_epi32(lanes, _mm256_and_si256(takes, _mm256_set1_epi32(16))), next)
        };
        let lanes = [refill(low, low_takes, low_mask, 0), refill(high, high_takes, high_mask, first)];
        (lanes, first + high_mask.count_ones() as usize)
    }
}

/// [`Simd::divide`](crate::Simd::divide) with AVX2.
#[inline(always)]
pub(super) unsafe fn divide_avx2(a: __m256i, b: __m256i) -> (__m256i, __m256i) {
    // SAFETY: the caller's CPU has AVX2 and FMA.
    unsafe {
        let reciprocals: __m256 = _mm256_div_ps(_mm256_set1_ps(1.0), _mm256_cvtepi32_ps(b));
        // The conversion takes lanes from 2^31 on as negative numbers.
        let wrapped = _mm256_castsi256_ps(_mm256_srai_epi32::<31>(a));
        let wide = _mm256_and_ps(wrapped, _mm256_set1_ps(4_294_967_296.0));
        let dividends = _mm256_add_ps(_mm256_cvtepi32_ps(a), wide);
        let quotients = _mm256_cvttps_epi32(_mm256_fmsub_ps(dividends, reciprocals, _mm256_set1_ps(MARGIN)));
        let rests = _mm256_sub_epi32(a, _mm256_mullo_epi32(quotients, b));
        let more = _mm256_cmpgt_epi32(rests, _mm256_sub_epi32(b, _mm256_set1_epi32(1)));
        (_mm256_sub_epi32(quotients, more), _mm256_sub_epi32(rests, _mm256_and_si256(more, b)))
    }
}

/// [`Simd::drain`](crate::Simd::drain) with AVX-512.
#[inline(always)]
pub(super) unsafe fn drain_avx512(lanes: __m512i, limits: __m512i, places: &mut [[u8; 2]; LANES]) -> (__m512i, usize) {
    // SAFETY: the caller's CPU has AVX-512 F, BW and VL; the store writes the last `count` places.
    unsafe {
        let leave = _mm512_cmpge_epu32_mask(_mm512_srli_epi32::<20>(lanes), limits);
        let count = leave.count_ones() as usize;
        let leaving = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(leave, lanes));
        let first = places.as_mut_ptr().add(LANES - count).cast::<i16>();
        _mm256_mask_storeu_epi16(first, !(u32::MAX << count) as u16, leaving);
        (_mm512_mask_srli_epi32::<16>(lanes, leave, lanes), count)
    }
}

/// [`Simd::refill`](crate::Simd::refill) with AVX-512.
#[inline(always)]
pub(super) unsafe fn refill_avx512(lanes: __m512i, words: &[[u8; 2]; LANES]) -> (__m512i, usize) {
    // SAFETY: the caller's CPU has AVX-512 F; the load reads all words.
    unsafe {
        let take = _mm512_cmplt_epu32_mask(lanes, _mm512_set1_epi32(1 << 16));
        let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(words.as_ptr().cast::<__m256i>()));
        let shifted = _mm512_mask_slli_epi32::<16>(lanes, take, lanes);
        (_mm512_or_si512(shifted, _mm512_maskz_expand_epi32(take, words)), take.count_ones() as usize)
    }
}

/// [`Simd::divide`](crate::Simd::divide) with AVX-512.
#[inline(always)]
pub(super) unsafe fn divide_avx512(a: __m512i, b: __m512i) -> (__m512i, __m512i) {
    // SAFETY: the caller's CPU has AVX-512 F.
    unsafe {
        let reciprocals = _mm512_div_ps(_mm512_set1_ps(1.0), _mm512_cvtepi32_ps(b));
        let quotients = _mm512_fmsub_ps(_mm512_cvtepu32_ps(a), reciprocals, _mm512_set1_ps(MARGIN));
        let quotients = _mm512_cvttps_epi32(quotients);
        let rests = _mm512_sub_epi32(a, _mm512_mullo_epi32(quotients, b));
        let more = _mm512_cmpge_epu32_mask(rests, b);
        let quotients = _mm512_mask_add_epi32(quotients, more, quotients, _mm512_set1_epi32(1));
        (quotients, _mm512_mask_sub_epi32(rests, more, rests, b))
    }
}

/// Subtracted from an f32 quotient below 2²⁰. The error of the quotient is smaller, so the result,
/// rounded down, is right or one too small.
const MARGIN: f32 = 0.25;
