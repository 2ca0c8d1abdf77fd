//! A plan: for every tensor of the output, the method, its parameters and its inputs, all checked
//! before any work.

mod chat;
mod config;
mod models;
mod parts;
mod resolve;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codec_api::{Dtype, Registry, TensorSpec};

use crate::error::{Error, Result};
use crate::method::Method;
use crate::recipe::{ModelReference, Recipe};
use crate::source::Source;
use crate::vocabulary::Aligned;

pub(crate) use models::{Opened, source, values};

/// The tensors that stand for an absent head.
pub(crate) const EMBEDDINGS: [&str; 3] = ["model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"];
/// The head.
pub(crate) const HEAD: &str = "lm_head.weight";

/// What a caller decides beside the recipe.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanOptions {
    /// Seed of random masks.
    pub seed: u64,
    /// The dtype of the output, in place of the recipe's.
    pub dtype: Option<Dtype>,
}

/// A merge that can run: [`run`](crate::run).
#[derive(Debug)]
pub struct Plan {
    pub(crate) recipe: Recipe,
    pub(crate) options: PlanOptions,
    pub(crate) models: Vec<Opened>,
    /// The model whose configuration and tokenizer the output gets.
    pub(crate) donor: usize,
    pub(crate) tensors: Vec<OutputTensor>,
    pub(crate) config: Option<serde_json::Value>,
    /// Tensors whose inputs are read in the order of the output's vocabulary.
    aligned: BTreeMap<String, Aligned>,
    /// Files in place of the donor's, by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Whether these are all files of the tokenizer.
    pub(crate) own_tokenizer: bool,
    /// Whether adapters are subtracted.
    taken_away: bool,
    notes: Vec<String>,
}

/// A tensor of the output.
#[derive(Clone, Debug)]
pub struct OutputTensor {
    /// The name.
    pub name: String,
    /// Dtype and shape.
    pub spec: TensorSpec,
    /// How it is made.
    pub operation: Operation,
}

/// How a tensor is made.
#[derive(Clone, Debug)]
pub enum Operation {
    /// By a method.
    Merge {
        /// The method with its parameters.
        method: Method,
        /// The models.
        models: Vec<Input>,
        /// The base.
        base: Option<Input>,
    },
    /// Its bytes are those of the input: integers, which all models have in common.
    Copy(Input),
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The number of the model in the plan.
    pub model: usize,
    /// The tensor.
    pub tensor: String,
}

impl Plan {
    /// Resolves a recipe. It opens the models, but reads no large tensor.
    ///
    /// # Errors
    /// [`Error`] with the key of the recipe, or the model and the tensor, and what to do.
    pub fn new(recipe: Recipe, options: PlanOptions, registry: &Registry) -> Result<Self> {
        resolve::plan(recipe, options, false, registry)
    }

    /// A model without an adapter that was merged into it: `W − s·B·A`, rounded to the dtypes of
    /// the model.
    ///
    /// # Errors
    /// As [`Self::new`]; [`Error::File`] for an adapter that did more than add products.
    pub fn without_adapter(model: &Path, adapter: &Path, registry: &Registry) -> Result<Self> {
        resolve::plan(Recipe::of_adapter(model, adapter), PlanOptions::default(), true, registry)
    }

    /// The tensors of the output, in its order.
    pub fn tensors(&self) -> &[OutputTensor] {
        &self.tensors
    }

    /// The models, by the numbers of [`Input::model`].
    pub fn models(&self) -> impl Iterator<Item = &ModelReference> {
        self.models.iter().map(|model| &model.reference)
    }

    /// The model that the configuration and the tokenizer come from.
    pub fn donor(&self) -> &ModelReference {
        &self.models[self.donor].reference
    }

    /// The name of the method.
    pub fn method(&self) -> &str {
        &self.recipe.merge_method
    }

    /// Whether the rows of this tensor of the output are in the order of another vocabulary than
    /// those of its inputs.
    pub fn is_aligned(&self, tensor: &str) -> bool {
        self.aligned.contains_key(tensor)
    }

    /// The values of inputs of a tensor of the output. Packed tensors are decoded as wholes if they
    /// are not larger than `memory`, in bytes.
    ///
    /// # Errors
    /// Those of the models and the adapters.
    pub(crate) fn sources(&self, tensor: &str, inputs: &[&Input], memory: u64) -> Result<Vec<Box<dyn Source>>> {
        match self.aligned.get(tensor) {
            Some(aligned) => aligned.sources(inputs, &self.models, memory),
            None => inputs.iter().map(|input| self.models[input.model].source(&input.tensor, memory)).collect(),
        }
    }

    /// What the merge decides, and a reader of the recipe might not expect. A note is a sentence
    /// without a full stop.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of weights and bytes of the output.
    pub fn size(&self) -> (u64, u64) {
        let specs = self.tensors.iter().map(|tensor| &tensor.spec);
        specs.fold((0, 0), |(n, bytes), spec| (n + spec.elements() as u64, bytes + spec.byte_len() as u64))
    }

    /// Bytes of all inputs that are read, each once.
    pub fn input_bytes(&self) -> u64 {
        let of = |input: &Input| self.models[input.model].spec(&input.tensor).map_or(0, |spec| spec.byte_len() as u64);
        self.tensors.iter().flat_map(|tensor| tensor.operation.inputs()).map(of).sum()
    }

    /// blake3 of all that decides the output: the recipe, the options, and path, length and time of
    /// the inputs.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let options = format!("{:?}{}", self.options, if self.taken_away { " taken away" } else { "" });
        hasher.update(b"netweight merge 1").update(options.as_bytes());
        hasher.update(serde_json::to_string(&self.recipe).unwrap_or_default().as_bytes());
        self.models.iter().for_each(|model| {
            hasher.update(model.identity().as_bytes());
        });
        for (name, aligned) in &self.aligned {
            hasher.update(name.as_bytes()).update(aligned.identity().as_bytes());
        }
        for (name, bytes) in &self.files {
            hasher.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The directory that companions come from, and the files of the model there.
    pub(crate) fn donor_directory(&self) -> Option<(&Path, Vec<PathBuf>)> {
        self.models[self.donor].directory()
    }
}

impl Operation {
    /// The inputs; the base is the last one.
    pub fn inputs(&self) -> Vec<&Input> {
        match self {
            Self::Merge { models, base, .. } => models.iter().chain(base).collect(),
            Self::Copy(input) => vec![input],
        }
    }
}

/// A dtype by the name that recipes and configurations use.
///
/// # Errors
/// The dtypes.
pub fn dtype(name: &str) -> Result<Dtype, String> {
    match name.strip_prefix("torch.").unwrap_or(name) {
        "float16" | "f16" | "half" => Ok(Dtype::F16),
        "bfloat16" | "bf16" => Ok(Dtype::BF16),
        "float32" | "f32" => Ok(Dtype::F32),
        _ => Err(format!("`{name}` is no dtype of a merge; they are float32, float16 and bfloat16")),
    }
}

/// The name of a dtype in a configuration.
pub(crate) fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    }
}

pub(crate) fn in_key<T>(key: &str, result: Result<T, String>) -> Result<T> {
    result.map_err(|reason| Error::key(key, reason))
}
