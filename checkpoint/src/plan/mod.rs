//! Packing in steps that may be interrupted; [`Plan`] describes them.

mod base;
mod check;
mod commit;
mod contest;
mod copy;
mod encoder;
mod estimate;
mod make;
mod parts;
mod publish;
mod run;
mod sample;
mod shards;
mod source;
mod spec;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use codec_api::{Codec, FormatVersion, Registry, TensorSpec};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::computed::computed_header;
use crate::error::Error;
use crate::layout::directory;
use crate::model::Model;
use crate::packed::{Hash, write_file};
use crate::recipe::Recipe;
use base::PlannedBase;
pub use contest::Tried;
pub use estimate::{Estimate, Share};
pub use run::{Ran, TensorEncoder};
pub use sample::{Sample, SampleStatistics, Trial, TrialCost};
pub(crate) use source::Source;

/// A plan to pack a model. Packing has three steps, which may be interrupted: the plan, its units,
/// and the commit.
///
/// The plan names the source and what its files were, the target, the codec and the chunks of every
/// tensor, and it divides the chunks into units. As a file it is JSON. A unit needs nothing but the
/// plan and the source: it encodes its chunks and writes a part, a file in the folder
/// `TARGET.parts`, which appears whole or not at all. Units may run in any order, on any thread or
/// in any process, and again: a part that is there is kept. The commit puts the parts together
/// under the target's name, after it has copied the files beside the model. The bytes of the target
/// depend on the source, the recipe, the seed and the program only. `docs/plan.md` describes the
/// file.
///
/// A part is a safetensors file with the sections of its chunks under the names that they have in
/// the packed file. Its metadata string `netweight.part` holds the hash of the plan, the number of
/// the unit, and the records of the chunks for the manifest; `netweight.part.crc32c` confirms it.
///
/// A plan may name a base, a model that tensors are stored relative to, as it names the source. The
/// units and the commit read it too.
///
/// ```no_run
/// use checkpoint::{Packed, Plan, Recipe};
/// use codec_api::{NoProgress, Registry};
///
/// let registry = Registry::linked()?;
/// let plan = Plan::new("my-model", "packed", &Recipe::load("int8")?, 0, &registry)?;
/// plan.run(&registry, &NoProgress)?;
/// plan.commit(&registry, Some(&NoProgress))?;
/// let norm = Packed::open("packed", &registry)?.tensor("model.norm.weight")?.to_f32()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    kind: Kind,
    version: FormatVersion<1>,
    /// Name and version of the program that made the plan.
    pub(crate) program: String,
    pub(crate) source: Source,
    /// The model that tensors are stored relative to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<PlannedBase>,
    /// Files beside the model, relative to the directory of the source, that the commit copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    companions: Vec<PathBuf>,
    /// The packed file.
    target: PathBuf,
    /// The most bytes of a file, if the packed model may be several files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_shard_size: Option<u64>,
    recipe: Recipe,
    seed: u64,
    /// Headers of codecs; the first is the one for tensors and chunks that another refuses.
    pub(crate) codecs: Vec<Box<RawValue>>,
    /// In source order: by file, then by offset.
    pub(crate) tensors: Vec<PlannedTensor>,
    /// The chunks of each unit: numbers of tensor and chunk.
    units: Vec<Vec<[usize; 2]>>,
    /// The source, if its tensors are computed.
    #[serde(skip)]
    computed: OnceLock<Arc<Model>>,
    #[serde(skip)]
    hash: OnceLock<Hash>,
    /// The file of the plan, for messages.
    #[serde(skip)]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "packing plan")]
    Plan,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlannedTensor {
    pub(crate) name: String,
    /// Number of its source file.
    pub(crate) file: usize,
    #[serde(with = "spec")]
    pub(crate) spec: TensorSpec,
    /// Number of its codec.
    pub(crate) codec: usize,
    /// Rows of a chunk; the last one may have fewer.
    chunk_rows: usize,
    /// Number of an earlier tensor with the same bytes, which is stored instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) same_as: Option<usize>,
    /// Number of its base tensor, which has the same dtype and shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<usize>,
    /// Whether it has the bytes of its base, so that nothing is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) equals_base: bool,
    /// Why the codec of the recipe is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// What was tried for a tensor with `best`; the chosen one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tried: Vec<Tried>,
}

impl PlannedTensor {
    /// Whether it has chunks of its own.
    fn is_stored(&self) -> bool {
        self.same_as.is_none() && !self.equals_base
    }
}

