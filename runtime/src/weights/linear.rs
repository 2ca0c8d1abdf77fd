//! A linear layer, and how threads share it.

use std::ops::Range;
use std::sync::Arc;

use codec_api::util::transpose;
use codec_api::{Inputs, Product, Result};

use super::LowRank;
use super::matrix::Matrix;

/// Parts of a matrix whose rows are inputs, if its operators cannot compute some outputs alone. The
/// sum of the products has the same order with any number of threads.
const SEGMENTS: usize = 8;

/// The outputs of a thread begin at a multiple of it, if rows are inputs.
const OUTPUTS: usize = 64;

/// Pieces of the outputs of a thread. A thread that is done takes pieces of the others.
const PIECES: usize = 6;

/// The outputs of a piece are a multiple of it: operators may do some work for so many at once.
const PIECE: usize = 128;

/// A piece of a product, which one thread computes at a time.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Some outputs.
    Outputs(Range<usize>),
    /// What one of [`SEGMENTS`] parts of the inputs adds to all outputs.
    Segment(usize),
}

/// Part `index` of `count` of `len` things.
pub(crate) fn part(index: usize, count: usize, len: usize) -> Range<usize> {
    len * index / count..len * (index + 1) / count
}

/// As [`part`], but the boundaries are multiples of `granule`.
pub(crate) fn part_in_granules(index: usize, count: usize, len: usize, granule: usize) -> Range<usize> {
    let granules = part(index, count, len.div_ceil(granule));
    (granules.start * granule).min(len)..(granules.end * granule).min(len)
}

/// A linear layer: rows of a matrix, and perhaps a bias and an adapter.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    matrix: Arc<Matrix>,
    rows: Range<usize>,
    product: Product,
    bias: Option<Vec<f32>>,
    adapter: Option<Arc<LowRank>>,
}

impl Linear {
    /// The layer with all rows of a matrix.
    pub(crate) fn new(matrix: Arc<Matrix>, product: Product, bias: Option<Vec<f32>>) -> Self {
        Self { rows: 0..matrix.rows(), matrix, product, bias, adapter: None }
    }

    /// The layer with some rows of a matrix whose rows are outputs.
    pub(crate) fn of_rows(matrix: &Arc<Matrix>, rows: Range<usize>) -> Self {
        Self { matrix: Arc::clone(matrix), rows, product: Product::Forward, bias: None, adapter: None }
    }

    /// The layer with an adapter beside it.
    pub(crate) fn with_adapter(mut self, adapter: Option<LowRank>) -> Self {
        self.adapter = adapter.map(Arc::new);
        self
    }

    /// Values of an output vector.
    pub(crate) fn outputs(&self) -> usize {
        if self.product == Product::Forward { self.rows.len() } else { self.matrix.columns() }
    }

    /// The numbers of its items in a [`super::Store`].
    pub(crate) fn items(&self) -> impl Iterator<Item = usize> {
        self.matrix.items(&self.rows)
    }

    /// Whether threads share the outputs, and not the inputs.
    fn shares_outputs(&self) -> bool {
        self.product == Product::Forward || self.matrix.shares_outputs()
    }

    /// The pieces of thread `index` of `count`, if it computes all of its own.
    pub(crate) fn pieces(&self, index: usize, count: usize, batch: usize) -> Vec<Piece> {
        if !self.shares_outputs() {
            return part(index, count, SEGMENTS).map(Piece::Segment).collect();
        }
        let granule = if self.product == Product::Forward { self.matrix.granule() } else { OUTPUTS };
        let own = part_in_granules(index, count, self.outputs(), granule);
        let mut step = own.len().max(1);
        if batch == 1 && count > 1 && self.adapter.is_none() && self.matrix.divides() {
            step = step.div_ceil(PIECES).next_multiple_of(PIECE.next_multiple_of(granule));
        }
        own.clone().step_by(step).map(|first| Piece::Outputs(first..own.end.min(first + step))).collect()
    }

    /// Values of a piece of the products with a batch.
    pub(crate) fn extent(&self, piece: &Piece, batch: usize) -> usize {
        match piece {
            Piece::Outputs(outputs) => outputs.len() * batch,
            Piece::Segment(_) => self.outputs() * batch,
        }
    }

