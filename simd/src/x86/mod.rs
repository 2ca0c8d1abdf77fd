//! The operations of [`Simd`](crate::Simd) with AVX2 and AVX-512.
#![allow(unsafe_code)]
// Pointers cast this way go only to unaligned loads and stores.
#![allow(clippy::cast_ptr_alignment)]

use crate::LANES;

mod avx2;
mod avx512;
mod paired;
mod words;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;

/// The source byte of each byte of a lane's 32 bits, for [`Simd::windows`](crate::Simd::windows).
const fn window_bytes<const BITS: usize>() -> [u8; 4 * LANES] {
    let mut sources = [0; 4 * LANES];
    let mut i = 0;
    while i < sources.len() {
        sources[i] = (2 * (i / 4 * BITS / 16) + i % 4) as u8;
        i += 1;
    }
    sources
}

/// The right shift of each lane, for the same method.
const fn window_shifts<const BITS: usize>() -> [u32; LANES] {
    let mut shifts = [0; LANES];
    let mut i = 0;
    while i < LANES {
        shifts[i] = (i * BITS % 16) as u32;
        i += 1;
    }
    shifts
}

/// Operations that both levels implement in the same way.
macro_rules! common_operations {
    () => {
        #[inline(always)]
        fn gather_bits(self, x: u64, mask: u64) -> u64 {
            // SAFETY: `self` exists, so the CPU has AVX2 and BMI2.
            unsafe { _pext_u64(x, mask) }
        }

        #[inline(always)]
        fn scatter_bits(self, x: u64, mask: u64) -> u64 {
            // SAFETY: as above.
            unsafe { _pdep_u64(x, mask) }
        }

        #[inline(always)]
        fn pack_nibbles<const HIGH_FIRST: bool>(self, codes: &[u8; LANES]) -> [u8; LANES / 2] {
            let mut out = [0; LANES / 2];
            // SAFETY: as above; the array is exactly as long as the load, and twice as long as the
            // store.
            unsafe {
                // Multiplies the bytes of each pair by 16 and 1, or by 1 and 16, and adds them.
                let weights = _mm_set1_epi16(if HIGH_FIRST { 0x0110 } else { 0x1001 });
                let pairs = _mm_maddubs_epi16(_mm_loadu_si128(codes.as_ptr().cast::<__m128i>()), weights);
                _mm_storel_epi64(out.as_mut_ptr().cast::<__m128i>(), _mm_packus_epi16(pairs, pairs));
            }
            out
        }
    };
}
use common_operations;
