//! Rotation of rows: signs, and the fast Walsh–Hadamard transform of windows.

use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::{Rng, SeedableRng};
use codec_api::util::zeros;
use codec_api::{Cancel, Result};
use simd::{LANES, Simd, lanes, prefetch};

/// Weights rotated between two checks for cancellation.
const BATCH: usize = 1 << 16;
/// Distance of the prefetch, in weights: a single window is too short for the CPU to detect the
/// access pattern.
const AHEAD: usize = 1024;

/// An orthonormal matrix for rows of one width. The inverse rotation is its transpose.
#[derive(Debug)]
pub(super) struct Rotation {
    columns: usize,
    /// Columns of a window; 0 if there are no columns.
    window: usize,
    /// ±1/√window, for the columns of each window in turn.
    diagonal: Vec<f32>,
}

impl Rotation {
    /// For rows of `columns` columns, in windows of at most `block`, a power of two. The caller
    /// must have a row's values in memory, since this allocates as much.
    ///
    /// # Errors
    /// [`codec_api::CodecError::Limit`] without memory for the signs.
    pub(super) fn new(columns: usize, block: usize, seed: u32) -> Result<Self> {
        let window = window(columns, block);
        let windows = columns.div_ceil(window.max(1));
        let scale = (1.0 / (window.max(1) as f64).sqrt()) as f32;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(u64::from(seed));
        let mut diagonal: Vec<f32> = zeros(windows * window)?;
        for signs in diagonal.chunks_mut(64) {
            let bits = rng.next_u64();
            (0..).zip(signs).for_each(|(i, sign)| *sign = if bits >> i & 1 == 1 { -scale } else { scale });
        }
        Ok(Self { columns, window, diagonal })
    }

    /// Rotates whole rows.
    pub(super) fn forward(&self, rows: &mut [f32], cancel: &Cancel) -> Result<()> {
        self.batches(rows, cancel, forward)
    }

    /// Rotates whole rows back.
    pub(super) fn backward(&self, rows: &mut [f32], cancel: &Cancel) -> Result<()> {
        self.batches(rows, cancel, backward)
    }

    fn batches(&self, rows: &mut [f32], cancel: &Cancel, rotate: impl Fn(&Self, &mut [f32])) -> Result<()> {
        let rows_at_once = (BATCH / self.columns.max(1)).max(1);
        for rows in rows.chunks_mut((rows_at_once * self.columns).max(1)) {
            cancel.check()?;
            rotate(self, rows);
        }
        Ok(())
    }

    /// Bytes in memory.
    pub(super) fn resident_bytes(&self) -> usize {
        size_of_val(self.diagonal.as_slice())
    }

    /// Maximum number of sums and products that contribute to a value.
    pub(super) fn depth(&self) -> u32 {
        depth(self.columns, self.window)
    }

    /// Number of columns whose errors may add up in one value: those of a window, or of two windows
    /// that overlap.
    pub(super) fn mixed(&self) -> usize {
        if self.columns.is_multiple_of(self.window) { self.window } else { 2 * self.window }
    }

    /// The values of a window in the row that begins at `row`.
    #[inline(always)]
    fn values<'a>(&self, rows: &'a mut [f32], row: usize, index: usize) -> &'a mut [f32] {
        let start = row + (index * self.window).min(self.columns - self.window);
        for line in (0..self.window).step_by(LANES) {
            prefetch(rows, start + AHEAD + line);
        }
        &mut rows[start..start + self.window]
    }
}

/// The largest power of two that is at most `block` and fits into a row; 0 if there are no columns.
fn window(columns: usize, block: usize) -> usize {
    columns.checked_ilog2().map_or(0, |log| block.min(1 << log))
}

/// Maximum number of sums and products that contribute to a value in a row of `columns` columns. A
/// column is in two windows if the last one is moved back.
pub(super) fn depth(columns: usize, block: usize) -> u32 {
    let window = window(columns, block).max(1);
    let passes = if columns.is_multiple_of(window) { 1 } else { 2 };
    passes * (window.ilog2() + 1)
}

simd::kernel! {
    /// Rotates each window in turn: signs first, then the transform.
    fn forward<'a, 'b>(simd, rotation: &'a Rotation, rows: &'b mut [f32]) {
        for row in (0..rows.len()).step_by(rotation.columns) {
            for (index, diagonal) in rotation.diagonal.chunks_exact(rotation.window).enumerate() {
                let values = rotation.values(rows, row, index);
                scale(values, diagonal);
                transform(simd, values);
            }
        }
    }
}

simd::kernel! {
    /// The last window, which may overlap the previous one, and then the others: in each the
    /// transform, then the signs.
    fn backward<'a, 'b>(simd, rotation: &'a Rotation, rows: &'b mut [f32]) {
        let last = rotation.diagonal.len() / rotation.window - 1;
        for row in (0..rows.len()).step_by(rotation.columns) {
            for index in [last].into_iter().chain(0..last) {
                let values = rotation.values(rows, row, index);
                transform(simd, values);
                scale(values, &rotation.diagonal[index * rotation.window..][..rotation.window]);
            }
        }
    }
}

#[inline(always)]
fn scale(values: &mut [f32], diagonal: &[f32]) {
    for (v, d) in values.iter_mut().zip(diagonal) {
        *v *= d;
    }
}

