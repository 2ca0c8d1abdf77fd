//! Two bits of each of 256 codes in 64 bytes.

use simd::{LANES, lanes, load};

use super::superblock::WEIGHTS;

/// Weights of half a super-block; their bits fill 32 bytes.
const HALF: usize = WEIGHTS / 2;

/// Packs the low two bits of each code: in each half, byte `j` has those of weights `j`, `j + 32`,
/// `j + 64`, `j + 96`.
#[inline(always)]
pub(super) fn pack(codes: &[u8; WEIGHTS], bytes: &mut [u8]) {
    for (q, bytes) in codes.as_chunks::<HALF>().0.iter().zip(bytes.as_chunks_mut::<{ HALF / 4 }>().0) {
        for (j, byte) in bytes.iter_mut().enumerate() {
            *byte = q[j] & 3 | (q[j + 32] & 3) << 2 | (q[j + 64] & 3) << 4 | (q[j + 96] & 3) << 6;
        }
    }
}

/// Unpacks the bits of the sixteen weights from `16·g` on.
#[inline(always)]
pub(super) fn unpack(bytes: &[u8], g: usize) -> [u8; LANES] {
    let packed: [u8; LANES] = load(&bytes[g / 8 * 32 + g % 2 * LANES..]);
    lanes!(i => packed[i] >> (g % 8 / 2 * 2) & 3)
}