impl Plan {
    /// The text of the plan's file.
    fn text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| self.wrong(e.to_string()))
    }

    /// blake3 of the text: parts belong to one plan.
    fn hash(&self) -> Result<Hash, Error> {
        if let Some(hash) = self.hash.get() {
            return Ok(*hash);
        }
        let hash = Hash::of(self.text()?.as_bytes());
        Ok(*self.hash.get_or_init(|| hash))
    }

    /// The packed file that the plan makes, or the one whose place a set of files takes.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The folder of the parts. The commit removes it.
    pub fn parts(&self) -> PathBuf {
        let mut path = self.target.clone().into_os_string();
        path.push(".parts");
        path.into()
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// The names of the tensors that a unit has chunks of.
    pub fn names(&self, unit: usize) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors_of(unit).map(|tensor| &*tensor.name).collect();
        names.dedup();
        names
    }

    /// The tensor of each chunk of a unit.
    fn tensors_of(&self, unit: usize) -> impl Iterator<Item = &PlannedTensor> {
        self.units.get(unit).into_iter().flatten().map(|[tensor, _]| &self.tensors[*tensor])
    }

    /// The files of the source that a unit reads; the base is not among them. `None` if it reads
    /// files of other models, because the source is a model of expressions.
    pub fn files(&self, unit: usize) -> Option<Vec<PathBuf>> {
        if self.source.computed {
            return None;
        }
        let mut files: Vec<usize> = self.tensors_of(unit).map(|tensor| tensor.file).collect();
        files.dedup();
        Some(files.into_iter().map(|file| self.source.path(&self.source.files[file])).collect())
    }

    /// Number of weights of these units, and their bytes in the stored dtypes.
    pub fn size(&self, units: &[usize]) -> (u64, u64) {
        let pieces = units.iter().filter_map(|unit| self.units.get(*unit)).flatten();
        pieces.fold((0, 0), |(weights, bytes), [tensor, chunk]| {
            let tensor = &self.tensors[*tensor];
            let of_chunk = tensor.weights(*chunk);
            (weights + of_chunk, bytes + tensor.byte_len(of_chunk))
        })
    }

    /// The source and the packed model as arguments of commands: the directories if the commit
    /// copies the files beside the model.
    pub fn places(&self) -> [PathBuf; 2] {
        let (folder, files) = (self.source.directory.clone(), &self.source.files);
        match (&**files, &self.source.index) {
            _ if !self.companions.is_empty() => [folder, directory(&self.target).to_owned()],
            ([only], None) => [self.source.path(only), self.target.clone()],
            _ => [folder, self.target.clone()],
        }
    }

    /// The codec of each tensor, by name.
    ///
    /// # Errors
    /// [`Error::Plan`] if the registry lacks one.
    pub fn codecs(&self, registry: &Registry) -> Result<BTreeMap<&str, Arc<dyn Codec>>, Error> {
        let codecs = self.make_codecs(registry)?;
        Ok(self.tensors.iter().map(|tensor| (&*tensor.name, Arc::clone(&codecs[tensor.codec]))).collect())
    }

    /// The bases as arguments of commands, the nearest first.
    pub fn bases(&self) -> Vec<PathBuf> {
        self.base.as_ref().map(PlannedBase::paths).unwrap_or_default()
    }

    /// Name and hash of the base of a tensor.
    pub(crate) fn base_of(&self, tensor: &PlannedTensor) -> Option<(&str, Hash)> {
        let record = self.base.as_ref()?.tensors.get(tensor.base?)?;
        Some((&record.name, record.blake3))
    }

    /// The files of the source, opened one by one.
    pub(crate) fn models(&self, registry: &Registry) -> Result<Vec<Arc<Model>>, Error> {
        (0..self.source.files.len()).map(|file| self.model(file, registry)).collect()
    }

    /// A file of the source, opened. What a computed model has found out, such as thresholds of a
    /// merge, all units share.
    fn model(&self, file: usize, registry: &Registry) -> Result<Arc<Model>, Error> {
        if !self.source.computed {
            return Ok(Arc::new(self.source.open(file, registry)?));
        }
        if let Some(model) = self.computed.get() {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new(self.source.open(file, registry)?);
        Ok(Arc::clone(self.computed.get_or_init(|| model)))
    }

    /// The header of every dense file of the source, with the length before it: also of the file
    /// that a computed model stands for.
    ///
    /// # Errors
    /// [`Error::Changed`] if a file is not as it was.
    pub(crate) fn headers(&self) -> Result<Vec<Vec<u8>>, Error> {
        let headers = self.source.headers()?;
        if !self.source.computed {
            return Ok(headers);
        }
        let tensors = self.tensors.iter().map(|tensor| (&*tensor.name, &tensor.spec));
        Ok(vec![computed_header(tensors).map_err(|reason| self.wrong(reason))?])
    }

    fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Plan { path: self.file.clone().unwrap_or_else(|| self.parts()), reason: reason.into() }
    }

    /// Writes the plan as a file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        write_file(path, self.text()?.as_bytes())
    }

    /// Reads a plan's file.
    ///
    /// # Errors
    /// [`Error::Plan`] if it is none, contradicts itself, or was made by another version of the
    /// program, which may encode otherwise.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Plan { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let mut plan: Self = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        plan.check().map_err(wrong)?;
        plan.file = Some(path.to_owned());
        Ok(plan)
    }
}
