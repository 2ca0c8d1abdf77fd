//! Blocks of 32 weights with an F16 scale and, in some formats, an F16 minimum.

use simd::{LANES, Lanes, Simd, lanes};

use super::fit::{Fit, Minimum, inverse};
use super::format::{Scales, f16_bits_of_blocks, largest_magnitude};
use super::groups::Groups;
use super::levels::Levels;
use super::linear::Integers;

/// Weights of a block.
pub(super) const WEIGHTS: usize = 32;

/// Weights of a group: a block is a group.
pub(super) const fn group() -> usize {
    WEIGHTS
}

/// Bits of `d` and `m` of sixteen blocks.
pub(super) type Numbers = [Lanes<u16>; 2];

/// The codes of a block.
pub(super) type Codes = [u8; WEIGHTS];

/// A format whose weights are `d·level`, or `d·code + m` if it has minima. A block begins with
/// these numbers in F16.
pub(super) trait Block {
    /// The levels that codes stand for.
    type Levels: Levels;
    /// Bytes of a block.
    const BYTES: usize;
    /// The largest accepted magnitude, slightly below the reach of F16 scales.
    const LARGEST: f32;
    /// Whether the format has minima (`m`).
    const MINIMUM: bool = false;
    /// How products read the blocks; `None` if they decode them.
    const INTEGERS: Option<Integers> = None;

    /// Packs codes into the bytes after `d` and `m`.
    fn pack(codes: &Codes, bytes: &mut [u8]);

    /// Decodes the bytes after `d` and `m`.
    fn unpack<S: Simd>(simd: S, d: f32, m: f32, bytes: &[u8], out: &mut [f32; WEIGHTS]);
}

/// Bytes of `d` and `m` at the start of a block.
const fn numbers<B: Block>() -> usize {
    if B::MINIMUM { 4 } else { 2 }
}

/// Chooses scale and minimum of at most sixteen whole blocks.
#[inline(always)]
pub(super) fn fit<S: Simd, B: Block>(simd: S, x: &[f32], importance: Option<&[f32]>) -> Scales<Numbers> {
    let groups = Groups::<WEIGHTS>::load(x, importance);
    let minimum = if B::MINIMUM { Minimum::Any } else { Minimum::None };
    let fit = Fit::new::<S, B::Levels, WEIGHTS>(simd, &groups, minimum);
    let (d, m) = (scale_to_f16(simd, &fit.scale), to_f16(simd, &lanes!(i => -fit.minimum[i])));
    let (d, m) = not_worse_than_zeros::<S, B>(simd, &groups, d, m);
    let (scale, offset) = (simd.f16_to_f32(&d), simd.f16_to_f32(&m));
    let minimum = lanes!(i => if B::MINIMUM { -offset[i] } else { 0.0 });
    Scales { scale, minimum, numbers: [d, m] }
}

/// Packs whole blocks.
#[inline(always)]
pub(super) fn pack<B: Block>([d, m]: &Numbers, codes: &[u8], blocks: &mut [u8]) {
    let blocks = blocks.chunks_exact_mut(B::BYTES).zip(codes.as_chunks().0);
    for ((block, codes), (d, m)) in blocks.zip(d.iter().zip(m)) {
        let (head, rest) = block.split_at_mut(numbers::<B>());
        head[..2].copy_from_slice(&d.to_le_bytes());
        if B::MINIMUM {
            head[2..].copy_from_slice(&m.to_le_bytes());
        }
        B::pack(codes, rest);
    }
}

/// Sets `d` and `m` to zero in blocks of weights so small that the rounded numbers give a larger
/// error than zeros.
#[inline(always)]
fn not_worse_than_zeros<S: Simd, B: Block>(
    simd: S,
    groups: &Groups<WEIGHTS>,
    mut d: Lanes<u16>,
    mut m: Lanes<u16>,
) -> (Lanes<u16>, Lanes<u16>) {
    /// F16 magnitudes below this are subnormal.
    const NORMAL: u16 = 0x0400;
    let mut tiny = false;
    for bits in d {
        tiny |= bits & 0x7fff < NORMAL;
    }
    if !tiny {
        return (d, m);
    }
    let (scale, offset) = (simd.f16_to_f32(&d), simd.f16_to_f32(&m));
    let by_scale = inverse(&scale);
    let (mut error, mut energy) = ([0.0f32; LANES], [0.0f32; LANES]);
    for (x, w) in groups.x.iter().zip(&groups.importance) {
        let level = B::Levels::nearest(simd, &lanes!(i => (x[i] - offset[i]) * by_scale[i]));
        let off: Lanes<f32> = lanes!(i => x[i] - (level[i] * scale[i] + offset[i]));
        error = lanes!(i => error[i] + w[i] * (off[i] * off[i]));
        energy = lanes!(i => energy[i] + w[i] * (x[i] * x[i]));
    }
    d = lanes!(i => if error[i] > energy[i] { 0 } else { d[i] });
    m = lanes!(i => if error[i] > energy[i] { 0 } else { m[i] });
    (d, m)
}

/// Decodes at most sixteen whole blocks; returns the largest magnitude of `d` and `m` as F16 bits.
#[inline(always)]
pub(super) fn decode<S: Simd, B: Block>(simd: S, blocks: &[u8], out: &mut [f32]) -> u16 {
    let d_bits = f16_bits_of_blocks(blocks, B::BYTES, 0);
    let m_bits = if B::MINIMUM { f16_bits_of_blocks(blocks, B::BYTES, 2) } else { [0; LANES] };
    let (d, m) = (simd.f16_to_f32(&d_bits), simd.f16_to_f32(&m_bits));
    let blocks = blocks.chunks_exact(B::BYTES).zip(out.as_chunks_mut::<WEIGHTS>().0);
    for ((block, out), (d, m)) in blocks.zip(d.into_iter().zip(m)) {
        B::unpack(simd, d, m, &block[numbers::<B>()..], out);
    }
    largest_magnitude(&d_bits).max(largest_magnitude(&m_bits))
}

/// The nearest F16 numbers, clamped to the finite range. Subnormal numbers are rounded away from 0,
/// because a scale of 0 would lose all weights of the block.
#[inline(always)]
pub(super) fn scale_to_f16<S: Simd>(simd: S, x: &Lanes<f32>) -> Lanes<u16> {
    const NORMAL: f32 = 1.0 / 16_384.0;
    const STEP: f32 = NORMAL / 1024.0;
    let up: Lanes<f32> = lanes!(i => ((x[i].abs() / STEP).ceil() * STEP).copysign(x[i]));
    to_f16(simd, &lanes!(i => if x[i].abs() < NORMAL { up[i] } else { x[i] }))
}

/// The nearest F16 numbers, clamped to the finite range.
#[inline(always)]
pub(super) fn to_f16<S: Simd>(simd: S, x: &Lanes<f32>) -> Lanes<u16> {
    const MAX: f32 = half::f16::MAX.to_f32_const();
    let low: Lanes<f32> = lanes!(i => if x[i] < MAX { x[i] } else { MAX });
    simd.f32_to_f16(&lanes!(i => if low[i] > -MAX { low[i] } else { -MAX }))
}
