//! Packing in three steps that may be interrupted: a plan, its units, the commit.
//!
//! A plan is a JSON file. It names the source and what its files were, the target, the codec and
//! the chunks of every tensor, and it divides the chunks into units. A unit needs nothing but the
//! plan and the source: it encodes its chunks and writes a part, a file in the folder
//! `TARGET.parts`, which appears whole or not at all. Units may run in any order, on any thread or
//! in any process, and again: a part that is there is kept. The commit puts the parts together
//! under the target's name. The bytes of the target depend on the source, the recipe and the seed
//! only.
//!
//! A part is a safetensors file with the sections of its chunks under the names that they have in
//! the packed file. Its metadata `netweight.part` holds the hash of the plan, the number of the
//! unit, and the records of the chunks for the manifest.

mod check;
mod commit;
mod make;
mod parts;
mod run;
mod source;

use std::path::{Path, PathBuf};

use codec_api::{Dtype, FormatVersion};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::packed::{Hash, write_file};
use crate::recipe::Recipe;
use source::Source;

/// What is to be done to pack a model; see the [docs of the module](self).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    kind: Kind,
    version: FormatVersion<1>,
    /// Name and version of the program that made the plan.
    program: String,
    source: Source,
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
    dtype: Dtype,
    shape: Vec<usize>,
    /// Number of its codec.
    codec: usize,
    /// Rows of a chunk; the last one may have fewer.
    chunk_rows: usize,
    /// Number of an earlier tensor with the same bytes, which is stored instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    same_as: Option<usize>,
    /// Why the codec of the recipe is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Plan {
    /// The text of the plan's file.
    fn text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|e| self.wrong(e.to_string()))
    }

    /// blake3 of the text: parts belong to one plan.
    fn hash(&self) -> Result<Hash, Error> {
        Ok(Hash::of(self.text()?.as_bytes()))
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
        let stored = self.tensors.iter().filter(|tensor| tensor.same_as.is_none());
        stored.map(|tensor| tensor.shape.iter().map(|n| *n as u64).product::<u64>()).sum()
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
