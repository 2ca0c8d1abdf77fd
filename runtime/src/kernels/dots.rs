//! Products of rows of stored weights with one vector.

use bytemuck::Pod;
use simd::{Kernel, LANES, Simd, dispatch, lanes, load, prefetch, sum};

/// Vectors of partial sums of a product.
const SUMS: usize = 4;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Lines from the one that is read to the one that is prefetched.
const AHEAD: usize = 128;

/// A stored float.
pub(crate) trait Stored: Pod + Default + Send + Sync + std::fmt::Debug {
    /// Converts sixteen values, without loss.
    fn widen<S: Simd>(simd: S, values: &[Self; LANES]) -> [f32; LANES];
}

impl Stored for f32 {
    #[inline(always)]
    fn widen<S: Simd>(_: S, values: &[Self; LANES]) -> [f32; LANES] {
        *values
    }
}

/// A BF16 value.
#[derive(Clone, Copy, Debug, Default, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

/// An F16 value.
#[derive(Clone, Copy, Debug, Default, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(crate) struct F16(u16);

impl Stored for Bf16 {
    #[inline(always)]
    fn widen<S: Simd>(simd: S, values: &[Self; LANES]) -> [f32; LANES] {
        simd.bf16_to_f32(&lanes!(i => values[i].0))
    }
}

impl Stored for F16 {
    #[inline(always)]
    fn widen<S: Simd>(simd: S, values: &[Self; LANES]) -> [f32; LANES] {
        simd.f16_to_f32(&lanes!(i => values[i].0))
    }
}

/// `y[r] = Σ rows[r][i]·x[i]` for each row of `x.len()` weights. The order of the additions is that
/// of [`codec_api::RowsLinear`], so that both give the same bits.
pub(crate) fn dots<T: Stored>(rows: &[T], x: &[f32], y: &mut [f32]) {
    dispatch(Dots { rows, x, y });
}

struct Dots<'a, T> {
    rows: &'a [T],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<T: Stored> Kernel for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, x, y } = self;
        let pairs = if S::VECTORS >= 4 * SUMS { y.len() / 2 } else { 0 };
        let (paired, single) = y.split_at_mut(2 * pairs);
        for (i, y) in paired.as_chunks_mut().0.iter_mut().enumerate() {
            *y = products::<S, T, 2>(simd, &rows[2 * i * x.len()..], x);
        }
        for (i, y) in (2 * pairs..).zip(single) {
            [*y] = products::<S, T, 1>(simd, &rows[i * x.len()..], x);
        }
    }
}

/// The products of the first rows. Each product has four times sixteen partial sums, so that an
/// addition need not wait for the one before. Memory is read faster at two places than at one.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "rows read best by index")]
fn products<S: Simd, T: Stored, const ROWS: usize>(simd: S, rows: &[T], x: &[f32]) -> [f32; ROWS] {
    let width = x.len();
    let (x_blocks, last_x) = x.as_chunks::<LANES>();
    let (x_steps, rest_x) = x_blocks.as_chunks::<SUMS>();
    let mut steps: [&[[[T; LANES]; SUMS]]; ROWS] = [&[]; ROWS];
    for r in 0..ROWS {
        steps[r] = row_of(rows, r, x).as_chunks().0.as_chunks().0;
    }
    let mut sums = [[[0.0; LANES]; SUMS]; ROWS];
    for (i, x) in x_steps.iter().enumerate() {
        for r in 0..ROWS {
            let Some(row) = steps[r].get(i) else { continue };
            prefetch_step(rows, r * width + i * SUMS * LANES);
            for s in 0..SUMS {
                sums[r][s] = add(simd, &sums[r][s], &row[s], &x[s]);
            }
        }
    }
    let mut y = [0.0; ROWS];
    for r in 0..ROWS {
        let (blocks, last) = row_of(rows, r, x).as_chunks();
        let [mut a, b, c, d] = sums[r];
        for (row, x) in blocks.as_chunks::<SUMS>().1.iter().zip(rest_x) {
            a = add(simd, &a, row, x);
        }
        a = add(simd, &a, &load(last), &load(last_x));
        y[r] = sum(simd.add(&simd.add(&a, &b), &simd.add(&c, &d)));
    }
    y
}

/// Row `r`.
#[inline(always)]
fn row_of<'a, T>(rows: &'a [T], r: usize, x: &[f32]) -> &'a [T] {
    &rows[r * x.len()..(r + 1) * x.len()]
}

/// Prefetches the lines that are [`AHEAD`] of a step's.
#[inline(always)]
fn prefetch_step<T>(rows: &[T], step: usize) {
    let line = LINE / size_of::<T>();
    for first in (0..SUMS * LANES).step_by(line) {
        prefetch(rows, step + first + AHEAD * line);
    }
}

#[inline(always)]
fn add<S: Simd, T: Stored>(simd: S, sums: &[f32; LANES], row: &[T; LANES], x: &[f32; LANES]) -> [f32; LANES] {
    let row = T::widen(simd, row);
    simd.add(sums, &lanes!(i => row[i] * x[i]))
}
