//! The operands of a node as sources.

use std::cell::RefCell;
use std::fmt;

use codec_api::{Cancel, CodecError, TensorSpec};
use graph::{Block, Operands, rows_and_columns};

use crate::blocks::{Inputs, Scratch};
use crate::error::{Error, Result};
use crate::source::{Source, check};

/// A whole operand.
pub(super) struct Whole<'a> {
    operands: &'a dyn Operands,
    operand: usize,
}

/// The rows of an operand that a block has.
pub(super) struct Rows<'a> {
    spec: &'a TensorSpec,
    /// The first element.
    first: usize,
    values: &'a [f32],
}

impl<'a> Whole<'a> {
    pub(super) fn new(operands: &'a dyn Operands, operand: usize) -> Self {
        Self { operands, operand }
    }
}

impl fmt::Debug for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Whole({})", self.operand)
    }
}

impl Source for Whole<'_> {
    fn spec(&self) -> &TensorSpec {
        self.operands.specs()[self.operand]
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<()> {
        Ok(self.operands.read(self.operand, start, out)?)
    }
}

impl<'a> Rows<'a> {
    pub(super) fn new(block: &Block<'a>, operand: usize) -> Self {
        let operand = &block.operands[operand];
        let first = operand.rows.start * rows_and_columns(operand.spec).1;
        Self { spec: operand.spec, first, values: operand.values }
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({}, from element {})", self.spec, self.first)
    }
}

impl Source for Rows<'_> {
    fn spec(&self) -> &TensorSpec {
        self.spec
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<()> {
        let range = check(self.spec, start, out.len())?;
        let held = range.start.checked_sub(self.first).and_then(|at| self.values.get(at..at + range.len()));
        let outside = || Error::Method(format!("elements {range:?} are outside the block"));
        out.copy_from_slice(held.ok_or_else(outside)?);
        Ok(())
    }
}

/// Sources as the inputs of a method; the last one may be the base.
///
/// # Errors
/// Those of `f`.
pub(super) fn with_inputs<S: Source, R>(
    sources: &[S],
    base: bool,
    cancel: Option<&Cancel>,
    f: impl FnOnce(&Inputs<'_>) -> Result<R>,
) -> Result<R, CodecError> {
    let never = Cancel::new();
    let all: Vec<&dyn Source> = sources.iter().map(|source| source as &dyn Source).collect();
    let (models, last) = all.split_at(all.len() - usize::from(base));
    let inputs = Inputs { models, base: last.first().copied(), cancel: cancel.unwrap_or(&never) };
    f(&inputs).map_err(failed)
}

pub(super) fn failed(error: Error) -> CodecError {
    match error {
        Error::Codec(error) => error,
        Error::Method(reason) => CodecError::Usage(reason),
        other => CodecError::codec(other),
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers that this thread uses again in the next block.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take();
    let result = f(&mut scratch);
    SCRATCH.set(scratch);
    result
}
