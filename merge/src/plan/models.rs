//! The models of a recipe, opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::Model;
use codec_api::util::{widen, zeros};
use codec_api::{Bytes, Registry, TensorSpec};

use crate::error::{Error, Result};
use crate::lora::Adapter;
use crate::plan::{EMBEDDINGS, HEAD};
use crate::recipe::ModelReference;
use crate::source::{Source, Stored, check};

/// A model of a recipe.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) reference: ModelReference,
    model: Arc<Model>,
    adapter: Option<Adapter>,
    pub(crate) names: BTreeSet<String>,
    /// Whether the adapter makes a tensor of a head that was tied.
    pub(crate) untied: bool,
}

impl Opened {
    /// `taken_away`: whether the adapter's differences are subtracted.
    ///
    /// # Errors
    /// Those of the model and of its adapter.
    pub(crate) fn open(reference: &ModelReference, taken_away: bool, registry: &Registry) -> Result<Self> {
        if !reference.path.exists() {
            let reason = "there is no such file or directory; a merge reads models from the disk, so download it first, \
                          and give its path or its folder in the cache";
            return Err(Error::file(&reference.path, reason));
        }
        let model = Model::open(&reference.path, &[], registry)?;
        let adapter = reference.lora.as_ref().map(|path| Adapter::open_for(path, &model)).transpose()?;
        let adapter = if taken_away { adapter.map(Adapter::take_away).transpose()? } else { adapter };
        let mut names: BTreeSet<String> = model.names().into_iter().map(str::to_owned).collect();
        let opened = Self {
            reference: reference.clone(),
            model: Arc::new(model),
            adapter,
            names: BTreeSet::new(),
            untied: false,
        };
        if let Some(adapter) = &opened.adapter {
            names.extend(adapter.fit(&opened.model, &reference.to_string())?);
        }
        let untied = names.contains(HEAD) && opened.model.spec(HEAD).is_err();
        Ok(Self { names, untied, ..opened })
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> String {
        self.reference.to_string()
    }

    /// The names of the tensors in the order of the files; those that only the adapter has at the
    /// end.
    pub(crate) fn ordered(&self) -> Vec<&str> {
        let mut names = self.model.names();
        let known: BTreeSet<&str> = names.iter().copied().collect();
        let added: Vec<&str> = self.names.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
        names.extend(added);
        names
    }

    /// # Errors
    /// If there is no such tensor.
    pub(crate) fn spec(&self, tensor: &str) -> Result<TensorSpec> {
        match self.adapter.as_ref().and_then(|adapter| adapter.replacement(tensor)) {
            Some(spec) => match self.model.spec(self.stored(tensor)) {
                Ok(own) => Ok(TensorSpec::new(own.dtype(), spec.shape())?),
                Err(_) => Ok(spec),
            },
            None => Ok(self.model.spec(self.stored(tensor))?.clone()),
        }
    }

    /// The values of a tensor. Packed tensors are decoded as a whole if they are not larger than
    /// `memory`, in bytes.
    ///
    /// # Errors
    /// Those of the model and the adapter.
    pub(crate) fn source(&self, tensor: &str, memory: u64) -> Result<Box<dyn Source>> {
        let stored = self.stored(tensor);
        let base = || source(&self.model, stored, memory);
        match &self.adapter {
            Some(adapter) => adapter.apply(tensor, self.model.spec(stored).is_ok().then(base).transpose()?),
            None => base(),
        }
    }

    /// The tensor of the model that has the values: the embedding for a tied head.
    fn stored<'t>(&self, tensor: &'t str) -> &'t str {
        let tied = tensor == HEAD && self.untied;
        EMBEDDINGS.into_iter().find(|name| tied && self.model.spec(name).is_ok()).unwrap_or(tensor)
    }

    /// The tensor of the model that has the values, with its spec if the model has it.
    #[cfg(feature = "graph")]
    pub(crate) fn stored_spec<'t>(&'t self, tensor: &'t str) -> (&'t str, Option<&'t TensorSpec>) {
        let stored = self.stored(tensor);
        (stored, self.model.spec(stored).ok())
    }

    #[cfg(feature = "graph")]
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The stored bytes of a tensor that no adapter changes.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) fn bytes(&self, tensor: &str) -> Result<Bytes> {
        Ok(self.model.bytes(tensor)?)
    }

    /// The directory of the model, and its files there.
    pub(crate) fn directory(&self) -> Option<(&Path, Vec<PathBuf>)> {
        let files = self.model.own_files();
        self.reference.path.is_dir().then_some((&*self.reference.path, files))
    }

    /// What tells this model from another one without reading it: path, length and time of each
    /// file.
    pub(crate) fn identity(&self) -> String {
        let files = self.model.files();
        let adapter = self
            .reference
            .lora
            .iter()
            .flat_map(|lora| ["adapter_config.json", "adapter_model.safetensors", ""].map(|name| lora.join(name)));
        let state = |file: PathBuf| {
            let state = std::fs::metadata(&file).ok().map(|data| (data.len(), data.modified().ok()));
            format!("{}:{state:?}\n", file.display())
        };
        files.into_iter().chain(adapter).map(state).collect()
    }

    /// What its adapter leaves out.
    pub(crate) fn note(&self) -> Option<String> {
        self.adapter.as_ref()?.note()
    }

    /// The layers, by the part of the names before their number.
    pub(crate) fn layers(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (prefix, number, _) in self.names.iter().filter_map(|name| layer(name)) {
            let count: &mut usize = counts.entry(prefix.to_owned()).or_default();
            *count = (*count).max(number + 1);
        }
        counts
    }
}

