//! Products of tiles of codes with a batch of inputs.
//!
//! Each tile is unpacked once, some hundred inputs at a time: to 16-bit differences of codes and
//! zero points, which all vectors of the batch then find in the first-level cache.
#![allow(clippy::needless_range_loop, reason = "tiles and vectors read best by index")]

use std::ops::Range;

use simd::{LANES, Simd, lanes, prefetch_behind};

use super::inputs::{BLOCK, Group, IntegerInputs, TOGETHER};
use super::kernel::{Floats, Ints, Outputs, Tiles, Zeros, codes_of, some_tiles};
use super::lines::Line;

/// Inputs that are unpacked together; a multiple of [`BLOCK`].
const SPAN: usize = 256;
/// Pairs of inputs of a block.
const PAIRS_OF_BLOCK: usize = BLOCK / 2;
/// The sign bits of two 16-bit integers.
const SIGNS: u32 = 0x8000_8000;

/// Some tiles, unpacked.
struct Panel<const TILES: usize> {
    /// `code − zero` of two inputs each, the first one in the low half; of a span of inputs.
    pairs: Vec<[Line; TILES]>,
    /// Of each group.
    scales: Vec<[Floats; TILES]>,
    /// Of each group; empty if there are none.
    minima: Vec<[Floats; TILES]>,
}

/// The products of tiles with some vectors, as far as the inputs are done.
#[derive(Clone, Copy)]
struct Sums<const TILES: usize, const BATCH: usize> {
    y: [[Floats; BATCH]; TILES],
    /// Of a group that has begun, without its scale.
    part: [[Floats; BATCH]; TILES],
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
    let mut panel = Panel::<TILES>::new(tiles);
    let zero = [[[0.0; LANES]; BATCH]; TILES];
    let mut sums = vec![Sums { y: zero, part: zero }; x.batch().div_ceil(BATCH)];
    for first in range.clone().step_by(TILES) {
        let numbers = some_tiles::<TILES>(first, &range);
        panel.set_scales(simd, tiles, numbers);
        sums.fill(Sums { y: zero, part: zero });
        for start in (0..tiles.inputs).step_by(SPAN) {
            let span = start..(start + SPAN).min(tiles.inputs);
            panel.unpack::<S, BITS, LINES, PAIRS>(simd, tiles, numbers, &span);
            let next = if span.end < tiles.inputs { numbers } else { numbers.map(|tile| tile + TILES) };
            let lines = next.map(|tile| tiles.some_lines::<BITS>(tile, span.end % tiles.inputs, SPAN));
            let part = lines[0].len().div_ceil(sums.len()).max(1);
            for (i, sums) in sums.iter_mut().enumerate() {
                // While it multiplies, the CPU has time to fetch the lines that it unpacks next.
                for lines in lines {
                    lines.iter().skip(i * part).take(part).for_each(|line| prefetch_behind(line, 0));
                }
                panel.add_products(simd, tiles, &span, &x.group(i * BATCH), sums);
            }
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            for (y, tile) in sums.y.iter_mut().zip(first..range.end) {
                if tiles.factor != 1.0 {
                    for y in y.iter_mut() {
                        *y = simd.add_product(&[0.0; LANES], y, &[tiles.factor; LANES]);
                    }
                }
                out.put_batch(tile, i * BATCH, y);
            }
        }
    }
}

impl<const TILES: usize> Panel<TILES> {
    fn new(tiles: &Tiles<'_>) -> Self {
        let groups = tiles.inputs.div_ceil(tiles.group);
        let floats = |len| vec![[[0.0; LANES]; TILES]; len];
        let minima = floats(if tiles.minima.is_some() { groups } else { 0 });
        let pairs = vec![[Line([0; LANES]); TILES]; tiles.inputs.min(SPAN) / 2];
        Self { pairs, scales: floats(groups), minima }
    }

