//! Multiplying with bytes of five digits, in integers.
//!
//! The quotients `qᵢ = ⌊b/3ⁱ⌋` of a byte `b` give its digits, `dᵢ = qᵢ − 3·qᵢ₊₁`, and one
//! instruction gives a quotient of many bytes. No digit is needed:
//! - forward, `Σ dᵢ·xᵢ = Σ qᵢ·(xᵢ − 3·xᵢ₋₁)`, with inputs that are combined once for all rows;
//! - transposed, the sums of `qᵢ·x` over some rows are combined instead.
//!
//! Inputs become integers, with a scale for some of them. All sums of integers are exact.
#![allow(clippy::needless_range_loop, reason = "planes and vectors read best by index")]

use std::array;
use std::ops::Range;

use codec_api::Inputs;
use simd::{LANES, Simd, kernel, lanes, load, magnitudes, prefetch, sum};

use super::matrix::Matrix;
use super::packing::TRITS;

/// Bytes of a step of a forward product, whose inputs share a scale.
const STEP: usize = 2 * LANES;
/// Rows of a step of a transposed product, whose inputs share a scale.
const ROWS: usize = 64;
/// Vectors of a batch for which a forward product takes the quotients once.
const TOGETHER: usize = 4;
/// Bytes from those that a forward product reads to those that it prefetches.
const AHEAD: usize = 2048;
/// Upper halves of products with these numbers are quotients by the powers of 3 from 3 on.
const INVERSES: [u16; TRITS - 1] = [21_846, 7282, 2428, 810];
/// Two ones of 16 bits.
const ONES: [u32; LANES] = [0x0001_0001; LANES];

/// The largest integer of a forward product: four times as much fits into 16 bits.
const MOST_FORWARD: f32 = 8191.0;
/// The largest integer of a transposed product.
const MOST_TRANSPOSED: f32 = 32_767.0;

/// Tolerance of both products.
///
/// An input is off by at most `e·m`, with `m` the largest magnitude of a step and `e` half an
/// integer in the largest one. Zeros add no error. So a row `w` with `c` weights of `±α` in a step
/// is off by `e·α·c·m ≤ e·α·√(n·c)·‖x‖`, with `n` the inputs of the step, and in all by
/// `e·√n·‖w‖·‖x‖`. In a transposed product, `m` has the scales of the rows as factors, and `‖Ŵ‖²`
/// is at least the sum of the squares of the largest scales of the steps, since rows of zeros have
/// the scale 0: an output is off by at most `e·n·‖Ŵ‖·‖x‖`.
pub(super) fn tolerance(matrix: &Matrix) -> f32 {
    // Half an integer, and the roundings of the division.
    const HALF: f32 = 0.504;
    let forward = HALF / MOST_FORWARD * ((TRITS * STEP) as f32).sqrt();
    let transposed = HALF / MOST_TRANSPOSED * ROWS as f32;
    let roundings = matrix.columns.div_ceil(TRITS * STEP).max(matrix.rows.div_ceil(ROWS)) + 10;
    forward.max(transposed) + roundings as f32 * f32::EPSILON
}

/// A factor that makes integers up to `most` of values up to `largest`, after a factor that keeps
/// it finite; and the scale of the integers. `None` if values are not finite.
#[inline(always)]
fn factors(largest: f32, most: f32) -> Option<(f32, f32, f32)> {
    /// 2⁻⁶⁴.
    const SMALL: f32 = f32::from_bits((127 - 64) << 23);
    let first = if largest < SMALL { 1.0 / SMALL } else { 1.0 };
    let larger = largest * first;
    let factor = if larger > 0.0 { most / larger } else { 0.0 };
    (largest <= f32::MAX).then_some((first, factor, larger / most / first))
}

/// The inputs of a step of a forward product.
#[derive(Clone, Copy)]
struct Step {
    /// `xᵢ − 3·xᵢ₋₁` for each byte, as integers.
    combined: [[i16; STEP]; TRITS],
    /// The negative sums of the inputs of a lane.
    less: [i32; LANES],
    scale: f32,
}

