//! Operations on each value, of one or of two operands with broadcasting.

use std::ops::Range;

use codec_api::util::round;
use codec_api::{CodecError, Dtype, TensorSpec, typetag};
use runtime::{Activation, activate};
use serde::{Deserialize, Serialize};
use simd::kernel;

use super::{computed, one, two};
use crate::operation::{Access, Block, Operand, Operation, rows_and_columns};

/// A function of one value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Function {
    pub(crate) function: Unary,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unary {
    Neg,
    Abs,
    Sign,
    Gelu,
    GeluTanh,
    Silu,
}

#[typetag::serde(name = "function")]
impl Operation for Function {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        computed(one(operands)?.shape())
    }

    fn in_place(&self) -> bool {
        true
    }

    fn evaluate(&self, _: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        match self.function {
            Unary::Neg => out.iter_mut().for_each(|v| *v = -*v),
            Unary::Abs => out.iter_mut().for_each(|v| *v = v.abs()),
            Unary::Sign => out.iter_mut().for_each(|v| *v = f32::from(i8::from(*v > 0.0) - i8::from(*v < 0.0))),
            Unary::Gelu => activate(Activation::Gelu, out),
            Unary::GeluTanh => activate(Activation::GeluTanh, out),
            Unary::Silu => activate(Activation::Silu, out),
        }
        Ok(())
    }
}

/// Every value times a factor.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scale {
    pub(crate) factor: f32,
}

#[typetag::serde(name = "scale")]
impl Operation for Scale {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        if !self.factor.is_finite() {
            return Err(format!("the factor {} is not finite", self.factor));
        }
        computed(one(operands)?.shape())
    }

    fn in_place(&self) -> bool {
        true
    }

    fn evaluate(&self, _: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        scale(out, self.factor);
        Ok(())
    }
}

/// Zero for each value whose magnitude is below a limit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Threshold {
    pub(crate) least: f32,
}

#[typetag::serde(name = "threshold")]
impl Operation for Threshold {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        if !self.least.is_finite() {
            return Err(format!("the threshold {} is not finite", self.least));
        }
        computed(one(operands)?.shape())
    }

    fn in_place(&self) -> bool {
        true
    }

    fn evaluate(&self, _: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        for v in out {
            *v = if v.abs() < self.least { 0.0 } else { *v };
        }
        Ok(())
    }
}

/// Values rounded to a stored float dtype, as a file would hold them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cast {
    pub(crate) dtype: Dtype,
}

#[typetag::serde(name = "cast")]
impl Operation for Cast {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let spec = TensorSpec::new(self.dtype, one(operands)?.shape()).map_err(|error| error.to_string())?;
        spec.require_float().map_err(|error| error.to_string())?;
        Ok(spec)
    }

    fn in_place(&self) -> bool {
        true
    }

    fn evaluate(&self, _: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        round(self.dtype, out)
    }
}

/// A function of two values; axes of length 1 and missing first axes are repeated.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Binary {
    pub(crate) function: Pair,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pair {
    Add,
    Sub,
    Mul,
}

#[typetag::serde(name = "pairs")]
impl Operation for Binary {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [a, b] = two(operands)?;
        computed(&broadcast(a.shape(), b.shape())?)
    }

    fn access(&self, operand: usize, operands: &[&TensorSpec], result: &TensorSpec) -> Access {
        let [own, all] = [operands[operand], result].map(|spec| spec.shape().split_last().map_or(&[][..], |(_, s)| s));
        if own == all { Access::Same } else { Access::Whole }
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let [a, b] = [&block.operands[0], &block.operands[1]];
        if [a, b].iter().all(|x| x.values.len() == out.len() && x.rows == block.rows) {
            pairs(self.function, a.values, b.values, out);
            return Ok(());
        }
        let columns = rows_and_columns(block.spec).1;
        let [a, b] = [Broadcast::new(a, block.spec), Broadcast::new(b, block.spec)];
        for (row, out) in block.rows.clone().zip(out.chunks_exact_mut(columns.max(1))) {
            match [a.row(row), b.row(row)] {
                [a, b] if a.len() == b.len() => pairs(self.function, a, b, out),
                [a, [b]] => a.iter().zip(out).for_each(|(a, out)| *out = self.function.of(*a, *b)),
                [[a], b] => b.iter().zip(out).for_each(|(b, out)| *out = self.function.of(*a, *b)),
                _ => return Err(CodecError::Usage("rows of other lengths than their shapes say".into())),
            }
        }
        Ok(())
    }
}

impl Pair {
    #[inline(always)]
    fn of(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
        }
    }
}

/// The rows of an operand, by rows of the result.
struct Broadcast<'a> {
    values: &'a [f32],
    rows: Range<usize>,
    columns: usize,
    /// Lengths of the result's axes that count rows, and the step of the operand's row for each.
    axes: Vec<(usize, usize)>,
}

impl<'a> Broadcast<'a> {
    fn new(operand: &Operand<'a>, result: &TensorSpec) -> Self {
        let columns = rows_and_columns(operand.spec).1;
        let leading = |spec: &TensorSpec| spec.shape().split_last().map_or(Vec::new(), |(_, rest)| rest.to_vec());
        let (own, all) = (leading(operand.spec), leading(result));
        let mut step = 1;
        let mut axes: Vec<_> = (0..all.len())
            .map(|back| {
                let length = own.len().checked_sub(back + 1).map_or(1, |at| own[at]);
                let taken = if length == 1 { 0 } else { step };
                step *= length;
                (all[all.len() - 1 - back], taken)
            })
            .collect();
        axes.reverse();
        Self { values: operand.values, rows: operand.rows.clone(), columns, axes }
    }

    fn row(&self, row: usize) -> &'a [f32] {
        let (mut rest, mut own) = (row, 0);
        for &(length, step) in self.axes.iter().rev() {
            own += rest % length * step;
            rest /= length;
        }
        &self.values[(own - self.rows.start) * self.columns..][..self.columns]
    }
}

/// The common shape of two operands.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let axes = a.len().max(b.len());
    let length = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(axes).map_or(1, |at| shape[at]);
    let common = |axis| match (length(a, axis), length(b, axis)) {
        (a, b) if a == b => Ok(a),
        (1, n) | (n, 1) => Ok(n),
        (a, b) => Err(format!("axis {axis} has the lengths {a} and {b}, which differ, and neither is 1")),
    };
    (0..axes).map(common).collect()
}

fn pairs(function: Pair, a: &[f32], b: &[f32], out: &mut [f32]) {
    match function {
        Pair::Add => add(a, b, out),
        Pair::Sub => sub(a, b, out),
        Pair::Mul => mul(a, b, out),
    }
}

kernel! {
    /// Multiplies every value by `factor`.
    fn scale<'a>(_simd, values: &'a mut [f32], factor: f32) {
        for v in values {
            *v *= factor;
        }
    }
}

kernel! {
    fn add<'a>(_simd, a: &'a [f32], b: &'a [f32], out: &'a mut [f32]) {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a + b);
    }
}

kernel! {
    fn sub<'a>(_simd, a: &'a [f32], b: &'a [f32], out: &'a mut [f32]) {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a - b);
    }
}

kernel! {
    fn mul<'a>(_simd, a: &'a [f32], b: &'a [f32], out: &'a mut [f32]) {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a * b);
    }
}
