//! Merges as graphs: a node for each merged tensor, and one for each tensor of a model with an
//! adapter. They compute the bits of [`run`](crate::run), with the same functions.

mod adapted;
mod merged;
mod sources;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec_api::{Dtype, Registry};
use graph::{Graph, Node, Source};

use crate::error::{Error, Result};
use crate::lora::{Adapter, Form};
use crate::method::Method;
use crate::plan::{Input, Operation, OutputTensor, Plan};
use crate::run::{KEY, companions, is_finished};

use adapted::Adapted;
use merged::Merged;

/// The name of the file in a directory.
const FILE: &str = "model.safetensors";

impl From<graph::Error> for Error {
    fn from(error: graph::Error) -> Self {
        match error {
            graph::Error::Checkpoint(error) => error.into(),
            other => Self::Codec(codec_api::CodecError::codec(other)),
        }
    }
}

/// Whether `out` has the graph of this plan, whole, as [`write_graph`] writes it.
pub fn has_graph(plan: &Plan, out: &Path) -> bool {
    is_finished(&out.join(FILE), &plan.hash())
}

/// Writes a directory with the graph of a merge as its model, and the files that the merged model
/// would have beside it. The graph refers to the tensors of the models by path, name and hash:
/// every input is read once, on rayon's current pool, and nothing is computed. Returns the bytes of
/// the graph.
///
/// # Errors
/// [`Error::Tensor`] if vocabularies differ; those of the inputs, and of the files.
#[tracing::instrument(level = "debug", skip_all, fields(out = %out.display()))]
pub fn write_graph(plan: &Plan, out: &Path, registry: &Registry) -> Result<u64> {
    if let Some(tensor) = plan.tensors.iter().find(|tensor| plan.is_aligned(&tensor.name)) {
        let reason = "its rows are in the order of another vocabulary than those of the models, which no expression \
                      has; merge without `--lazy`, then pack the result";
        return Err(Error::tensor("output", &tensor.name, reason));
    }
    std::fs::create_dir_all(out).map_err(|e| Error::file(out, e.to_string()))?;
    companions::check(plan, out)?;
    let (graph, path) = (Graph::new(), out.join(FILE));
    let mut builder = Builder { plan, graph: &graph, registry, sources: HashMap::new() };
    let mut outputs = Vec::with_capacity(plan.tensors.len());
    for tensor in &plan.tensors {
        outputs.push((&*tensor.name, builder.output(tensor)?));
    }
    companions::write(plan, out)?;
    graph.save_with(&outputs, &[(KEY, &*plan.hash())].into(), &path)?;
    Ok(std::fs::metadata(&path).map_err(|e| Error::file(&path, e.to_string()))?.len())
}

/// Builds the nodes of a plan.
struct Builder<'a> {
    plan: &'a Plan,
    graph: &'a Graph,
    registry: &'a Registry,
    /// The models and adapters, by path.
    sources: HashMap<PathBuf, Arc<Source>>,
}

impl Builder<'_> {
    /// A tensor of the output.
    fn output(&mut self, tensor: &OutputTensor) -> Result<Node> {
        let dtype = tensor.spec.dtype();
        let (method, models, base) = match &tensor.operation {
            Operation::Copy(input) => return self.input(input),
            Operation::Merge { method, models, base } => (method, models, base),
        };
        let mut operands = models.iter().chain(base).map(|input| self.input(input)).collect::<Result<Vec<_>>>()?;
        if let (Method::Passthrough { scale: None }, [only]) = (method, &*operands)
            && self.graph.spec(*only)?.dtype() == dtype
        {
            return Ok(operands.remove(0));
        }
        let merged = self.graph.apply(Merged { method: method.clone(), base: base.is_some() }, &operands)?;
        Ok(if dtype == Dtype::F32 { merged } else { self.graph.cast(merged, dtype)? })
    }

    /// A tensor of a model, with its adapter.
    fn input(&mut self, input: &Input) -> Result<Node> {
        let model = &self.plan.models[input.model];
        let (stored, spec) = model.stored_spec(&input.tensor);
        let base = match spec {
            Some(_) => Some(self.leaf(&model.reference.path, stored)?),
            None => None,
        };
        match (model.adapter(), base) {
            (None, Some(base)) => Ok(base),
            (Some(adapter), base) => {
                let shape = spec.map_or(&[][..], |spec| spec.shape());
                self.adapted(adapter, adapter.form_of(&input.tensor, shape)?, base)
            }
            (None, None) => Err(Error::tensor(model.name(), &input.tensor, "the model does not have it")),
        }
    }

    fn leaf(&mut self, path: &Path, tensor: &str) -> Result<Node> {
        let source = if let Some(source) = self.sources.get(path) {
            Arc::clone(source)
        } else {
            let source = Source::open(path, self.registry)?;
            self.sources.insert(path.to_owned(), Arc::clone(&source));
            source
        };
        Ok(self.graph.tensor(&source, tensor)?)
    }

    /// A tensor with what an adapter adds.
    fn adapted(
        &mut self,
        adapter: &Adapter,
        (replaced, form): (Option<&str>, Option<Form>),
        base: Option<Node>,
    ) -> Result<Node> {
        let base = match replaced {
            Some(name) => Some(self.leaf(adapter.path(), name)?),
            None => base,
        };
        let Some(base) = base else {
            return Err(Error::file(adapter.path(), "neither the model nor the adapter has a tensor of the merge"));
        };
        let Some(form) = form else { return Ok(base) };
        let right = self.factor(adapter, &form.right, form.turned)?;
        let left = match &form.left {
            Some(name) => self.factor(adapter, name, form.turned)?,
            None => self.graph.array([1, 1], vec![1.0])?,
        };
        let mut operands = vec![base, left, right];
        if let Some((_, name)) = &form.magnitude {
            operands.push(self.leaf(adapter.path(), name)?);
        }
        let adapted = Adapted { scale: form.scale, magnitude: form.magnitude.map(|(axis, _)| axis) };
        Ok(self.graph.apply(adapted, &operands)?)
    }

    /// A matrix of an adapter.
    fn factor(&mut self, adapter: &Adapter, name: &str, turned: bool) -> Result<Node> {
        let leaf = self.leaf(adapter.path(), name)?;
        let leaf = match *self.graph.spec(leaf)?.shape() {
            [] | [_, _] => leaf,
            [columns] => self.graph.reshape(leaf, [1, columns])?,
            // The kernels of a convolution.
            [rows, ref kernel @ ..] => self.graph.reshape(leaf, [rows, kernel.iter().product()])?,
        };
        Ok(if turned { self.graph.transpose(leaf)? } else { leaf })
    }
}
