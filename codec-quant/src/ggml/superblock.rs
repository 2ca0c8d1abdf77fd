//! Super-blocks of 256 weights: groups with small integer scales, multiplied by one or two F16
//! numbers.
#![allow(clippy::needless_range_loop, reason = "lanes read best by index")]

use simd::{LANES, Lanes, Simd, lanes};

use super::block::scale_to_f16;
use super::fit::{Fit, Minimum, inverse, solve};
use super::format::{Scales, largest_magnitude};
use super::groups::Groups;
use super::levels::Levels;
use super::linear::Integers;

/// Weights of a super-block.
pub(super) const WEIGHTS: usize = 256;

/// Weights of a group.
pub(super) const fn group<const G: usize>() -> usize {
    G
}

/// A format of groups of `G` weights; a weight is `(d·scale)·level − dmin·minimum`.
pub(super) trait SuperBlock<const G: usize> {
    /// The levels that codes stand for.
    type Levels: Levels;
    /// Bytes of a super-block.
    const BYTES: usize;
    /// The largest accepted magnitude, slightly below the reach of F16 scales.
    const LARGEST: f32;
    /// The least scale of a group. If it is negative, the scale of largest magnitude is mapped to
    /// it.
    const LEAST_SCALE: f32;
    /// The largest scale of a group.
    const MOST_SCALE: f32;
    /// The largest minimum of a group; 0 if there are no minima.
    const MOST_MINIMUM: f32 = 0.0;
    /// How products read the blocks; `None` if they decode them.
    const INTEGERS: Option<Integers> = None;

    /// Packs a super-block.
    fn pack(coded: &Coded<'_>, block: &mut [u8]);

    /// Decodes a super-block; returns the bits of `d` and `dmin`.
    fn unpack<S: Simd>(simd: S, block: &[u8], out: &mut [f32; WEIGHTS]) -> [u16; 2];
}

/// An encoded super-block.
pub(super) struct Coded<'a> {
    /// Bits of the scale of scales.
    pub(super) d: u16,
    /// Bits of the scale of minima.
    pub(super) dmin: u16,
    /// Integer scale of each group.
    pub(super) scales: &'a [f32],
    /// Integer minimum of each group.
    pub(super) minima: &'a [f32],
    pub(super) codes: &'a [u8; WEIGHTS],
}

/// Decodes whole super-blocks; returns the largest magnitude of `d` and `dmin` as F16 bits.
#[inline(always)]
pub(super) fn decode<S: Simd, F: SuperBlock<G>, const G: usize>(simd: S, blocks: &[u8], out: &mut [f32]) -> u16 {
    let mut largest = 0;
    for (block, out) in blocks.chunks_exact(F::BYTES).zip(out.as_chunks_mut().0) {
        largest = largest_magnitude(&F::unpack(simd, block, out)).max(largest);
    }
    largest
}

/// Rounds of refitting `d` and `dmin`, and then scales, minima and codes.
const ROUNDS: usize = 2;

/// Chooses the scales and minima of sixteen groups of `G` weights: one super-block or two.
#[inline(always)]
pub(super) fn fit<S: Simd, F: SuperBlock<G>, const G: usize>(
    simd: S,
    x: &[f32],
    importance: Option<&[f32]>,
) -> Scales<Numbers> {
    let groups = Groups::<G>::load(x, importance);
    let (mut scaling, integers) = initial::<S, F, G>(simd, &groups);
    let mut integers = integers.improved::<S, F, G>(simd, &groups, &scaling);
    for _ in 0..ROUNDS {
        let refitted = scaling.refitted::<S, F, G>(simd, &groups, &integers);
        let next = integers.improved::<S, F, G>(simd, &groups, &refitted);
        let (error, next_error) = (per_block::<G>(&integers.error, add), per_block::<G>(&next.error, add));
        for i in 0..LANES {
            if next_error[i] < error[i] {
                integers.set(i, &next);
                scaling.set(i, &refitted);
            }
        }
    }
    let [scale, minimum] = scaling.of(&integers);
    Scales { scale, minimum, numbers: Numbers { scaling, integers } }
}

