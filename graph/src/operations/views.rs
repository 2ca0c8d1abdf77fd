//! Operations that move values: reshape, transpose, slice, concatenation.

use std::ops::Range;

use codec_api::{CodecError, TensorSpec, typetag};
use serde::{Deserialize, Serialize};

use super::one;
use crate::operation::{Access, Block, Operation, rows_and_columns};

/// A spec of the operand's dtype.
fn moved(like: &TensorSpec, shape: &[usize]) -> Result<TensorSpec, String> {
    TensorSpec::new(like.dtype(), shape).map_err(|error| error.to_string())
}

/// The same values in another shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reshape {
    pub(crate) shape: Vec<usize>,
}

#[typetag::serde(name = "reshape")]
impl Operation for Reshape {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let (operand, result) = (one(operands)?, moved(operands[0], &self.shape)?);
        if operand.elements() == result.elements() {
            return Ok(result);
        }
        Err(format!("the shape {:?} has {} elements", self.shape, result.elements()))
    }

    fn access(&self, _: usize, operands: &[&TensorSpec], result: &TensorSpec) -> Access {
        if rows_and_columns(operands[0]) == rows_and_columns(result) { Access::Same } else { Access::Rows }
    }

    fn rows(&self, _: usize, rows: Range<usize>, spec: &TensorSpec, result: &TensorSpec) -> Range<usize> {
        let (own, columns) = (rows_and_columns(spec).1.max(1), rows_and_columns(result).1);
        rows.start * columns / own..(rows.end * columns).div_ceil(own)
    }

    fn flops(&self, _: &[&TensorSpec], _: &TensorSpec) -> f64 {
        0.0
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let operand = &block.operands[0];
        let [own, columns] = [operand.spec, block.spec].map(|spec| rows_and_columns(spec).1);
        out.copy_from_slice(&operand.values[block.rows.start * columns - operand.rows.start * own..][..out.len()]);
        Ok(())
    }
}

/// The last two axes exchanged.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transpose {}

#[typetag::serde(name = "transpose")]
impl Operation for Transpose {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let mut shape = one(operands)?.shape().to_vec();
        match shape.as_mut_slice() {
            [.., a, b] => std::mem::swap(a, b),
            _ => return Err("the operand needs at least two axes".to_owned()),
        }
        moved(operands[0], &shape)
    }

    fn access(&self, _: usize, _: &[&TensorSpec], _: &TensorSpec) -> Access {
        Access::Whole
    }

    fn preferred_rows(&self) -> usize {
        64
    }

    fn flops(&self, _: &[&TensorSpec], _: &TensorSpec) -> f64 {
        0.0
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        /// Rows and columns of a tile, whose cache lines fit in the first-level cache.
        const TILE: usize = 16;
        let &[.., height, width] = block.spec.shape() else { return Ok(()) };
        let values = block.operands[0].values;
        // Row `r` of matrix `s` is column `r` of the operand's matrix `s`.
        for (first, tile) in block.rows.clone().step_by(TILE).zip(out.chunks_mut((TILE * width).max(1))) {
            for left in (0..width).step_by(TILE) {
                for (row, out) in (first..).zip(tile.chunks_exact_mut(width)) {
                    let (matrix, column) = (row / height, row % height);
                    let end = (left + TILE).min(width);
                    let from = values[matrix * width * height + column..].iter().step_by(height);
                    out[left..end].iter_mut().zip(from.skip(left)).for_each(|(out, value)| *out = *value);
                }
            }
        }
        Ok(())
    }
}

/// A range of every axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slice {
    /// First index and end, for each axis.
    pub(crate) ranges: Vec<[usize; 2]>,
}

impl Slice {
    /// Whether the result is whole rows of the operand that lie together.
    pub(crate) fn is_of_whole_rows(&self, spec: &TensorSpec) -> bool {
        let lengths = || self.ranges.iter().zip(spec.shape());
        // Axes behind the first one of which there is more than one index are whole.
        let mut behind = lengths().skip_while(|([first, end], _)| end - first <= 1).skip(1);
        behind.all(|([first, end], length)| end - first == *length)
            && lengths().next_back().is_none_or(|([first, end], length)| end - first == *length)
    }

    /// The operand's row for a row of the result.
    fn row(&self, row: usize, spec: &TensorSpec) -> usize {
        let leading = self.ranges.len().saturating_sub(1);
        let (mut rest, mut step, mut own) = (row, 1, 0);
        for ([first, end], length) in self.ranges[..leading].iter().zip(spec.shape()).rev() {
            own += (first + rest % (end - first)) * step;
            rest /= end - first;
            step *= length;
        }
        own
    }
}

