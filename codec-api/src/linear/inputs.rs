//! The inputs of a product.

use std::sync::OnceLock;

use super::integer::IntegerInputs;
use crate::error::{CodecError, Result};

/// The inputs of a product: a batch of vectors, which several operators may share.
///
/// Operators of small integers multiply with the inputs in integers of 16 bits. The first of these
/// operators converts them, and the others use the same ones.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inputs<'a> {
    values: &'a [f32],
    batch: usize,
    integers: OnceLock<IntegerInputs>,
}

impl<'a> Inputs<'a> {
    /// A batch of vectors, row-major: `batch × inputs` values.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if `values` does not consist of `batch` vectors of one length.
    pub fn new(values: &'a [f32], batch: usize) -> Result<Self> {
        if batch > 0 && values.len().is_multiple_of(batch) || batch == 0 && values.is_empty() {
            return Ok(Self { values, batch, integers: OnceLock::new() });
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

    /// The vectors in integers of 16 bits.
    pub(super) fn integers(&self) -> &IntegerInputs {
        self.integers.get_or_init(|| IntegerInputs::new(self.values, self.batch))
    }
}
