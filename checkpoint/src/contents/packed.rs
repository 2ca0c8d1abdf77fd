//! What is in a packed model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use codec_api::{Certificate, Registry};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::packed::{Packed, PackedTensor};
use crate::plan::Tried;

/// The properties of a packed model.
#[derive(Debug, Serialize)]
pub struct PackedContents {
    /// The kind of the model, in words.
    pub kind: &'static str,
    /// The file, or the index of several.
    pub file: PathBuf,
    /// Name and version of the program that packed it.
    pub program: String,
    /// The recipe.
    pub recipe: Box<RawValue>,
    /// Names of the files that were packed.
    pub source_files: Vec<String>,
    /// The model that tensors are stored relative to.
    pub base: Option<Base>,
    /// Number of weights.
    pub weights: u64,
    /// Bytes of the tensors in their stored dtypes.
    pub dense_bytes: u64,
    /// Bytes of the sections.
    pub bytes: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// The files of a set.
    pub shards: Vec<Shard>,
    /// The most bytes that each should have.
    pub max_shard_size: Option<u64>,
    /// `bytes` in bits, per weight.
    pub bits_per_weight: Option<f64>,
    /// What each codec stores, by its spec.
    pub codecs: BTreeMap<String, Share>,
    /// The quality levels; one for a model without levels.
    pub levels: Vec<Level>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<PackedTensorContents>,
}

/// The model that tensors are stored relative to.
#[derive(Debug, Serialize)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// Where it was.
    pub hint: Option<PathBuf>,
    /// Where it was found.
    pub found: Option<PathBuf>,
}

/// A file of a set.
#[derive(Debug, Serialize)]
pub struct Shard {
    /// The file.
    pub file: PathBuf,
    /// The length that it should have.
    pub bytes: u64,
    /// The length that it has; null if it is missing.
    pub found: Option<u64>,
}

/// A quality level with those before it.
#[derive(Debug, Serialize)]
pub struct Level {
    /// Bytes of the beginning of the file.
    pub file_bytes: u64,
    /// Bits of the sections, per weight.
    pub bits_per_weight: Option<f64>,
    /// `‖w − ŵ‖/‖w‖` of all tensors together.
    pub relative_error: f64,
    /// The largest `‖w − ŵ‖/‖w‖` of a tensor.
    pub largest_relative_error: f64,
    /// Whether the file holds it.
    pub whole: bool,
}

impl Level {
    fn read(packed: &Packed, number: usize, weights: u64) -> Result<Self, Error> {
        let level = &packed.levels()[number];
        let (mut sum, mut largest) = (Certificate::EMPTY, 0.0f64);
        for tensor in packed.stored_tensors() {
            let certificate = tensor.at_level(number)?.certificate();
            sum.add(&certificate);
            largest = largest.max(certificate.rel_frobenius());
        }
        Ok(Self {
            file_bytes: level.file_bytes,
            bits_per_weight: per_weight(level.bytes, weights),
            relative_error: sum.rel_frobenius(),
            largest_relative_error: largest,
            whole: level.whole,
        })
    }
}

/// The tensors of one codec.
#[derive(Debug, Default, Serialize)]
pub struct Share {
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes in the stored dtypes.
    pub dense_bytes: u64,
    /// Bytes of the sections.
    pub bytes: u64,
}

/// A tensor of a packed model.
#[derive(Debug, Serialize)]
pub struct PackedTensorContents {
    /// The name.
    pub name: String,
    /// The dtype, as in safetensors files.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// Bytes in the stored dtypes.
    pub dense_bytes: u64,
    /// As spec text; several if the codec refused some chunks.
    pub codec: String,
    /// Bytes of the sections.
    pub bytes: u64,
    /// Bits of the sections for each weight.
    pub bits_per_weight: Option<f64>,
    /// The certified error.
    pub certificate: Certificate,
    /// `‖w − ŵ‖/‖w‖`.
    pub relative_error: f64,
    /// blake3 of the decoded bytes; of the hashes of several chunks.
    pub blake3: String,
    /// Number of chunks.
    pub chunks: usize,
    /// The tensor with the same bytes that is stored.
    pub same_as: Option<String>,
    /// The tensor of the base.
    pub base: Option<String>,
    /// Whether it has the bytes of its base, so that nothing is stored.
    pub equals_base: bool,
    /// Why the recipe's codec was not used.
    pub refused: Option<String>,
    /// What was tried if the codec was chosen by trial; the chosen one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
}

