//! The encoder's hot loop: codes, packed.

use simd::{LANES, Simd, kernel, lanes, load, prefetch};

use super::layout::Layout;
use super::range::Codes;
use super::scale::{Grids, power_of_two};
use crate::packing::{pack16, with_bits};

/// Adding and subtracting this number rounds a small float to the nearest integer, ties to even.
/// The lowest bits of the sum hold the integer.
pub(super) const ROUND: f32 = 12_582_912.0;

/// Parameters of all groups, and parameters common to the groups.
#[derive(Debug)]
pub(super) struct Quantiser {
    params: Vec<Params>,
    /// 2^−exponent: scales weights to the magnitude of the stored F16 numbers.
    normalise: f32,
    min_code: f32,
    max_code: f32,
}

/// Parameters of a group.
#[derive(Clone, Copy, Debug)]
struct Params {
    /// One over the stored F16 number; 0 if that is 0.
    inverse: f32,
    zero: f32,
}

impl Quantiser {
    /// The steps of `grids` must be rounded already.
    pub(super) fn new(codes: Codes, grids: &Grids, exponent: i8) -> Self {
        let params = grids.steps.iter().zip(&grids.zeros);
        let params =
            params.map(|(step, zero)| Params { inverse: if *step == 0.0 { 0.0 } else { 1.0 / step }, zero: *zero });
        let normalise = power_of_two(-i32::from(exponent));
        Self { params: params.collect(), normalise, min_code: codes.min, max_code: codes.max }
    }

    /// The code of one weight of a group.
    pub(super) fn code(&self, group: usize, weight: f32) -> u8 {
        self.coded(self.params[group], weight)
    }

    #[inline(always)]
    fn coded(&self, params: Params, x: f32) -> u8 {
        // Two multiplications, because the product of the two factors may overflow f32.
        let v = x * self.normalise * params.inverse;
        let c = (v + ROUND) - ROUND + params.zero;
        let c = if c < self.min_code { self.min_code } else { c };
        let c = if c > self.max_code { self.max_code } else { c };
        (c + ROUND).to_bits() as u8
    }

    /// Codes of sixteen weights.
    #[inline(always)]
    fn sixteen(&self, params: Params, x: &[f32; LANES]) -> [u8; LANES] {
        lanes!(i => self.coded(params, x[i]))
    }
}

kernel! {
    /// Quantises and packs some rows, and prefetches `next`, the bytes after them.
    pub(super) fn quantise<'a>(simd, values: &'a [f32], next: &'a [u8], layout: &'a Layout, quantiser: &'a Quantiser, packed: &'a mut [u8]) {
        with_bits!(layout.bits, quantise_rows::<_>(simd, values, next, layout, quantiser, packed));
    }
}

#[inline(always)]
fn quantise_rows<const BITS: usize, S: Simd>(
    simd: S,
    values: &[f32],
    next: &[u8],
    layout: &Layout,
    quantiser: &Quantiser,
    packed: &mut [u8],
) {
    let mut ahead = 0;
    let rows = values.chunks(layout.columns.max(1)).zip(packed.chunks_mut(layout.row_len().max(1)));
    for (row, (values, packed)) in rows.enumerate() {
        let params = layout.of_row(&quantiser.params, row);
        let (blocks, rest) = values.as_chunks::<LANES>();
        let (full, last) = packed.split_at_mut(blocks.len() * 2 * BITS);
        let mut codes_out = full.chunks_exact_mut(2 * BITS);
        for (params, blocks) in params.iter().zip(blocks.chunks(layout.group_blocks())) {
            for (x, packed) in blocks.iter().zip(&mut codes_out) {
                prefetch(next, ahead);
                ahead += size_of_val(x);
                let codes = quantiser.sixteen(*params, x);
                packed.copy_from_slice(&pack16::<BITS, S>(simd, &codes)[..2 * BITS]);
            }
        }
        if !rest.is_empty() {
            let params = params[blocks.len() / layout.group_blocks()];
            let mut codes = quantiser.sixteen(params, &load(rest));
            codes[rest.len()..].fill(0);
            last.copy_from_slice(&pack16::<BITS, S>(simd, &codes)[..last.len()]);
        }
    }
}
