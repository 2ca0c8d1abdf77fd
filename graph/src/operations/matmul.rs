//! Matrix products.

use std::ops::Range;

use codec_api::{CodecError, Inputs, Product, TensorSpec, typetag};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

use super::elementwise::broadcast;
use super::{computed, two};
use crate::operation::{Access, Block, Operation, rows_and_columns};

/// Rows of a product that are computed at a time, if there are so many for each thread. The product
/// packs its right operand for each block, which takes long if a block has few rows.
const ROWS: usize = 256;

/// `a·b`, or `a·bᵀ`, of the last two axes; the axes before are broadcast.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Matmul {
    /// Whether `b` holds the columns of the right matrix as rows.
    pub(crate) transposed: bool,
}

/// The last two axes of a stack of matrices, and those before.
fn matrices(spec: &TensorSpec) -> Option<(&[usize], [usize; 2])> {
    let (stack, last) = spec.shape().split_last_chunk::<2>()?;
    Some((stack, *last))
}

#[typetag::serde(name = "matmul")]
impl Operation for Matmul {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [a, b] = two(operands)?;
        let (Some((stack_a, [m, k])), Some((stack_b, b))) = (matrices(a), matrices(b)) else {
            return Err("both operands need at least two axes".to_owned());
        };
        let [inner, n] = if self.transposed { [b[1], b[0]] } else { b };
        if inner != k {
            return Err(format!("rows of the left operand have {k} values, columns of the right one {inner}"));
        }
        let mut shape = broadcast(stack_a, stack_b)?;
        shape.extend([m, n]);
        computed(&shape)
    }

    fn access(&self, operand: usize, operands: &[&TensorSpec], result: &TensorSpec) -> Access {
        if operand == 0 && matrices(operands[0]).map(|m| m.0) == matrices(result).map(|m| m.0) {
            Access::Same
        } else {
            Access::Whole
        }
    }

    fn preferred_rows(&self) -> usize {
        ROWS
    }

    fn flops(&self, operands: &[&TensorSpec], result: &TensorSpec) -> f64 {
        2.0 * rows_and_columns(operands[0]).1 as f64 * result.elements() as f64
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let [a, b] = [&block.operands[0], &block.operands[1]];
        let (Some((stack, [m, n])), Some((stack_a, [_, k])), Some((stack_b, _))) =
            (matrices(block.spec), matrices(a.spec), matrices(b.spec))
        else {
            return Err(CodecError::Usage("a product of operands with fewer than two axes".into()));
        };
        if out.is_empty() || k == 0 {
            out.fill(0.0);
            return Ok(());
        }
        let mut rest = out;
        for (matrix, rows) in segments(block.rows.clone(), m) {
            let (part, others) = rest.split_at_mut(rows.len() * n);
            rest = others;
            let first = place(stack, stack_a, matrix) * m + rows.start - a.rows.start;
            let left = MatRef::from_row_major_slice(&a.values[first * k..][..rows.len() * k], rows.len(), k);
            let right = &b.values[place(stack, stack_b, matrix) * k * n..][..k * n];
            let right = if self.transposed {
                MatRef::from_column_major_slice(right, k, n)
            } else {
                MatRef::from_row_major_slice(right, k, n)
            };
            product(left, right, m, part);
        }
        Ok(())
    }
}

/// The rows `left·right` of a product with `m` rows. A row has the same bits in any block of rows:
/// faer sums the products of a row in one order, unless there is only one row.
fn product(left: MatRef<'_, f32>, right: MatRef<'_, f32>, m: usize, out: &mut [f32]) {
    let (rows, n) = (left.nrows(), right.ncols());
    if rows != 1 || m == 1 {
        let out = MatMut::from_row_major_slice_mut(out, rows, n);
        return matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
    }
    let mut pair = vec![0.0; 2 * n];
    let twice = Mat::from_fn(2, left.ncols(), |_, column| left[(0, column)]);
    matmul(MatMut::from_row_major_slice_mut(&mut pair, 2, n), Accum::Replace, twice.as_ref(), right, 1.0, Par::Seq);
    out.copy_from_slice(&pair[..n]);
}

/// The matrices that some rows of a stack touch, and the rows of each.
fn segments(rows: Range<usize>, height: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (rows.start / height..rows.end.div_ceil(height)).map(move |matrix| {
        let first = matrix * height;
        (matrix, rows.start.max(first) - first..rows.end.min(first + height) - first)
    })
}

/// The matrix of an operand's stack for a matrix of the result's.
fn place(stack: &[usize], own: &[usize], matrix: usize) -> usize {
    let (mut rest, mut step, mut place) = (matrix, 1, 0);
    for (back, length) in stack.iter().rev().enumerate() {
        let own = own.len().checked_sub(back + 1).map_or(1, |at| own[at]);
        if own > 1 {
            place += rest % length * step;
        }
        step *= own;
        rest /= length;
    }
    place
}

/// `x·Wᵀ` or `x·W` with the linear operator of an encoded matrix, which is not decoded whole.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Linear {
    /// Whether the rows of `W` are outputs: `x·Wᵀ`.
    pub(crate) rows_are_outputs: bool,
}

#[typetag::serde(name = "linear")]
impl Operation for Linear {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let [_, weights] = two(operands)?;
        if weights.shape().len() != 2 {
            return Err("the weights must be a matrix".to_owned());
        }
        Matmul { transposed: self.rows_are_outputs }.infer(operands)
    }

    fn access(&self, operand: usize, _: &[&TensorSpec], _: &TensorSpec) -> Access {
        if operand == 0 { Access::Same } else { Access::Operator }
    }

    fn preferred_rows(&self) -> usize {
        ROWS
    }

    fn flops(&self, operands: &[&TensorSpec], result: &TensorSpec) -> f64 {
        Matmul { transposed: false }.flops(operands, result)
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let Some(operator) = block.operands[1].operator else {
            return Err(CodecError::Usage("the weights have no linear operator".into()));
        };
        if out.is_empty() {
            return Ok(());
        }
        let product = if self.rows_are_outputs { Product::Forward } else { Product::Transposed };
        let x = Inputs::new(block.operands[0].values, block.rows.len())?;
        let outputs = rows_and_columns(block.spec).1;
        operator.apply_vectors(product, 0..outputs, &x, out, outputs)
    }
}
