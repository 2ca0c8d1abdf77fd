//! What the squared error of each weight counts, from calibration.

use codec_api::{EncodeCx, Result, TensorSpec, relative_importance};

/// The mean squares of the inputs, relative to the largest.
pub(super) struct Importance {
    axis: usize,
    columns: usize,
    relative: Vec<f32>,
}

impl Importance {
    /// `None` without calibration.
    ///
    /// # Errors
    /// [`codec_api::CodecError::Limit`] if calibration does not have a value for each index of its axis.
    pub(super) fn new(spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Self>> {
        let Some((axis, squares)) = cx.input_squares(spec)? else { return Ok(None) };
        let mut relative = squares.to_vec();
        relative_importance(&mut relative);
        Ok(Some(Self { axis, columns: spec.matrix().1, relative }))
    }

    /// Of the weight at this place of the flat tensor.
    pub(super) fn of(&self, place: usize) -> f32 {
        self.relative[if self.axis == 0 { place / self.columns } else { place % self.columns }]
    }
}
