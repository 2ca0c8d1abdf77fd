//! Products of tiles of codes with a batch of inputs.
//!
//! Each tile is unpacked once: to 16-bit differences of codes and zero points, and to scales in
//! f32. All vectors of the batch then use it.
#![allow(clippy::needless_range_loop, reason = "tiles and vectors read best by index")]

use std::ops::Range;

use simd::{LANES, Simd, lanes};

use super::inputs::{BLOCK, Group, IntegerInputs, TOGETHER};
use super::kernel::{Floats, Ints, Outputs, Tiles, Zeros, codes_of, some_tiles};
use super::lines::Line;

/// Pairs of inputs of a block.
const PAIRS_OF_BLOCK: usize = BLOCK / 2;
/// The sign bits of two 16-bit integers.
const SIGNS: u32 = 0x8000_8000;

/// Some tiles, unpacked.
struct Panel<const TILES: usize> {
    /// `code − zero` of two inputs each, the first one in the low half.
    pairs: Vec<[Line; TILES]>,
    /// Of each group.
    scales: Vec<[Floats; TILES]>,
    /// Of each group; empty if there are none.
    minima: Vec<[Floats; TILES]>,
}

/// The products of tiles with all vectors, `TILES` and `BATCH` at a time.
#[inline(always)]
pub(super) fn with_batch<
    S: Simd,
    const BITS: usize,
    const LINES: usize,
    const PAIRS: usize,
    const TILES: usize,
    const BATCH: usize,
>(
    simd: S,
    tiles: &Tiles<'_>,
    range: Range<usize>,
    x: &IntegerInputs,
    out: &mut Outputs<'_>,
) {
    let mut panel = Panel::new(tiles);
    for first in range.clone().step_by(TILES) {
        let numbers = some_tiles::<TILES>(first, &range);
        panel.unpack::<S, BITS, LINES, PAIRS>(simd, tiles, numbers);
        for vector in (0..x.batch()).step_by(BATCH) {
            let values = panel.product::<S, BATCH>(simd, tiles, &x.group(vector));
            for (values, tile) in values.iter().zip(first..range.end) {
                out.put_batch(tile, vector, values);
            }
        }
    }
}

impl<const TILES: usize> Panel<TILES> {
    fn new(tiles: &Tiles<'_>) -> Self {
        let groups = tiles.inputs.div_ceil(tiles.group);
        let floats = |len| vec![[[0.0; LANES]; TILES]; len];
        let minima = floats(if tiles.minima.is_some() { groups } else { 0 });
        Self { pairs: vec![[Line([0; LANES]); TILES]; tiles.inputs / 2], scales: floats(groups), minima }
    }

    #[inline(always)]
    fn unpack<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize>(
        &mut self,
        simd: S,
        tiles: &Tiles<'_>,
        numbers: [usize; TILES],
    ) {
        for t in 0..TILES {
            let lines = tiles.lines::<BITS>(numbers[t], 0..tiles.inputs).as_chunks::<LINES>().0;
            let pairs = self.pairs.chunks_mut(tiles.group / 2);
            for (group, (lines, pairs)) in lines.chunks(tiles.group / 2 / PAIRS).zip(pairs).enumerate() {
                let zeros = tiles.zeros_of_lanes(numbers[t], group);
                for (line, pairs) in lines.iter().zip(pairs.chunks_exact_mut(PAIRS)) {
                    for (j, pair) in pairs.iter_mut().enumerate() {
                        pair[t].0 = minus(&codes_of::<S, BITS, LINES>(simd, line, j), &zeros);
                    }
                }
            }
            if let Zeros::OfInputs(zeros) = tiles.zeros {
                for (pair, zeros) in self.pairs.iter_mut().zip(zeros.chunks(2)) {
                    let second = zeros.get(1).copied().unwrap_or_default();
                    pair[t].0 = minus(&pair[t].0, &[u32::from(zeros[0]) | u32::from(second) << 16; LANES]);
                }
            }
            for (group, scales) in self.scales.iter_mut().enumerate() {
                scales[t] = tiles.scale(simd, numbers[t], group * tiles.group);
            }
            if let Some(minima) = &tiles.minima {
                for (group, minimum) in self.minima.iter_mut().enumerate() {
                    minimum[t] = minima.get(simd, numbers[t], group);
                }
            }
        }
    }