/// The parts of the name of a layer's tensor: before the number, the number, behind it.
pub(crate) fn layer(name: &str) -> Option<(&str, usize, &str)> {
    let mut at = 0;
    for part in name.split('.') {
        let end = at + part.len();
        if at > 0 && !part.is_empty() && part.len() < 6 && part.bytes().all(|c| c.is_ascii_digit()) {
            let rest = name.get(end + 1..)?;
            return Some((&name[..at - 1], part.parse().ok()?, rest));
        }
        at = end + 1;
    }
    None
}

/// The values of a tensor of a model; [`Opened::source`].
///
/// # Errors
/// Those of the model.
pub(crate) fn source(model: &Arc<Model>, tensor: &str, memory: u64) -> Result<Box<dyn Source>> {
    match &**model {
        Model::Dense(dense) => {
            let (spec, bytes) = dense.bytes(tensor)?;
            Ok(Box::new(Stored::mapped(spec, bytes, model.pages())?))
        }
        Model::Packed(packed) => {
            let stored = packed.tensor(tensor)?;
            if stored.spec().byte_len() as u64 <= memory {
                return Ok(Box::new(Stored::new(stored.spec().clone(), stored.decode_bytes()?.into())?));
            }
            let spec = stored.spec().clone();
            Ok(Box::new(ModelRows { model: Arc::clone(model), tensor: tensor.to_owned(), spec }))
        }
        Model::Computed(computed) => {
            let spec = computed.spec(tensor)?.clone();
            if spec.byte_len() as u64 <= memory {
                return Ok(Box::new(Stored::new(spec, model.bytes(tensor)?)?));
            }
            Ok(Box::new(ModelRows { model: Arc::clone(model), tensor: tensor.to_owned(), spec }))
        }
    }
}

/// A tensor whose rows are decoded or computed when they are read.
struct ModelRows {
    model: Arc<Model>,
    tensor: String,
    spec: TensorSpec,
}

impl fmt::Debug for ModelRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelRows({})", self.tensor)
    }
}

impl Source for ModelRows {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<()> {
        let range = check(&self.spec, start, out.len())?;
        if range.is_empty() {
            return Ok(());
        }
        let columns = self.spec.matrix().1;
        let rows = range.start / columns..range.end.div_ceil(columns);
        let mut values: Vec<f32> = zeros(rows.len() * columns)?;
        match &*self.model {
            Model::Packed(packed) => packed.tensor(&self.tensor)?.rows(rows.clone(), &mut values)?,
            model => widen(self.spec.dtype(), &model.rows(&self.tensor, &rows)?, &mut values)?,
        }
        let first = range.start - rows.start * columns;
        out.copy_from_slice(&values[first..first + range.len()]);
        Ok(())
    }

    fn release(&self, _: Range<usize>) {
        self.model.release();
    }
}

/// All values of a small tensor.
///
/// # Errors
/// As [`widen`].
pub(crate) fn values(spec: &TensorSpec, bytes: &[u8]) -> Result<Vec<f32>> {
    let mut values = zeros(spec.elements())?;
    widen(spec.dtype(), bytes, &mut values)?;
    Ok(values)
}