/// `y = W·x` for the rows from `first` on, into `rows × batch` outputs.
pub(super) fn forward(matrix: &Matrix, first: usize, x: &Inputs<'_>, y: &mut [f32]) {
    let empty = Step { combined: [[0; STEP]; TRITS], less: [0; LANES], scale: 0.0 };
    let width = matrix.columns.div_ceil(TRITS);
    let mut steps = vec![empty; width.div_ceil(STEP) * x.batch()];
    for (i, steps) in steps.chunks_mut(width.div_ceil(STEP).max(1)).enumerate() {
        convert(x.vector(i), width, steps);
    }
    multiply(matrix, first, &steps, x.batch(), y);
}

kernel! {
    /// Converts a vector for rows of `width` bytes.
    fn convert<'a>(simd, x: &'a [f32], width: usize, steps: &'a mut [Step]) {
        for (s, step) in steps.iter_mut().enumerate() {
            let mut values = [[0.0; STEP]; TRITS];
            let mut largest = [0; LANES];
            for (i, values) in values.iter_mut().enumerate() {
                let end = x.len().min((i + 1) * width);
                let inputs = &x[(i * width + s * STEP).min(end)..end];
                let inputs = &inputs[..inputs.len().min(STEP)];
                values[..inputs.len()].copy_from_slice(inputs);
                for half in values.as_chunks::<LANES>().0 {
                    largest = simd.max_magnitude(&largest, half);
                }
            }
            let largest = simd.reduce_max(&magnitudes(largest));
            let Some((first, factor, scale)) = factors(largest, MOST_FORWARD) else {
                step.scale = f32::NAN;
                continue;
            };
            step.scale = scale;
            let mut sums = [0; LANES];
            let mut before = [0; STEP];
            for (values, combined) in values.iter().zip(&mut step.combined) {
                let mut integers = [0; STEP];
                for (half, out) in values.as_chunks::<LANES>().0.iter().zip(integers.as_chunks_mut::<LANES>().0) {
                    *out = simd.round_products(&lanes!(i => half[i] * first), factor);
                }
                for i in 0..STEP {
                    combined[i] = integers[i] - 3 * before[i];
                }
                sums = simd.add_lane_pairs(&sums, &ONES, &integers);
                before = integers;
            }
            step.less = lanes!(i => -sums[i]);
        }
    }
}

kernel! {
    fn multiply<'a>(simd, matrix: &'a Matrix, first: usize, steps: &'a [Step], batch: usize, y: &'a mut [f32]) {
        let len = steps.len() / batch.max(1);
        for vector in (0..batch).step_by(TOGETHER) {
            let steps = &steps[vector * len..];
            for (row, y) in y.chunks_exact_mut(batch).enumerate() {
                let (codes, scale) = (matrix.codes_from(first + row), matrix.scale(first + row));
                if batch - vector < TOGETHER {
                    for (steps, y) in steps.chunks_exact(len.max(1)).zip(&mut y[vector..]) {
                        [*y] = dots(simd, codes, [steps], scale);
                    }
                } else {
                    let steps = array::from_fn(|v| &steps[v * len..][..len]);
                    y[vector..][..TOGETHER].copy_from_slice(&dots::<_, TOGETHER>(simd, codes, steps, scale));
                }
            }
        }
    }
}

/// The products of a row with some vectors.
#[inline(always)]
fn dots<S: Simd, const BATCH: usize>(simd: S, codes: &[u8], steps: [&[Step]; BATCH], scale: f32) -> [f32; BATCH] {
    let mut sums = [[0.0; LANES]; BATCH];
    for s in 0..steps[0].len() {
        if BATCH == 1 {
            prefetch(codes, s * STEP + AHEAD);
        }
        let pairs = simd.widen_pairs(&bytes_at(codes, s * STEP));
        let mut quotients = [pairs; TRITS];
        for (quotient, inverse) in quotients[1..].iter_mut().zip(INVERSES) {
            *quotient = simd.high_products(&pairs, inverse);
        }
        for b in 0..BATCH {
            let Some(step) = steps[b].get(s) else { continue };
            let mut dots = step.less;
            for (quotient, inputs) in quotients.iter().zip(&step.combined) {
                dots = simd.add_lane_pairs(&dots, quotient, inputs);
            }
            sums[b] = simd.add_product(&sums[b], &simd.i32_to_f32(&dots), &[step.scale; LANES]);
        }
    }
    let mut y = [0.0; BATCH];
    for b in 0..BATCH {
        y[b] = sum(sums[b]) * scale;
    }
    y
}