#[typetag::serde(name = "slice")]
impl Operation for Slice {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let operand = one(operands)?;
        if self.ranges.len() != operand.shape().len() {
            return Err(format!("{} ranges for {} axes", self.ranges.len(), operand.shape().len()));
        }
        let fits = |([first, end], length): (&[usize; 2], &usize)| first <= end && end <= length;
        if let Some(axis) = self.ranges.iter().zip(operand.shape()).position(|pair| !fits(pair)) {
            let [first, end] = self.ranges[axis];
            return Err(format!("axis {axis} of length {} has no range {first}..{end}", operand.shape()[axis]));
        }
        let shape: Vec<usize> = self.ranges.iter().map(|[first, end]| end - first).collect();
        moved(operand, &shape)
    }

    fn access(&self, _: usize, _: &[&TensorSpec], _: &TensorSpec) -> Access {
        Access::Rows
    }

    fn rows(&self, _: usize, rows: Range<usize>, spec: &TensorSpec, _: &TensorSpec) -> Range<usize> {
        if rows.is_empty() { 0..0 } else { self.row(rows.start, spec)..self.row(rows.end - 1, spec) + 1 }
    }

    fn flops(&self, _: &[&TensorSpec], _: &TensorSpec) -> f64 {
        0.0
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let operand = &block.operands[0];
        let columns = rows_and_columns(operand.spec).1;
        let (first, width) = self.ranges.last().map_or((0, 1), |[first, end]| (*first, end - first));
        for (row, out) in block.rows.clone().zip(out.chunks_exact_mut(width.max(1))) {
            let own = self.row(row, operand.spec) - operand.rows.start;
            out.copy_from_slice(&operand.values[own * columns + first..][..width]);
        }
        Ok(())
    }
}

/// Operands of one dtype, one after the other on an axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Concat {
    pub(crate) axis: usize,
    /// Where each operand begins on the axis.
    pub(crate) starts: Vec<usize>,
}

impl Concat {
    /// Rows of an operand before a row of the result, if the axis is not the last one.
    fn before(&self, operand: usize, row: usize, spec: &TensorSpec, result: &TensorSpec) -> usize {
        let inner: usize = result.shape()[self.axis + 1..result.shape().len() - 1].iter().product();
        let (own, period) = (spec.shape()[self.axis] * inner, (result.shape()[self.axis] * inner).max(1));
        row / period * own + (row % period).saturating_sub(self.starts[operand] * inner).min(own)
    }

    fn is_last(&self, spec: &TensorSpec) -> bool {
        self.axis + 1 == spec.shape().len()
    }
}

#[typetag::serde(name = "concat")]
impl Operation for Concat {
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String> {
        let Some(first) = operands.first() else { return Err("it takes at least one operand".to_owned()) };
        if self.axis >= first.shape().len() || operands.len() != self.starts.len() {
            return Err(format!("axis {} of operands with {} axes", self.axis, first.shape().len()));
        }
        let (mut shape, mut length) = (first.shape().to_vec(), 0usize);
        for (number, (operand, start)) in operands.iter().zip(&self.starts).enumerate() {
            shape[self.axis] = operand.shape().get(self.axis).copied().unwrap_or(0);
            if operand.shape() != shape || operand.dtype() != first.dtype() {
                return Err(format!("operands 0 and {number} differ in dtype, or on another axis than {}", self.axis));
            }
            if *start != length {
                return Err(format!("operand {number} begins at {length}, not at {start}"));
            }
            length = length.saturating_add(shape[self.axis]);
        }
        shape[self.axis] = length;
        moved(first, &shape)
    }

    fn access(&self, _: usize, _: &[&TensorSpec], result: &TensorSpec) -> Access {
        if self.is_last(result) && result.shape().len() > 1 { Access::Same } else { Access::Rows }
    }

    fn rows(&self, operand: usize, rows: Range<usize>, spec: &TensorSpec, result: &TensorSpec) -> Range<usize> {
        if self.is_last(result) {
            return rows;
        }
        self.before(operand, rows.start, spec, result)..self.before(operand, rows.end, spec, result)
    }

    fn flops(&self, _: &[&TensorSpec], _: &TensorSpec) -> f64 {
        0.0
    }

    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError> {
        let columns = rows_and_columns(block.spec).1;
        for (number, operand) in block.operands.iter().enumerate() {
            let own = rows_and_columns(operand.spec).1;
            if self.is_last(block.spec) {
                let rows = operand.values.chunks_exact(own.max(1));
                for (from, to) in rows.zip(out.chunks_exact_mut(columns.max(1))) {
                    to[self.starts[number]..][..own].copy_from_slice(from);
                }
                continue;
            }
            // The operand's rows are in the order of the result's, with gaps between them.
            let mut next = operand.rows.start;
            for (row, to) in block.rows.clone().zip(out.chunks_exact_mut(columns.max(1))) {
                if self.before(number, row + 1, operand.spec, block.spec) > next {
                    to.copy_from_slice(&operand.values[(next - operand.rows.start) * own..][..own]);
                    next += 1;
                }
            }
        }
        Ok(())
    }
}
