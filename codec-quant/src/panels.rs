//! What all encoders in panels share: the order of the blocks, and a place for the code of each.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::util::first_non_finite;
use codec_api::{CodecError, EncodeCx, PanelCut, Result, TensorSpec};

/// Panels of `panel` columns, in blocks of `block` columns and one row. For a matrix without
/// columns, zeros become 1.
pub(crate) fn cut(panel: usize, block: usize) -> PanelCut {
    let [panel, block] = [panel, block].map(|n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN));
    PanelCut::new(panel, block, NonZeroUsize::MIN)
}

/// The codes of a matrix, one for each block of one row: a number if blocks are single weights, or
/// the bytes of a block. A [`codec_api::PanelEncoder`] calls [`Self::start`], [`Self::place`] and
/// [`Self::finish`] first in its methods of the same purpose. They check length and order of what
/// the caller gives, and refuse values that are not finite.
#[derive(Debug)]
pub(crate) struct Sheet<C> {
    rows: usize,
    columns: usize,
    cut: PanelCut,
    /// Where the panel ends that has begun last.
    end: usize,
    /// Row and first column of the next block.
    next: (usize, usize),
    codes: Vec<C>,
}

impl<C: Clone> Sheet<C> {
    /// A sheet for the matrix view of `spec`. All codes are `empty`, until blocks are encoded.
    pub(crate) fn new(spec: &TensorSpec, cut: PanelCut, empty: C) -> Self {
        let (rows, columns) = spec.matrix();
        let codes = vec![empty; rows * columns.div_ceil(cut.columns.get())];
        Self { rows, columns, cut, end: 0, next: (0, 0), codes }
    }

    /// Begins the next panel, whose values are `rows × columns`, and returns its columns. Checks
    /// for cancellation and reports progress.
    pub(crate) fn start(&mut self, values: &[f32], cx: &EncodeCx<'_>) -> Result<Range<usize>> {
        let panel = self.end..self.columns.min(self.end + self.cut.panel.get());
        if self.next != (0, self.end) || panel.is_empty() || values.len() != self.rows * panel.len() {
            let given = format!("a panel of {} values", values.len());
            return Err(CodecError::Usage(format!("{given} at row {}, column {}", self.next.0, self.next.1)));
        }
        cx.cancel.check()?;
        self.check_finite(0, &panel, values)?;
        cx.progress.tick(values.len() as u64);
        self.end = panel.end;
        Ok(panel)
    }

    /// The place for the code of the next block, if `rows` and `columns` are that block.
    pub(crate) fn place(&mut self, rows: &Range<usize>, columns: &Range<usize>, values: &[f32]) -> Result<&mut C> {
        let (row, column) = self.next;
        let end = self.end.min(column + self.cut.columns.get());
        if *rows != (row..row + 1) || *columns != (column..end) || columns.is_empty() || values.len() != columns.len() {
            let given = format!("{} values of rows {rows:?}, columns {columns:?}", values.len());
            return Err(CodecError::Usage(format!("{given}, where row {row}, columns {column}..{end} are next")));
        }
        self.check_finite(row, columns, values)?;
        self.next = if row + 1 == self.rows { (0, end) } else { (row + 1, column) };
        let block = self.cut.columns.get();
        Ok(&mut self.codes[row * self.columns.div_ceil(block) + column / block])
    }

    /// All codes, row by row, after the last block.
    pub(crate) fn finish(self) -> Result<Vec<C>> {
        if self.next == (0, self.columns) {
            return Ok(self.codes);
        }
        Err(CodecError::Usage(format!("blocks from row {}, column {} are missing", self.next.0, self.next.1)))
    }

    /// Refuses values that are not finite, of rows from `row` on.
    fn check_finite(&self, row: usize, columns: &Range<usize>, values: &[f32]) -> Result<()> {
        let Some(at) = first_non_finite(values) else { return Ok(()) };
        let (row, column) = (row + at / columns.len(), columns.start + at % columns.len());
        Err(CodecError::NonFinite { index: row * self.columns + column })
    }
}
