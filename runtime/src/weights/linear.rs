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

    /// Part `index` of `count` of the rows.
    fn rows(&self, index: usize, count: usize) -> Range<usize> {
        let part = part_in_granules(index, count, self.rows.len(), self.matrix.granule());
        self.rows.start + part.start..self.rows.start + part.end
    }

    /// The outputs of thread `index` of `count`; `None` if the threads share the inputs.
    fn place(&self, index: usize, count: usize) -> Option<Range<usize>> {
        match self.product {
            Product::Forward => Some(part_in_granules(index, count, self.rows.len(), self.matrix.granule())),
            Product::Transposed if self.matrix.shares_outputs() => {
                Some(part_in_granules(index, count, self.outputs(), OUTPUTS))
            }
            Product::Transposed => None,
        }
    }

    /// Values that thread `index` of `count` computes for a batch.
    pub(crate) fn extent(&self, index: usize, count: usize, batch: usize) -> usize {
        match self.place(index, count) {
            Some(place) => place.len() * batch,
            None => part(index, count, SEGMENTS).len() * self.outputs() * batch,
        }
    }

    /// The share of thread `index` of `count` of the products with a batch, into as many values as
    /// [`Self::extent`]. `scratch` is memory that grows but does not shrink.
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn share(
        &self,
        (index, count): (usize, usize),
        x: &Inputs<'_>,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> Result<()> {
        let batch = x.batch();
        let Some(place) = self.place(index, count) else {
            out.fill(0.0);
            let width = (self.outputs() * batch).max(1);
            return part(index, count, SEGMENTS).zip(out.chunks_exact_mut(width)).try_for_each(|(segment, out)| {
                self.matrix.apply(Product::Transposed, self.rows(segment, SEGMENTS), x, out)?;
                // The parts are added: one of them has what the adapter adds.
                self.adapt(0..if segment == 0 { self.outputs() } else { 0 }, x, out)
            });
        };
        let outputs = if self.product == Product::Forward { self.rows(index, count) } else { place.clone() };
        let multiply = |out: &mut [f32]| {
            match self.product {
                Product::Forward => self.matrix.apply(Product::Forward, outputs.clone(), x, out)?,
                Product::Transposed => self.matrix.apply_outputs(&outputs, x, out)?,
            }
            self.adapt(place.clone(), x, out)
        };
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

    /// The products with a batch, without a bias: `batch × outputs`, with the bits of the shares of
    /// any number of threads.
    ///
    /// # Errors
    /// Those of the operators.
    pub(crate) fn product(&self, x: &Inputs<'_>, out: &mut [f32], scratch: &mut Vec<f32>) -> Result<()> {
        if self.place(0, 1).is_some() {
            return self.share((0, 1), x, out, scratch);
        }
        let mut sums = vec![0.0; self.extent(0, 1, x.batch())];
        self.share((0, 1), x, &mut sums, scratch)?;
        self.gather((0, 1), &sums, x.batch(), out);
        Ok(())
    }

    /// Adds what the adapter adds to some outputs, `outputs × batch`.
    fn adapt(&self, outputs: Range<usize>, x: &Inputs<'_>, out: &mut [f32]) -> Result<()> {
        match &self.adapter {
            Some(adapter) if !outputs.is_empty() => adapter.add(outputs, x, out),
            _ => Ok(()),
        }
    }

    /// Puts the share of thread `index` of `count` into the output, `batch × outputs`. The shares
    /// are gathered in the order of the threads.
    pub(crate) fn gather(&self, (index, count): (usize, usize), share: &[f32], batch: usize, out: &mut [f32]) {
        let outputs = self.outputs().max(1);
        if let Some(place) = self.place(index, count) {
            for (out, share) in out.chunks_exact_mut(outputs).zip(share.chunks_exact(place.len().max(1))) {
                out[place.clone()].copy_from_slice(share);
            }
            return;
        }
        if index == 0 {
            out.fill(0.0);
        }
        for segment in share.chunks_exact((outputs * batch).max(1)) {
            for (b, out) in out.chunks_exact_mut(outputs).enumerate() {
                out.iter_mut().zip(segment.iter().skip(b).step_by(batch)).for_each(|(y, sum)| *y += sum);
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
