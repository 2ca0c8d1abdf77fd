//! Blocks of 32 weights with a scale, and maybe a minimum, in F16.

use simd::{LANES, Lanes, Simd, lanes};

use super::fit::{Affine, affine, inverse, scale};
use super::format::f16_of_blocks;
use super::groups::{Groups, in_order};
use super::levels::Levels;

/// Weights of a block.
pub(super) const WEIGHTS: usize = 32;

/// Weights that are coded at once.
pub(super) const fn at_once() -> usize {
    LANES * WEIGHTS
}

/// The codes of a block.
pub(super) type Codes = [u8; WEIGHTS];

/// A format whose weights are `d·level`, or `d·code + m` if it has minima. A block begins with the numbers in F16.
pub(super) trait Block {
    /// What codes stand for.
    type Levels: Levels;
    /// Bytes of a block.
    const BYTES: usize;
    /// The largest magnitude that is sure to have a code.
    const LARGEST: f32;
    /// Whether there is `m`.
    const MINIMUM: bool = false;

    /// Packs codes into what follows the numbers.
    fn pack(codes: &Codes, bytes: &mut [u8]);

    /// Decodes what follows the numbers.
    fn unpack<S: Simd>(simd: S, d: f32, m: f32, bytes: &[u8], out: &mut [f32; WEIGHTS]);
}

/// Bytes of the numbers that a block begins with.
const fn numbers<B: Block>() -> usize {
    if B::MINIMUM { 4 } else { 2 }
}

/// Codes whole blocks, sixteen at most.
#[inline(always)]
pub(super) fn encode<S: Simd, B: Block>(simd: S, x: &[f32], importance: Option<&[f32]>, blocks: &mut [u8]) {
    let groups = Groups::<WEIGHTS>::load(x, importance);
    let fit = if B::MINIMUM {
        affine::<S, B::Levels, true, WEIGHTS>(simd, &groups)
    } else {
        Affine { scale: scale::<S, B::Levels, WEIGHTS>(simd, &groups), minimum: [0.0; LANES] }
    };
    let (d, m) = (to_f16(simd, &fit.scale), to_f16(simd, &lanes!(i => -fit.minimum[i])));
    // The best codes for what the rounded numbers mean.
    let (by_scale, offset) = (inverse(&simd.f16_to_f32(&d)), simd.f16_to_f32(&m));
    let mut codes = [[0; LANES]; WEIGHTS];
    for (codes, x) in codes.iter_mut().zip(&groups.x) {
        *codes = B::Levels::code(simd, &lanes!(i => (x[i] - offset[i]) * by_scale[i]));
    }
    for (lane, block) in blocks.chunks_exact_mut(B::BYTES).enumerate() {
        let mut in_block = [0; WEIGHTS];
        in_order(&codes, lane, &mut in_block);
        let (head, rest) = block.split_at_mut(numbers::<B>());
        head[..2].copy_from_slice(&d[lane].to_le_bytes());
        if B::MINIMUM {
            head[2..].copy_from_slice(&m[lane].to_le_bytes());
        }
        B::pack(&in_block, rest);
    }
}

/// Decodes whole blocks, sixteen at most.
#[inline(always)]
pub(super) fn decode<S: Simd, B: Block>(simd: S, blocks: &[u8], out: &mut [f32]) {
    let d = f16_of_blocks(simd, blocks, B::BYTES, 0);
    let m = if B::MINIMUM { f16_of_blocks(simd, blocks, B::BYTES, 2) } else { [0.0; LANES] };
    let blocks = blocks.chunks_exact(B::BYTES).zip(out.as_chunks_mut::<WEIGHTS>().0);
    for ((block, out), (d, m)) in blocks.zip(d.into_iter().zip(m)) {
        B::unpack(simd, d, m, &block[numbers::<B>()..], out);
    }
}

/// The nearest F16 numbers, at most the largest one.
#[inline(always)]
pub(super) fn to_f16<S: Simd>(simd: S, x: &Lanes<f32>) -> Lanes<u16> {
    const MAX: f32 = half::f16::MAX.to_f32_const();
    let low: Lanes<f32> = lanes!(i => if x[i] < MAX { x[i] } else { MAX });
    simd.f32_to_f16(&lanes!(i => if low[i] > -MAX { low[i] } else { -MAX }))
}