/// The bytes of a step. Those beyond the row are multiplied by zeros.
#[inline(always)]
fn bytes_at(codes: &[u8], at: usize) -> [u8; STEP] {
    let codes = codes.get(at..).unwrap_or_default();
    if let Some(bytes) = codes.first_chunk() {
        return *bytes;
    }
    let mut bytes = [0; STEP];
    bytes[..codes.len()].copy_from_slice(codes);
    bytes
}

/// The inputs of a step of a transposed product, as integers.
struct RowInputs {
    pairs: [u32; ROWS / 2],
    sum: i32,
    scale: f32,
}

kernel! {
    /// Adds `Wᵀ·x` of some rows to `columns × batch` outputs.
    pub(super) fn transposed<'a>(simd, matrix: &'a Matrix, rows: Range<usize>, x: &'a Inputs<'a>, y: &'a mut [f32]) {
        for first in rows.clone().step_by(ROWS) {
            for vector in 0..x.batch() {
                let mut values = [0.0; ROWS];
                for (row, value) in (first..rows.end).zip(&mut values) {
                    *value = x.vector(vector)[row] * matrix.scale(row);
                }
                let inputs = integers(simd, &values);
                add_rows(simd, matrix, first..rows.end.min(first + ROWS), &inputs, x.batch(), &mut y[vector..]);
            }
        }
    }
}

#[inline(always)]
fn integers<S: Simd>(simd: S, values: &[f32; ROWS]) -> RowInputs {
    let parts = values.as_chunks::<LANES>().0;
    let mut largest = [0; LANES];
    for part in parts {
        largest = simd.max_magnitude(&largest, part);
    }
    let mut inputs = RowInputs { pairs: [0; ROWS / 2], sum: 0, scale: f32::NAN };
    let largest = simd.reduce_max(&magnitudes(largest));
    let Some((first, factor, scale)) = factors(largest, MOST_TRANSPOSED) else { return inputs };
    inputs.scale = scale;
    for (part, pairs) in parts.iter().zip(inputs.pairs.as_chunks_mut::<{ LANES / 2 }>().0) {
        let integers = simd.round_products(&lanes!(i => part[i] * first), factor);
        for (pair, out) in integers.as_chunks::<2>().0.iter().zip(pairs) {
            *out = u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16;
            inputs.sum += i32::from(pair[0]) + i32::from(pair[1]);
        }
    }
    inputs
}

/// Adds the products of at most [`ROWS`] rows to every `batch`-th output.
#[inline(always)]
fn add_rows<S: Simd>(simd: S, matrix: &Matrix, rows: Range<usize>, inputs: &RowInputs, batch: usize, y: &mut [f32]) {
    let width = matrix.columns.div_ceil(TRITS);
    for at in (0..width).step_by(LANES) {
        let mut sums = [[0; LANES]; TRITS + 1];
        for (row, x) in rows.clone().step_by(2).zip(inputs.pairs) {
            let low: [u8; LANES] = load(&matrix.codes_from(row)[at..]);
            // A row beyond the last one is multiplied by zero.
            let high: [u8; LANES] = load(matrix.codes_from(row + 1).get(at..).unwrap_or_default());
            let pairs = lanes!(i => u32::from(low[i]) | u32::from(high[i]) << 16);
            sums[0] = simd.add_pairs(&sums[0], &pairs, x);
            for (i, inverse) in INVERSES.into_iter().enumerate() {
                sums[i + 1] = simd.add_pairs(&sums[i + 1], &simd.high_products(&pairs, inverse), x);
            }
        }
        for i in 0..TRITS {
            let digits = lanes!(l => sums[i][l].wrapping_sub(sums[i + 1][l].wrapping_mul(3)).wrapping_sub(inputs.sum));
            let products = simd.i32_to_f32(&digits);
            let end = matrix.columns.min((i + 1) * width);
            let outputs = (i * width + at).min(end)..end;
            for (column, product) in outputs.zip(products) {
                y[column * batch] += product * inputs.scale;
            }
        }
    }
}
