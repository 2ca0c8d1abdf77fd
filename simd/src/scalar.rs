//! The operations of [`Simd`] in plain Rust: the other levels give the same bits.

use half::f16;

use crate::vector::{MAGNITUDE, Simd};
use crate::{LANES, Table, lanes};

/// The baseline of the compiler's target.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    const VECTORS: usize = 4;

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
    fn multiply_add(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        lanes!(i => a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn add(self, a: &[f32; LANES], b: &[f32; LANES]) -> [f32; LANES] {
        lanes!(i => a[i] + b[i])
    }

    #[inline(always)]
    fn subtract_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        lanes!(i => a[i] - b[i] * c[i])
    }

    #[inline(always)]
    fn keep_least(self, values: &[f32; LANES], index: u32, least: &mut [f32; LANES], indices: &mut [u32; LANES]) {
        for i in 0..LANES {
            let less = values[i] < least[i];
            indices[i] = if less { index } else { indices[i] };
            least[i] = if less { values[i] } else { least[i] };
        }
    }

    #[inline(always)]
    fn at_least(self, a: &[f32; LANES], b: &[f32; LANES]) -> u16 {
        let at_least: [u16; LANES] = lanes!(i => u16::from(a[i] >= b[i]));
        // In most calls no lane qualifies; this check works on whole vectors.
        if at_least.iter().fold(0, |any, lane| any | lane) == 0 {
            return 0;
        }
        at_least.iter().enumerate().fold(0, |mask, (i, lane)| mask | lane << i)
    }

    #[inline(always)]
    fn pack_nibbles<const HIGH_FIRST: bool>(self, codes: &[u8; LANES]) -> [u8; LANES / 2] {
        let mut bytes = [0; LANES / 2];
        for (byte, [first, second]) in bytes.iter_mut().zip(codes.as_chunks::<2>().0) {
            *byte = if HIGH_FIRST { first << 4 | second } else { first | second << 4 };
        }
        bytes
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
    fn below(self, a: &[u32; LANES], b: &[u32; LANES]) -> u16 {
        let below: [u16; LANES] = lanes!(i => u16::from(a[i] < b[i]));
        // In most calls no lane qualifies; this check works on whole vectors.
        if below.iter().fold(0, |any, lane| any | lane) == 0 {
            return 0;
        }
        below.iter().enumerate().fold(0, |mask, (i, lane)| mask | lane << i)
    }

    #[inline(always)]
    fn divide(self, a: &[u32; LANES], b: &[u32; LANES]) -> [[u32; LANES]; 2] {
        let quotients: [u32; LANES] = lanes!(i => a[i] / b[i].max(1));
        [quotients, lanes!(i => a[i].wrapping_sub(quotients[i].wrapping_mul(b[i])))]
    }

    #[inline(always)]
    fn drain(self, lanes: &[u32; LANES], limits: &[u32; LANES], words: &mut [[u8; 2]; LANES]) -> ([u32; LANES], usize) {
        let (mut out, mut free) = (*lanes, LANES);
        for (lane, _) in out.iter_mut().zip(limits).rev().filter(|(lane, limit)| **lane >> 20 >= **limit) {
            free -= 1;
            words[free] = (*lane as u16).to_le_bytes();
            *lane >>= 16;
        }
        (out, LANES - free)
    }

    #[inline(always)]
    fn refill(self, lanes: &[u32; LANES], words: &[[u8; 2]; LANES]) -> ([u32; LANES], usize) {
        let (mut out, mut next) = (*lanes, 0);
        for lane in &mut out {
            let takes = usize::from(*lane >> 16 == 0);
            let word = u32::from(u16::from_le_bytes(words[next & (LANES - 1)]));
            // Without branches, which would be mispredicted.
            *lane = (*lane << (16 * takes)) | (word * takes as u32);
            next += takes;
        }
        (out, next)
    }

    #[inline(always)]
    fn gather(self, table: Table<'_>, indices: &[u32; LANES]) -> [u32; LANES] {
        lanes!(i => table.get(indices[i]))
    }

    #[inline(always)]
    fn expand(self, values: &[u32; LANES], mask: u16) -> [u32; LANES] {
        let mut next = 0;
        lanes!(i => {
            let set = usize::from(mask >> i & 1);
            let value = values[next & (LANES - 1)] * set as u32;
            next += set;
            value
        })
    }

    #[inline(always)]
    fn windows<const BITS: usize>(self, bytes: &[u8; LANES]) -> [u32; LANES] {
        lanes!(i => {
            let at = 2 * (i * BITS / 16);
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) >> (i * BITS % 16)
        })
    }

    #[inline(always)]
    fn sum_bytes(self, lanes: &[u32; LANES]) -> [u32; LANES] {
        let pairs: [u32; LANES] = lanes!(i => (lanes[i] & 0x00ff_00ff) + (lanes[i] >> 8 & 0x00ff_00ff));
        lanes!(i => (pairs[i] & 0xffff) + (pairs[i] >> 16))
    }

    #[inline(always)]
    fn low_halves(self, lanes: &[u32; LANES]) -> [u16; LANES] {
        lanes!(i => lanes[i] as u16)
    }

    #[inline(always)]
    fn lookup64(self, table: &[u8; 64], indices: &[u8; 64]) -> [u8; 64] {
        indices.map(|index| table[usize::from(index & 63)])
    }

    #[inline(always)]
    fn add_product(self, a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
        lanes!(i => a[i] + b[i] * c[i])
    }

    #[inline(always)]
    fn i32_to_f32(self, values: &[i32; LANES]) -> [f32; LANES] {
        lanes!(i => values[i] as f32)
    }

    #[inline(always)]
    fn round_products(self, values: &[f32; LANES], factor: f32) -> [i16; LANES] {
        /// Adding it rounds a number below 2²² to the nearest integer, ties to even.
        const ROUND: f32 = 12_582_912.0;
        lanes!(i => (values[i] * factor + ROUND).to_bits() as i16)
    }

    #[inline(always)]
    fn bits(self, lanes: &[u32; LANES], shift: u32, mask: u32) -> [u32; LANES] {
        lanes!(i => lanes[i] >> shift & mask)
    }

    #[inline(always)]
    fn high_bits<const SHIFT: u32>(self, lanes: &[u32; LANES]) -> [u32; LANES] {
        lanes!(i => (lanes[i] >> 16 >> SHIFT) << 16 | (lanes[i] & 0xffff) >> SHIFT)
    }

    #[inline(always)]
    fn add_shifted<const SHIFT: u32>(self, a: &[u32; LANES], b: &[u32; LANES]) -> [u32; LANES] {
        lanes!(i => a[i] + (b[i] << SHIFT))
    }

    #[inline(always)]
    fn add_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: u32) -> [i32; LANES] {
        let half = |pair: u32, shift: u32| i32::from((pair >> shift) as i16);
        let (low, high) = (half(b, 0), half(b, 16));
        lanes!(i => sums[i].wrapping_add(half(a[i], 0) * low).wrapping_add(half(a[i], 16) * high))
    }

    #[inline(always)]
    fn add_lane_pairs(self, sums: &[i32; LANES], a: &[u32; LANES], b: &[i16; 2 * LANES]) -> [i32; LANES] {
        let product = |a: u32, b: i16| i32::from(a as i16) * i32::from(b);
        lanes!(i => sums[i].wrapping_add(product(a[i], b[2 * i])).wrapping_add(product(a[i] >> 16, b[2 * i + 1])))
    }

    #[inline(always)]
    fn widen_pairs(self, bytes: &[u8; 2 * LANES]) -> [u32; LANES] {
        lanes!(i => u32::from(bytes[2 * i]) | u32::from(bytes[2 * i + 1]) << 16)
    }

    #[inline(always)]
    fn high_products(self, lanes: &[u32; LANES], factor: u16) -> [u32; LANES] {
        let factor = u32::from(factor);
        lanes!(i => (((lanes[i] & 0xffff) * factor) >> 16) | (((lanes[i] >> 16) * factor) & 0xffff_0000))
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
