//! Encoding column by column, so that the caller can feed errors forward.

use std::num::NonZeroUsize;
use std::ops::Range;

use crate::context::EncodeCx;
use crate::error::{CodecError, Result};
use crate::payload::Payload;
use crate::tensor::{TensorSpec, TensorView};
use crate::util::first_non_finite;

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
    /// Rows of a block. The last block of a column may have fewer.
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
/// [`Self::start`], and passes all of its blocks to [`Self::encode`], each one after the blocks of
/// this panel to its left and above it: rows by rows, columns by columns, or tiles of both. The
/// order does not change the payload. A [`PanelOrder`] checks it.
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
    /// [`crate::CodecError::Usage`] if the block is none of the cut, was encoded before, or needs
    /// another one first; as [`crate::Codec::encode`].
    fn encode(&mut self, rows: Range<usize>, columns: Range<usize>, values: &mut [f32]) -> Result<()>;

    /// The payload, after the last block.
    ///
    /// # Errors
    /// [`crate::CodecError::Usage`] if blocks are missing.
    fn finish(self: Box<Self>) -> Result<Payload>;
}

/// What a [`PanelEncoder`] has encoded. It calls [`Self::start`], [`Self::block`] and
/// [`Self::finish`] first in its methods of the same purpose: they check lengths and order of what
/// the caller gives, and refuse values that are not finite.
#[derive(Clone, Debug)]
pub struct PanelOrder {
    cut: PanelCut,
    /// Of the matrix that is cut.
    columns: usize,
    /// Where the panel ends that has begun last.
    end: usize,
    /// For each row, the first column that is not encoded.
    next: Vec<usize>,
}

impl PanelOrder {
    /// Before the first panel of a tensor of this spec.
    pub fn new(spec: &TensorSpec, cut: PanelCut) -> Self {
        let (rows, columns) = spec.matrix();
        let (rows, columns) = if cut.transposed { (columns, rows) } else { (rows, columns) };
        Self { cut, columns, end: 0, next: vec![0; rows] }
    }

    /// Begins the next panel, and returns its columns.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if there is none, if blocks of the panel before are missing, or for
    /// another number of values; [`CodecError::NonFinite`].
    pub fn start(&mut self, values: &[f32]) -> Result<Range<usize>> {
        let panel = self.end..self.columns.min(self.end.saturating_add(self.cut.panel.get()));
        if panel.is_empty() || values.len() != self.next.len() * panel.len() {
            let given = format!("a panel of {} values at column {}", values.len(), self.end);
            return Err(CodecError::Usage(format!("{given} of {} × {}", self.next.len(), self.columns)));
        }
        self.complete()?;
        if let Some(at) = first_non_finite(values) {
            return Err(self.non_finite(at / panel.len(), panel.start + at % panel.len()));
        }
        self.end = panel.end;
        Ok(panel)
    }

    /// Takes note of a block.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if it is none of the cut, was encoded before, or needs another one
    /// first, or for another number of values; [`CodecError::NonFinite`].
    #[inline]
    pub fn block(&mut self, rows: &Range<usize>, columns: &Range<usize>, values: &[f32]) -> Result<()> {
        // Rows of a block go on together, so that a block across two of the cut finds a row above
        // it that is not far enough.
        let last_row = self.next.len().min(rows.start.saturating_add(self.cut.rows.get()));
        let last_column = self.end.min(columns.start.saturating_add(self.cut.columns.get()));
        let is_block = rows.start < last_row && rows.end == last_row && columns.end == last_column;
        let fits = is_block && columns.start < last_column && values.len() == rows.len() * columns.len();
        let in_turn = fits && self.next[rows.start] == columns.start;
        if !in_turn || rows.start > 0 && self.next[rows.start - 1] < columns.end {
            return Err(CodecError::Usage(format!(
                "{} values of rows {rows:?}, columns {columns:?}: not the next block of these rows, or before the one \
                 above",
                values.len()
            )));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(self.non_finite(rows.start + at / columns.len(), columns.start + at % columns.len()));
        }
        self.next[rows.clone()].fill(columns.end);
        Ok(())
    }

    /// Checks that all blocks of all panels are encoded.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if some are missing.
    pub fn finish(&self) -> Result<()> {
        self.complete()?;
        if self.end == self.columns {
            return Ok(());
        }
        Err(CodecError::Usage(format!("the panels from column {} on are missing", self.end)))
    }

    /// Checks that the panel that has begun last is complete: it is if its last row is.
    fn complete(&self) -> Result<()> {
        match self.next.last() {
            Some(next) if *next != self.end => {
                Err(CodecError::Usage(format!("blocks before column {} are missing", self.end)))
            }
            _ => Ok(()),
        }
    }

    fn non_finite(&self, row: usize, column: usize) -> CodecError {
        let transposed = self.cut.transposed;
        CodecError::NonFinite {
            index: if transposed { column * self.next.len() + row } else { row * self.columns + column },
        }
    }
}
