//! Statistics of a whole tensor that all of its chunks share.

use std::ops::Range;

use crate::context::EncodeCx;
use crate::error::{CodecError, Result};
use crate::tensor::TensorView;

/// A codec with statistics of the whole tensor: one scale, one threshold, one step. They are found
/// by passes over the chunks before any chunk is encoded, so that a tensor encoded in chunks gets
/// the statistics of the whole.
pub trait Surveyed {
    /// What one chunk adds in the current pass. [`EncodeCx::shared`] holds the statistics of the
    /// earlier passes. Chunks may be observed in any order, on any thread.
    ///
    /// # Errors
    /// As [`crate::Codec::encode`].
    fn observe(&self, chunk: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics>;

    /// Combines what all chunks have added in pass number `pass` (from 0), in the order of their
    /// rows. The result must not depend on where the chunks begin. So a sum of floats must add the
    /// numbers of [`Statistics::rows`] in their order.
    ///
    /// # Errors
    /// As [`crate::Codec::encode`].
    fn combine(&self, pass: usize, chunks: Vec<Statistics>) -> Result<Pass>;

    /// Whether a tensor encoded in chunks decodes to the same bits as the tensor encoded as a
    /// whole. If not, only the statistics are the same.
    fn chunks_equal_whole(&self) -> bool {
        true
    }
}

/// Statistics of a chunk or of a tensor; their meaning is up to the codec.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Numbers about all rows together.
    pub scalars: Vec<f64>,
    /// One number per row of the matrix view, or none. What a chunk adds to a pass may have several
    /// per row, in the order of the rows.
    pub rows: Vec<f64>,
}

impl Statistics {
    /// Numbers about all rows together, and one for each row.
    pub fn new(scalars: Vec<f64>, rows: Vec<f64>) -> Self {
        Self { scalars, rows }
    }

    /// The only scalar, for codecs with one number for the tensor.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if there is another number of scalars.
    pub fn only(&self) -> Result<f64> {
        match *self.scalars {
            [only] => Ok(only),
            _ => Err(CodecError::Usage(format!("shared statistics of {} scalars instead of 1", self.scalars.len()))),
        }
    }

    /// A view of them, for a context.
    pub fn shared(&self) -> Shared<'_> {
        Shared { scalars: &self.scalars, rows: &self.rows }
    }
}

/// The [`Statistics`] of a tensor in the context of a chunk: `rows` holds only the numbers of the
/// chunk's rows.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Shared<'a> {
    /// Numbers about all rows of the tensor together.
    pub scalars: &'a [f64],
    /// One number per row of the chunk, or none.
    pub rows: &'a [f64],
}

impl Shared<'_> {
    /// The statistics of a chunk of these rows.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the statistics have numbers per row, but not for all of these rows.
    pub(crate) fn part(self, rows: Range<usize>) -> Result<Self> {
        if self.rows.is_empty() {
            return Ok(self);
        }
        let outside = || CodecError::Usage(format!("statistics of {} rows, not of {rows:?}", self.rows.len()));
        Ok(Self { rows: self.rows.get(rows.clone()).ok_or_else(outside)?, ..self })
    }
}

/// The result of a pass over all chunks.
#[derive(Clone, Debug)]
pub enum Pass {
    /// Another pass is needed, which gets these statistics.
    Next(Statistics),
    /// These are the statistics of the tensor.
    Last(Statistics),
}

/// Surveys a tensor. `observe_all` calls [`Surveyed::observe`] for each chunk, with the given
/// statistics of the passes before in its context ([`EncodeCx::with_shared`], before
/// [`EncodeCx::for_rows`]), and returns the results in the order of the rows; it may use several
/// threads.
///
/// # Errors
/// Those of `observe_all` and of [`Surveyed::combine`].
pub fn survey(
    codec: &dyn Surveyed,
    mut observe_all: impl FnMut(Option<&Statistics>) -> Result<Vec<Statistics>>,
) -> Result<Statistics> {
    let mut found = None;
    for pass in 0.. {
        match codec.combine(pass, observe_all(found.as_ref())?)? {
            Pass::Next(statistics) => found = Some(statistics),
            Pass::Last(statistics) => return Ok(statistics),
        }
    }
    Ok(Statistics::default())
}

/// The statistics for an encode of `tensor`: those of the context, or those of the tensor alone if
/// the context has none.
///
/// # Errors
/// As [`survey`].
pub fn statistics(codec: &dyn Surveyed, tensor: &TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Statistics> {
    if let Some(shared) = cx.shared_of(tensor.spec())? {
        return Ok(Statistics::new(shared.scalars.to_vec(), shared.rows.to_vec()));
    }
    survey(codec, |found| {
        let mut cx = cx.clone();
        cx.shared = found.map(Statistics::shared);
        Ok(vec![codec.observe(tensor.clone(), &cx)?])
    })
}
