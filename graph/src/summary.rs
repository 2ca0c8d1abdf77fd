//! Figures of a graph, without evaluating it.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::PathBuf;
use std::sync::Arc;

use checkpoint::Model;
use codec_api::TensorSpec;

use crate::error::Result;
use crate::graph::{Data, Graph, Kind, Node};
use crate::leaf::{Leaf, Stored};

/// What a graph consists of.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Nodes that the outputs need.
    pub nodes: usize,
    /// Operations by their names.
    pub operations: BTreeMap<String, usize>,
    /// Leaves by their kinds.
    pub leaves: BTreeMap<&'static str, usize>,
    /// Operations on the longest way from a leaf to an output.
    pub depth: usize,
    /// Bytes of the leaves as they are stored, each tensor once.
    pub leaf_bytes: u64,
    /// The models that leaves are tensors of.
    pub models: BTreeSet<PathBuf>,
    /// Number of values of the outputs, and their bytes in their dtypes.
    pub results: (u64, u64),
    /// Floating-point operations of all outputs, without first passes over operands.
    pub flops: f64,
}

impl Graph {
    /// The nodes that these need, operands first.
    pub(crate) fn below(&self, nodes: &[Node]) -> Result<Vec<(u32, Arc<Data>)>> {
        nodes.iter().try_for_each(|node| self.check(*node))?;
        let all = self.read();
        let mut heap: BinaryHeap<u32> = nodes.iter().map(|node| node.index).collect();
        let mut found: Vec<(u32, Arc<Data>)> = Vec::new();
        while let Some(id) = heap.pop() {
            if found.last().is_none_or(|(last, _)| *last != id) {
                let data = Arc::clone(&all[id as usize]);
                heap.extend(data.operands().iter().map(|(id, _)| *id));
                found.push((id, data));
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Figures of the expressions of some nodes. Nothing is evaluated or read.
    ///
    /// # Errors
    /// [`Error::Foreign`](crate::Error).
    pub fn summary(&self, outputs: &[Node]) -> Result<Summary> {
        let below = self.below(outputs)?;
        let mut summary = Summary { nodes: below.len(), ..Summary::default() };
        let place = |id: u32| below.partition_point(|(other, _)| *other < id);
        let mut depths = vec![0; below.len()];
        let mut seen = BTreeSet::new();
        for (at, (_, data)) in below.iter().enumerate() {
            match &data.kind {
                Kind::Operation { operation, operands } => {
                    *summary.operations.entry(operation.typetag_name().to_owned()).or_default() += 1;
                    let places: Vec<usize> = operands.iter().map(|(id, _)| place(*id)).collect();
                    depths[at] = 1 + places.iter().map(|operand| depths[*operand]).max().unwrap_or(0);
                    let specs: Vec<&TensorSpec> = places.iter().map(|operand| &below[*operand].1.spec).collect();
                    summary.flops += operation.flops(&specs, &data.spec);
                }
                Kind::Leaf(leaf) => {
                    *summary.leaves.entry(kind(leaf)).or_default() += 1;
                    if let Leaf::Stored(stored) = leaf {
                        summary.models.insert(stored.source.path().to_owned());
                        if !seen.insert((Arc::as_ptr(&stored.source).addr(), &*stored.name)) {
                            continue;
                        }
                    }
                    summary.leaf_bytes += bytes(leaf, &data.spec);
                }
            }
        }
        summary.depth = depths.into_iter().max().unwrap_or(0);
        for node in outputs {
            let spec = self.spec(*node)?;
            summary.results.0 += spec.elements() as u64;
            summary.results.1 += spec.byte_len() as u64;
        }
        Ok(summary)
    }
}

fn kind(leaf: &Leaf) -> &'static str {
    match leaf {
        Leaf::Dense(_) => "array",
        Leaf::Random { .. } => "random",
        Leaf::Encoded(_) => "payload",
        Leaf::Stored(_) => "tensor",
    }
}

/// Bytes of a leaf as it is stored.
fn bytes(leaf: &Leaf, spec: &TensorSpec) -> u64 {
    let packed = |stored: &Stored| match stored.source.model() {
        Model::Packed(packed) => packed.tensor(&stored.name).ok().map(|tensor| tensor.bytes()),
        _ => None,
    };
    match leaf {
        Leaf::Dense(values) => size_of_val(&values[..]) as u64,
        Leaf::Random { .. } => 0,
        Leaf::Encoded(encoded) => encoded.tensor.payload.bytes(),
        Leaf::Stored(stored) => packed(stored).unwrap_or(spec.byte_len() as u64),
    }
}