/// The unscaled transform in place: for the strides 1, 2, 4, … in turn, all pairs `(a, b)` of
/// values a stride apart become `(a + b, a − b)`. The length must be a power of two.
#[inline(always)]
fn transform<S: Simd>(simd: S, values: &mut [f32]) {
    if values.len() < LANES {
        for log in 0..values.len().ilog2() {
            halves(values, 1 << log);
        }
        return;
    }
    for v in values.as_chunks_mut::<LANES>().0 {
        *v = within::<S, 8>(simd, within::<S, 4>(simd, within::<S, 2>(simd, within::<S, 1>(simd, *v))));
    }
    let mut stride = LANES;
    while 4 * stride <= values.len() {
        quarters(values, stride);
        stride *= 4;
    }
    if 2 * stride <= values.len() {
        halves(values, stride);
    }
}

/// One stride inside a vector: the other value of each pair, plus or minus the value itself. The
/// product of the value with ±1 is exact, so only the sum rounds. Compilers do not vectorise a
/// choice between sum and difference.
#[inline(always)]
fn within<S: Simd, const STRIDE: usize>(simd: S, v: [f32; LANES]) -> [f32; LANES] {
    let other: [f32; LANES] = lanes!(i => v[i ^ STRIDE]);
    let sign: [f32; LANES] = lanes!(i => if i & STRIDE == 0 { -1.0 } else { 1.0 });
    simd.subtract_product(&other, &v, &sign)
}

/// The transform's step for one stride.
#[inline(always)]
fn halves(values: &mut [f32], stride: usize) {
    for pair in values.chunks_exact_mut(2 * stride) {
        let (a, b) = pair.split_at_mut(stride);
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

/// The steps for a stride and twice this stride, in one pass over the values.
#[inline(always)]
fn quarters(values: &mut [f32], stride: usize) {
    for four in values.chunks_exact_mut(4 * stride) {
        let (low, high) = four.split_at_mut(2 * stride);
        let ((a, b), (c, d)) = (low.split_at_mut(stride), high.split_at_mut(stride));
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            let (low, high) = ([*a + *b, *a - *b], [*c + *d, *c - *d]);
            (*a, *b, *c, *d) = (low[0] + high[0], low[1] + high[1], low[0] - high[0], low[1] - high[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use simd::{Level, with_level};

    use super::*;

    static NEVER: Cancel = Cancel::new();

    /// Rows of whole windows, of overlapping windows, and shorter than a vector.
    const WIDTHS: [usize; 10] = [1, 2, 3, 7, 16, 17, 100, 384, 1000, 2048];

    /// The rotation's matrix: the rotated unit vectors as rows.
    fn matrix(rotation: &Rotation, columns: usize) -> Vec<f32> {
        let mut rows = vec![0.0; columns * columns];
        (0..columns).for_each(|i| rows[i * columns + i] = 1.0);
        rotation.forward(&mut rows, &NEVER).expect("nobody cancels");
        rows
    }

    #[test]
    fn it_is_orthonormal() {
        for columns in WIDTHS.into_iter().filter(|columns| *columns < 1000) {
            let matrix = matrix(&Rotation::new(columns, 64, 1).expect("memory"), columns);
            for (i, a) in matrix.chunks(columns).enumerate() {
                for (j, b) in matrix.chunks(columns).enumerate() {
                    let wanted = if i == j { 1.0 } else { 0.0 };
                    assert!((simd::dot(a, b) - wanted).abs() < 1e-6, "rows {i} and {j} of {columns}");
                }
            }
        }
    }

    #[test]
    fn backward_is_the_transpose() {
        for columns in [7, 100, 384] {
            let rotation = Rotation::new(columns, 128, 5).expect("memory");
            let (matrix, mut rows) = (matrix(&rotation, columns), vec![0.0; columns * columns]);
            (0..columns).for_each(|i| rows[i * columns + i] = 1.0);
            rotation.backward(&mut rows, &NEVER).expect("nobody cancels");
            for (i, value) in rows.iter().enumerate() {
                let other = matrix[i % columns * columns + i / columns];
                assert!((value - other).abs() < 1e-6, "place {i} of {columns} columns");
            }
        }
    }

    /// The definition: signs drawn one by one, strides one by one.
    fn plain(row: &mut [f32], block: usize, seed: u32) {
        let columns = row.len();
        let window = window(columns, block);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(u64::from(seed));
        let (mut word, mut drawn) = (0, 0);
        for k in 0..columns.div_ceil(window) {
            let values = &mut row[(k * window).min(columns - window)..][..window];
            for value in &mut *values {
                if drawn % 64 == 0 {
                    word = rng.next_u64();
                }
                let sign = if word >> (drawn % 64) & 1 == 1 { -1.0 } else { 1.0 };
                *value *= sign * (1.0 / (window as f64).sqrt()) as f32;
                drawn += 1;
            }
            for stride in (0..window.ilog2()).map(|log| 1 << log) {
                for i in (0..window).filter(|i| i & stride == 0) {
                    (values[i], values[i + stride]) = (values[i] + values[i + stride], values[i] - values[i + stride]);
                }
            }
        }
    }

    #[test]
    fn every_level_gives_the_bits_of_the_definition() {
        for columns in WIDTHS {
            for block in [16, 32, 256, 1024] {
                let row: Vec<f32> = (0..columns).map(|i| ((i * 7919 + 13) % 1009) as f32 / 331.0 - 1.5).collect();
                let mut expected = row.clone();
                plain(&mut expected, block, 9);
                let rotation = Rotation::new(columns, block, 9).expect("memory");
                for level in Level::available() {
                    // The second row may start at any alignment.
                    let mut rows = [row.clone(), row.clone()].concat();
                    with_level(level, || rotation.forward(&mut rows, &NEVER)).expect("nobody cancels");
                    let same = rows
                        .chunks(columns)
                        .all(|row| row.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
                    assert!(same, "{columns} columns in blocks of {block} at {level}");
                }
            }
        }
    }
}
