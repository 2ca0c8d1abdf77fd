//! Products of tiles of codes with inputs.
//!
//! Sums of integers are exact, and the floating-point part has one order, so that every level and
//! every tiling gives the same bits.
#![allow(clippy::needless_range_loop, reason = "tiles and vectors read best by index")]

use std::ops::Range;

use simd::{LANES, Simd, kernel, lanes, prefetch_behind};

use super::batch::with_batch;
use super::inputs::{BLOCK, Group, IntegerInputs, TOGETHER};
use super::lines::Line;
use super::scales::TileScales;

pub(super) type Ints = [i32; LANES];
pub(super) type Floats = [f32; LANES];

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
    pub(super) zeros: Zeros<'a>,
    /// A factor of all scales.
    pub(super) factor: f32,
}

/// Zero points.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zeros<'a> {
    /// All are this one.
    One(u8),
    /// Those of the groups of a tile in turn.
    OfGroups(&'a [[u8; LANES]]),
    /// Those of the inputs, which the sums of the inputs contain already.
    OfInputs(&'a [u8]),
}

/// Where outputs go.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    pub(super) y: &'a mut [f32],
    pub(super) range: Range<usize>,
    pub(super) batch: usize,
    /// From an output to the next one, and from a vector to the next one; one of them is 1.
    pub(super) strides: [usize; 2],
    /// Add to `y`, instead of overwriting it.
    pub(super) add: bool,
}

impl Outputs<'_> {
    /// Writes the outputs of a tile for the vectors from `first` on, as far as there are any.
    #[inline(always)]
    pub(super) fn put_batch<const BATCH: usize>(&mut self, tile: usize, first: usize, values: &[Floats; BATCH]) {
        let start = tile * LANES;
        let inside = self.range.start <= start && start + LANES <= self.range.end && first + BATCH <= self.batch;
        if !inside {
            for (values, b) in values.iter().zip(first..self.batch) {
                self.put(tile, b, values);
            }
            return;
        }
        let [step, per_vector] = self.strides;
        let y = &mut self.y[(start - self.range.start) * step + first * per_vector..];
        if step == 1 {
            for (y, values) in y.chunks_mut(per_vector.max(1)).zip(values) {
                let Some(y) = y.first_chunk_mut::<LANES>() else { return };
                *y = if self.add { lanes!(i => y[i] + values[i]) } else { *values };
            }
            return;
        }
        for (lane, y) in y.chunks_mut(step).take(LANES).enumerate() {
            for (y, values) in y.iter_mut().zip(values) {
                *y = if self.add { *y + values[lane] } else { values[lane] };
            }
        }
    }

    /// Writes the outputs of a tile for vector `b`.
    #[inline(always)]
    pub(super) fn put(&mut self, tile: usize, b: usize, values: &Floats) {
        let first = (tile * LANES).max(self.range.start);
        let end = (tile * LANES + LANES).min(self.range.end);
        if first >= end {
            return;
        }
        let (values, [step, per_vector]) = (&values[first % LANES..][..end - first], self.strides);
        let y = &mut self.y[(first - self.range.start) * step + b * per_vector..];
        let write = |y: &mut f32, value: &f32| *y = if self.add { *y + value } else { *value };
        if step == 1 {
            y.iter_mut().zip(values).for_each(|(y, value)| write(y, value));
        } else {
            y.iter_mut().step_by(step).zip(values).for_each(|(y, value)| write(y, value));
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
        let values = product::<S, BITS, LINES, PAIRS, TILES>(simd, tiles, numbers, &x.group(0));
        for (values, tile) in values.iter().zip(first..range.end) {
            out.put(tile, 0, values);
        }
    }
}

/// The numbers of the tiles from `first` on; the last one instead of tiles beyond the end.
#[inline(always)]
pub(super) fn some_tiles<const TILES: usize>(first: usize, range: &Range<usize>) -> [usize; TILES] {
    let mut numbers = [first; TILES];
    for (t, number) in numbers.iter_mut().enumerate() {
        *number = (first + t).min(range.end - 1);
    }
    numbers
}

