//! Codes of 4 and 5 bits in blocks of 32.

use simd::{LANES, Lanes, Simd, lanes};

use super::block::{Codes, WEIGHTS};

/// Packs the lower four bits of each code: weight `j` in the low nibble of byte `j`, weight
/// `j + 16` in the high one.
#[inline(always)]
pub(super) fn pack(codes: &Codes, bytes: &mut [u8]) {
    for j in 0..LANES {
        bytes[j] = codes[j] & 15 | codes[j + LANES] << 4;
    }
}

/// Looks up all codes packed by [`pack`].
#[inline(always)]
pub(super) fn unpack<S: Simd>(simd: S, table: &Lanes<f32>, bytes: &[u8], out: &mut [f32; WEIGHTS]) {
    let bytes: Lanes<u8> = simd::load(bytes);
    let (low, high) = (lanes!(i => bytes[i] & 15), lanes!(i => bytes[i] >> 4));
    let (first, second) = out.split_at_mut(LANES);
    first.copy_from_slice(&simd.lookup16(table, &low));
    second.copy_from_slice(&simd.lookup16(table, &high));
}

/// The fifth bit of each code, that of weight `i` as bit `i`.
#[inline(always)]
pub(super) fn high_bits(codes: &Codes) -> u32 {
    let mut bits = 0;
    for (i, code) in codes.iter().enumerate() {
        bits |= u32::from(code >> 4) << i;
    }
    bits
}

/// Unpacks codes of five bits: four bytes of [`high_bits`], then the bytes of [`pack`].
#[inline(always)]
pub(super) fn five_bits(bytes: &[u8]) -> Codes {
    let (high, low) = bytes.split_at(4);
    let mut codes = [0; WEIGHTS];
    for j in 0..LANES {
        codes[j] = low[j] & 15 | (high[j / 8] >> (j % 8) & 1) << 4;
        codes[j + LANES] = low[j] >> 4 | (high[2 + j / 8] >> (j % 8) & 1) << 4;
    }
    codes
}

/// Looks up the codes of two groups: low nibbles in the first table, high nibbles in the second.
#[inline(always)]
pub(super) fn unpack_pair<S: Simd>(simd: S, tables: &[Lanes<f32>; 2], bytes: &[u8; 32], out: &mut [f32; 64]) {
    let (first, second) = out.split_at_mut(2 * LANES);
    let outs = first.as_chunks_mut().0.iter_mut().zip(second.as_chunks_mut().0);
    for (bytes, (low, high)) in bytes.as_chunks::<LANES>().0.iter().zip(outs) {
        *low = simd.lookup16(&tables[0], &lanes!(i => bytes[i] & 15));
        *high = simd.lookup16(&tables[1], &lanes!(i => bytes[i] >> 4));
    }
}