    #[inline(always)]
    fn set_scales<S: Simd>(&mut self, simd: S, tiles: &Tiles<'_>, numbers: [usize; TILES]) {
        for t in 0..TILES {
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

    #[inline(always)]
    fn unpack<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize>(
        &mut self,
        simd: S,
        tiles: &Tiles<'_>,
        numbers: [usize; TILES],
        span: &Range<usize>,
    ) {
        // Groups of more inputs are a multiple of a block.
        let group = tiles.group.min(BLOCK);
        for t in 0..TILES {
            let lines = tiles.lines::<BITS>(numbers[t], span.clone()).as_chunks::<LINES>().0;
            let pairs = self.pairs.chunks_mut(group / 2);
            for (i, (lines, pairs)) in lines.chunks(group / 2 / PAIRS).zip(pairs).enumerate() {
                let zeros = tiles.zeros_of_lanes(numbers[t], span.start + i * group);
                for (line, pairs) in lines.iter().zip(pairs.chunks_exact_mut(PAIRS)) {
                    for (j, pair) in pairs.iter_mut().enumerate() {
                        pair[t].0 = minus(&codes_of::<S, BITS, LINES>(simd, line, j), &zeros);
                    }
                }
            }
            if let Zeros::OfInputs(zeros) = tiles.zeros {
                let zeros = zeros.get(span.start..).unwrap_or_default();
                for (pair, zeros) in self.pairs.iter_mut().zip(zeros.chunks(2)) {
                    let second = zeros.get(1).copied().unwrap_or_default();
                    pair[t].0 = minus(&pair[t].0, &[u32::from(zeros[0]) | u32::from(second) << 16; LANES]);
                }
            }
        }
    }

    /// Adds the products of a span with the first vectors of a group.
    #[inline(always)]
    fn add_products<S: Simd, const BATCH: usize>(
        &self,
        simd: S,
        tiles: &Tiles<'_>,
        span: &Range<usize>,
        x: &Group<'_>,
        sums: &mut Sums<TILES, BATCH>,
    ) {
        let pairs_of_x = x.pairs.as_chunks::<PAIRS_OF_BLOCK>().0.chunks(TOGETHER);
        let blocks = pairs_of_x.zip(x.scales.chunks(TOGETHER)).skip(span.start / BLOCK);
        let pairs = self.pairs[..span.len() / 2].chunks(PAIRS_OF_BLOCK);
        for ((pairs, (x_pairs, x_scales)), input) in pairs.zip(blocks).zip(span.clone().step_by(BLOCK)) {
            // There are always as many: a panic here would cost registers.
            let (Some(x_pairs), Some(x_scales)) = (x_pairs.first_chunk(), x_scales.first_chunk()) else { return };
            if tiles.group < BLOCK {
                self.add_groups(simd, (input, tiles.group), pairs, (x, x_pairs, x_scales), &mut sums.y);
                continue;
            }
            let dots = dots::<S, TILES, BATCH>(simd, pairs, x_pairs, 0);
            for t in 0..TILES {
                for b in 0..BATCH {
                    let d = simd.i32_to_f32(&dots[t][b]);
                    sums.part[t][b] = simd.add_product(&sums.part[t][b], &d, &[x_scales[b]; LANES]);
                }
            }
            let end = input + pairs.len() * 2;
            if end % tiles.group == 0 || end == tiles.inputs {
                let scales = &self.scales[input / tiles.group];
                for t in 0..TILES {
                    for b in 0..BATCH {
                        sums.y[t][b] = simd.add_product(&sums.y[t][b], &sums.part[t][b], &scales[t]);
                        sums.part[t][b] = [0.0; LANES];
                    }
                }
            }
        }
    }

    /// Adds the products of a block of inputs that has several groups.
    #[inline(always)]
    fn add_groups<S: Simd, const BATCH: usize>(
        &self,
        simd: S,
        (input, width): (usize, usize),
        pairs: &[[Line; TILES]],
        (x, x_pairs, x_scales): (&Group<'_>, &[[u32; PAIRS_OF_BLOCK]; BATCH], &[f32; BATCH]),
        y: &mut [[Floats; BATCH]; TILES],
    ) {
        let mut part = [[[0.0; LANES]; BATCH]; TILES];
        for (number, pairs) in pairs.chunks(width / 2).enumerate() {
            let dots = dots::<S, TILES, BATCH>(simd, pairs, x_pairs, number * width / 2);
            let group = input / width + number;
            if let Some(minima) = self.minima.get(group) {
                for b in 0..BATCH {
                    let sum = x.sum(input / BLOCK * TOGETHER + b, number * width, pairs.len() * 2) as f32;
                    for t in 0..TILES {
                        part[t][b] = simd.subtract_product(&part[t][b], &minima[t], &[sum; LANES]);
                    }
                }
            }
            let scales = &self.scales[group];
            for t in 0..TILES {
                for b in 0..BATCH {
                    let d = simd.i32_to_f32(&dots[t][b]);
                    part[t][b] = simd.add_product(&part[t][b], &d, &scales[t]);
                }
            }
        }
        for t in 0..TILES {
            for b in 0..BATCH {
                y[t][b] = simd.add_product(&y[t][b], &part[t][b], &[x_scales[b]; LANES]);
            }
        }
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
