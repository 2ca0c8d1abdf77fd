//! LoRA adapters in the layout of PEFT or of kohya's scripts: read, merged into the values of a model
//! while they are read, and extracted from a fine-tune.

mod extract;
mod kohya;
mod product;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::{AdapterConfig, Checkpoint, Model};
use codec_api::{Bytes, TensorSpec};

use crate::error::{Error, Result};
use crate::plan::{EMBEDDINGS, HEAD, values};
use crate::source::{Source, Stored};

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
    scales: Scales,
    /// Whether the differences are taken away from the model.
    taken_away: bool,
    /// Parts of the file that belong to other models, and the number of their modules.
    skipped: BTreeMap<&'static str, usize>,
    tensors: Arc<Checkpoint>,
    /// By module: the names of its tensors.
    modules: BTreeMap<String, BTreeMap<Role, String>>,
    /// By tensor of the model: the name of what replaces it.
    replaced: BTreeMap<String, String>,
}

/// Where the scales of products come from.
#[derive(Debug)]
enum Scales {
    /// A configuration.
    Peft(AdapterConfig),
    /// A number beside the matrices of a module; without one the scale is 1.
    Kohya(BTreeMap<String, f64>),
}

impl Adapter {
    /// Opens an adapter for a model: the directory of one in PEFT's layout, or a file of kohya's.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::File`] for modules that the model does not have.
    pub(crate) fn open_for(path: &Path, model: &Model) -> Result<Self> {
        if path.join("adapter_config.json").exists() {
            return Self::open(path);
        }
        if !path.is_file() {
            let reason = "there is neither an adapter of PEFT, a directory with `adapter_config.json`, nor a file of \
                          kohya's, `*.safetensors`";
            return Err(Error::file(path, reason));
        }
        let tensors = Checkpoint::open(path)?;
        if !kohya::is_kohya(&tensors) {
            let reason = "its tensors are not named like those of kohya's LoRA files, `lora_unet_….lora_down.weight`; \
                          an adapter of PEFT is a directory with `adapter_config.json`";
            return Err(Error::file(path, reason));
        }
        let found = kohya::find(path, &tensors, &model.names().into_iter().collect())?;
        let adapter = Self {
            path: path.to_owned(),
            scales: Scales::Kohya(found.alphas),
            taken_away: false,
            skipped: found.skipped,
            tensors: Arc::new(tensors),
            modules: found.modules,
            replaced: BTreeMap::new(),
        };
        adapter.check_pairs()?;
        Ok(adapter)
    }

    /// Takes the differences away from a model that has them.
    ///
    /// # Errors
    /// [`Error::File`] if more than products were added: what was there before is not known.
    pub(crate) fn take_away(mut self) -> Result<Self> {
        if let Some(tensor) = self.replaced.keys().next() {
            return Err(self.fail(format!("it replaced `{tensor}` as a whole; give the model before with --base")));
        }
        if self.dora() {
            return Err(self.fail("DoRA gave the weights other lengths; give the model before with --base"));
        }
        self.taken_away = true;
        Ok(self)
    }

    /// What the adapter has for other models, for a note.
    pub(crate) fn note(&self) -> Option<String> {
        let (part, count) = self.skipped.iter().next()?;
        let shown = self.path.display();
        Some(format!("`{shown}` has {count} modules of `{part}…` for another model, which are left out"))
    }

    fn dora(&self) -> bool {
        matches!(&self.scales, Scales::Peft(config) if config.dora)
    }

    /// The factor of `B·A` of a module with matrices of this rank.
    fn scale(&self, module: &str, rank: usize) -> f64 {
        let scale = match &self.scales {
            Scales::Peft(config) => config.scale(module, rank),
            Scales::Kohya(alphas) => alphas.get(module).map_or(1.0, |alpha| alpha / rank as f64),
        };
        if self.taken_away { -scale } else { scale }
    }

    /// Opens the adapter in a directory: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    /// [`Error::File`] for keys and tensors that are not supported; those of files.
    pub fn open(directory: &Path) -> Result<Self> {
        let config = AdapterConfig::read(&directory.join("adapter_config.json"))?;
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
        let (scales, skipped) = (Scales::Peft(config), BTreeMap::new());
        let adapter = Self { path, scales, taken_away: false, skipped, tensors: Arc::new(tensors), modules, replaced };
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
            if adapted && has(Role::Magnitude) != self.dora() {
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
            let right = Matrix::new(1, values.values.len(), values.values);
            let left = Matrix::new(1, 1, vec![1.0]);
            let product = Product::new(base, left, right, self.scale(module, rank));
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
        if a.rows != b.columns || a.rows == 0 || without_ones(&b.kernel).len() > 1 {
            return Err(fail(format!("`A` has {} rows and `B` {} columns; both are the rank", a.rows, b.columns)));
        }
        let scale = self.scale(module, a.rows);
        let shape = base.spec().shape().to_vec();
        let is_turned = matches!(&self.scales, Scales::Peft(config) if config.turned);
        let square = b.rows == a.columns && is_turned;
        // A convolution: the kernels of `A`, and kernels of 1 × 1 that add them up.
        let kernels = without_ones(&shape[1.min(shape.len())..]) == without_ones(&a.kernel);
        let straight = linear.is_some() && shape.first() == Some(&b.rows) && kernels && !square;
        let turned = shape == [a.columns, b.rows] && a.kernel.len() == 1;
        let (left, right, axis) = match (straight, turned) {
            (true, _) => (b, a, Axis::Rows),
            // An embedding, or a `Conv1D`, whose weight is `inputs × outputs`.
            (_, true) => (a.transposed(), b.transposed(), Axis::Columns),
            _ => {
                let (outputs, inputs) = (b.rows, a.columns);
                let kernel = if a.kernel.len() > 1 { format!(" in kernels {:?}", a.kernel) } else { String::new() };
                let reason =
                    format!("the model's weight is {shape:?}, but the adapter has {outputs} × {inputs}{kernel}");
                return Err(fail(reason));
            }
        };
        let magnitude = roles.get(&Role::Magnitude).map(|name| self.matrix(name)).transpose()?;
        let mut product = Product::new(base, left, right, scale).map_err(fail)?;
        if let Some(magnitude) = magnitude {
            product = product.with_magnitude(&Magnitude { axis, values: magnitude.values })?;
        }
        Ok(Box::new(product))
    }

    /// A vector, a matrix, or the kernels of a convolution.
    fn matrix(&self, name: &str) -> Result<Matrix> {
        let (spec, bytes) = self.tensors.bytes(name)?;
        let (rows, kernel) = match *spec.shape() {
            [columns] => (1, vec![columns]),
            [rows, ref kernel @ ..] if [1, 3].contains(&kernel.len()) => (rows, kernel.to_vec()),
            _ => {
                let reason =
                    format!("`{name}` has the shape {:?}; matrices and 2-D convolutions are merged", spec.shape());
                return Err(self.fail(reason));
            }
        };
        let columns = kernel.iter().product();
        if !spec.is_float() {
            return Err(self.fail(format!("`{name}` is {}; F32, F16 and BF16 are read", spec.dtype())));
        }
        Ok(Matrix { rows, columns, kernel, values: values(&spec, &bytes)? })
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

/// Extents without those of 1 at the end.
fn without_ones(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|extent| **extent == 1).count();
    &shape[..(shape.len() - ones).max(1.min(shape.len()))]
}
