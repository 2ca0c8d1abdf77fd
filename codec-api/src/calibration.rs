//! Statistics of a layer's inputs.

use std::ops::Range;

use crate::error::{CodecError, Result};
use crate::tensor::TensorSpec;

/// The axis of the matrix view along which the inputs of a layer run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputAxis {
    /// Each column belongs to an input, as in a Linear layer: `y = W·x`.
    Columns,
    /// Each row belongs to an input, as in a GPT-2 `Conv1D`: `y = Wᵀ·x`.
    Rows,
}

/// Statistics of a layer's inputs `x`, for codecs that weight their errors by them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Calibration<'a> {
    /// The axis that the inputs run along.
    pub axis: InputAxis,
    /// Mean of `xᵢ²` of each input.
    pub mean_squares: &'a [f32],
    /// Mean of `xᵢ·xⱼ` of each pair of inputs, if it was collected.
    pub gram: Option<Gram<'a>>,
    /// Importance of each output, the weight of its squared error, if it is known.
    pub outputs: Option<&'a [f32]>,
}

impl<'a> Calibration<'a> {
    /// The mean squares of the inputs, without the Gram matrix.
    pub fn new(axis: InputAxis, mean_squares: &'a [f32]) -> Self {
        Self { axis, mean_squares, gram: None, outputs: None }
    }

    /// Adds the Gram matrix.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if its order is not the number of inputs.
    pub fn with_gram(self, gram: Gram<'a>) -> Result<Self> {
        if gram.order() == self.mean_squares.len() {
            return Ok(Self { gram: Some(gram), ..self });
        }
        let (order, inputs) = (gram.order(), self.mean_squares.len());
        Err(CodecError::Usage(format!("a Gram matrix of order {order} for {inputs} inputs")))
    }

    /// Adds the importance of each output.
    #[must_use]
    pub fn with_outputs(self, outputs: &'a [f32]) -> Self {
        Self { outputs: Some(outputs), ..self }
    }

    /// The calibration of the transposed matrix.
    #[must_use]
    pub fn transposed(self) -> Self {
        let axis = if self.axis == InputAxis::Rows { InputAxis::Columns } else { InputAxis::Rows };
        Self { axis, ..self }
    }

    /// The calibration of a range of rows of the weight matrix.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the range exceeds the inputs or outputs that the rows are.
    pub fn rows(self, rows: Range<usize>) -> Result<Self> {
        if self.axis == InputAxis::Columns {
            let Some(outputs) = self.outputs else { return Ok(self) };
            let outside =
                || CodecError::Usage(format!("rows {}..{} of {} outputs", rows.start, rows.end, outputs.len()));
            return Ok(Self { outputs: Some(outputs.get(rows.clone()).ok_or_else(outside)?), ..self });
        }
        let inputs = self.mean_squares.len();
        let outside = || CodecError::Usage(format!("rows {}..{} of {inputs} inputs", rows.start, rows.end));
        let mean_squares = self.mean_squares.get(rows.clone()).ok_or_else(outside)?;
        Ok(Self { mean_squares, gram: self.gram.map(|gram| gram.part(rows)), ..self })
    }

    /// Checks that there is one input per index of its axis of the matrix view, and one output per
    /// index of the other axis if outputs are known.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the number of inputs or outputs is not the length of that axis.
    pub(crate) fn check(&self, spec: &TensorSpec) -> Result<()> {
        let (rows, columns) = spec.matrix();
        let (inputs, outputs) = if self.axis == InputAxis::Rows { (rows, columns) } else { (columns, rows) };
        let found = self.mean_squares.len();
        if inputs == found {
            let Some(given) = self.outputs.map(<[f32]>::len).filter(|given| *given != outputs) else { return Ok(()) };
            return Err(CodecError::Usage(format!("importance of {given} outputs for a {rows} × {columns} matrix")));
        }
        let axis = if self.axis == InputAxis::Rows { "rows" } else { "columns" };
        Err(CodecError::Usage(format!("calibration of {found} inputs along the {axis} of a {rows} × {columns} matrix")))
    }
}

/// The symmetric matrix `E[xxᵀ]` of all inputs, or its principal submatrix for some inputs.
#[derive(Clone, Copy, Debug)]
pub struct Gram<'a> {
    values: &'a [f32],
    /// Order of the whole matrix.
    stride: usize,
    first: usize,
    order: usize,
}

impl<'a> Gram<'a> {
    /// A row-major matrix of `order × order` values.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if `values` has another length.
    pub fn new(order: usize, values: &'a [f32]) -> Result<Self> {
        if order.checked_mul(order) == Some(values.len()) {
            return Ok(Self { values, stride: order, first: 0, order });
        }
        Err(CodecError::Usage(format!("{} values for a matrix of order {order}", values.len())))
    }

    /// Number of rows and of columns.
    pub fn order(&self) -> usize {
        self.order
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below [`Self::order`].
    pub fn row(&self, i: usize) -> &'a [f32] {
        assert!(i < self.order, "row {i} of a matrix of order {}", self.order);
        &self.values[(self.first + i) * self.stride + self.first..][..self.order]
    }

    /// The principal submatrix of the inputs `range`, which must lie within the order.
    fn part(self, range: Range<usize>) -> Self {
        Self { first: self.first + range.start, order: range.len(), ..self }
    }
}