impl PackedTensorContents {
    fn read(tensor: &PackedTensor<'_>, registry: &Registry) -> Self {
        let mut codecs: Vec<String> = Vec::new();
        for chunk in tensor.chunks() {
            let codec = registry.spec_of(chunk.codec());
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        let certificate = tensor.certificate();
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        Self {
            name: tensor.name().to_owned(),
            dtype: spec.dtype().to_string(),
            shape: spec.shape().to_vec(),
            dense_bytes: spec.byte_len() as u64,
            codec: codecs.join(" and "),
            bytes,
            bits_per_weight: per_weight(bytes, spec.elements() as u64),
            relative_error: certificate.rel_frobenius(),
            certificate,
            blake3: tensor.hash().to_string(),
            chunks: tensor.chunks().count(),
            same_as: tensor.same_as().map(str::to_owned),
            base: tensor.base().map(|(name, _)| name.to_owned()),
            equals_base: tensor.equals_base(),
            refused: tensor.chunks().find_map(|chunk| chunk.refused()).map(str::to_owned),
            tried: tensor.tried().to_vec(),
        }
    }
}

/// The files of a set; none for a model in one file.
fn shards(packed: &Packed) -> Vec<Shard> {
    if packed.max_shard_size().is_none() {
        return Vec::new();
    }
    packed.packed_files().map(|file| Shard { file: file.path, bytes: file.bytes, found: file.found }).collect()
}

fn per_weight(bytes: u64, weights: u64) -> Option<f64> {
    (weights > 0).then(|| 8.0 * bytes as f64 / weights as f64)
}

impl PackedContents {
    /// Those of a packed model; no weights are read.
    ///
    /// # Errors
    /// [`Error::Manifest`] if the recipe in the file is no JSON.
    pub fn read(packed: &Packed, registry: &Registry) -> Result<Self, Error> {
        let tensors: Vec<_> = packed.tensors().map(|tensor| PackedTensorContents::read(&tensor, registry)).collect();
        let mut codecs = BTreeMap::<String, Share>::new();
        for tensor in tensors.iter().filter(|tensor| tensor.same_as.is_none() && !tensor.equals_base) {
            let share = codecs.entry(tensor.codec.clone()).or_default();
            share.tensors += 1;
            share.dense_bytes += tensor.dense_bytes;
            share.bytes += tensor.bytes;
        }
        let wrong = |error: serde_json::Error| Error::Manifest {
            path: packed.path().to_owned(),
            reason: format!("the recipe is no JSON: {error}"),
        };
        let weights = packed.tensors().map(|tensor| tensor.spec().elements() as u64).sum();
        let levels = (0..packed.levels().len()).map(|level| Level::read(packed, level, weights));
        let bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        Ok(Self {
            kind: "packed model",
            file: packed.path().to_owned(),
            program: packed.program().to_owned(),
            recipe: RawValue::from_string(packed.recipe().to_owned()).map_err(wrong)?,
            source_files: packed.source_files().map(str::to_owned).collect(),
            base: packed.base_name().map(|name| Base {
                name: name.to_owned(),
                hint: packed.base_hint(),
                found: packed.base_path().map(Into::into),
            }),
            weights,
            dense_bytes: tensors.iter().map(|tensor| tensor.dense_bytes).sum(),
            bytes,
            file_bytes: packed.file_bytes(),
            shards: shards(packed),
            max_shard_size: packed.max_shard_size(),
            bits_per_weight: per_weight(bytes, weights),
            codecs,
            levels: levels.collect::<Result<_, _>>()?,
            tensors,
        })
    }
}
