//! `Σ wᵢ·xᵢ` in one pass.

use codec_api::{CodecError, TensorSpec, typetag};
use serde::{Deserialize, Serialize};
use simd::kernel;

use super::computed;
use crate::operation::{Block, Operation};

/// The weighted sum of operands of one shape, added in their order: `w₀·x₀ + w₁·x₁ + …`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeightedSum {
    pub(crate) weights: Vec<f32>,
}

#[typetag::serde(name = "weighted_sum")]
impl Operation for WeightedSum {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        if operands.is_empty() || operands.len() != self.weights.len() {
            return Err(format!("{} weights for {} operands", self.weights.len(), operands.len()));
        }
        if let Some(weight) = self.weights.iter().find(|w| !w.is_finite()) {
            return Err(format!("the weight {weight} is not finite"));
        }
        match operands.iter().position(|spec| spec.shape() != operands[0].shape()) {
            Some(other) => Err(format!("operands 0 and {other} have different shapes")),
            None => computed(operands[0].shape()),
        }
    }

    fn flops(&self, operands: &[&TensorSpec], result: &TensorSpec) -> f64 {
        2.0 * operands.len() as f64 * result.elements() as f64
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let mut terms = self.weights.iter().zip(block.operands);
        if let Some((weight, operand)) = terms.next() {
            product(*weight, operand.values, out);
        }
        terms.for_each(|(weight, operand)| add_product(*weight, operand.values, out));
        Ok(())
    }
}

kernel! {
    fn product<'a>(_simd, weight: f32, values: &'a [f32], out: &'a mut [f32]) {
        out.iter_mut().zip(values).for_each(|(out, v)| *out = weight * v);
    }
}

kernel! {
    fn add_product<'a>(_simd, weight: f32, values: &'a [f32], out: &'a mut [f32]) {
        out.iter_mut().zip(values).for_each(|(out, v)| *out += weight * v);
    }
}
