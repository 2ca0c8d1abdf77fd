//! LoRA adapters in the layout of PEFT: read, merged into the values of a model while they are
//! read, and extracted from a fine-tune.

mod config;
mod extract;
mod product;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::{Checkpoint, Model};
use codec_api::{Bytes, TensorSpec};

use crate::error::{Error, Result};
use crate::plan::{EMBEDDINGS, HEAD, values};
use crate::source::{Source, Stored};

use config::Config;
pub use extract::{Extract, Extracted, decompose, extract};
use product::{Axis, Magnitude, Matrix, Product};

/// What precedes the names of modules.
const PREFIX: &str = "base_model.model.";

/// A tensor of an adapter: what it is, and the end of its name.
const ROLES: [(Role, &str); 9] = [
    (Role::A, ".lora_A.weight"),
    (Role::B, ".lora_B.weight"),
    (Role::BiasB, ".lora_B.bias"),
    (Role::EmbeddingA, ".lora_embedding_A"),
    (Role::EmbeddingB, ".lora_embedding_B"),
    (Role::Magnitude, ".lora_magnitude_vector"),
    (Role::Magnitude, ".lora_magnitude_vector.weight"),
    (Role::BaseWeight, ".base_layer.weight"),
    (Role::BaseBias, ".base_layer.bias"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    A,
    B,
    BiasB,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
    BaseWeight,
    BaseBias,
}

/// An adapter: matrices `A` (`rank × inputs`) and `B` (`outputs × rank`) of modules, which add
/// `scale·B·A` to their weights; magnitudes of DoRA; and tensors that replace those of the model.
#[derive(Debug)]
pub struct Adapter {
    path: PathBuf,
    config: Config,
    tensors: Arc<Checkpoint>,
    /// By module: the names of its tensors.
    modules: BTreeMap<String, BTreeMap<Role, String>>,
    /// By tensor of the model: the name of what replaces it.
    replaced: BTreeMap<String, String>,
}

impl Adapter {
    /// Opens the adapter in a directory: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    /// [`Error::File`] for keys and tensors that are not supported; those of files.
    pub fn open(directory: &Path) -> Result<Self> {
        let config = Config::read(&directory.join("adapter_config.json"))?;
        let path = directory.join("adapter_model.safetensors");
        let tensors = Checkpoint::open(&path)?;
        let (mut modules, mut replaced) = (BTreeMap::<_, BTreeMap<_, _>>::new(), BTreeMap::new());
        for name in tensors.names() {
            let inner = name.strip_prefix(PREFIX).unwrap_or(name);
            let role = ROLES.iter().find_map(|(role, end)| Some((*role, inner.strip_suffix(end)?)));
            match role {
                Some((role, module)) => {
                    modules.entry(module.to_owned()).or_default().insert(role, name.to_owned());
                }
                None if inner.contains("lora_") => {
                    return Err(Error::file(&path, format!("`{name}` belongs to a kind of LoRA that is not merged")));
                }
                None => {
                    let inner = inner.replace(".modules_to_save.", ".").replace(".original_module.", ".");
                    replaced.insert(inner, name.to_owned());
                }
            }
        }
        for (module, tensors) in &modules {
            if let Some(name) = tensors.get(&Role::BaseBias) {
                replaced.insert(format!("{module}.bias"), name.clone());
            }
        }
        let adapter = Self { path, config, tensors: Arc::new(tensors), modules, replaced };
        adapter.check_pairs()?;
        Ok(adapter)
    }

    fn fail(&self, reason: impl Into<String>) -> Error {
        Error::file(&self.path, reason)
    }

    /// Every `A` has a `B`; DoRA has magnitudes, and only DoRA.
    fn check_pairs(&self) -> Result<()> {
        for (module, roles) in &self.modules {
            let has = |role| roles.contains_key(&role);
            if has(Role::A) != has(Role::B) || has(Role::EmbeddingA) != has(Role::EmbeddingB) {
                return Err(self.fail(format!("module `{module}` has one of `lora_A` and `lora_B` only")));
            }
            let adapted = has(Role::A) || has(Role::EmbeddingA);
            if adapted && has(Role::Magnitude) != self.config.dora {
                let reason = "`use_dora` of the configuration and `lora_magnitude_vector` contradict each other";
                return Err(self.fail(format!("module `{module}`: {reason}")));
            }
        }
        Ok(())
    }

    /// Checks that the adapter belongs to this model. Returns the names of tensors that the model
    /// gets from it.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a module that the model does not have, or another shape.
    pub(crate) fn fit(&self, model: &Model, model_name: &str) -> Result<Vec<String>> {
        let names: BTreeSet<&str> = model.names().into_iter().collect();
        // A tied head is no tensor of the model. It is one as soon as only one of the two changes.
        let tied = if names.contains(HEAD) { None } else { EMBEDDINGS.into_iter().find(|name| names.contains(name)) };
        for (module, roles) in &self.modules {
            let weight = format!("{module}.weight");
            let is_there = names.contains(&*weight) || self.replaced.contains_key(&weight);
            if !is_there && (weight != HEAD || tied.is_none()) {
                let reason =
                    format!("the adapter `{}` has a part for it, and the model does not have it", self.path.display());
                return Err(Error::tensor(model_name, weight, reason));
            }
            if roles.contains_key(&Role::BiasB) && !names.contains(&*format!("{module}.bias")) {
                let reason = "`lora_bias` of the adapter adds to it, and the model does not have it";
                return Err(Error::tensor(model_name, format!("{module}.bias"), reason));
            }
            if let (Some(stored), true) = (roles.get(&Role::BaseWeight), names.contains(&*weight)) {
                let (stored, own) = (self.tensors.spec(stored)?.shape(), model.spec(&weight)?.shape());
                if stored != own {
                    let reason = format!(
                        "its shape is {own:?}, and the adapter was made for {stored:?}: the vocabulary has grown; \
                         resize the model first"
                    );
                    return Err(Error::tensor(model_name, weight, reason));
                }
            }
        }
        let added = |name: &&String| !names.contains(name.as_str());
        if let Some(name) = self.replaced.keys().filter(added).find(|name| name.as_str() != HEAD) {
            let reason = format!("the adapter `{}` replaces it, and the model does not have it", self.path.display());
            return Err(Error::tensor(model_name, name, reason));
        }
        let apart = tied.is_some_and(|embedding| self.changes(embedding) || self.changes(HEAD));
        Ok(self.replaced.keys().cloned().chain(apart.then(|| HEAD.to_owned())).collect())
    }

    /// The shape of what replaces a tensor of the model, with the adapter's dtype.
    pub(crate) fn replacement(&self, tensor: &str) -> Option<TensorSpec> {
        self.tensors.spec(self.replaced.get(tensor)?).ok().cloned()
    }

    /// The values of a tensor of the model with this adapter. `base` has those without, if the
    /// model has the tensor.
    ///
    /// # Errors
    /// [`Error::File`] for matrices that do not fit; those of the file.
    pub fn apply(&self, tensor: &str, base: Option<Box<dyn Source>>) -> Result<Box<dyn Source>> {
        let replaced = self.replaced.get(tensor).map(|name| self.stored(name)).transpose()?;
        let Some(base) = replaced.or(base) else {
            return Err(self.fail(format!("neither the model nor the adapter has `{tensor}`")));
        };
        let of = |end: &str| tensor.strip_suffix(end).and_then(|module| Some((module, self.modules.get(module)?)));
        if let Some((module, roles)) = of(".bias")
            && let Some(bias) = roles.get(&Role::BiasB)
        {
            let (rank, values) = (self.rank(roles)?, self.matrix(bias)?);
            let right = Matrix { rows: 1, columns: values.values.len(), values: values.values };
            let left = Matrix { rows: 1, columns: 1, values: vec![1.0] };
            let product = Product::new(base, left, right, self.config.scale(module, rank));
            return Ok(Box::new(product.map_err(|reason| self.fail(format!("`{tensor}`: {reason}")))?));
        }
        match of(".weight") {
            Some((module, roles)) => self.adapted(module, roles, base),
            None => Ok(base),
        }
    }

    fn rank(&self, roles: &BTreeMap<Role, String>) -> Result<usize> {
        let a = roles.get(&Role::A).or_else(|| roles.get(&Role::EmbeddingA));
        Ok(a.map(|name| self.matrix(name)).transpose()?.map_or(1, |a| a.rows))
    }

    /// The weight of a module with `scale·B·A`, and with DoRA's magnitudes.
    fn adapted(&self, module: &str, roles: &BTreeMap<Role, String>, base: Box<dyn Source>) -> Result<Box<dyn Source>> {
        let pair = |a, b| Some((roles.get(&a)?, roles.get(&b)?));
        let (linear, embedding) = (pair(Role::A, Role::B), pair(Role::EmbeddingA, Role::EmbeddingB));
        let Some((a, b)) = linear.or(embedding) else { return Ok(base) };
        let (a, b) = (self.matrix(a)?, self.matrix(b)?);
        let fail = |reason: String| self.fail(format!("module `{module}`: {reason}"));
        if a.rows != b.columns || a.rows == 0 {
            return Err(fail(format!("`A` has {} rows and `B` {} columns; both are the rank", a.rows, b.columns)));
        }
        let scale = self.config.scale(module, a.rows);
        let shape = base.spec().shape().to_vec();
        let square = b.rows == a.columns;
        let straight = linear.is_some() && shape == [b.rows, a.columns] && !(square && self.config.turned);
        let turned = shape == [a.columns, b.rows];
        let (left, right, axis) = match (straight, turned) {
            (true, _) => (b, a, Axis::Rows),
            // An embedding, or a `Conv1D`, whose weight is `inputs × outputs`.
            (_, true) => (a.transposed(), b.transposed(), Axis::Columns),
            _ => {
                let (outputs, inputs) = (b.rows, a.columns);
                return Err(fail(format!("the model's weight is {shape:?}, but the adapter has {outputs} × {inputs}")));
            }
        };
        let magnitude = roles.get(&Role::Magnitude).map(|name| self.matrix(name)).transpose()?;
        let mut product = Product::new(base, left, right, scale).map_err(fail)?;
        if let Some(magnitude) = magnitude {
            product = product.with_magnitude(&Magnitude { axis, values: magnitude.values })?;
        }
        Ok(Box::new(product))
    }

    /// A tensor of at most two axes.
    fn matrix(&self, name: &str) -> Result<Matrix> {
        let (spec, bytes) = self.tensors.bytes(name)?;
        let (rows, columns) = match *spec.shape() {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            _ => return Err(self.fail(format!("`{name}` has the shape {:?}; a matrix is merged", spec.shape()))),
        };
        if !spec.is_float() {
            return Err(self.fail(format!("`{name}` is {}; F32, F16 and BF16 are read", spec.dtype())));
        }
        Ok(Matrix { rows, columns, values: values(&spec, &bytes)? })
    }

    fn stored(&self, name: &str) -> Result<Box<dyn Source>> {
        let (spec, bytes): (TensorSpec, Bytes) = self.tensors.bytes(name)?;
        Ok(Box::new(Stored::new(spec, bytes)?))
    }

    /// Whether this adapter changes the tensor.
    pub fn changes(&self, tensor: &str) -> bool {
        let module = tensor.strip_suffix(".weight").or_else(|| tensor.strip_suffix(".bias"));
        self.replaced.contains_key(tensor) || module.is_some_and(|module| self.modules.contains_key(module))
    }
}
