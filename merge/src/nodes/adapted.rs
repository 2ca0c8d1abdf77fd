//! A tensor with a LoRA adapter in it.

use std::any::Any;
use std::borrow::Cow;

use codec_api::{CodecError, Dtype, TensorSpec, typetag};
use graph::{Access, Block, Operands, Operation, rows_and_columns};
use serde::{Deserialize, Serialize};

use super::sources::{Rows, Whole, failed};
use crate::error::Result;
use crate::lora::{Axis, Factors, Magnitude, Matrix, Product};
use crate::source::Source;

/// `W + scale·L·R` of the operands `W`, `L` and `R`. With DoRA the fourth one has the lengths of
/// the rows or columns. Sums are in f64, and rounded once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Adapted {
    pub(super) scale: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) magnitude: Option<Axis>,
}

impl Adapted {
    /// The product with these matrices, without magnitudes.
    fn product<'a>(
        &self,
        base: impl Source + 'a,
        [left, right]: [(&TensorSpec, Cow<'a, [f32]>); 2],
    ) -> Result<Product<'a>, CodecError> {
        let [left, right] = [left, right].map(|(spec, values)| {
            let (rows, columns) = rows_and_columns(spec);
            Matrix { rows, columns, values }
        });
        Product::new(Box::new(base), left, right, self.scale).map_err(CodecError::Usage)
    }
}

/// All values of an operand.
fn whole<'a>(operands: &dyn Operands, operand: usize) -> Result<Cow<'a, [f32]>, CodecError> {
    let mut values = codec_api::util::zeros(operands.specs()[operand].elements())?;
    operands.read(operand, 0, &mut values)?;
    Ok(values.into())
}

#[typetag::serde(name = "adapted")]
impl Operation for Adapted {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [base, left, right, lengths @ ..] = operands else {
            return Err(format!("it takes a tensor and two matrices, not {} operands", operands.len()));
        };
        let ((rows, rank), (own, columns)) = (rows_and_columns(left), rows_and_columns(right));
        let matrices = left.shape().len() == 2 && right.shape().len() == 2 && rank == own;
        let wanted = match self.magnitude {
            None => Vec::new(),
            Some(Axis::Rows) => vec![rows],
            Some(Axis::Columns) => vec![columns],
        };
        if !matrices
            || rows.checked_mul(columns) != Some(base.elements())
            || lengths.iter().map(|spec| spec.elements()).collect::<Vec<_>>() != wanted
        {
            return Err(
                "the shapes do not fit: W has m · n values, L is m × r, R r × n, and there is a length for each vector"
                    .into(),
            );
        }
        TensorSpec::new(Dtype::F32, base.shape()).map_err(|error| error.to_string())
    }

    fn access(&self, operand: usize, _: &[&TensorSpec], _: &TensorSpec) -> Access {
        if operand == 0 { Access::Same } else { Access::Whole }
    }

    fn flops(&self, operands: &[&TensorSpec], result: &TensorSpec) -> f64 {
        2.0 * result.elements() as f64 * operands.get(1).map_or(1, |left| rows_and_columns(left).1) as f64
    }

    fn is_prepared(&self) -> bool {
        self.magnitude.is_some()
    }

    fn prepare(&self, operands: &dyn Operands) -> Result<Option<Box<dyn Any + Send + Sync>>, CodecError> {
        let Some(axis) = self.magnitude else { return Ok(None) };
        let specs = operands.specs();
        let matrices = [(specs[1], whole(operands, 1)?), (specs[2], whole(operands, 2)?)];
        let product = self.product(Whole::new(operands, 0), matrices)?;
        let factors: Factors<'static> =
            product.factors(&Magnitude { axis, values: whole(operands, 3)? }).map_err(failed)?;
        Ok(Some(Box::new(factors)))
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let [_, left, right, ..] = block.operands else {
            return Err(CodecError::Usage("it takes a tensor and two matrices".to_owned()));
        };
        let matrices = [left, right].map(|operand| (operand.spec, Cow::Borrowed(operand.values)));
        let mut product = self.product(Rows::new(block, 0), matrices)?;
        if let Some((axis, factors)) = block.survey.and_then(|found| found.downcast_ref::<Factors<'static>>()?.as_ref())
        {
            product = product.with_factors(Some((*axis, Cow::Borrowed(&**factors))));
        }
        product.read(block.rows.start * rows_and_columns(block.spec).1, out).map_err(failed)
    }
}
