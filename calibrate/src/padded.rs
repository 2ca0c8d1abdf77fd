//! A matrix whose rows are apart in memory.

use codec_api::util::{transpose, transpose_to};
use faer::{MatMut, MatRef};

/// Columns from which on rows are apart.
const WIDE: usize = 256;

/// Values between two rows.
const GAP: usize = 16;

/// A row-major matrix with unused values between wide rows. Without them, the values of a column
/// would be in few sets of the caches if the number of columns is a power of two, and products take
/// half as long again.
#[derive(Debug)]
pub(crate) struct Padded {
    columns: usize,
    stride: usize,
    values: Vec<f32>,
}

impl Padded {
    /// A matrix of one value.
    pub(crate) fn filled(rows: usize, columns: usize, value: f32) -> Self {
        let stride = if columns < WIDE { columns } else { columns.next_multiple_of(GAP) + GAP };
        Self { columns, stride, values: vec![value; rows * stride] }
    }

    /// The matrix with these values, row-major.
    pub(crate) fn new(values: &[f32], rows: usize, columns: usize) -> Self {
        let mut padded = Self::filled(rows, columns, 0.0);
        (0..rows).for_each(|row| padded.row_mut(row).copy_from_slice(&values[row * columns..][..columns]));
        padded
    }

    /// The transposed matrix.
    pub(crate) fn turned(self) -> Self {
        let rows = self.values.len() / self.stride.max(1);
        // The values between rows become rows at the end, which are dropped.
        let mut turned = Self::filled(self.stride, rows, 0.0);
        transpose_to((rows, self.stride), &self.values, &mut turned.values, turned.stride);
        turned.values.truncate(self.columns * turned.stride);
        turned
    }

    /// The values, row-major.
    pub(crate) fn into_values(mut self) -> Vec<f32> {
        if self.stride > self.columns {
            let rows = self.values.len() / self.stride;
            for row in 1..rows {
                let first = row * self.stride;
                self.values.copy_within(first..first + self.columns, row * self.columns);
            }
            self.values.truncate(rows * self.columns);
        }
        self.values
    }

    /// The values, row-major, if rows are not apart.
    pub(crate) fn as_values(&self) -> Option<&[f32]> {
        (self.stride == self.columns).then_some(&self.values)
    }

    /// A row.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..][..self.columns]
    }

    /// A row.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.stride..][..self.columns]
    }

    /// The matrix, with columns behind it that have no meaning.
    pub(crate) fn matrix(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.values, self.values.len() / self.stride.max(1), self.stride)
    }

    /// The matrix, with columns behind it that have no meaning.
    pub(crate) fn matrix_mut(&mut self) -> MatMut<'_, f32> {
        let rows = self.values.len() / self.stride.max(1);
        MatMut::from_row_major_slice_mut(&mut self.values, rows, self.stride)
    }
}

/// The transposed matrix.
pub(crate) fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    transpose((rows, columns), values, &mut out);
    out
}
