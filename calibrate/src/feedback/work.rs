//! The matrices of an encode, and the products that feed errors forward.

use std::borrow::Cow;
use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::padded::{Padded, turned};

/// Most rows and columns of a product that one thread computes.
const SHARE: usize = 256;

/// What is known of some weights, row-major.
#[derive(Debug, Default)]
pub(super) struct Matrices {
    /// The weights `W`; once they are encoded, the decoded values `Ŵ`.
    pub(super) weights: Vec<f32>,
    /// `T`: the weights and the feedback of columns so far. Once they are encoded, `z = T − Ŵ`.
    pub(super) targets: Vec<f32>,
    /// The feedback of rows so far. Once the weights are encoded, the errors `W − Ŵ`.
    pub(super) sums: Vec<f32>,
}

impl Matrices {
    /// Appends the values to encode in some rows and columns of a matrix of this width.
    #[inline(always)]
    pub(super) fn block(&self, rows: Range<usize>, columns: Range<usize>, width: usize, out: &mut Vec<f32>) {
        for row in rows {
            let places = row * width + columns.start..row * width + columns.end;
            let values = self.targets[places.clone()].iter().zip(&self.sums[places]);
            out.extend(values.map(|(target, sum)| target + sum));
        }
    }
}

/// The matrices of the codec's matrix: perhaps of the transposed one.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) rows: usize,
    pub(super) columns: usize,
    transposed: bool,
    /// As [`Matrices`].
    weights: Padded,
    targets: Padded,
    sums: Padded,
}

impl Work {
    /// For a row-major matrix, or the transposed one.
    pub(super) fn new(values: &[f32], (rows, columns): (usize, usize), transposed: bool) -> Self {
        let values = if transposed { Cow::Owned(turned(values, rows, columns)) } else { Cow::Borrowed(values) };
        let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
        let [weights, targets] = [(); 2].map(|()| Padded::new(&values, rows, columns));
        // Adding −0 keeps the sign of a zero.
        let sums = Padded::filled(rows, columns, -0.0);
        Self { rows, columns, transposed, weights, targets, sums }
    }

    /// The targets of some columns before the feedback of rows, row-major.
    pub(super) fn targets(&self, columns: &Range<usize>) -> Cow<'_, [f32]> {
        match self.targets.as_values() {
            Some(values) if columns.len() == self.columns => Cow::Borrowed(values),
            _ => {
                let mut values = Vec::with_capacity(self.rows * columns.len());
                (0..self.rows).for_each(|row| values.extend_from_slice(&self.targets.row(row)[columns.clone()]));
                Cow::Owned(values)
            }
        }
    }

    /// Adds the errors of the columns `from` to the targets of the columns `to`.
    pub(super) fn feed_columns(&mut self, unit: &Padded, rows: &Range<usize>, from: &Range<usize>, to: &Range<usize>) {
        product(
            self.targets.matrix_mut().submatrix_mut(rows.start, to.start, rows.len(), to.len()),
            self.sums.matrix().submatrix(rows.start, from.start, rows.len(), from.len()),
            unit.matrix().submatrix(from.start, to.start, from.len(), to.len()),
        );
    }

    /// Adds the feedback of the rows `from` to that of the rows `to`, in some columns. `turned` is
    /// the transposed factor of rows, whose rows the product then reads along.
    pub(super) fn feed_rows(
        &mut self,
        turned: &Padded,
        from: &Range<usize>,
        to: &Range<usize>,
        columns: &Range<usize>,
    ) {
        product(
            self.sums.matrix_mut().submatrix_mut(to.start, columns.start, to.len(), columns.len()),
            turned.matrix().submatrix(to.start, from.start, to.len(), from.len()),
            self.targets.matrix().submatrix(from.start, columns.start, from.len(), columns.len()),
        );
    }

    /// Copies some rows and columns.
    pub(super) fn load(&self, rows: &Range<usize>, columns: &Range<usize>, to: &mut Matrices) {
        let copy = |from: &Padded, to: &mut Vec<f32>| {
            to.clear();
            rows.clone().for_each(|row| to.extend_from_slice(&from.row(row)[columns.clone()]));
        };
        copy(&self.weights, &mut to.weights);
        copy(&self.targets, &mut to.targets);
        copy(&self.sums, &mut to.sums);
    }

    /// Copies some rows and columns back.
    pub(super) fn store(&mut self, rows: &Range<usize>, columns: &Range<usize>, from: &Matrices) {
        let copy = |from: &[f32], to: &mut Padded| {
            let from = from.chunks_exact(columns.len());
            rows.clone().zip(from).for_each(|(row, from)| to.row_mut(row)[columns.clone()].copy_from_slice(from));
        };
        copy(&from.weights, &mut self.weights);
        copy(&from.targets, &mut self.targets);
        copy(&from.sums, &mut self.sums);
    }

    /// All decoded values, row-major in the order of the tensor.
    pub(super) fn decoded(self) -> Vec<f32> {
        let decoded = self.weights.into_values();
        if self.transposed { turned(&decoded, self.rows, self.columns) } else { decoded }
    }
}

/// `to += left · right`. Threads share the halves of halves of `to`, whose number does not depend
/// on theirs.
fn product(to: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    let (rows, columns) = (to.nrows(), to.ncols());
    if rows.max(columns) <= SHARE {
        matmul(to, Accum::Add, left, right, 1.0, Par::Seq);
    } else if rows >= columns {
        let (above, below) = to.split_at_row_mut(rows / 2);
        let left = left.split_at_row(rows / 2);
        rayon::join(|| product(above, left.0, right), || product(below, left.1, right));
    } else {
        let (first, second) = to.split_at_col_mut(columns / 2);
        let right = right.split_at_col(columns / 2);
        rayon::join(|| product(first, left, right.0), || product(second, left, right.1));
    }
}
