//! The matrices of an encode, and the products that feed errors forward.

use std::borrow::Cow;
use std::ops::Range;

use codec_api::util::transpose;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

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
    all: Matrices,
}

impl Work {
    /// For a row-major matrix, or the transposed one.
    pub(super) fn new(values: &[f32], (rows, columns): (usize, usize), transposed: bool) -> Self {
        let weights = if transposed { turned(values, rows, columns) } else { values.to_vec() };
        let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
        // Adding −0 keeps the sign of a zero.
        let sums = vec![-0.0; weights.len()];
        Self { rows, columns, transposed, all: Matrices { targets: weights.clone(), weights, sums } }
    }

    /// The targets of some columns before the feedback of rows, row-major.
    pub(super) fn targets(&self, columns: &Range<usize>) -> Cow<'_, [f32]> {
        if columns.len() == self.columns {
            return Cow::Borrowed(&self.all.targets);
        }
        self.all.targets.chunks_exact(self.columns).flat_map(|row| &row[columns.clone()]).copied().collect()
    }

    /// Adds the errors of the columns `from` to the targets of the columns `to`.
    pub(super) fn feed_columns(&mut self, unit: &[f32], rows: &Range<usize>, from: &Range<usize>, to: &Range<usize>) {
        let width = self.columns;
        let targets = &mut self.all.targets[rows.start * width..rows.end * width];
        let errors = &self.all.sums[rows.start * width..rows.end * width];
        let targets = MatMut::from_row_major_slice_mut(targets, rows.len(), width);
        let errors = MatRef::from_row_major_slice(errors, rows.len(), width);
        let unit = MatRef::from_row_major_slice(unit, width, width);
        product(
            targets.subcols_mut(to.start, to.len()),
            errors.subcols(from.start, from.len()),
            unit.submatrix(from.start, to.start, from.len(), to.len()),
        );
    }

    /// Adds the feedback of the rows `from` to that of the rows `to`, in some columns.
    pub(super) fn feed_rows(&mut self, unit: &[f32], from: &Range<usize>, to: &Range<usize>, columns: &Range<usize>) {
        let width = self.columns;
        let sums = MatMut::from_row_major_slice_mut(&mut self.all.sums, self.rows, width);
        let residuals = MatRef::from_row_major_slice(&self.all.targets, self.rows, width);
        let unit = MatRef::from_row_major_slice(unit, self.rows, self.rows);
        product(
            sums.submatrix_mut(to.start, columns.start, to.len(), columns.len()),
            unit.submatrix(from.start, to.start, from.len(), to.len()).transpose(),
            residuals.submatrix(from.start, columns.start, from.len(), columns.len()),
        );
    }

    /// Copies some rows and columns.
    pub(super) fn load(&self, rows: &Range<usize>, columns: &Range<usize>, to: &mut Matrices) {
        let copy = |from: &[f32], to: &mut Vec<f32>| {
            to.clear();
            from[rows.start * self.columns..rows.end * self.columns]
                .chunks_exact(self.columns)
                .for_each(|row| to.extend_from_slice(&row[columns.clone()]));
        };
        copy(&self.all.weights, &mut to.weights);
        copy(&self.all.targets, &mut to.targets);
        copy(&self.all.sums, &mut to.sums);
    }

    /// Copies some rows and columns back.
    pub(super) fn store(&mut self, rows: &Range<usize>, columns: &Range<usize>, from: &Matrices) {
        let width = self.columns;
        let copy = |from: &[f32], to: &mut [f32]| {
            let to = to[rows.start * width..rows.end * width].chunks_exact_mut(width);
            to.zip(from.chunks_exact(columns.len())).for_each(|(to, from)| to[columns.clone()].copy_from_slice(from));
        };
        copy(&from.weights, &mut self.all.weights);
        copy(&from.targets, &mut self.all.targets);
        copy(&from.sums, &mut self.all.sums);
    }

    /// All decoded values, row-major in the order of the tensor.
    pub(super) fn decoded(self) -> Vec<f32> {
        if self.transposed { turned(&self.all.weights, self.rows, self.columns) } else { self.all.weights }
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

/// The transposed matrix.
pub(crate) fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    transpose((rows, columns), values, &mut out);
    out
}
