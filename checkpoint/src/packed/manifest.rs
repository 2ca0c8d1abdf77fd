//! The manifest: what the sections of a packed file mean. It is the JSON text under the key
//! `netweight` in the file's `__metadata__`, with its checksum beside it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use codec_api::{Certificate, Dtype, FormatVersion};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::plan::Tried;

/// The metadata key of the manifest.
pub(crate) const KEY: &str = "netweight";

/// The metadata key of [`Member`].
pub(crate) const MEMBER_KEY: &str = "netweight.shard";

/// What the sections of a packed file mean.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Tells a packed model from an encoded tensor, which has the same metadata key.
    pub(crate) kind: Kind,
    pub(crate) version: FormatVersion<1>,
    /// Name and version of the program that wrote the file.
    pub(crate) program: String,
    /// The seed of the model, from which the seeds of its chunks derive.
    pub(crate) seed: u64,
    /// The recipe as it was used.
    pub(crate) recipe: Box<RawValue>,
    /// The source files, in the order of their tensors.
    pub(crate) files: Vec<FileRecord>,
    /// The index of a sharded source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<FileRecord>,
    /// The model that tensors are stored relative to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<BaseRecord>,
    /// The files of a model in several files, of which this manifest is in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shards: Option<Shards>,
    /// Headers of codecs, which chunks refer to by number.
    pub(crate) codecs: Vec<Box<RawValue>>,
    /// The tensors in source order: by file, then by offset.
    pub(crate) tensors: Vec<TensorRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    #[serde(rename = "packed model")]
    Packed,
}

/// The files of a model in several files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shards {
    /// The most bytes that a file should have. A larger one has a single section, or a header, that
    /// needs more.
    pub(crate) max_bytes: u64,
    /// The files in the order of their sections.
    pub(crate) files: Vec<ShardRecord>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardRecord {
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Quality level of its first section.
    pub(crate) level: usize,
}

/// The metadata of every shard but the first, under [`MEMBER_KEY`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    pub(crate) version: FormatVersion<1>,
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) count: usize,
    /// blake3 of the text of the manifest.
    pub(crate) manifest: Hash,
}

/// The verbatim bytes of a source file that are not tensors: its header with the length before it,
/// or the whole index. They are stored as a Zstandard frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRecord {
    /// Its path relative to the directory of the model.
    pub(crate) name: String,
    /// Length of the verbatim bytes.
    pub(crate) bytes: u64,
    /// CRC-32C of the frame.
    pub(crate) crc32c: u32,
}

/// The model that tensors are stored relative to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BaseRecord {
    /// Its name, for people.
    pub(crate) name: String,
    /// Where it was, relative to the folder of the packed file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The tensors of it that are needed.
    pub(crate) tensors: Vec<BaseTensorRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BaseTensorRecord {
    pub(crate) name: String,
    /// blake3 of its stored bytes, all chunks together.
    pub(crate) blake3: Hash,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorRecord {
    pub(crate) name: String,
    /// Number of its source file.
    pub(crate) file: usize,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// The tensor that holds the chunks of this one too, because both have the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) same_as: Option<String>,
    /// Number of its base tensor, which has the same dtype and shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<usize>,
    /// What was tried for a tensor with `best`; the chosen one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tried: Vec<Tried>,
    /// In the order of the rows. None with `same_as`, nor for a tensor that equals its base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chunks: Vec<ChunkRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChunkRecord {
    /// First row, and the row after the last, of the tensor's matrix view.
    pub(crate) rows: [usize; 2],
    /// Number of its codec.
    pub(crate) codec: usize,
    pub(crate) certificate: Certificate,
    /// blake3 of the decoded bytes, in the stored dtype.
    pub(crate) blake3: Hash,
    /// The quality levels before the last, coarsest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) levels: Vec<LevelRecord>,
    /// CRC-32C of each section.
    pub(crate) sections: BTreeMap<String, u32>,
    /// Why the codec of the recipe did not encode this chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

/// A chunk decoded from its first quality levels only.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LevelRecord {
    pub(crate) certificate: Certificate,
    /// blake3 of the decoded bytes, in the stored dtype.
    pub(crate) blake3: Hash,
}

impl Manifest {
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| format!("its manifest: {e}"))
    }
}

/// Whether this text under [`KEY`] is a manifest, readable or not, and not an encoded tensor.
pub(crate) fn is_manifest(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Any {
        kind: Kind,
    }
    serde_json::from_str(text).is_ok_and(|any: Any| any.kind == Kind::Packed)
}

/// A blake3 hash; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(&text).map_err(|e| de::Error::custom(format!("blake3 `{text}`: {e}")))?;
        Ok(Self(hash.into()))
    }
}

/// The metadata string `key`, which the string `key.crc32c` must confirm.
///
/// # Errors
/// Which of the two is missing or wrong.
pub(crate) fn checked<'a>(strings: &'a HashMap<String, String>, key: &str) -> Result<&'a str, String> {
    let string = |key: &str| strings.get(key).ok_or_else(|| format!("it has no `{key}` in its `__metadata__`"));
    let (text, stored) = (string(key)?, string(&format!("{key}.crc32c"))?);
    let found = format!("{:08x}", crc32c(text.as_bytes()));
    if found == *stored {
        return Ok(text);
    }
    Err(format!("`{key}` in its `__metadata__` has CRC-32C {found}, stored is {stored}"))
}

/// CRC-32C, the checksum of every stored section.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
