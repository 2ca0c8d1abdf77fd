//! What an operation is: names, shapes, the rows it needs, and its values.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use codec_api::{Cancel, CodecError, LinearOp, TensorSpec, typetag};

/// Rows and columns of a node: the last axis is a row, and all other axes count rows. A scalar is
/// one row of one column.
pub fn rows_and_columns(spec: &TensorSpec) -> (usize, usize) {
    match spec.shape() {
        [] => (1, 1),
        [rows @ .., columns] => (rows.iter().product(), *columns),
    }
}

/// The rows of an operand that some rows of an operation's result need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// The rows of the same numbers.
    Same,
    /// Those of [`Operation::rows`].
    Rows,
    /// All rows, for any row of the result.
    Whole,
    /// None: the operation multiplies with the operand's linear operator.
    Operator,
}

/// An operand of an evaluation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Operand<'a> {
    /// Dtype and shape of the whole operand.
    pub spec: &'a TensorSpec,
    /// The rows that `values` holds.
    pub rows: Range<usize>,
    /// The values of these rows; none for the first operand of an operation in place, whose values
    /// are in the output.
    pub values: &'a [f32],
    /// The operator, for [`Access::Operator`].
    pub operator: Option<&'a dyn LinearOp>,
}

/// Some rows of an operation's result that are to be computed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Block<'a> {
    /// The rows.
    pub rows: Range<usize>,
    /// Dtype and shape of the whole result.
    pub spec: &'a TensorSpec,
    /// The operands in their order.
    pub operands: &'a [Operand<'a>],
    /// What the [`Survey`] has found, if the operation has one.
    pub survey: Option<&'a (dyn Any + Send + Sync)>,
}

/// The first pass of an operation over its whole operands, block by block, in the order of the
/// rows.
pub trait Survey: Send {
    /// Takes the next rows of all operands. What the pass finds must not depend on how many come at
    /// a time.
    ///
    /// # Errors
    /// Those of the operation.
    fn take(&mut self, operands: &[Operand<'_>]) -> Result<(), CodecError>;

    /// Called after the last rows: whether all rows are to be given once more.
    fn again(&mut self) -> bool {
        false
    }

    /// What the evaluation of every block gets ([`Block::survey`]).
    fn finish(self: Box<Self>) -> Box<dyn Any + Send + Sync>;
}

/// The whole operands of an operation, which it reads in any order and on any threads.
pub trait Operands: Sync {
    /// Dtypes and shapes.
    fn specs(&self) -> &[&TensorSpec];

    /// Reads the elements of an operand from `start` on, row-major.
    ///
    /// # Errors
    /// If they are beyond the end, and those of what the operand is computed of.
    fn read(&self, operand: usize, start: usize, out: &mut [f32]) -> Result<(), CodecError>;

    /// What ends the work early.
    fn cancel(&self) -> Option<&Cancel>;
}

/// An operation on tensors of f32 values.
///
/// The serialised operation names and configures it in files, and two nodes with equal serialised
/// operations and equal operands are one node. `#[typetag::serde(name = "…")]` registers the
/// operation, also one of another crate.
#[typetag::serde(tag = "operation")]
pub trait Operation: Any + Debug + Send + Sync {
    /// Dtype and shape of the result.
    ///
    /// # Errors
    /// Why operands of these specs do not fit; [`crate::Error::Operands`] adds the specs.
    fn infer(&self, operands: &[&TensorSpec]) -> Result<TensorSpec, String>;

    /// Which rows of an operand the rows of the result need.
    fn access(&self, _operand: usize, _operands: &[&TensorSpec], _result: &TensorSpec) -> Access {
        Access::Same
    }

    /// The rows of an operand with [`Access::Rows`] that some rows of the result need. More rows
    /// of the result never need fewer.
    fn rows(&self, _operand: usize, rows: Range<usize>, _spec: &TensorSpec, _result: &TensorSpec) -> Range<usize> {
        rows
    }

    /// Whether the values of the first operand, which has the shape of the result, are in the
    /// output before [`Self::evaluate`].
    fn in_place(&self) -> bool {
        false
    }

    /// Rows of the result that are computed at a time, if there are so many; products need some
    /// hundred to be fast.
    fn preferred_rows(&self) -> usize {
        1
    }

    /// Floating-point operations for the whole result.
    fn flops(&self, _operands: &[&TensorSpec], result: &TensorSpec) -> f64 {
        result.elements() as f64
    }

    /// The pass over all operands that comes first, if the operation needs one. Called when the
    /// node is built, too, to see whether there is one.
    fn survey(&self, _operands: &[&TensorSpec]) -> Option<Box<dyn Survey>> {
        None
    }

    /// Whether [`Self::prepare`] comes before the first block.
    fn is_prepared(&self) -> bool {
        false
    }

    /// What the evaluation of every block gets ([`Block::survey`]), if [`Self::is_prepared`], for
    /// an operation that reads its operands itself in place of [`Self::survey`], for example
    /// several times or in parallel. The graph keeps it with the node.
    ///
    /// # Errors
    /// Those of the operation and of its operands.
    fn prepare(&self, _operands: &dyn Operands) -> Result<Option<Box<dyn Any + Send + Sync>>, CodecError> {
        Ok(None)
    }

    /// Computes rows of the result.
    ///
    /// # Errors
    /// Those of the operation.
    fn evaluate(&self, block: &Block<'_>, out: &mut [f32]) -> Result<(), CodecError>;
}
