//! What all encoders in panels share: the order of the weights, and a place for the code of each.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{EncodeCx, PanelCut, PanelOrder, Result, TensorSpec};

/// Panels of `panel` columns, in blocks of one weight. For a matrix without columns, 0 becomes 1.
pub(crate) fn cut(panel: usize) -> PanelCut {
    PanelCut::new(NonZeroUsize::new(panel).unwrap_or(NonZeroUsize::MIN), NonZeroUsize::MIN, NonZeroUsize::MIN)
}

/// The codes of a matrix, one for each weight. A [`codec_api::PanelEncoder`] calls [`Self::start`],
/// [`Self::place`] and [`Self::finish`] first in its methods of the same purpose.
#[derive(Debug)]
pub(crate) struct Sheet<C> {
    order: PanelOrder,
    columns: usize,
    codes: Vec<C>,
}

impl<C: Clone> Sheet<C> {
    /// A sheet for the matrix view of `spec`. All codes are `empty`, until weights are encoded.
    pub(crate) fn new(spec: &TensorSpec, cut: PanelCut, empty: C) -> Self {
        let (rows, columns) = spec.matrix();
        Self { order: PanelOrder::new(spec, cut), columns, codes: vec![empty; rows * columns] }
    }

    /// Begins the next panel, whose values are `rows × columns`, and returns its columns. Checks
    /// for cancellation and reports progress.
    pub(crate) fn start(&mut self, values: &[f32], cx: &EncodeCx<'_>) -> Result<Range<usize>> {
        cx.cancel.check()?;
        let panel = self.order.start(values)?;
        cx.progress.tick(values.len() as u64);
        Ok(panel)
    }

    /// The place for the code of a weight.
    pub(crate) fn place(&mut self, rows: &Range<usize>, columns: &Range<usize>, values: &[f32]) -> Result<&mut C> {
        self.order.block(rows, columns, values)?;
        Ok(&mut self.codes[rows.start * self.columns + columns.start])
    }

    /// All codes, row by row, after the last weight.
    pub(crate) fn finish(self) -> Result<Vec<C>> {
        self.order.finish()?;
        Ok(self.codes)
    }
}
