//! Reads the operands of a node in any order.

use codec_api::{Cancel, CodecError, TensorSpec};

use crate::error::Error;
use crate::evaluate::Options;
use crate::graph::{Graph, Kind};
use crate::operation::{Operands, rows_and_columns};
use crate::plan::Plan;

/// The operands of a node of a plan. Leaves are read where they are, and other operands evaluated.
pub(crate) struct Reader<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) options: &'a Options,
    pub(crate) plan: &'a Plan,
    /// The position of the node.
    pub(crate) at: usize,
    pub(crate) specs: &'a [&'a TensorSpec],
}

impl Operands for Reader<'_> {
    fn specs(&self) -> &[&TensorSpec] {
        self.specs
    }

    fn read(&self, operand: usize, start: usize, out: &mut [f32]) -> Result<(), CodecError> {
        let (position, _) = self.plan.operands(self.at)[operand];
        let data = &self.plan.data[position];
        let end = start.checked_add(out.len()).filter(|end| *end <= data.spec.elements());
        let end = end.ok_or_else(|| CodecError::Usage(format!("{} elements from {start} on", out.len())))?;
        if let Kind::Leaf(leaf) = &data.kind {
            return leaf.elements(&data.spec, start..end, out).map(|_| ()).map_err(failed);
        }
        let columns = rows_and_columns(&data.spec).1.max(1);
        let rows = start / columns..end.div_ceil(columns);
        let first = rows.start * columns;
        let options =
            Options { cache: self.options.cache.clone(), cancel: self.options.cancel.clone(), ..Options::default() };
        let (values, _) = self.graph.rows(self.graph.node(self.plan.ids[position]), rows, &options).map_err(failed)?;
        out.copy_from_slice(&values[start - first..end - first]);
        Ok(())
    }

    fn cancel(&self) -> Option<&Cancel> {
        self.options.cancel.as_deref()
    }
}

fn failed(error: Error) -> CodecError {
    match error {
        Error::Cancelled => CodecError::Cancelled,
        other => CodecError::codec(other),
    }
}
