//! LoRA adapters in the layout of PEFT or of kohya's scripts: read, merged into the values of a
//! model while they are read, and extracted from a fine-tune.

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
pub(crate) use product::{Axis, Factors, Magnitude, Matrix, Product};

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

/// What an adapter adds to a tensor: `scale·left·right`.
#[derive(Debug)]
pub(crate) struct Form {
    /// The tensors of the adapter; for a bias, the left one is the number 1.
    pub(crate) left: Option<String>,
    pub(crate) right: String,
    /// Whether both are transposed first.
    pub(crate) turned: bool,
    pub(crate) scale: f64,
    /// The lengths that DoRA gives to rows or columns.
    pub(crate) magnitude: Option<(Axis, String)>,
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
            let form = self.bias(module, roles, bias)?;
            return self.realised(tensor, &form, base);
        }
        match of(".weight") {
            Some((module, roles)) => match self.form(module, roles, base.spec().shape())? {
                Some(form) => self.realised(tensor, &form, base),
                None => Ok(base),
            },
            None => Ok(base),
        }
    }

    /// What the adapter adds to a tensor of this shape, and what replaces the tensor.
    ///
    /// # Errors
    /// As [`Self::apply`].
    #[cfg(feature = "graph")]
    pub(crate) fn form_of(&self, tensor: &str, shape: &[usize]) -> Result<(Option<&str>, Option<Form>)> {
        let replaced = self.replaced.get(tensor).map(String::as_str);
        let shape = replaced.map(|name| self.tensors.spec(name)).transpose()?.map_or(shape, TensorSpec::shape);
        let of = |end: &str| tensor.strip_suffix(end).and_then(|module| Some((module, self.modules.get(module)?)));
        if let Some((module, roles)) = of(".bias")
            && let Some(bias) = roles.get(&Role::BiasB)
        {
            return Ok((replaced, Some(self.bias(module, roles, bias)?)));
        }
        let form = of(".weight").map(|(module, roles)| self.form(module, roles, shape)).transpose()?;
        Ok((replaced, form.flatten()))
    }

    /// The file of the tensors.
    #[cfg(feature = "graph")]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bias of a module, which the adapter adds to.
    fn bias(&self, module: &str, roles: &BTreeMap<Role, String>, bias: &str) -> Result<Form> {
        let a = roles.get(&Role::A).or_else(|| roles.get(&Role::EmbeddingA));
        let rank = a.map(|name| self.extents(name)).transpose()?.map_or(1, |(rank, _)| rank);
        let scale = self.scale(module, rank);
        Ok(Form { left: None, right: bias.to_owned(), turned: false, scale, magnitude: None })
    }

    /// What is added to the weight of a module: `scale·B·A`, and DoRA's magnitudes.
    fn form(&self, module: &str, roles: &BTreeMap<Role, String>, shape: &[usize]) -> Result<Option<Form>> {
        let pair = |a, b| Some((roles.get(&a)?, roles.get(&b)?));
        let (linear, embedding) = (pair(Role::A, Role::B), pair(Role::EmbeddingA, Role::EmbeddingB));
        let Some((a, b)) = linear.or(embedding) else { return Ok(None) };
        let ((rank, kernel), (outputs, ones)) = (self.extents(a)?, self.extents(b)?);
        let fail = |reason: String| self.fail(format!("module `{module}`: {reason}"));
        let columns = ones.iter().product::<usize>();
        if rank != columns || rank == 0 || without_ones(&ones).len() > 1 {
            return Err(fail(format!("`A` has {rank} rows and `B` {columns} columns; both are the rank")));
        }
        let scale = self.scale(module, rank);
        let inputs = kernel.iter().product();
        let is_turned = matches!(&self.scales, Scales::Peft(config) if config.turned);
        let square = outputs == inputs && is_turned;
        // A convolution: the kernels of `A`, and kernels of 1 × 1 that add them up.
        let kernels = without_ones(&shape[1.min(shape.len())..]) == without_ones(&kernel);
        let straight = linear.is_some() && shape.first() == Some(&outputs) && kernels && !square;
        let (left, right, axis) = match (straight, shape == [inputs, outputs] && kernel.len() == 1) {
            (true, _) => (b, a, Axis::Rows),
            // An embedding, or a `Conv1D`, whose weight is `inputs × outputs`.
            (_, true) => (a, b, Axis::Columns),
            _ => {
                let kernel = if kernel.len() > 1 { format!(" in kernels {kernel:?}") } else { String::new() };
                let reason =
                    format!("the model's weight is {shape:?}, but the adapter has {outputs} × {inputs}{kernel}");
                return Err(fail(reason));
            }
        };
        let magnitude = roles.get(&Role::Magnitude).map(|name| (axis, name.clone()));
        Ok(Some(Form { left: Some(left.clone()), right: right.clone(), turned: !straight, scale, magnitude }))
    }

    /// The values of a tensor with what the adapter adds.
    fn realised(&self, tensor: &str, form: &Form, base: Box<dyn Source>) -> Result<Box<dyn Source>> {
        let matrix = |name: &String| {
            let matrix = self.matrix(name)?;
            Ok::<_, Error>(if form.turned { matrix.transposed() } else { matrix })
        };
        let one = || Ok(Matrix { rows: 1, columns: 1, values: vec![1.0].into() });
        let (left, right) = (form.left.as_ref().map_or_else(one, matrix)?, matrix(&form.right)?);
        let product = Product::new(base, left, right, form.scale);
        let mut product = product.map_err(|reason| self.fail(format!("`{tensor}`: {reason}")))?;
        if let Some((axis, name)) = &form.magnitude {
            product = product.with_magnitude(&Magnitude { axis: *axis, values: self.matrix(name)?.values })?;
        }
        Ok(Box::new(product))
    }

    /// Rows of a vector, a matrix, or the kernels of a convolution, and the extents behind them.
    fn extents(&self, name: &str) -> Result<(usize, Vec<usize>)> {
        let spec = self.tensors.spec(name)?;
        if !spec.is_float() {
            return Err(self.fail(format!("`{name}` is {}; F32, F16 and BF16 are read", spec.dtype())));
        }
        match *spec.shape() {
            [columns] => Ok((1, vec![columns])),
            [rows, ref kernel @ ..] if [1, 3].contains(&kernel.len()) => Ok((rows, kernel.to_vec())),
            _ => {
                let reason =
                    format!("`{name}` has the shape {:?}; matrices and 2-D convolutions are merged", spec.shape());
                Err(self.fail(reason))
            }
        }
    }

    /// A tensor as a matrix: a kernel is a row.
    fn matrix(&self, name: &str) -> Result<Matrix<'static>> {
        let (rows, kernel) = self.extents(name)?;
        let (spec, bytes) = self.tensors.bytes(name)?;
        Ok(Matrix { rows, columns: kernel.iter().product(), values: values(&spec, &bytes)?.into() })
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
