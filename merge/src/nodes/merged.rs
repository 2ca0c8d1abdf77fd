//! A merged tensor.

use std::any::Any;

use codec_api::{CodecError, Dtype, TensorSpec, typetag};
use graph::{Block, Operands, Operation};
use serde::{Deserialize, Serialize};

use super::sources::{Rows, Whole, with_inputs, with_scratch};
use crate::method::{Method, Prepared};

/// What a method makes of its operands: the models, and the base behind them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Merged {
    pub(super) method: Method,
    /// Whether the last operand is the base.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) base: bool,
}

#[typetag::serde(name = "merge")]
impl Operation for Merged {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let models = operands.len().saturating_sub(usize::from(self.base));
        self.method.check_models(models, self.base)?;
        match operands {
            [first, others @ ..] if others.iter().all(|other| other.shape() == first.shape()) => {
                TensorSpec::new(Dtype::F32, first.shape()).map_err(|error| error.to_string())
            }
            _ => Err("their shapes differ".to_owned()),
        }
    }

    fn flops(&self, operands: &[&TensorSpec], result: &TensorSpec) -> f64 {
        2.0 * operands.len() as f64 * result.elements() as f64
    }

    fn is_prepared(&self) -> bool {
        true
    }

    fn prepare(&self, operands: &dyn Operands) -> Result<Option<Box<dyn Any + Send + Sync>>, CodecError> {
        let sources: Vec<_> = (0..operands.specs().len()).map(|operand| Whole::new(operands, operand)).collect();
        let prepared = with_inputs(&sources, self.base, operands.cancel(), |inputs| self.method.prepare(inputs))?;
        Ok(Some(Box::new(prepared)))
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let prepared = block.survey.and_then(|found| found.downcast_ref::<Prepared>());
        let Some(prepared) = prepared else { return Err(CodecError::Usage("the merge is not prepared".to_owned())) };
        let sources: Vec<_> = (0..block.operands.len()).map(|operand| Rows::new(block, operand)).collect();
        let start = block.rows.start * graph::rows_and_columns(block.spec).1;
        with_inputs(&sources, self.base, None, |inputs| {
            with_scratch(|scratch| prepared.apply_in(inputs, start, out, scratch))
        })
    }
}
