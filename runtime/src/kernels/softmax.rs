//! Parts of a softmax, and the sum that it weights.

use simd::{LANES, kernel, lanes, load, store, sum};

use super::functions::exp;

/// Blocks whose values are summed after all of them are computed: a value that was just written as
/// part of a longer vector is slow to read.
const GROUP: usize = 16;

/// The first of the largest values.
pub(crate) fn largest(values: &[f32]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
}

kernel! {
    /// Replaces each `x` by `eˣ⁻ᵐ` with the largest value `m`, and returns the sum of the new
    /// values.
    pub(crate) fn exponentials<'a>(_simd, values: &'a mut [f32]) -> f64 {
        let mut most = [f32::NEG_INFINITY; LANES];
        let (blocks, rest) = values.as_chunks::<LANES>();
        for block in blocks {
            most = lanes!(i => if block[i] > most[i] { block[i] } else { most[i] });
        }
        let largest = most.iter().chain(rest).fold(f32::NEG_INFINITY, |m, v| if *v > m { *v } else { m });
        // Sums of a block are exact enough in f32; a vocabulary has many blocks.
        let mut sums = [0.0f64; LANES];
        let (blocks, rest) = values.as_chunks_mut::<LANES>();
        for group in blocks.chunks_mut(GROUP) {
            for block in &mut *group {
                *block = exp(&lanes!(i => block[i] - largest));
            }
            for block in group {
                sums = lanes!(i => sums[i] + f64::from(block[i]));
            }
        }
        let last = exp(&{ let x = load(rest); lanes!(i => x[i] - largest) });
        let len = rest.len();
        store(last, rest);
        for (sum, value) in sums.iter_mut().zip(&last[..len]) {
            *sum += f64::from(*value);
        }
        sum(sums)
    }
}

/// Replaces values by their softmax: `eˣ/Σeˣ`.
pub fn softmax(values: &mut [f32]) {
    let scale = (1.0 / exponentials(values)) as f32;
    for value in values {
        *value *= scale;
    }
}

kernel! {
    /// `y[i] = Σ weights[r]·rows[r][i]` for rows of `y.len()` values.
    pub(crate) fn weighted_rows<'a>(_simd, rows: &'a [f32], weights: &'a [f32], y: &'a mut [f32]) {
        y.fill(0.0);
        let width = y.len().max(1);
        let (groups, rest) = weights.as_chunks::<4>();
        let (full, last) = rows[..weights.len() * width].split_at(groups.len() * 4 * width);
        for (rows, [a, b, c, d]) in full.chunks_exact(4 * width).zip(groups) {
            let ((r0, r1), (r2, r3)) = {
                let (front, back) = rows.split_at(2 * width);
                (front.split_at(width), back.split_at(width))
            };
            for ((((y, r0), r1), r2), r3) in y.iter_mut().zip(r0).zip(r1).zip(r2).zip(r3) {
                *y = *y + a * r0 + b * r1 + c * r2 + d * r3;
            }
        }
        for (row, weight) in last.chunks_exact(width).zip(rest) {
            for (y, value) in y.iter_mut().zip(row) {
                *y += weight * value;
            }
        }
    }
}
