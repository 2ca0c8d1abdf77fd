//! Importances of columns, for encoders that weight squared errors within blocks.

use std::ops::Range;

use codec_api::util::relative_importance;
use codec_api::{EncodeCx, InputAxis, Result, TensorSpec};

/// How much the squared errors of each column count, relative to the largest in its block.
pub(crate) struct ColumnImportance(Vec<f32>);

impl ColumnImportance {
    /// Reads the calibration of `cx` for blocks of `block` columns. `None` without calibration by
    /// column: with calibration by row all weights of a block have the same importance, which
    /// changes nothing.
    ///
    /// # Errors
    /// As [`EncodeCx::calibration_of`].
    pub(crate) fn new(spec: &TensorSpec, cx: &EncodeCx<'_>, block: usize) -> Result<Option<Self>> {
        let calibration = cx.calibration_of(spec)?.filter(|calibration| calibration.axis == InputAxis::Columns);
        Ok(calibration.map(|calibration| {
            let mut importance = calibration.mean_squares.to_vec();
            importance.chunks_mut(block).for_each(relative_importance);
            Self(importance)
        }))
    }

    /// Heap bytes of an encoder that weights parts of `part` weights.
    pub(crate) fn scratch(spec: &TensorSpec, part: usize) -> u64 {
        4 * (spec.matrix().1 + spec.elements().min(part)) as u64
    }

    /// The importance of each of `len` weights from the flat index `start` on.
    pub(crate) fn of(&self, start: usize, len: usize) -> Vec<f32> {
        self.0.iter().cycle().skip(start % self.0.len()).take(len).copied().collect()
    }

    /// The importances of `rows` rows of a panel of these columns.
    pub(crate) fn panel(&self, columns: Range<usize>, rows: usize) -> Vec<f32> {
        self.0[columns].repeat(rows)
    }
}
