//! Blocks of 32 weights with an F16 scale and, in some formats, an F16 minimum.

use simd::{LANES, Lanes, Simd, lanes};

use super::fit::{Fit, Minimum, inverse, peak, range};
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
    /// Whether ggml's own encoder refits the scale that maps the largest magnitude to an end.
    const REFITTED: bool = false;
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
    let [d, m] = rounded::<S, B>(simd, &groups, &fit);
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

/// The numbers with the least squared error after their rounding to F16: those of the fit, or those
/// of ggml's own encoder (`quantize_row_*_ref`). Blocks of one magnitude also try it as the scale:
/// then they are exact if F16 holds it. Subnormal scales, which rounding changes much, also try the
/// number below, the least of either sign, and zeros.
#[inline(always)]
fn rounded<S: Simd, B: Block>(simd: S, groups: &Groups<WEIGHTS>, fit: &Fit) -> Numbers {
    /// F16 magnitudes below this are subnormal.
    const NORMAL: u16 = 0x0400;
    const SIGN: u16 = 0x8000;
    let zeros = [0; LANES];
    let (d, m) = (scale_to_f16(simd, &fit.scale), to_f16(simd, &lanes!(i => -fit.minimum[i])));
    let below = lanes!(i => if d[i] & !SIGN == 0 { d[i] } else { d[i] - 1 });
    let (reference, by_magnitude, one_magnitude) = if B::MINIMUM {
        let [low, high] = range(&groups.x);
        let d = lanes!(i => (high[i] - low[i]) / B::Levels::HIGHEST);
        ([to_f16(simd, &d), to_f16(simd, &low)], [zeros, m], false)
    } else {
        let peak = peak(&groups.x);
        let by_peak = lanes!(i => peak[i] / B::Levels::LOWEST);
        let reference = to_f16(simd, &if B::REFITTED { refitted::<S, B>(simd, groups, &by_peak) } else { by_peak });
        let power = if B::Levels::HIGHEST > 64.0 { 64.0 } else { 4.0 };
        let magnitude = lanes!(i => if peak[i].abs() > F16_MAX { peak[i] / power } else { peak[i] });
        ([reference, zeros], [to_f16(simd, &magnitude), zeros], groups.any_of_one_magnitude(&peak))
    };
    let candidates = [[d, m], reference, by_magnitude, [below, m], [[1; LANES], m], [[1 | SIGN; LANES], m], [zeros; 2]];
    let subnormal = d.iter().any(|bits| (1..NORMAL).contains(&(bits & !SIGN)));
    let count = if subnormal { candidates.len() } else { 2 + usize::from(one_magnitude) };
    let (mut best, mut least) = ([zeros; 2], [f32::INFINITY; LANES]);
    for [d, m] in &candidates[..count] {
        let error = error::<S, B>(simd, groups, d, m);
        for i in 0..LANES {
            if error[i] < least[i] {
                (best[0][i], best[1][i], least[i]) = (d[i], m[i], error[i]);
            }
        }
    }
    best
}

/// The scale of ggml's `quantize_row_iq4_nl_ref`: least squares weighted by the squares of the
/// weights, for the codes that `scale` gives.
#[inline(always)]
fn refitted<S: Simd, B: Block>(simd: S, groups: &Groups<WEIGHTS>, scale: &Lanes<f32>) -> Lanes<f32> {
    let by_scale = inverse(scale);
    let [mut xl, mut ll] = [[0.0f32; LANES]; 2];
    for x in &groups.x {
        let level = B::Levels::nearest(simd, &lanes!(i => x[i] * by_scale[i]));
        let product = lanes!(i => x[i] * level[i]);
        xl = lanes!(i => xl[i] + x[i] * x[i] * product[i]);
        ll = lanes!(i => ll[i] + product[i] * product[i]);
    }
    lanes!(i => if ll[i] > 0.0 { xl[i] / ll[i] } else { 0.0 })
}

/// The squared error of each block with the nearest codes for these numbers.
#[inline(always)]
fn error<S: Simd, B: Block>(simd: S, groups: &Groups<WEIGHTS>, d: &Lanes<u16>, m: &Lanes<u16>) -> Lanes<f32> {
    let (scale, offset) = (simd.f16_to_f32(d), simd.f16_to_f32(m));
    let by_scale = inverse(&scale);
    let mut error = [0.0f32; LANES];
    for (x, w) in groups.x.iter().zip(&groups.importance) {
        let x = if B::MINIMUM { lanes!(i => x[i] - offset[i]) } else { *x };
        let level = B::Levels::nearest(simd, &lanes!(i => x[i] * by_scale[i]));
        let off: Lanes<f32> = lanes!(i => x[i] - level[i] * scale[i]);
        error = lanes!(i => error[i] + w[i] * (off[i] * off[i]));
    }
    error
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

const F16_MAX: f32 = half::f16::MAX.to_f32_const();

/// The nearest F16 numbers, clamped to the finite range.
#[inline(always)]
pub(super) fn to_f16<S: Simd>(simd: S, x: &Lanes<f32>) -> Lanes<u16> {
    let low: Lanes<f32> = lanes!(i => if x[i] < F16_MAX { x[i] } else { F16_MAX });
    simd.f32_to_f16(&lanes!(i => if low[i] > -F16_MAX { low[i] } else { -F16_MAX }))
}