    /// The products with the first vectors of a group.
    #[inline(always)]
    fn product<S: Simd, const BATCH: usize>(
        &self,
        simd: S,
        tiles: &Tiles<'_>,
        x: &Group<'_>,
    ) -> [[Floats; BATCH]; TILES] {
        // A scale of the inputs holds for some groups, or one of a group for some blocks of inputs.
        let small = tiles.group < BLOCK;
        let (inner, outer) = (tiles.group.min(BLOCK) / 2, tiles.group.max(BLOCK) / 2);
        let pairs_of_x = x.pairs.as_chunks::<PAIRS_OF_BLOCK>().0.chunks(TOGETHER);
        let mut blocks = pairs_of_x.zip(x.scales.chunks(TOGETHER)).filter_map(|(pairs, scales)| {
            // There are always as many: a panic here would cost registers.
            Some((pairs.first_chunk::<BATCH>()?, scales.first_chunk::<BATCH>()?))
        });
        let mut y = [[[0.0; LANES]; BATCH]; TILES];
        let (mut block, mut group) = (0, 0);
        for pairs in self.pairs.chunks(outer) {
            let mut part = [[[0.0; LANES]; BATCH]; TILES];
            let mut last = [0.0; BATCH];
            for pairs in pairs.chunks(PAIRS_OF_BLOCK) {
                let Some((x_pairs, x_scales)) = blocks.next() else { return y };
                last = *x_scales;
                for (number, pairs) in pairs.chunks(inner).enumerate() {
                    let dots = dots::<S, TILES, BATCH>(simd, pairs, x_pairs, number * inner);
                    if let Some(minima) = self.minima.get(group) {
                        for b in 0..BATCH {
                            let sum = x.sum(block + b, number * inner * 2, pairs.len() * 2) as f32;
                            for t in 0..TILES {
                                part[t][b] = simd.subtract_product(&part[t][b], &minima[t], &[sum; LANES]);
                            }
                        }
                    }
                    for t in 0..TILES {
                        for b in 0..BATCH {
                            let d = simd.i32_to_f32(&dots[t][b]);
                            let scale = if small { self.scales[group][t] } else { [x_scales[b]; LANES] };
                            part[t][b] = simd.add_product(&part[t][b], &d, &scale);
                        }
                    }
                    group += usize::from(small);
                }
                block += TOGETHER;
            }
            for t in 0..TILES {
                for b in 0..BATCH {
                    let scale = if small { [last[b]; LANES] } else { self.scales[group][t] };
                    y[t][b] = simd.add_product(&y[t][b], &part[t][b], &scale);
                }
            }
            group += usize::from(!small);
        }
        for y in y.as_flattened_mut() {
            *y = lanes!(i => y[i] * tiles.factor);
        }
        y
    }
}

/// Differences of 16-bit integers, of which the second ones are at most 255.
#[inline(always)]
fn minus(codes: &[u32; LANES], zeros: &[u32; LANES]) -> [u32; LANES] {
    // The sign bits keep a borrow within its half.
    lanes!(i => (codes[i] | SIGNS).wrapping_sub(zeros[i]) ^ SIGNS)
}

/// Sums of pairs of codes times pairs of inputs, from number `from` of a block on.
#[inline(always)]
fn dots<S: Simd, const TILES: usize, const BATCH: usize>(
    simd: S,
    pairs: &[[Line; TILES]],
    x: &[[u32; PAIRS_OF_BLOCK]; BATCH],
    from: usize,
) -> [[Ints; BATCH]; TILES] {
    let mut sums = [[[0; LANES]; BATCH]; TILES];
    for (codes, number) in pairs.iter().zip(from..) {
        sums = add_pair(simd, sums, codes, x, number % PAIRS_OF_BLOCK);
    }
    sums
}

/// Passing the sums by value keeps them in registers.
#[inline(always)]
fn add_pair<S: Simd, const TILES: usize, const BATCH: usize>(
    simd: S,
    sums: [[Ints; BATCH]; TILES],
    codes: &[Line; TILES],
    x: &[[u32; PAIRS_OF_BLOCK]; BATCH],
    number: usize,
) -> [[Ints; BATCH]; TILES] {
    let mut next = sums;
    for b in 0..BATCH {
        for t in 0..TILES {
            next[t][b] = simd.add_pairs(&next[t][b], &codes[t].0, x[b][number]);
        }
    }
    next
}