/// Starting values: each group gets about the scale and minimum that fit it best.
#[inline(always)]
fn initial<S: Simd, F: SuperBlock<G>, const G: usize>(simd: S, groups: &Groups<G>) -> (Scaling, GroupIntegers) {
    let minimum = if F::MOST_MINIMUM > 0.0 { Minimum::Positive } else { Minimum::None };
    let fit = Fit::new::<S, F::Levels, G>(simd, groups, minimum);
    let extreme = if F::LEAST_SCALE < 0.0 { F::LEAST_SCALE } else { F::MOST_SCALE };
    let (d, dmin) = (per_block::<G>(&fit.scale, peak), per_block::<G>(&fit.minimum, peak));
    // Without minima, `dmin` stays 0.
    let most_minimum = F::MOST_MINIMUM.max(1.0);
    let scaling = Scaling::round(simd, lanes!(i => d[i] / extreme), lanes!(i => dmin[i] / most_minimum));
    let (by_d, by_dmin) = (inverse(&scaling.d), inverse(&scaling.dmin));
    let integers = GroupIntegers {
        scales: lanes!(i => (fit.scale[i] * by_d[i]).round_ties_even()),
        minima: lanes!(i => (fit.minimum[i] * by_dmin[i]).round_ties_even()),
        error: [f32::INFINITY; LANES],
    };
    (scaling, integers)
}

/// Packs whole super-blocks.
#[inline(always)]
pub(super) fn pack<F: SuperBlock<G>, const G: usize>(numbers: &Numbers, codes: &[u8], blocks: &mut [u8]) {
    let Numbers { scaling, integers } = numbers;
    for (i, (block, codes)) in blocks.chunks_exact_mut(F::BYTES).zip(codes.as_chunks().0).enumerate() {
        let lanes = i * WEIGHTS / G..(i + 1) * WEIGHTS / G;
        let coded = Coded {
            d: scaling.d_bits[lanes.start],
            dmin: scaling.dmin_bits[lanes.start],
            scales: &integers.scales[lanes.clone()],
            minima: &integers.minima[lanes],
            codes,
        };
        F::pack(&coded, block);
    }
}

/// The numbers of sixteen groups.
pub(super) struct Numbers {
    scaling: Scaling,
    integers: GroupIntegers,
}

/// `d` and `dmin` of super-blocks, as F16 bits and as values.
struct Scaling {
    d_bits: Lanes<u16>,
    dmin_bits: Lanes<u16>,
    d: Lanes<f32>,
    dmin: Lanes<f32>,
}

impl Scaling {
    #[inline(always)]
    fn round<S: Simd>(simd: S, d: Lanes<f32>, dmin: Lanes<f32>) -> Self {
        let (d_bits, dmin_bits) = (scale_to_f16(simd, &d), scale_to_f16(simd, &dmin));
        Self { d_bits, dmin_bits, d: simd.f16_to_f32(&d_bits), dmin: simd.f16_to_f32(&dmin_bits) }
    }

    /// Scale and minimum of each group, as a decoder computes them.
    #[inline(always)]
    fn of(&self, integers: &GroupIntegers) -> [Lanes<f32>; 2] {
        [lanes!(i => self.d[i] * integers.scales[i]), lanes!(i => self.dmin[i] * integers.minima[i])]
    }

    /// Least-squares `d` and `dmin` for the codes that these integers give.
    #[inline(always)]
    fn refitted<S: Simd, F: SuperBlock<G>, const G: usize>(
        &self,
        simd: S,
        groups: &Groups<G>,
        integers: &GroupIntegers,
    ) -> Self {
        let [scale, minimum] = self.of(integers);
        let by_scale = inverse(&scale);
        // x ≈ d·a + dmin·b with a = scale·level and b = −minimum, from the integers.
        let b: Lanes<f32> = lanes!(i => -integers.minima[i]);
        let [mut xa, mut xb, mut aa, mut ab, mut bb] = [[0.0f32; LANES]; 5];
        for g in 0..G {
            let (x, w) = (&groups.x[g], &groups.importance[g]);
            let level = F::Levels::nearest(simd, &lanes!(i => (x[i] + minimum[i]) * by_scale[i]));
            let a: Lanes<f32> = lanes!(i => integers.scales[i] * level[i]);
            let (wa, wb): (Lanes<f32>, Lanes<f32>) = (lanes!(i => w[i] * a[i]), lanes!(i => w[i] * b[i]));
            xa = lanes!(i => xa[i] + wa[i] * x[i]);
            xb = lanes!(i => xb[i] + wb[i] * x[i]);
            aa = lanes!(i => aa[i] + wa[i] * a[i]);
            ab = lanes!(i => ab[i] + wa[i] * b[i]);
            bb = lanes!(i => bb[i] + wb[i] * b[i]);
        }
        let [xa, xb, aa, ab, bb] = [xa, xb, aa, ab, bb].map(|sums| per_block::<G>(&sums, add));
        let (mut d, mut dmin) = (self.d, self.dmin);
        for i in 0..LANES {
            if let Some(both) = solve(aa[i], ab[i], bb[i], xa[i], xb[i]) {
                [d[i], dmin[i]] = both;
            } else if aa[i] > 0.0 {
                d[i] = (xa[i] - dmin[i] * ab[i]) / aa[i];
            } else if bb[i] > 0.0 {
                dmin[i] = xb[i] / bb[i];
            }
        }
        Self::round(simd, d, dmin)
    }

