//! Products of tiles of codes with inputs.
//!
//! Sums of integers are exact, and the floating-point part has one order, so that every level and
//! every tiling gives the same bits.
#![allow(clippy::needless_range_loop, reason = "tiles and vectors read best by index")]

use std::ops::Range;

use simd::{LANES, Simd, kernel, lanes, prefetch};

use super::inputs::{BLOCK, Group, IntegerInputs, SUMMED, TOGETHER};
use super::lines::Line;
use super::scales::TileScales;

type Ints = [i32; LANES];
type Floats = [f32; LANES];

/// Lines from the one that a kernel reads to the one that it prefetches.
const AHEAD: usize = 128;
/// Sums of a single product, so that an addition need not wait for the one before.
const SUMS: usize = 4;

/// Codes, scales and zero points in the order of tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles<'a> {
    pub(super) bits: usize,
    /// Inputs, padded.
    pub(super) inputs: usize,
    /// Inputs of a group: a divisor or a multiple of [`BLOCK`], or all.
    pub(super) group: usize,
    pub(super) lines: &'a [Line],
    /// `None` if they are 1.
    pub(super) scales: Option<TileScales<'a>>,
    /// `None` if there are none.
    pub(super) minima: Option<TileScales<'a>>,
    /// Zero points of the groups of a tile in turn; empty if all are `zero`.
    pub(super) zeros: &'a [[u8; LANES]],
    pub(super) zero: i32,
    /// A factor of all scales.
    pub(super) factor: f32,
}

/// Where outputs go: `outputs × batch`.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    pub(super) y: &'a mut [f32],
    pub(super) range: Range<usize>,
    pub(super) batch: usize,
    /// Add to `y`, instead of overwriting it.
    pub(super) add: bool,
}

impl Outputs<'_> {
    /// Writes the outputs of a tile for vector `b`.
    #[inline(always)]
    fn put(&mut self, tile: usize, b: usize, values: &Floats) {
        let first = (tile * LANES).max(self.range.start);
        let end = (tile * LANES + LANES).min(self.range.end);
        if first >= end {
            return;
        }
        let y = self.y[(first - self.range.start) * self.batch + b..].iter_mut().step_by(self.batch);
        for (y, value) in y.zip(&values[first % LANES..][..end - first]) {
            *y = if self.add { *y + value } else { *value };
        }
    }
}

kernel! {
    /// Multiplies with the tiles that have the outputs of a range.
    pub(super) fn multiply<'a>(simd, tiles: &'a Tiles<'a>, x: &'a IntegerInputs, out: &'a mut Outputs<'a>) {
        match tiles.bits {
            2 => of_bits::<_, 2, 1, 8>(simd, tiles, x, out),
            4 => of_bits::<_, 4, 1, 4>(simd, tiles, x, out),
            6 => of_bits::<_, 6, 3, 8>(simd, tiles, x, out),
            _ => of_bits::<_, 8, 2, 4>(simd, tiles, x, out),
        }
    }
}

#[inline(always)]
fn of_bits<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize>(
    simd: S,
    tiles: &Tiles<'_>,
    x: &IntegerInputs,
    out: &mut Outputs<'_>,
) {
    let range = out.range.start / LANES..out.range.end.div_ceil(LANES);
    if x.batch() == 1 {
        if S::VECTORS >= 4 * SUMS {
            with_vector::<S, BITS, LINES, PAIRS, 2>(simd, tiles, range, x, out);
        } else {
            with_vector::<S, BITS, LINES, PAIRS, 1>(simd, tiles, range, x, out);
        }
    } else if S::VECTORS >= 2 * TOGETHER + 8 {
        with_batch::<S, BITS, LINES, PAIRS, 2, TOGETHER>(simd, tiles, range, x, out);
    } else {
        with_batch::<S, BITS, LINES, PAIRS, 1, { TOGETHER / 2 }>(simd, tiles, range, x, out);
    }
}

/// The products of tiles with a vector, `TILES` at a time: memory is read faster at two places than
/// at one.
#[inline(always)]
fn with_vector<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize, const TILES: usize>(
    simd: S,
    tiles: &Tiles<'_>,
    range: Range<usize>,
    x: &IntegerInputs,
    out: &mut Outputs<'_>,
) {
    for first in range.clone().step_by(TILES) {
        let numbers = some_tiles::<TILES>(first, &range);
        let values = product::<S, BITS, LINES, PAIRS, TILES, 1, 1, SUMS>(simd, tiles, numbers, &x.group(0));
        for ([values], tile) in values.iter().zip(first..range.end) {
            out.put(tile, 0, values);
        }
    }
}

