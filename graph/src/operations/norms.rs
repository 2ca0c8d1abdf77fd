//! Operations on whole rows: softmax and norms.

use codec_api::{CodecError, TensorSpec, typetag};
use runtime::{layer_norm, rms_norm, softmax};
use serde::{Deserialize, Serialize};

use super::{computed, one};
use crate::operation::{Access, Block, Operation, rows_and_columns};

/// `eˣ/Σeˣ` of each row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Softmax {}

#[typetag::serde(name = "softmax")]
impl Operation for Softmax {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        computed(one(operands)?.shape())
    }

    fn in_place(&self) -> bool {
        true
    }

    fn flops(&self, _: &[&TensorSpec], result: &TensorSpec) -> f64 {
        20.0 * result.elements() as f64
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        out.chunks_exact_mut(rows_and_columns(block.spec).1.max(1)).for_each(softmax);
        Ok(())
    }
}

/// RMS norm of each row; operands are the values and the weights of a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RmsNorm {
    pub(crate) epsilon: f32,
}

#[typetag::serde(name = "rms_norm")]
impl Operation for RmsNorm {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        norm(operands, 2, self.epsilon)
    }

    fn access(&self, operand: usize, _: &[&TensorSpec], _: &TensorSpec) -> Access {
        if operand == 0 { Access::Same } else { Access::Whole }
    }

    fn flops(&self, _: &[&TensorSpec], result: &TensorSpec) -> f64 {
        4.0 * result.elements() as f64
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let columns = rows_and_columns(block.spec).1.max(1);
        let rows = block.operands[0].values.chunks_exact(columns);
        rows.zip(out.chunks_exact_mut(columns))
            .for_each(|(x, y)| rms_norm(x, block.operands[1].values, self.epsilon, y));
        Ok(())
    }
}

/// Layer norm of each row; operands are the values, and weights and biases of a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerNorm {
    pub(crate) epsilon: f32,
}

#[typetag::serde(name = "layer_norm")]
impl Operation for LayerNorm {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        norm(operands, 3, self.epsilon)
    }

    fn access(&self, operand: usize, _: &[&TensorSpec], _: &TensorSpec) -> Access {
        if operand == 0 { Access::Same } else { Access::Whole }
    }

    fn flops(&self, _: &[&TensorSpec], result: &TensorSpec) -> f64 {
        8.0 * result.elements() as f64
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let columns = rows_and_columns(block.spec).1.max(1);
        let [x, weight, bias] = [0, 1, 2].map(|i| block.operands[i].values);
        let rows = x.chunks_exact(columns).zip(out.chunks_exact_mut(columns));
        rows.for_each(|(x, y)| layer_norm(x, weight, bias, self.epsilon, y));
        Ok(())
    }
}

fn norm(operands: &[&TensorSpec], count: usize, epsilon: f32) -> Result<TensorSpec, String> {
    if operands.len() != count {
        return Err(format!("it takes {count} operands, not {}", operands.len()));
    }
    if !(epsilon.is_finite() && epsilon >= 0.0) {
        return Err(format!("epsilon is {epsilon}, not a number of 0 or more"));
    }
    let columns = rows_and_columns(operands[0]).1;
    match operands[1..].iter().find(|spec| spec.shape() != [columns]) {
        Some(_) => Err(format!("weights and biases must have the shape [{columns}] of a row")),
        None => computed(operands[0].shape()),
    }
}