    #[inline(always)]
    fn set(&mut self, i: usize, other: &Self) {
        (self.d_bits[i], self.dmin_bits[i]) = (other.d_bits[i], other.dmin_bits[i]);
        (self.d[i], self.dmin[i]) = (other.d[i], other.dmin[i]);
    }
}

/// Integer scales and minima of groups, and their squared error.
struct GroupIntegers {
    scales: Lanes<f32>,
    minima: Lanes<f32>,
    error: Lanes<f32>,
}

impl GroupIntegers {
    /// The best of these integers and their neighbours.
    #[inline(always)]
    fn improved<S: Simd, F: SuperBlock<G>, const G: usize>(
        &self,
        simd: S,
        groups: &Groups<G>,
        scaling: &Scaling,
    ) -> Self {
        const STEPS: [f32; 3] = [0.0, -1.0, 1.0];
        let mut best = Self { scales: self.scales, minima: self.minima, error: [f32::INFINITY; LANES] };
        for step in STEPS {
            for minimum_step in if F::MOST_MINIMUM > 0.0 { &STEPS[..] } else { &STEPS[..1] } {
                let mut tried = Self {
                    scales: lanes!(i => (self.scales[i] + step).clamp(F::LEAST_SCALE, F::MOST_SCALE)),
                    minima: lanes!(i => (self.minima[i] + minimum_step).clamp(0.0, F::MOST_MINIMUM)),
                    error: [0.0; LANES],
                };
                tried.error = tried.error_of::<S, F, G>(simd, groups, scaling);
                for i in 0..LANES {
                    if tried.error[i] < best.error[i] {
                        best.set(i, &tried);
                    }
                }
            }
        }
        best
    }

    #[inline(always)]
    fn error_of<S: Simd, F: SuperBlock<G>, const G: usize>(
        &self,
        simd: S,
        groups: &Groups<G>,
        scaling: &Scaling,
    ) -> Lanes<f32> {
        let [scale, minimum] = scaling.of(self);
        let by_scale = inverse(&scale);
        let mut error = [0.0f32; LANES];
        for g in 0..G {
            let (x, w) = (&groups.x[g], &groups.importance[g]);
            let shifted: Lanes<f32> = lanes!(i => x[i] + minimum[i]);
            let level = F::Levels::nearest(simd, &lanes!(i => shifted[i] * by_scale[i]));
            let off: Lanes<f32> = lanes!(i => shifted[i] - scale[i] * level[i]);
            error = lanes!(i => error[i] + w[i] * (off[i] * off[i]));
        }
        error
    }

    #[inline(always)]
    fn set(&mut self, i: usize, other: &Self) {
        (self.scales[i], self.minima[i], self.error[i]) = (other.scales[i], other.minima[i], other.error[i]);
    }
}

/// Folds the lanes of each super-block and writes the result to all of them.
#[inline(always)]
fn per_block<const G: usize>(lanes: &Lanes<f32>, fold: impl Fn(f32, f32) -> f32) -> Lanes<f32> {
    let mut out = [0.0; LANES];
    for (out, lanes) in out.chunks_mut(WEIGHTS / G).zip(lanes.chunks(WEIGHTS / G)) {
        let mut folded = lanes[0];
        for lane in &lanes[1..] {
            folded = fold(folded, *lane);
        }
        out.fill(folded);
    }
    out
}

/// The number of larger magnitude.
#[inline(always)]
fn peak(a: f32, b: f32) -> f32 {
    if b.abs() > a.abs() { b } else { a }
}

#[inline(always)]
fn add(a: f32, b: f32) -> f32 {
    a + b
}
