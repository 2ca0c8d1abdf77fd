//! A file of expressions as a model: its outputs are the tensors.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use checkpoint::{Above, Checkpoint, Compute, Error as ModelError, Opener};
use codec_api::util::{first_non_finite, narrow};
use codec_api::{CodecError, Progress, Registry, TensorSpec, inventory};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::evaluate::Options;
use crate::file::KEY;
use crate::graph::{Data, Graph, Kind, Node};
use crate::leaf::{Leaf, RELEASED, Source, Stored};
use crate::operation::rows_and_columns;

inventory::submit! { Opener { key: KEY, open } }

/// The outputs of a graph as tensors.
#[derive(Debug)]
struct Expressions {
    path: PathBuf,
    graph: Graph,
    tensors: Vec<(String, TensorSpec)>,
    nodes: Vec<Node>,
    /// For each tensor the first one with its node.
    first: Vec<usize>,
    /// Bytes that were computed.
    computed: AtomicU64,
}

fn open(file: Checkpoint, above: Above<'_>, registry: &Registry) -> Result<Box<dyn Compute>, ModelError> {
    let path = file.files()[0].clone();
    let read = move || -> Result<Expressions> {
        let (graph, outputs) = Graph::read_file(file, registry, &|path| above.open(path, registry))?;
        let (mut tensors, mut nodes, mut first, mut places) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        for (at, (name, node)) in outputs.into_iter().enumerate() {
            tensors.push((name, graph.spec(node)?));
            first.push(*places.entry(node).or_insert(at));
            nodes.push(node);
        }
        Ok(Expressions { path, graph, tensors, nodes, first, computed: AtomicU64::new(0) })
    };
    match read() {
        Ok(model) => Ok(Box::new(model)),
        Err(Error::Checkpoint(error)) => Err(error),
        Err(other) => Err(ModelError::Unopened(other.to_string())),
    }
}

impl Expressions {
    fn failed(&self, tensor: &str, error: &Error) -> ModelError {
        let part = format!("tensor `{tensor}`");
        ModelError::Computed { path: self.path.clone(), part, reason: error.to_string() }
    }

    /// Computes rows of the matrix view.
    fn compute(&self, tensor: usize, rows: Range<usize>, out: &mut [u8]) -> Result<()> {
        let (node, spec) = (self.nodes[tensor], &self.tensors[tensor].1);
        if let Kind::Leaf(Leaf::Stored(stored)) = &self.graph.data(node)?.kind {
            out.copy_from_slice(&stored.bytes(&rows)?);
            return Ok(());
        }
        // A row of the matrix view is one or several rows here.
        let (own, columns) = (rows_and_columns(spec).1.max(1), spec.matrix().1);
        let first = rows.start * columns;
        let (values, _) = self.graph.rows(node, first / own..rows.end * columns / own, &Options::default())?;
        let fail = |error| Error::Leaf { leaf: format!("{node:?}"), error };
        if let Some(at) = first_non_finite(&values) {
            let reason = format!(
                "element {} becomes a NaN or an infinity: an input has one there, or the parameters divide by zero",
                first + at
            );
            return Err(fail(CodecError::Usage(reason)));
        }
        narrow(spec.dtype(), &values, out).map_err(fail)?;
        // Values that are used where they are mapped are not counted by their models.
        let bytes = size_of_val(&*values) as u64;
        let before = self.computed.fetch_add(bytes, Ordering::Relaxed);
        if before / RELEASED != (before + bytes) / RELEASED {
            self.each_source(|source| source.model().release());
        }
        Ok(())
    }

    /// The tensors of models that the outputs are computed of.
    fn stored(&self) -> Vec<Arc<Data>> {
        let is_stored = |data: &&Arc<Data>| matches!(data.kind, Kind::Leaf(Leaf::Stored(_)));
        self.graph.read().iter().filter(is_stored).cloned().collect()
    }

    fn each_source(&self, mut visit: impl FnMut(&Source)) {
        let mut seen = BTreeSet::new();
        for data in self.stored() {
            if let Some(stored) = of(&data)
                && seen.insert(Arc::as_ptr(&stored.source).addr())
            {
                visit(&stored.source);
            }
        }
    }
}

fn of(data: &Data) -> Option<&Stored> {
    match &data.kind {
        Kind::Leaf(Leaf::Stored(stored)) => Some(stored),
        _ => None,
    }
}

impl Compute for Expressions {
    fn tensors(&self) -> &[(String, TensorSpec)] {
        &self.tensors
    }

    fn rows(&self, tensor: usize, rows: Range<usize>, out: &mut [u8]) -> Result<(), ModelError> {
        self.compute(tensor, rows, out).map_err(|error| self.failed(&self.tensors[tensor].0, &error))
    }

    fn same_as(&self, tensor: usize) -> Option<usize> {
        Some(self.first[tensor]).filter(|first| *first != tensor)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.each_source(|source| files.extend(source.model().files()));
        files
    }

    fn verify(&self, progress: &dyn Progress) -> Vec<ModelError> {
        let check = |data: &Arc<Data>| {
            let stored = of(data)?;
            let found = stored.verify();
            progress.tick(data.spec.elements() as u64);
            found.err().map(|error| self.failed(&stored.name, &error))
        };
        self.stored().par_iter().filter_map(check).collect()
    }

    fn size(&self) -> (u64, u64) {
        let sizes = self.stored().into_iter().map(|data| (data.spec.elements() as u64, data.spec.byte_len() as u64));
        sizes.fold((0, 0), |all, own| (all.0 + own.0, all.1 + own.1))
    }

    fn release(&self) {
        self.each_source(|source| source.model().release());
    }
}
