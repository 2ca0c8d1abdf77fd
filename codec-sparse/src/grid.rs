//! The sparse forms' view of a tensor: rows of units that are zero or not.

use std::ops::Range;

use codec_api::{Dtype, Result, TensorSpec};

/// The units of a tensor. A unit is one element; for a dtype smaller than a byte it is a byte, and
/// all bytes form one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Bytes of a unit: 1, 2, 4 or 8.
    pub(crate) width: usize,
    /// Dtype of the units as a tensor of their own.
    dtype: Dtype,
}

impl Grid {
    pub(crate) fn new(spec: &TensorSpec) -> Self {
        let (dtype, bits) = (spec.dtype(), spec.dtype().bitsize());
        if bits < 8 {
            let columns = spec.byte_len();
            return Self { rows: columns.min(1), columns, width: 1, dtype: Dtype::U8 };
        }
        let (rows, columns) = spec.matrix();
        Self { rows, columns, width: bits / 8, dtype }
    }

    pub(crate) fn units(&self) -> usize {
        self.rows * self.columns
    }

    /// Flat indices of the units of these rows.
    pub(crate) fn units_of(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.columns..rows.end * self.columns
    }

    /// A tensor of some of the units.
    pub(crate) fn values(&self, shape: Vec<usize>) -> Result<TensorSpec> {
        TensorSpec::new(self.dtype, shape)
    }

    /// The rows, each cut into segments of at most `width` columns.
    pub(crate) fn segments(&self, width: usize) -> Segments {
        Segments { rows: self.rows, columns: self.columns, width }
    }

    /// All units as one row, cut into segments of at most `width`.
    pub(crate) fn blocks(&self, width: usize) -> Segments {
        Segments { rows: self.rows.min(1), columns: self.units(), width }
    }
}

/// Runs of neighbouring units, each within one row; in row-major order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    rows: usize,
    columns: usize,
    width: usize,
}

impl Segments {
    pub(crate) fn count(&self) -> usize {
        self.rows * self.per_row()
    }

    /// Segments of a row.
    pub(crate) fn per_row(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Flat indices of the units of each segment.
    pub(crate) fn iter(self) -> impl Iterator<Item = Range<usize>> {
        self.of_rows(0..self.rows)
    }

    /// Flat indices of the units of each segment of these rows.
    pub(crate) fn of_rows(self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let Self { columns, width, .. } = self;
        let starts = rows.flat_map(move |row| (0..columns).step_by(width).map(move |column| (row, column)));
        starts.map(move |(row, column)| row * columns + column..row * columns + columns.min(column + width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(dtype: Dtype, shape: &[usize]) -> Grid {
        Grid::new(&TensorSpec::new(dtype, shape).unwrap())
    }

    #[test]
    fn segments_cover_every_row() {
        let grid = grid(Dtype::F32, &[2, 5]);
        let all: Vec<_> = grid.segments(3).iter().collect();
        assert_eq!(all, [0..3, 3..5, 5..8, 8..10]);
        assert_eq!(grid.segments(3).count(), 4);
        let second: Vec<_> = grid.segments(3).of_rows(1..2).collect();
        assert_eq!(second, [5..8, 8..10]);
        let blocks: Vec<_> = grid.blocks(4).iter().collect();
        assert_eq!(blocks, [0..4, 4..8, 8..10]);
    }

    #[test]
    fn dtypes_below_a_byte_are_bytes_in_one_row() {
        let grid = grid(Dtype::F4, &[4, 6]);
        assert_eq!((grid.rows, grid.columns, grid.width), (1, 12, 1));
        assert_eq!(grid.values(vec![3]).unwrap(), TensorSpec::new(Dtype::U8, [3]).unwrap());
        let empty = self::grid(Dtype::F4, &[0, 6]);
        assert_eq!((empty.units(), empty.segments(4).count(), empty.blocks(4).count()), (0, 0, 0));
    }
}
