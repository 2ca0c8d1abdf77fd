//! LoRA adapters in the layout of PEFT or of kohya's scripts: read, merged into the values of a
//! model while they are read, and extracted from a fine-tune.

mod extract;
mod form;
mod kohya;
mod product;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::{AdapterConfig, Checkpoint, Model};
use codec_api::TensorSpec;

use crate::error::{Error, Result};
use crate::plan::{EMBEDDINGS, HEAD};

pub use extract::{Extract, Extracted, decompose, extract};
#[cfg(feature = "graph")]
pub(crate) use form::Form;
#[cfg(feature = "graph")]
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

    /// Whether this adapter changes the tensor.
    pub fn changes(&self, tensor: &str) -> bool {
        let module = tensor.strip_suffix(".weight").or_else(|| tensor.strip_suffix(".bias"));
        self.replaced.contains_key(tensor) || module.is_some_and(|module| self.modules.contains_key(module))
    }
}
