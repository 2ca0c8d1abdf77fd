//! Encoding column by column, so that the caller can feed errors forward.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::context::EncodeCx;
use crate::error::Result;
use crate::payload::Payload;
use crate::tensor::{TensorSpec, TensorView};

/// A codec that encodes a matrix in panels of columns and returns the values that a decoder will
/// return, before it encodes the next columns. An algorithm outside can then change the next
/// columns to make up for the error of the earlier ones (GPTQ: Frantar et al., arXiv 2210.17323;
/// LDLQ: Chee et al., arXiv 2307.13304). Header and payload are those of a plain encode.
pub trait Panels {
    /// How the matrix view of a tensor of this spec is cut.
    ///
    /// # Errors
    /// [`crate::CodecError::Unsupported`] if the tensor cannot be encoded in panels, for example
    /// because blocks run across rows.
    fn cut(&self, spec: &TensorSpec) -> Result<PanelCut>;

    /// Begins an encode. `original` is the tensor before any feedback; the codec computes scales of
    /// the whole tensor from it.
    ///
    /// # Errors
    /// As [`Self::cut`] and [`crate::Codec::encode`].
    fn begin<'a>(&'a self, original: TensorView<'a>, cx: &'a EncodeCx<'a>) -> Result<Box<dyn PanelEncoder + 'a>>;
}

/// How a matrix is cut into panels of columns, and a panel into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PanelCut {
    /// Columns of a panel, whose scales are chosen together. The last panel may be narrower.
    pub panel: NonZeroUsize,
    /// Columns of a block, which are encoded together. This number divides `panel`; the last block
    /// of a row may be narrower.
    pub columns: NonZeroUsize,
    /// Rows of a block. The blocks of some columns are encoded from the first row to the last; the
    /// last block may have fewer rows.
    pub rows: NonZeroUsize,
    /// Whether the codec goes through the rows of the matrix in place of its columns. Rows and
    /// columns of this cut, and all values that the encoder is given, are then those of the
    /// transposed matrix.
    pub transposed: bool,
}

impl PanelCut {
    /// Panels of `panel` columns, in blocks of `columns` columns and `rows` rows.
    pub fn new(panel: NonZeroUsize, columns: NonZeroUsize, rows: NonZeroUsize) -> Self {
        Self { panel, columns, rows, transposed: false }
    }

    /// The same cut of the transposed matrix.
    #[must_use]
    pub fn of_transposed(self) -> Self {
        Self { transposed: true, ..self }
    }
}

/// An encode in panels.
///
/// The caller goes through the panels from left to right. It begins each panel with
/// [`Self::start`]. Within a panel it goes through the blocks of columns from left to right, and
/// within these columns through the blocks of rows from top to bottom. It passes each block to
/// [`Self::encode`].
pub trait PanelEncoder {
    /// Begins the next panel: chooses its scales for `values`, the panel's columns of all rows
    /// (`rows × panel`, row-major), after the feedback from the earlier panels.
    ///
    /// # Errors
    /// As [`crate::Codec::encode`]; [`crate::CodecError::Usage`] for a wrong length.
    fn start(&mut self, values: &[f32]) -> Result<()>;

    /// Encodes the block of these rows and columns of the matrix (`rows × columns` values,
    /// row-major), and replaces the values by what a decoder gives.
    ///
    /// # Errors
    /// [`crate::CodecError::Usage`] if this is not the next block; as [`crate::Codec::encode`].
    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()>;

    /// The payload, after the last block.
    ///
    /// # Errors
    /// [`crate::CodecError::Usage`] if blocks are missing.
    fn finish(self: Box<Self>) -> Result<Payload>;
}