/// The products of some tiles with a vector.
#[inline(always)]
fn product<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize, const TILES: usize>(
    simd: S,
    tiles: &Tiles<'_>,
    numbers: [usize; TILES],
    x: &Group<'_>,
) -> [Floats; TILES] {
    // A scale of the inputs holds for some groups, or one of a group for some blocks of inputs.
    let small = tiles.group < BLOCK;
    let (inner, outer) = (tiles.group.min(BLOCK), tiles.group.max(BLOCK));
    let mut y = [[0.0; LANES]; TILES];
    for start in (0..tiles.inputs).step_by(outer) {
        let end = (start + outer).min(tiles.inputs);
        let mut part = [[0.0; LANES]; TILES];
        for at in (start..end).step_by(inner) {
            let stop = (at + inner).min(end);
            let sum = x.sum(at / BLOCK, at % BLOCK, stop - at);
            let (mut lines, ahead) = ([tiles.lines; TILES], tiles.ahead::<BITS, TILES>(at));
            // The zero points, times the inputs.
            let mut less = [[0; LANES]; TILES];
            for t in 0..TILES {
                lines[t] = tiles.lines::<BITS>(numbers[t], at..stop);
                less[t] = tiles.less_zeros(numbers[t], at, sum);
            }
            let dots = dots::<S, BITS, LINES, PAIRS, TILES>(simd, (lines, ahead), &x.pairs[at / 2..]);
            for t in 0..TILES {
                if let Some(minima) = &tiles.minima {
                    let minimum = minima.get(simd, numbers[t], at / tiles.group);
                    part[t] = simd.subtract_product(&part[t], &minimum, &[sum as f32; LANES]);
                }
                let d = simd.i32_to_f32(&total::<BITS>(&less[t], &dots[t]));
                let scale = if small { tiles.scale(simd, numbers[t], at) } else { [x.scales[at / BLOCK]; LANES] };
                part[t] = simd.add_product(&part[t], &d, &scale);
            }
        }
        for t in 0..TILES {
            let scale = x.scales[start / BLOCK];
            let scale = if small { [scale; LANES] } else { tiles.scale(simd, numbers[t], start) };
            y[t] = simd.add_product(&y[t], &part[t], &scale);
        }
    }
    for y in &mut y {
        *y = lanes!(i => y[i] * tiles.factor);
    }
    y
}

/// The sum of the sums, without the factors of [`unshifted`].
#[inline(always)]
fn total<const BITS: usize>(less: &Ints, sums: &[Ints; SUMS]) -> Ints {
    let [first, second, third, fourth] = sums;
    // The sums are multiples of these powers of two.
    let shift = if BITS == 4 { 4 } else { 0 };
    lanes!(i => {
        let last = (third[i] >> (2 * shift)).wrapping_add(fourth[i]);
        less[i].wrapping_add(first[i]).wrapping_add((second[i] >> shift).wrapping_add(last))
    })
}

impl Tiles<'_> {
    /// The lines of a tile for some inputs.
    #[inline(always)]
    pub(super) fn lines<const BITS: usize>(&self, tile: usize, inputs: Range<usize>) -> &[Line] {
        let first = (tile * self.inputs + inputs.start) * BITS / 32;
        &self.lines[first..first + inputs.len() * BITS / 32]
    }

    /// As [`Self::lines`], for up to `count` inputs, as far as there are lines.
    #[inline(always)]
    pub(super) fn some_lines<const BITS: usize>(&self, tile: usize, input: usize, count: usize) -> &[Line] {
        let lines = self.lines.get((tile * self.inputs + input) * BITS / 32..).unwrap_or_default();
        &lines[..lines.len().min(count.min(self.inputs - input) * BITS / 32)]
    }

    /// Lines from those of an input to those that a kernel reads [`AHEAD`] lines later, if it reads
    /// so many tiles at a time. They are in the same tile, or in one that follows.
    #[inline(always)]
    fn ahead<const BITS: usize, const TILES: usize>(&self, input: usize) -> usize {
        let (of_tile, ahead) = (self.inputs * BITS / 32, AHEAD / TILES);
        let line = input * BITS / 32 + ahead;
        if line < of_tile { ahead } else { ahead + line / of_tile * (TILES - 1) * of_tile }
    }

    #[inline(always)]
    fn group(&self, tile: usize, input: usize) -> usize {
        tile * self.inputs.div_ceil(self.group) + input / self.group
    }

    #[inline(always)]
    pub(super) fn scale<S: Simd>(&self, simd: S, tile: usize, input: usize) -> Floats {
        match &self.scales {
            Some(scales) => scales.get(simd, tile, input / self.group),
            None => [1.0; LANES],
        }
    }

    /// The zero points of a group, times the negative sum of the inputs.
    #[inline(always)]
    fn less_zeros(&self, tile: usize, input: usize, sum: i32) -> Ints {
        let less = sum.wrapping_neg();
        match self.zeros {
            Zeros::One(zero) => [i32::from(zero).wrapping_mul(less); LANES],
            Zeros::OfInputs(_) => [less; LANES],
            Zeros::OfGroups(zeros) => {
                let zeros = zeros[self.group(tile, input)];
                lanes!(i => i32::from(zeros[i]).wrapping_mul(less))
            }
        }
    }

    /// The zero points of a tile in the group of an input, twice in each lane as 16-bit integers;
    /// zeros if inputs have their own.
    #[inline(always)]
    pub(super) fn zeros_of_lanes(&self, tile: usize, input: usize) -> [u32; LANES] {
        let zeros = match self.zeros {
            Zeros::One(zero) => [zero; LANES],
            Zeros::OfGroups(zeros) => zeros[self.group(tile, input)],
            Zeros::OfInputs(_) => [0; LANES],
        };
        lanes!(i => u32::from(zeros[i]) * 0x0001_0001)
    }
}