/// The numbers of the tiles from `first` on; the last one instead of tiles beyond the end.
#[inline(always)]
fn some_tiles<const TILES: usize>(first: usize, range: &Range<usize>) -> [usize; TILES] {
    let mut numbers = [first; TILES];
    for (t, number) in numbers.iter_mut().enumerate() {
        *number = (first + t).min(range.end - 1);
    }
    numbers
}

/// The products of tiles with all vectors, `TILES` and `BATCH` at a time.
#[inline(always)]
fn with_batch<
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
    for first in range.clone().step_by(TILES) {
        let numbers = some_tiles::<TILES>(first, &range);
        for vector in (0..x.batch()).step_by(BATCH) {
            let values =
                product::<S, BITS, LINES, PAIRS, TILES, BATCH, TOGETHER, BATCH>(simd, tiles, numbers, &x.group(vector));
            for (values, tile) in values.iter().zip(first..range.end) {
                for (values, b) in values.iter().zip(vector..x.batch()) {
                    out.put(tile, b, values);
                }
            }
        }
    }
}

/// The products of some tiles with the first vectors of a group.
#[inline(always)]
fn product<
    S: Simd,
    const BITS: usize,
    const LINES: usize,
    const PAIRS: usize,
    const TILES: usize,
    const BATCH: usize,
    const STRIDE: usize,
    const SUMS: usize,
>(
    simd: S,
    tiles: &Tiles<'_>,
    numbers: [usize; TILES],
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
            let (block, within) = (at / BLOCK * STRIDE, at % BLOCK);
            let mut sums = [0; BATCH];
            for b in 0..BATCH {
                let from = (block + b) * (BLOCK / SUMMED) + within / SUMMED;
                for sum in &x.sums[from..from + (stop - at) / SUMMED] {
                    sums[b] += sum;
                }
            }
            let mut lines = [tiles.lines; TILES];
            let mut ahead = [tiles.lines; TILES];
            // The zero points, times the inputs.
            let mut less = [[[0; LANES]; SUMS]; TILES];
            for t in 0..TILES {
                (lines[t], ahead[t]) = tiles.lines::<BITS>(numbers[t], at..stop);
                for b in 0..BATCH {
                    less[t][b % SUMS] = tiles.less_zeros(numbers[t], at, sums[b]);
                }
            }
            let pairs = &x.pairs[block * (BLOCK / 2) + within / 2..];
            let dots = dots::<S, BITS, LINES, PAIRS, TILES, SUMS, STRIDE>(simd, less, (lines, ahead), pairs);
            let scales = &x.scales[at / BLOCK * STRIDE..];
            for t in 0..TILES {
                if let Some(minima) = &tiles.minima {
                    let minimum = minima.get(simd, numbers[t], at / tiles.group);
                    for b in 0..BATCH {
                        part[t][b] = simd.subtract_product(&part[t][b], &minimum, &[sums[b] as f32; LANES]);
                    }
                }
                let scale = if small { tiles.scale(simd, numbers[t], at) } else { [0.0; LANES] };
                for b in 0..BATCH {
                    let (dots, part) = (if BATCH == 1 { total(&dots[t]) } else { dots[t][b] }, &mut part[t][b]);
                    let d = simd.i32_to_f32(&dots);
                    let scale = if small { scale } else { [scales[b]; LANES] };
                    *part = simd.add_product(part, &d, &scale);
                }
            }
        }
        let scales = &x.scales[start / BLOCK * STRIDE..];
        for t in 0..TILES {
            let scale = if small { [0.0; LANES] } else { tiles.scale(simd, numbers[t], start) };
            for b in 0..BATCH {
                let (part, y) = (&part[t][b], &mut y[t][b]);
                let scale = if small { [scales[b]; LANES] } else { scale };
                *y = simd.add_product(y, part, &scale);
            }
        }
    }
    for y in y.as_flattened_mut() {
        *y = lanes!(i => y[i] * tiles.factor);
    }
    y
}

/// The sum of some vectors.
#[inline(always)]
fn total<const SUMS: usize>(sums: &[Ints; SUMS]) -> Ints {
    let mut total = sums[0];
    for sum in &sums[1..] {
        total = lanes!(i => total[i].wrapping_add(sum[i]));
    }
    total
}

