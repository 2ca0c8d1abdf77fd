//! What the squared error of each weight counts, from calibration.

use crate::context::EncodeCx;
use crate::error::Result;
use crate::tensor::TensorSpec;

/// Divides importances by the largest finite one, and holds them between 10⁻⁶ and 1: no weight may become anything at all.
/// NaN and negative numbers become 10⁻⁶, infinity 1; without any positive number all become 1.
pub fn relative_importance(importance: &mut [f32]) {
    const LEAST: f32 = 1e-6;
    let largest = importance.iter().fold(0.0, |m: f32, h| if h.is_finite() { m.max(*h) } else { m });
    for h in importance {
        // NaN and negative numbers are no mean squares.
        let share = if largest > 0.0 { *h / largest } else { 1.0 };
        *h = if share > LEAST { share.min(1.0) } else { LEAST };
    }
}

/// The mean squares of a tensor's inputs, relative to the largest; see [`relative_importance`].
#[derive(Clone, Debug)]
pub struct Importance {
    axis: usize,
    columns: usize,
    relative: Vec<f32>,
}

impl Importance {
    /// `None` without calibration, and for a tensor without elements.
    ///
    /// # Errors
    /// [`crate::CodecError::Limit`] if calibration does not have a value for each index of its axis.
    pub fn new(spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Self>> {
        let Some((axis, squares)) = cx.input_squares(spec)? else { return Ok(None) };
        let mut relative = squares.to_vec();
        relative_importance(&mut relative);
        Ok(Some(Self { axis, columns: spec.matrix().1, relative }))
    }

    /// The axis of the matrix view that inputs run along.
    pub fn axis(&self) -> usize {
        self.axis
    }

    /// Of each input.
    pub fn inputs(&self) -> &[f32] {
        &self.relative
    }

    /// Of the weight at this place of the flat tensor.
    ///
    /// # Panics
    /// If the tensor has no such place.
    pub fn of(&self, place: usize) -> f32 {
        self.relative[if self.axis == 0 { place / self.columns } else { place % self.columns }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importances_lie_between_a_millionth_and_one() {
        for (given, expected) in [
            ([4.0, 1.0, 0.0, 1e-9], [1.0, 0.25, 1e-6, 1e-6]),
            ([f32::INFINITY, 2.0, f32::NAN, -3.0], [1.0, 1.0, 1e-6, 1e-6]),
            ([0.0, f32::NAN, -1.0, 0.0], [1.0; 4]),
        ] {
            let mut importance = given;
            relative_importance(&mut importance);
            assert_eq!(importance, expected, "{given:?}");
        }
    }
}
