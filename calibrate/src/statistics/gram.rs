//! Sums of outer products.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows of a block.
const ROWS: usize = 128;

/// `Σ x·xᵀ` in f64. A batch is summed in f32.
#[derive(Debug)]
pub(crate) struct Gram {
    order: usize,
    /// Number of the vectors.
    vectors: usize,
    /// For each block of rows, the columns from its first row on.
    blocks: Vec<Vec<f64>>,
}

impl Gram {
    pub(crate) fn new(order: usize) -> Self {
        let block = |first: usize| vec![0.0; ROWS.min(order - first) * (order - first)];
        Self { order, vectors: 0, blocks: (0..order).step_by(ROWS).map(block).collect() }
    }

    /// Adds the vectors of a batch, side by side.
    pub(crate) fn add(&mut self, x: &[f32]) {
        let order = self.order;
        if x.is_empty() {
            return;
        }
        let x = MatRef::from_row_major_slice(x, x.len() / order, order);
        self.vectors += x.nrows();
        self.blocks.par_iter_mut().enumerate().for_each(|(number, sums)| {
            let first = number * ROWS;
            let (rows, columns) = (ROWS.min(order - first), order - first);
            let mut products = vec![0.0; rows * columns];
            let target = MatMut::from_row_major_slice_mut(&mut products, rows, columns);
            let (left, right) = (x.subcols(first, rows), x.subcols(first, columns));
            matmul(target, Accum::Replace, left.transpose(), right, 1.0, Par::Seq);
            sums.iter_mut().zip(&products).for_each(|(sum, product)| *sum += f64::from(*product));
        });
    }

    /// Number of rows.
    pub(super) fn order(&self) -> usize {
        self.order
    }

    /// Number of the vectors.
    pub(super) fn vectors(&self) -> usize {
        self.vectors
    }

    /// All sums, for [`Self::of_sums`].
    pub(super) fn sums(&self) -> Vec<f64> {
        self.blocks.concat()
    }

    /// The matrix with these sums; `None` if it would have another number of them.
    pub(super) fn of_sums(order: usize, sums: &[f64]) -> Option<Self> {
        let (mut gram, mut rest) = (Self::new(order), sums);
        for block in &mut gram.blocks {
            let (values, others) = rest.split_at_checked(block.len())?;
            block.copy_from_slice(values);
            rest = others;
        }
        rest.is_empty().then_some(gram)
    }

    /// Adds another sum.
    pub(super) fn add_sum(&mut self, other: &Self) {
        self.vectors += other.vectors;
        for (sums, others) in self.blocks.iter_mut().zip(&other.blocks) {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
    }

    /// The whole matrix, divided by a number of vectors.
    pub(crate) fn mean(&self, vectors: f64) -> Vec<f32> {
        let mut matrix = vec![0.0; self.order * self.order];
        for (number, sums) in self.blocks.iter().enumerate() {
            let first = number * ROWS;
            for (i, row) in (first..).zip(sums.chunks_exact(self.order - first)) {
                for (j, sum) in (first..).zip(row).skip(i - first) {
                    let mean = (sum / vectors) as f32;
                    matrix[i * self.order + j] = mean;
                    matrix[j * self.order + i] = mean;
                }
            }
        }
        matrix
    }
}

/// `Σ x·yᵀ` in f64. A batch is summed in f32.
#[derive(Debug)]
pub(crate) struct Cross {
    rows: usize,
    columns: usize,
    /// Row-major.
    sums: Vec<f64>,
}

impl Cross {
    /// For vectors `x` of `rows` values and `y` of `columns`.
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, sums: vec![0.0; rows * columns] }
    }

    /// Adds the vectors of a batch, side by side.
    pub(crate) fn add(&mut self, x: &[f32], y: &[f32]) {
        let (rows, columns) = (self.rows, self.columns);
        let x = MatRef::from_row_major_slice(x, x.len() / rows, rows);
        let y = MatRef::from_row_major_slice(y, y.len() / columns, columns);
        self.sums.par_chunks_mut(ROWS * columns).enumerate().for_each(|(number, sums)| {
            let (first, rows) = (number * ROWS, sums.len() / columns);
            let mut products = vec![0.0; sums.len()];
            let target = MatMut::from_row_major_slice_mut(&mut products, rows, columns);
            matmul(target, Accum::Replace, x.subcols(first, rows).transpose(), y, 1.0, Par::Seq);
            sums.iter_mut().zip(&products).for_each(|(sum, product)| *sum += f64::from(*product));
        });
    }

    /// The matrix, divided by the number of vectors.
    pub(crate) fn mean(&self, vectors: usize) -> Mat<f64> {
        let scale = 1.0 / vectors.max(1) as f64;
        Mat::from_fn(self.rows, self.columns, |i, j| scale * self.sums[i * self.columns + j])
    }
}
