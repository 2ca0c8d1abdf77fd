//! Weights for squared errors, from calibration: how much the error of each tensor element counts.

use crate::calibration::InputAxis;
use crate::context::EncodeCx;
use crate::error::Result;
use crate::tensor::TensorSpec;

/// Divides importances by the largest finite one and clamps the results to 10⁻⁶..=1, so that no
/// element becomes arbitrary. NaN and negative numbers become 10⁻⁶, infinity becomes 1. If no
/// importance is positive, all become 1.
pub fn relative_importance(importance: &mut [f32]) {
    const LEAST: f32 = 1e-6;
    let largest = importance.iter().fold(0.0, |m: f32, h| if h.is_finite() { m.max(*h) } else { m });
    for h in importance {
        // A NaN share fails the comparison and becomes `LEAST`.
        let share = if largest > 0.0 { *h / largest } else { 1.0 };
        *h = if share > LEAST { share.min(1.0) } else { LEAST };
    }
}

/// Mean squares of a tensor's inputs, relative to the largest; see [`relative_importance`].
#[derive(Clone, Debug)]
pub struct Importance {
    axis: InputAxis,
    columns: usize,
    relative: Vec<f32>,
}

impl Importance {
    /// Reads the calibration of `cx`. `None` without calibration, and for a tensor without
    /// elements.
    ///
    /// # Errors
    /// As [`EncodeCx::calibration_of`].
    pub fn new(spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Self>> {
        let Some(calibration) = cx.calibration_of(spec)? else { return Ok(None) };
        let mut relative = calibration.mean_squares.to_vec();
        relative_importance(&mut relative);
        Ok(Some(Self { axis: calibration.axis, columns: spec.matrix().1, relative }))
    }

    /// The axis of the matrix view along which the inputs run.
    pub fn axis(&self) -> InputAxis {
        self.axis
    }

    /// The importance of each input.
    pub fn inputs(&self) -> &[f32] {
        &self.relative
    }

    /// The importance of the element at index `place` of the flattened tensor.
    ///
    /// # Panics
    /// If `place` is outside the tensor.
    pub fn of(&self, place: usize) -> f32 {
        self.relative[if self.axis == InputAxis::Rows { place / self.columns } else { place % self.columns }]
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