/// Adds codes times pairs of inputs to sums. A step takes `PAIRS` pairs of codes from `LINES`
/// lines. The pairs in turn have [`SUMS`] sums, so that no addition waits for the one before.
#[inline(always)]
fn dots<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize, const TILES: usize>(
    simd: S,
    (lines, ahead): ([&[Line]; TILES], usize),
    x: &[u32],
) -> [[Ints; SUMS]; TILES] {
    let mut sums = [[[0; LANES]; SUMS]; TILES];
    let (first, last) = (lines[0].as_chunks::<LINES>().0, lines[TILES - 1].as_chunks::<LINES>().0);
    for ((first, last), pairs) in first.iter().zip(last).zip(x.as_chunks::<PAIRS>().0) {
        // Prefetching many lines at once would make the kernel wait.
        for line in 0..LINES {
            prefetch_behind(&first[line], ahead);
            if TILES > 1 {
                prefetch_behind(&last[line], ahead);
            }
        }
        sums = add_step::<S, BITS, LINES, PAIRS, TILES>(simd, sums, [first, last], pairs);
    }
    sums
}

/// Passing the sums by value keeps them in registers.
#[inline(always)]
fn add_step<S: Simd, const BITS: usize, const LINES: usize, const PAIRS: usize, const TILES: usize>(
    simd: S,
    sums: [[Ints; SUMS]; TILES],
    lines: [&[Line; LINES]; 2],
    x: &[u32; PAIRS],
) -> [[Ints; SUMS]; TILES] {
    let mut next = sums;
    // The compiler does not always unroll a loop over the pairs.
    macro_rules! pair {
        ($($j:literal)*) => {$(
            if $j < PAIRS {
                for t in 0..TILES {
                    let codes = unshifted::<S, BITS, LINES>(simd, lines[t], $j);
                    next[t][$j % SUMS] = simd.add_pairs(&next[t][$j % SUMS], &codes, x[$j % PAIRS]);
                }
            }
        )*};
    }
    pair!(0 1 2 3 4 5 6 7);
    next
}

/// As [`codes_of`], but codes of four bits are multiplied by 16 to the power of `j`, except the
/// last ones, which would not fit: most of them then need no shift. At most 16 products of the
/// inputs of a block and of codes times 256 are added, which is below 2³¹.
#[inline(always)]
fn unshifted<S: Simd, const BITS: usize, const LINES: usize>(simd: S, lines: &[Line; LINES], j: usize) -> [u32; LANES] {
    match (BITS, j) {
        (4, 0..3) => simd.bits(&lines[0].0, 0, 0x000f_000f << (4 * j)),
        _ => codes_of::<S, BITS, LINES>(simd, lines, j),
    }
}

/// Pair `j` of the codes in the lines of a step.
#[inline(always)]
pub(super) fn codes_of<S: Simd, const BITS: usize, const LINES: usize>(
    simd: S,
    lines: &[Line; LINES],
    j: usize,
) -> [u32; LANES] {
    let of = |bits: usize, line: usize, shift: usize| {
        simd.bits(&lines[line % LINES].0, shift as u32, 0x0001_0001 * ((1 << bits) - 1))
    };
    if BITS == 6 {
        let (low, high) = (of(4, j / 4, j % 4 * 4), of(2, 2, j * 2));
        return simd.add_shifted::<4>(&low, &high);
    }
    let (line, shift) = (j * 2 * BITS / 32, j * BITS % 16);
    match (BITS, shift) {
        (2, 14) => simd.high_bits::<14>(&lines[line % LINES].0),
        (4, 12) => simd.high_bits::<12>(&lines[line % LINES].0),
        (8, 8) => simd.high_bits::<8>(&lines[line % LINES].0),
        _ => of(BITS, line, shift),
    }
}
