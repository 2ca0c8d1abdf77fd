//! Packing in steps that may be interrupted; [`Plan`] describes them.

mod base;
mod check;
mod commit;
mod copy;
mod estimate;
mod make;
mod parts;
mod run;
mod source;
mod spec;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use codec_api::{FormatVersion, TensorSpec};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::packed::{Hash, write_file};
use crate::recipe::Recipe;
use base::PlannedBase;
pub use estimate::Estimate;
use source::Source;
pub use trial::Tried;

/// A plan to pack a model. Packing has three steps, which may be interrupted: the plan, its units,
/// and the commit.
///
/// The plan names the source and what its files were, the target, the codec and the chunks of every
/// tensor, and it divides the chunks into units. As a file it is JSON. A unit needs nothing but the
/// plan and the source: it encodes its chunks and writes a part, a file in the folder
/// `TARGET.parts`, which appears whole or not at all. Units may run in any order, on any thread or
/// in any process, and again: a part that is there is kept. The commit puts the parts together
/// under the target's name. The bytes of the target depend on the source, the recipe, the seed and
/// the program only.
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
/// plan.commit(&registry, true)?;
/// let norm = Packed::open("packed", &registry)?.tensor("model.norm.weight")?.to_f32()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    kind: Kind,
    version: FormatVersion<1>,
    /// Name and version of the program that made the plan.
    program: String,
    source: Source,
    /// The model that tensors are stored relative to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<PlannedBase>,
    /// The packed file.
    target: PathBuf,
    recipe: Recipe,
    seed: u64,
    /// Headers of codecs; the first is the one for tensors and chunks that another refuses.
    codecs: Vec<Box<RawValue>>,
    /// In source order: by file, then by offset.
    tensors: Vec<PlannedTensor>,
    /// The chunks of each unit: numbers of tensor and chunk.
    units: Vec<Vec<[usize; 2]>>,
    #[serde(skip)]
    hash: OnceLock<Hash>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "packing plan")]
    Plan,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedTensor {
    name: String,
    /// Number of its source file.
    file: usize,
    #[serde(with = "spec")]
    spec: TensorSpec,
    /// Number of its codec.
    codec: usize,
    /// Rows of a chunk; the last one may have fewer.
    chunk_rows: usize,
    /// Number of an earlier tensor with the same bytes, which is stored instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    same_as: Option<usize>,
    /// Number of its base tensor, which has the same dtype and shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<usize>,
    /// Whether it has the bytes of its base, so that nothing is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    equals_base: bool,
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

    /// The packed file that the plan makes.
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

    /// Number of weights to encode: those of all tensors that are stored themselves.
    pub fn weights(&self) -> u64 {
        let stored = self.tensors.iter().filter(|tensor| tensor.is_stored());
        stored.map(|tensor| tensor.spec.elements() as u64).sum()
    }

    /// The directory of the source files.
    pub fn source_directory(&self) -> &Path {
        &self.source.directory
    }

    /// The files of the source, the index included.
    pub fn source_files(&self) -> Vec<PathBuf> {
        self.source.files.iter().chain(&self.source.index).map(|file| self.source.path(file)).collect()
    }

    fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Plan { path: self.parts(), reason: reason.into() }
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
    /// [`Error::Plan`] if it is none, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Plan { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let plan: Self = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        plan.check().map_err(wrong)?;
        Ok(plan)
    }
}