    /// A piece of the products with a batch, into as many values as [`Self::extent`]. `scratch` is
    /// memory that grows but does not shrink.
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn compute(&self, piece: &Piece, x: &Inputs<'_>, out: &mut [f32], scratch: &mut Vec<f32>) -> Result<()> {
        let place = match piece {
            Piece::Outputs(outputs) => outputs,
            Piece::Segment(segment) => {
                out.fill(0.0);
                let part = part_in_granules(*segment, SEGMENTS, self.rows.len(), self.matrix.granule());
                self.matrix.apply(Product::Transposed, self.rows_of(&part), x, out)?;
                // The segments are added: one of them has what the adapter adds.
                return self.adapt(0..if *segment == 0 { self.outputs() } else { 0 }, x, out);
            }
        };
        let outputs = if self.product == Product::Forward { self.rows_of(place) } else { place.clone() };
        let multiply = |out: &mut [f32]| {
            match self.product {
                Product::Forward => self.matrix.apply(Product::Forward, outputs.clone(), x, out)?,
                Product::Transposed => self.matrix.apply_outputs(&outputs, x, out)?,
            }
            self.adapt(place.clone(), x, out)
        };
        let batch = x.batch();
        if batch <= 1 || place.is_empty() {
            return multiply(out);
        }
        if self.adapter.is_none() {
            return self.matrix.apply_vectors(self.product, &outputs, x, out);
        }
        scratch.resize(scratch.len().max(out.len()), 0.0);
        let scratch = &mut scratch[..out.len()];
        multiply(scratch)?;
        transpose((place.len(), batch), scratch, out);
        Ok(())
    }

    /// Some of the rows, counted from the first one of the layer, in the matrix.
    fn rows_of(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.start + rows.start..self.rows.start + rows.end
    }

    /// The products with a batch, without a bias: `batch × outputs`, with the bits of the pieces of
    /// any number of threads.
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn product(&self, x: &Inputs<'_>, out: &mut [f32], scratch: &mut Vec<f32>) -> Result<()> {
        if self.shares_outputs() {
            return self.compute(&Piece::Outputs(0..self.outputs()), x, out, scratch);
        }
        let mut sums = vec![0.0; self.outputs() * x.batch()];
        for segment in (0..SEGMENTS).map(Piece::Segment) {
            self.compute(&segment, x, &mut sums, scratch)?;
            self.gather(&segment, &sums, x.batch(), out);
        }
        Ok(())
    }

    /// Adds what the adapter adds to some outputs, `outputs × batch`.
    fn adapt(&self, outputs: Range<usize>, x: &Inputs<'_>, out: &mut [f32]) -> Result<()> {
        match &self.adapter {
            Some(adapter) if !outputs.is_empty() => adapter.add(outputs, x, out),
            _ => Ok(()),
        }
    }

    /// Puts a piece into the output, `batch × outputs`. Segments are put in their order.
    pub(crate) fn gather(&self, piece: &Piece, values: &[f32], batch: usize, out: &mut [f32]) {
        let width = self.outputs().max(1);
        match piece {
            Piece::Outputs(outputs) => {
                for (out, values) in out.chunks_exact_mut(width).zip(values.chunks_exact(outputs.len().max(1))) {
                    out[outputs.clone()].copy_from_slice(values);
                }
            }
            Piece::Segment(segment) => {
                if *segment == 0 {
                    out.fill(0.0);
                }
                for (b, out) in out.chunks_exact_mut(width).enumerate() {
                    out.iter_mut().zip(values.iter().skip(b).step_by(batch)).for_each(|(y, sum)| *y += sum);
                }
            }
        }
    }

    /// Adds the bias, if there is one, to each vector of the output.
    pub(crate) fn add_bias(&self, out: &mut [f32]) {
        let Some(bias) = &self.bias else { return };
        for out in out.chunks_exact_mut(bias.len().max(1)) {
            out.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use codec_api::TensorView;

    use super::super::dense::dense_operator;
    use super::super::matrix::Operator;
    use super::*;

    #[test]
    fn the_pieces_of_all_threads_are_all_outputs_in_order() {
        for rows in [1, 100, 1280, 5001] {
            let weights = vec![1.0; rows * 2];
            let operator = dense_operator(&TensorView::from_f32([rows, 2], &weights).unwrap()).unwrap();
            let matrix = Matrix::new(vec![Operator::Here(operator)]);
            let linear = Linear::new(Arc::new(matrix), Product::Forward, None);
            for count in 1..5 {
                let mut next = 0;
                for piece in (0..count).flat_map(|index| linear.pieces(index, count, 1)) {
                    let Piece::Outputs(outputs) = piece else { panic!("threads share the inputs") };
                    assert_eq!(outputs.start, next, "{rows} rows, {count} threads");
                    next = outputs.end;
                }
                assert_eq!(next, rows, "{count} threads");
                assert!(count == 1 || (0..count).all(|index| linear.pieces(index, count, 7).len() <= 1));
            }
        }
    }
}