impl Tiles<'_> {
    /// The lines of a tile for some inputs, and those that follow [`AHEAD`] of the first one.
    #[inline(always)]
    fn lines<const BITS: usize>(&self, tile: usize, inputs: Range<usize>) -> (&[Line], &[Line]) {
        let first = (tile * self.inputs + inputs.start) * BITS / 32;
        let len = inputs.len() * BITS / 32;
        (&self.lines[first..first + len], self.lines.get(first + AHEAD..).unwrap_or_default())
    }

    #[inline(always)]
    fn group(&self, tile: usize, input: usize) -> usize {
        tile * self.inputs.div_ceil(self.group) + input / self.group
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, simd: S, tile: usize, input: usize) -> Floats {
        match &self.scales {
            Some(scales) => scales.get(simd, tile, input / self.group),
            None => [1.0; LANES],
        }
    }

    /// The zero points of a group, times the negative sum of the inputs.
    #[inline(always)]
    fn less_zeros(&self, tile: usize, input: usize, sum: i32) -> Ints {
        let less = sum.wrapping_neg();
        if self.zeros.is_empty() {
            return [self.zero.wrapping_mul(less); LANES];
        }
        let zeros = self.zeros[self.group(tile, input)];
        lanes!(i => i32::from(zeros[i]).wrapping_mul(less))
    }
}

/// Adds codes times pairs of inputs to sums. A step takes `PAIRS` pairs of codes from `LINES` lines.
/// Without a batch, the sums of the pairs in turn have `SUMS` places, so that an addition need not
/// wait for the one before.
#[inline(always)]
fn dots<
    S: Simd,
    const BITS: usize,
    const LINES: usize,
    const PAIRS: usize,
    const TILES: usize,
    const SUMS: usize,
    const STRIDE: usize,
>(
    simd: S,
    mut sums: [[Ints; SUMS]; TILES],
    (lines, ahead): ([&[Line]; TILES], [&[Line]; TILES]),
    x: &[u32],
) -> [[Ints; SUMS]; TILES] {
    let (first, last) = (lines[0].as_chunks::<LINES>().0, lines[TILES - 1].as_chunks::<LINES>().0);
    for (i, (first, last)) in first.iter().zip(last).enumerate() {
        // Batches use a line several times, so that they need not wait for the next one. Prefetching
        // many lines at once would.
        if STRIDE == 1 {
            for ahead in ahead {
                for line in 0..LINES {
                    prefetch(ahead, i * LINES + line);
                }
            }
        }
        let mut step = [&[0; PAIRS]; STRIDE];
        for b in 0..SUMS.min(STRIDE) {
            // There is always a pair: a panic here would cost registers.
            match x.get(b * (BLOCK / 2) + i * PAIRS..).and_then(|x| x.first_chunk()) {
                Some(pairs) => step[b] = pairs,
                None => return sums,
            }
        }
        sums = add_step::<S, BITS, LINES, PAIRS, TILES, SUMS, STRIDE>(simd, sums, [first, last], step);
    }
    sums
}

/// Passing the sums by value keeps them in registers.
#[inline(always)]
fn add_step<
    S: Simd,
    const BITS: usize,
    const LINES: usize,
    const PAIRS: usize,
    const TILES: usize,
    const SUMS: usize,
    const STRIDE: usize,
>(
    simd: S,
    sums: [[Ints; SUMS]; TILES],
    lines: [&[Line; LINES]; 2],
    x: [&[u32; PAIRS]; STRIDE],
) -> [[Ints; SUMS]; TILES] {
    let mut next = sums;
    // The compiler does not always unroll a loop over the pairs.
    macro_rules! pair {
        ($($j:literal)*) => {$(
            if $j < PAIRS {
                let mut codes = [[0; LANES]; TILES];
                for t in 0..TILES {
                    codes[t] = codes_of::<S, BITS, LINES>(simd, lines[t], $j);
                }
                if STRIDE == 1 {
                    for t in 0..TILES {
                        next[t][$j % SUMS] = simd.add_pairs(&next[t][$j % SUMS], &codes[t], x[0][$j % PAIRS]);
                    }
                } else {
                    for b in 0..SUMS {
                        for t in 0..TILES {
                            next[t][b] = simd.add_pairs(&next[t][b], &codes[t], x[b % STRIDE][$j % PAIRS]);
                        }
                    }
                }
            }
        )*};
    }
    pair!(0 1 2 3 4 5 6 7);
    next
}

/// Pair `j` of the codes in the lines of a step.
#[inline(always)]
fn codes_of<S: Simd, const BITS: usize, const LINES: usize>(simd: S, lines: &[Line; LINES], j: usize) -> [u32; LANES] {
    let of = |bits: usize, line: usize, shift: usize| {
        simd.bits(&lines[line % LINES].0, shift as u32, 0x0001_0001 * ((1 << bits) - 1))
    };
    if BITS == 6 {
        let (low, high) = (of(4, j / 4, j % 4 * 4), of(2, 2, j * 2));
        return simd.add_shifted::<4>(&low, &high);
    }
    of(BITS, j * 2 * BITS / 32, j * BITS % 16)
}
