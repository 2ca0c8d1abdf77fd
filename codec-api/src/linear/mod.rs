//! Linear operators that multiply with an encoded matrix.

mod kernels;
mod rows;

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::Range;

use crate::codec::Codec;
use crate::context::DecodeCx;
use crate::error::{CodecError, Result};
use crate::payload::PayloadView;
use crate::rows::open_of_any_size;
use crate::tensor::TensorSpec;

pub use rows::RowsLinear;

/// A codec that multiplies with its payload.
pub trait LinearKernel {
    /// Prepares an operator from the payload, for the matrix view `W` of the tensor
    /// ([`TensorSpec::matrix`]). The operator keeps no dense copy of `W`.
    ///
    /// # Errors
    /// As [`crate::Codec::decode`].
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>>;
}

/// The linear operator of a payload of any codec, after [`PayloadView::check_size`]: the codec's
/// own operator, or else an operator over decoded rows.
///
/// # Errors
/// As [`crate::open_rows`].
pub fn open_linear(
    codec: &dyn Codec,
    spec: &TensorSpec,
    payload: PayloadView<'_>,
    cx: &DecodeCx<'_>,
) -> Result<Box<dyn LinearOp>> {
    payload.check_size(codec, spec)?;
    match codec.as_linear() {
        Some(kernel) => kernel.prepare(spec, payload, cx),
        None => Ok(Box::new(RowsLinear::new(open_of_any_size(codec, spec, payload, cx)?))),
    }
}

/// Which product an operator computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// `y = W·x`, for a Linear layer, whose rows are outputs.
    Forward,
    /// `y = Wᵀ·x`, for a GPT-2 `Conv1D`, whose rows are inputs.
    Transposed,
}

/// The inputs of a product: a batch of vectors, which several operators may share.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Inputs<'a> {
    values: &'a [f32],
    batch: usize,
}

impl<'a> Inputs<'a> {
    /// A batch of vectors, row-major: `batch × inputs` values.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if `values` does not consist of `batch` vectors of one length.
    pub fn new(values: &'a [f32], batch: usize) -> Result<Self> {
        if batch > 0 && values.len().is_multiple_of(batch) || batch == 0 && values.is_empty() {
            return Ok(Self { values, batch });
        }
        Err(CodecError::Usage(format!("{} values are not {batch} vectors", values.len())))
    }

    /// Number of vectors.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Length of each vector.
    pub fn width(&self) -> usize {
        self.values.len().checked_div(self.batch).unwrap_or(0)
    }

    /// All values, row-major.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Vector `i`.
    ///
    /// # Panics
    /// If `i` is not below [`Self::batch`].
    pub fn vector(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.width()..][..self.width()]
    }
}

/// A prepared operator of a matrix `W`. Several threads can share it; each thread multiplies with
/// its own range of rows.
pub trait LinearOp: Debug + Send + Sync {
    /// Rows and columns of `W`.
    fn shape(&self) -> (usize, usize);

    /// The granule: a product with this many rows costs no more than a product with one row. Ranges
    /// that begin at multiples of the granule waste no work.
    fn granule(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Multiplies with `rows` of `W`.
    ///
    /// - [`Product::Forward`]: `x` has vectors of as many values as `W` has columns. `y` gets the
    ///   outputs of these rows, `rows × batch`: one row of `y` per row of `W`, so that each thread
    ///   writes a contiguous part.
    /// - [`Product::Transposed`]: `x` has vectors of as many values as `W` has rows, of which only
    ///   those in `rows` are used. Their products are added to `y`, `columns × batch`.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the lengths do not match; see [`check_product`].
    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()>;

    /// Tolerance `t` of [`Self::apply`] over all rows against the decoded matrix Ŵ: the error of
    /// every element of `y` is at most `t · ‖Ŵ‖ · ‖x‖`, with the Frobenius norm of Ŵ
    /// and the Euclidean norm of the vector `x`. It holds for every `x`.
    fn tolerance(&self) -> f32;

    /// Heap and memory-mapped bytes that the operator keeps for the weights.
    fn resident_bytes(&self) -> u64;
}

/// Checks the arguments of [`LinearOp::apply`] for a matrix of `(rows, columns)`.
///
/// # Errors
/// [`CodecError::Usage`] with all sizes if the range is outside the matrix, or a length is wrong.
pub fn check_product(
    (rows, columns): (usize, usize),
    product: Product,
    range: &Range<usize>,
    x: &Inputs<'_>,
    y: &[f32],
) -> Result<()> {
    let (inputs, outputs) = match product {
        Product::Forward => (columns, range.len()),
        Product::Transposed => (rows, columns),
    };
    let fits = x.batch() == 0 || x.width() == inputs;
    if range.start <= range.end && range.end <= rows && fits && y.len() == outputs * x.batch() {
        return Ok(());
    }
    let (batch, width, range) = (x.batch(), x.width(), format!("{}..{}", range.start, range.end));
    let given = format!("{batch} vectors of {width} inputs and {} outputs", y.len());
    Err(CodecError::Usage(format!("{given} for rows {range} of a matrix of {rows} x {columns}")))
}
