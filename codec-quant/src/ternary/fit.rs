//! The scale of ternary weights.

use std::hint::black_box;

use codec_api::{CodecError, EncodeCx, Result, TensorSpec, first_non_finite};
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, load, sum};

use crate::Scope;

/// How the scale is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The scale with the least squared error.
    #[default]
    LeastSquares,
    /// The mean magnitude, as `BitNet` b1.58 does.
    Absmean,
}

/// Most rounds of fitting the scale; Gaussian weights need about ten.
const MAX_ROUNDS: usize = 30;

impl Fit {
    /// Arithmetic operations per weight.
    pub(super) fn ops(self) -> f64 {
        if self == Self::LeastSquares { 40.0 } else { 4.0 }
    }

    /// The scales of a tensor.
    pub(super) fn scales(self, scope: Scope, spec: &TensorSpec, values: &[f32], cx: &EncodeCx<'_>) -> Result<Vec<f32>> {
        let (rows, columns) = spec.matrix();
        let together = scope.weights(columns, values.len());
        let mut scales = Vec::with_capacity(scope.scales(rows));
        for (i, weights) in values.chunks(together).enumerate() {
            cx.cancel.check()?;
            let scale = self.scale(weights, 1.0);
            scales.push(if scale.is_finite() { scale } else { self.large_scale(weights, i * together)? });
        }
        scales.resize(scope.scales(rows), 0.0);
        Ok(scales)
    }

    /// The scale of weights whose sum overflows f32. If a weight is not finite, an error with its
    /// index, counted from `offset`.
    fn large_scale(self, weights: &[f32], offset: usize) -> Result<f32> {
        match first_non_finite(weights) {
            Some(index) => Err(CodecError::NonFinite { index: offset + index }),
            None => Ok(self.scale(weights, 1.0 / (1u64 << 40) as f32)),
        }
    }

    /// The scale; not finite if a weight is not finite or if a sum of weights times `down`
    /// overflows f32.
    fn scale(self, weights: &[f32], down: f32) -> f32 {
        let mut scale = mean_magnitude(weights, -1.0, down);
        if self == Self::LeastSquares && scale.is_finite() {
            for _ in 0..MAX_ROUNDS {
                let next = mean_magnitude(weights, scale * 0.5, down);
                if next == scale {
                    break;
                }
                scale = next;
            }
        }
        scale
    }
}

kernel! {
    /// Mean of the magnitudes above `threshold`; 0 if there are none. `down` is a power of two that
    /// keeps the sums within f32.
    fn mean_magnitude<'a>(_simd, weights: &'a [f32], threshold: f32, down: f32) -> f32 {
        /// Weights summed in f32; the sums are added in f64.
        const PART: usize = 4096;
        let (mut total, mut total_count) = (0.0, 0.0);
        for part in weights.chunks(PART) {
            let (mut sums, mut counts) = ([0.0f32; LANES], [0.0f32; LANES]);
            for x in part.chunks(LANES) {
                let x = load(x);
                // NaN fails the comparison, so it shows in the result.
                let magnitudes: [f32; LANES] = lanes!(i => if x[i].abs() <= threshold { 0.0 } else { x[i].abs() });
                sums = lanes!(i => sums[i] + magnitudes[i] * down);
                counts = lanes!(i => counts[i] + if x[i].abs() <= threshold { 0.0 } else { 1.0 });
            }
            // `black_box` stores the sums in memory. Otherwise the compiler merges the tree of the
            // sum into the loop and does not vectorise it.
            total += f64::from(sum(black_box(sums)));
            total_count += f64::from(sum(black_box(counts)));
        }
        // The zeros that pad the last block count only below a negative threshold.
        let total_count = if threshold < 0.0 { weights.len() as f64 } else { total_count };
        if total_count == 0.0 { 0.0 } else { (total / f64::from(down) / total_count) as f32 }
    }
}
