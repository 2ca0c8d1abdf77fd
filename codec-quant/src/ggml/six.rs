//! The header of `Q4_K` and `Q5_K` super-blocks, with 6-bit scales and minima in 12 bytes.

use simd::Simd;

use super::format::f16_pair;
use super::superblock::Coded;

/// Groups of a super-block.
const GROUPS: usize = 8;

/// Packs scales and minima below 64.
#[inline(always)]
fn pack(scales: &[u8; GROUPS], minima: &[u8; GROUPS]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for j in 0..4 {
        bytes[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        bytes[j + 4] = minima[j] | (minima[j + 4] >> 4) << 6;
        bytes[j + 8] = scales[j + 4] & 15 | minima[j + 4] << 4;
    }
    bytes
}

/// The inverse of [`pack`].
#[inline(always)]
fn unpack(bytes: &[u8; 12]) -> [[u8; GROUPS]; 2] {
    let (mut scales, mut minima) = ([0; GROUPS], [0; GROUPS]);
    for j in 0..4 {
        scales[j] = bytes[j] & 63;
        minima[j] = bytes[j + 4] & 63;
        scales[j + 4] = bytes[j + 8] & 15 | bytes[j] >> 6 << 4;
        minima[j + 4] = bytes[j + 8] >> 4 | bytes[j + 4] >> 6 << 4;
    }
    [scales, minima]
}

/// The integer scales and minima of a super-block with a [`header`].
#[inline(always)]
pub(super) fn integers(block: &[u8]) -> [[u8; GROUPS]; 2] {
    let mut bytes = [0; 12];
    bytes.copy_from_slice(&block[4..16]);
    unpack(&bytes)
}

/// The header of a super-block: `d`, `dmin`, scales and minima.
#[inline(always)]
pub(super) fn header(coded: &Coded<'_>) -> [u8; 16] {
    let (mut scales, mut minima) = ([0; GROUPS], [0; GROUPS]);
    for g in 0..GROUPS {
        scales[g] = coded.scales[g] as u8;
        minima[g] = coded.minima[g] as u8;
    }
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&coded.d.to_le_bytes());
    bytes[2..4].copy_from_slice(&coded.dmin.to_le_bytes());
    bytes[4..].copy_from_slice(&pack(&scales, &minima));
    bytes
}

/// Scales and minima of the groups of a super-block with a [`header`]; `bits` are those of `d` and
/// `dmin`.
#[inline(always)]
pub(super) fn scales_and_minima<S: Simd>(simd: S, bits: [u16; 2], block: &[u8]) -> [[f32; GROUPS]; 2] {
    let [d, dmin] = f16_pair(simd, bits);
    let [integers, minimum_integers] = integers(block);
    let (mut scales, mut minima) = ([0.0; GROUPS], [0.0; GROUPS]);
    for g in 0..GROUPS {
        scales[g] = d * f32::from(integers[g]);
        minima[g] = dmin * f32::from(minimum_integers[g]);
    }
    [scales, minima]
}
