//! Linear operators that multiply with an encoded matrix.

mod inputs;
mod integer;
mod kernels;
mod rows;

use std::fmt::{self, Debug};
use std::num::NonZeroUsize;
use std::ops::Range;

use crate::codec::Codec;
use crate::context::DecodeCx;
use crate::error::{CodecError, Result};
use crate::payload::PayloadView;
use crate::rows::open_of_any_size;
use crate::tensor::TensorSpec;
use crate::util::{transpose_to, zeros};

pub use inputs::Inputs;
pub use integer::{IntegerLayout, IntegerMatrix, IntegerRow};
pub use rows::RowsLinear;

/// A codec that multiplies with its payload.
pub trait LinearKernel {
    /// Prepares an operator from the payload, for the matrix view `W` of the tensor
    /// ([`TensorSpec::matrix`]). The operator keeps no dense copy of `W`. It computes both
    /// products, and may compute that of [`DecodeCx::product`] much faster than the other one.
    ///
    /// # Errors
    /// As [`crate::Codec::decode`].
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>>;

    /// Whether the operator is fast with single vectors only. A caller with fast dense products
    /// then multiplies batches with decoded rows. The codec must have [`Codec::as_rows`].
    fn is_for_vectors(&self) -> bool {
        false
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Product {
    /// `y = W·x`, for a Linear layer, whose rows are outputs.
    #[default]
    Forward,
    /// `y = Wᵀ·x`, for a GPT-2 `Conv1D`, whose rows are inputs.
    Transposed,
}

impl Product {
    /// Numbers of inputs and of outputs, for a matrix of `(rows, columns)`.
    pub fn sides(self, (rows, columns): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Forward => (columns, rows),
            Self::Transposed => (rows, columns),
        }
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

    /// Whether [`Self::apply_outputs`] of a part costs only its share, so that threads can share the
    /// outputs. Otherwise they share the rows with [`Self::apply`].
    fn shares_outputs(&self, product: Product) -> bool {
        product == Product::Forward
    }

    /// Whether products of a vector for a few outputs at a time cost about as much as one for all
    /// of them: nothing large is computed for all outputs. Then threads balance their work.
    fn divides(&self) -> bool {
        false
    }

    /// Computes a range of the outputs: `y`, `outputs × batch`, is overwritten with them. Outputs
    /// are rows of `W` in a [`Product::Forward`], and columns in a [`Product::Transposed`]. The
    /// ranges into which callers divide the outputs do not change the bits, except those of batches
    /// in operators that use the dense products of other crates.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the lengths do not match; see [`check_outputs`].
    fn apply_outputs(&self, product: Product, outputs: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_outputs(self.shape(), product, &outputs, x, y)?;
        outputs_by_rows(self, product, outputs, x, y)
    }

    /// Computes a range of the outputs as [`Self::apply_outputs`], but writes the outputs of each
    /// vector together: those of vector `b` of the batch are the values of `y` from `b · stride`
    /// on. The values between two vectors stay as they are.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the lengths do not match; see [`check_vectors`].
    fn apply_vectors(
        &self,
        product: Product,
        outputs: Range<usize>,
        x: &Inputs<'_>,
        y: &mut [f32],
        stride: usize,
    ) -> Result<()> {
        check_vectors(self.shape(), product, &outputs, x, (y, stride))?;
        vectors_by_outputs(self, product, outputs, x, (y, stride))
    }

    /// Tolerance `t` of [`Self::apply`] over all rows against the decoded matrix Ŵ: the error of
    /// every element of `y` is at most `t · ‖Ŵ‖ · ‖x‖`, with the Frobenius norm of Ŵ
    /// and the Euclidean norm of the vector `x`. It holds for every `x`.
    fn tolerance(&self) -> f32;

    /// Heap and memory-mapped bytes that the operator keeps for the weights.
    fn resident_bytes(&self) -> u64;
}

/// [`LinearOp::apply_outputs`] with [`LinearOp::apply`].
fn outputs_by_rows<O: LinearOp + ?Sized>(
    operator: &O,
    product: Product,
    outputs: Range<usize>,
    x: &Inputs<'_>,
    y: &mut [f32],
) -> Result<()> {
    if product == Product::Forward {
        return operator.apply(product, outputs, x, y);
    }
    let (rows, columns) = operator.shape();
    let mut all = vec![0.0; columns * x.batch()];
    operator.apply(product, 0..rows, x, &mut all)?;
    y.copy_from_slice(&all[outputs.start * x.batch()..outputs.end * x.batch()]);
    Ok(())
}

/// [`LinearOp::apply_vectors`] with [`LinearOp::apply_outputs`].
fn vectors_by_outputs<O: LinearOp + ?Sized>(
    operator: &O,
    product: Product,
    outputs: Range<usize>,
    x: &Inputs<'_>,
    (y, stride): (&mut [f32], usize),
) -> Result<()> {
    let (count, batch) = (outputs.len(), x.batch());
    if batch == 1 {
        return operator.apply_outputs(product, outputs, x, &mut y[..count]);
    }
    let mut rows = zeros(count * batch)?;
    operator.apply_outputs(product, outputs, x, &mut rows)?;
    transpose_to((count, batch), &rows, y, stride);
    Ok(())
}

/// Checks the arguments of [`LinearOp::apply`] for a matrix of `(rows, columns)`.
///
/// # Errors
/// [`CodecError::Usage`] with all sizes if the range is outside the matrix, or a length is wrong.
pub fn check_product(
    shape: (usize, usize),
    product: Product,
    rows: &Range<usize>,
    x: &Inputs<'_>,
    y: &[f32],
) -> Result<()> {
    let (_, outputs) = product.sides((rows.len(), shape.1));
    check(shape, product, (format_args!("rows"), rows, shape.0), x, (y, outputs))
}

/// Checks the arguments of [`LinearOp::apply_outputs`] for a matrix of `(rows, columns)`.
///
/// # Errors
/// [`CodecError::Usage`] with all sizes if the range is outside the matrix, or a length is wrong.
pub fn check_outputs(
    shape: (usize, usize),
    product: Product,
    outputs: &Range<usize>,
    x: &Inputs<'_>,
    y: &[f32],
) -> Result<()> {
    let (_, all) = product.sides(shape);
    check(shape, product, (format_args!("{product:?} outputs"), outputs, all), x, (y, outputs.len()))
}

/// Checks the arguments of [`LinearOp::apply_vectors`] for a matrix of `(rows, columns)`: with `y`,
/// the values from a vector of outputs to the next one.
///
/// # Errors
/// [`CodecError::Usage`] with all sizes if the range is outside the matrix, a length is wrong, or
/// vectors of outputs overlap.
pub fn check_vectors(
    shape: (usize, usize),
    product: Product,
    outputs: &Range<usize>,
    x: &Inputs<'_>,
    (y, stride): (&[f32], usize),
) -> Result<()> {
    let (count, batch) = (outputs.len(), x.batch());
    let needed = batch.checked_sub(1).map_or(Some(0), |others| others.checked_mul(stride)?.checked_add(count));
    if (batch > 1 && stride < count) || needed.is_none_or(|needed| y.len() < needed) {
        let given = format!("{} values for {batch} vectors of {count} outputs", y.len());
        return Err(CodecError::Usage(format!("{given}, {stride} values from one to the next")));
    }
    check_outputs(shape, product, outputs, x, &y[..count * batch])
}

/// Checks a range of `what`, of which the matrix has `all`, and the lengths of inputs and outputs.
fn check(
    shape: (usize, usize),
    product: Product,
    (what, range, all): (fmt::Arguments<'_>, &Range<usize>, usize),
    x: &Inputs<'_>,
    (y, outputs): (&[f32], usize),
) -> Result<()> {
    let ((rows, columns), (inputs, _)) = (shape, product.sides(shape));
    let fits = x.batch() == 0 || x.width() == inputs;
    if range.start <= range.end && range.end <= all && fits && y.len() == outputs * x.batch() {
        return Ok(());
    }
    let (batch, width, range) = (x.batch(), x.width(), format!("{}..{}", range.start, range.end));
    let given = format!("{batch} vectors of {width} inputs and {} outputs", y.len());
    Err(CodecError::Usage(format!("{given} for {what} {range} of a matrix of {rows} x {columns}")))
}
