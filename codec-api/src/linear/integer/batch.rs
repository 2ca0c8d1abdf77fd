//! Products of tiles of codes with a batch of inputs.
//!
//! Each tile is unpacked once: to 16-bit differences of codes and zero points, and to scales in
//! f32. All vectors of the batch then use it.
#![allow(clippy::needless_range_loop, reason = "tiles and vectors read best by index")]

use std::ops::Range;

use simd::{LANES, Simd, lanes};

use super::inputs::{BLOCK, Group, IntegerInputs, TOGETHER};
use super::kernel::{Floats, Ints, Outputs, Tiles, codes_of, some_tiles};

/// Pairs of inputs of a step of the innermost loop.
const STEP: usize = 4;
/// From a vector to the next one in a block of inputs.
const STRIDE: usize = BLOCK / 2;
/// The sign bits of two 16-bit integers.
const SIGNS: u32 = 0x8000_8000;

/// Some tiles, unpacked.
struct Panel<const TILES: usize> {
    /// `code − zero` of two inputs each, the first one in the low half.
    pairs: Vec<[[u32; LANES]; TILES]>,
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
                for (values, b) in values.iter().zip(vector..x.batch()) {
                    out.put(tile, b, values);
                }
            }
        }
    }
}

impl<const TILES: usize> Panel<TILES> {
    fn new(tiles: &Tiles<'_>) -> Self {
        let groups = tiles.inputs.div_ceil(tiles.group);
        let floats = |len| vec![[[0.0; LANES]; TILES]; len];
        let minima = floats(if tiles.minima.is_some() { groups } else { 0 });
        Self { pairs: vec![[[0; LANES]; TILES]; tiles.inputs / 2], scales: floats(groups), minima }
    }

    #[inline(always)]
    fn unpack<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize>(
        &mut self,
        simd: S,
        tiles: &Tiles<'_>,
        numbers: [usize; TILES],
    ) {
        for t in 0..TILES {
            let lines = tiles.lines::<BITS>(numbers[t], 0..tiles.inputs).0.as_chunks::<LINES>().0;
            for (step, (line, pairs)) in lines.iter().zip(self.pairs.chunks_exact_mut(PAIRS)).enumerate() {
                for (j, pair) in pairs.iter_mut().enumerate() {
                    let codes = codes_of::<S, BITS, LINES>(simd, line, j);
                    let zeros = tiles.zeros_of_pair(numbers[t], step * PAIRS + j);
                    // No borrow leaves a half, whose sign bit is set before.
                    pair[t] = lanes!(i => (codes[i] | SIGNS).wrapping_sub(zeros[i]) ^ SIGNS);
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
        let (inner, outer) = (tiles.group.min(BLOCK), tiles.group.max(BLOCK));
        let mut y = [[[0.0; LANES]; BATCH]; TILES];
        for start in (0..tiles.inputs).step_by(outer) {
            let end = (start + outer).min(tiles.inputs);
            let mut part = [[[0.0; LANES]; BATCH]; TILES];
            for at in (start..end).step_by(inner) {
                let stop = (at + inner).min(end);
                let (block, within) = (at / BLOCK * TOGETHER, at % BLOCK);
                let dots = dots::<S, TILES, BATCH>(
                    simd,
                    &self.pairs[at / 2..stop / 2],
                    &x.pairs[block * STRIDE + within / 2..],
                );
                let (scales, group) = (&x.scales[block..][..BATCH], at / tiles.group);
                for t in 0..TILES {
                    if let Some(minimum) = self.minima.get(group) {
                        for b in 0..BATCH {
                            let sum = x.sum(block + b, within, stop - at);
                            part[t][b] = simd.subtract_product(&part[t][b], &minimum[t], &[sum as f32; LANES]);
                        }
                    }
                    for b in 0..BATCH {
                        let d = simd.i32_to_f32(&dots[t][b]);
                        let scale = if small { self.scales[group][t] } else { [scales[b]; LANES] };
                        part[t][b] = simd.add_product(&part[t][b], &d, &scale);
                    }
                }
            }
            let scales = &x.scales[start / BLOCK * TOGETHER..][..BATCH];
            for t in 0..TILES {
                for b in 0..BATCH {
                    let scale = if small { [scales[b]; LANES] } else { self.scales[start / tiles.group][t] };
                    y[t][b] = simd.add_product(&y[t][b], &part[t][b], &scale);
                }
            }
        }
        for y in y.as_flattened_mut() {
            *y = lanes!(i => y[i] * tiles.factor);
        }
        y
    }
}

/// Sums of pairs of codes times pairs of inputs.
#[inline(always)]
fn dots<S: Simd, const TILES: usize, const BATCH: usize>(
    simd: S,
    pairs: &[[[u32; LANES]; TILES]],
    x: &[u32],
) -> [[Ints; BATCH]; TILES] {
    let mut sums = [[[0; LANES]; BATCH]; TILES];
    for (i, codes) in pairs.as_chunks::<STEP>().0.iter().enumerate() {
        let mut step = [&[0; STEP]; BATCH];
        for b in 0..BATCH {
            // There is always a step: a panic here would cost registers.
            match x.get(b * STRIDE + i * STEP..).and_then(|x| x.first_chunk()) {
                Some(pairs) => step[b] = pairs,
                None => return sums,
            }
        }
        sums = add_step(simd, sums, codes, step);
    }
    sums
}

/// Passing the sums by value keeps them in registers.
#[inline(always)]
fn add_step<S: Simd, const TILES: usize, const BATCH: usize>(
    simd: S,
    sums: [[Ints; BATCH]; TILES],
    codes: &[[[u32; LANES]; TILES]; STEP],
    x: [&[u32; STEP]; BATCH],
) -> [[Ints; BATCH]; TILES] {
    let mut next = sums;
    for j in 0..STEP {
        for b in 0..BATCH {
            for t in 0..TILES {
                next[t][b] = simd.add_pairs(&next[t][b], &codes[j][t], x[b][j]);
            }
        }
    }
    next
}
