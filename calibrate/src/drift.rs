//! What the errors of earlier layers change in the inputs of a layer, and weights that make up for
//! it.

use codec_api::InputAxis;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use runtime::Inputs;

use crate::error::Result;
use crate::factor::Factor;
use crate::padded::turned;
use crate::statistics::gram::{Cross, Gram};

/// Outputs that one thread solves for.
const SHARE: usize = 64;

/// Sums over tokens, with inputs `x` of the dense model and `x̂` of the compressed one, and with
/// the values `r` and `r̂` that the outputs are added to.
#[derive(Debug)]
pub(crate) struct Drift {
    order: usize,
    /// `Σ x̂·x̂ᵀ`.
    curvature: Gram,
    /// `Σ x̂·(x − x̂)ᵀ`.
    inputs: Cross,
    /// `Σ x̂·(r − r̂)ᵀ`.
    residuals: Option<Cross>,
    tokens: usize,
}

impl Drift {
    /// For vectors of `order` inputs.
    pub(crate) fn new(order: usize) -> Self {
        Self { order, curvature: Gram::new(order), inputs: Cross::new(order, order), residuals: None, tokens: 0 }
    }

    /// Adds the tokens of a batch.
    pub(crate) fn add(&mut self, of: &Inputs<'_>) {
        let tokens = of.dense.len() / self.order;
        self.tokens += tokens;
        if let Some([dense, _]) = of.residuals {
            let width = dense.len() / tokens.max(1);
            self.residuals.get_or_insert_with(|| Cross::new(self.order, width));
        }
        let Self { curvature, inputs, residuals, .. } = self;
        let residuals = || {
            if let Some((sum, [dense, replaced])) = residuals.as_mut().zip(of.residuals) {
                sum.add(of.replaced, &differences(dense, replaced));
            }
        };
        let inputs = || inputs.add(of.replaced, &differences(of.dense, of.replaced));
        rayon::join(|| curvature.add(of.replaced), || rayon::join(inputs, residuals));
    }

    /// The correction for these sums.
    ///
    /// # Errors
    /// As [`Factor::new`].
    pub(crate) fn correction(&self, damping: f64) -> Result<Correction> {
        Ok(Correction {
            factor: Factor::new(&self.curvature.mean(self.tokens.max(1) as f64), self.order, damping)?,
            inputs: self.inputs.mean(self.tokens),
            residuals: self.residuals.as_ref().map(|residuals| residuals.mean(self.tokens)),
        })
    }
}

/// The means of [`Drift`], with the damped curvature as a factor.
#[derive(Debug)]
pub(crate) struct Correction {
    factor: Factor,
    inputs: Mat<f64>,
    residuals: Option<Mat<f64>>,
}

impl Correction {
    /// The weights `W′` that bring the outputs in the compressed model nearest to those of `W` in
    /// the dense one. With the damping `λ`, they minimise
    /// `Σ‖W′·x̂ + r̂ − W·x − r‖² + λ‖W′ − W‖²`. Weights are in the layout of the tensor.
    ///
    /// # Source
    /// Zhang et al., Qronos, arXiv 2505.11695; Li et al., GPTAQ, arXiv 2504.02692; with residuals:
    /// `WaterSIC`, arXiv 2603.04956.
    pub(crate) fn apply(&self, weights: &[f32], axis: InputAxis) -> Vec<f32> {
        let inputs = self.factor.order();
        let outputs = weights.len() / inputs;
        if axis == InputAxis::Rows {
            let mut by_outputs = turned(weights, inputs, outputs);
            self.correct(&mut by_outputs);
            return turned(&by_outputs, outputs, inputs);
        }
        let mut by_outputs = weights.to_vec();
        self.correct(&mut by_outputs);
        by_outputs
    }

    /// Corrects weights in rows of inputs.
    fn correct(&self, weights: &mut [f32]) {
        let inputs = self.factor.order();
        weights.par_chunks_mut(SHARE * inputs).enumerate().for_each(|(share, weights)| {
            let (first, count) = (share * SHARE, weights.len() / inputs);
            let wide: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
            let mut change = match &self.residuals {
                Some(residuals) => residuals.subcols(first, count).to_owned(),
                None => Mat::zeros(inputs, count),
            };
            let wide = MatRef::from_row_major_slice(&wide, count, inputs);
            matmul(change.as_mut(), Accum::Add, self.inputs.as_ref(), wide.transpose(), 1.0, Par::Seq);
            self.factor.solve(change.as_mut());
            for (output, weights) in weights.chunks_exact_mut(inputs).enumerate() {
                for (input, weight) in weights.iter_mut().enumerate() {
                    *weight = (f64::from(*weight) + change[(input, output)]) as f32;
                }
            }
        });
    }
}

fn differences(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}
