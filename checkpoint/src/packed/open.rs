//! Opens packed files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use codec_api::{Codec, CodecError, Registry};

use super::base::Base;
use super::entry::{Entry, Limits, entries};
use super::head::wrong;
use super::levels::{PackedLevel, Place, Stored};
use super::locate::locate;
use super::manifest::{FileRecord, KEY, MEMBER_KEY, is_manifest};
use super::names;
use super::set::{PackedFile, Set, Unassembled};
use super::tensor::PackedTensor;
use crate::error::Error;
use crate::index::stays_inside;
use crate::map::Pages;

/// A packed model, memory-mapped: a whole model, each tensor encoded by a codec, in one file or a
/// set of files. Opening it reads the headers only; a tensor, or the rows of it that are asked for,
/// is decoded when it is read. Threads may share it.
///
/// # Format
/// The file is a safetensors file, so that any reader lists its sections. A section of a tensor is
/// stored as `TENSOR/CHUNK/SECTION`, where `%` and `/` in the tensor's name are `%25` and `%2F`:
/// large tensors are encoded in chunks of rows, numbered from 0, so that they decode in parallel
/// and in part. `__metadata__` has two strings:
/// - `netweight`: the manifest, JSON. For every tensor: name, dtype, shape, source file, and its
///   chunks with rows, codec, certificate, blake3 of the decoded bytes and CRC-32C of each section,
///   and certificate and blake3 of each quality level but the last; what was tried for a codec
///   chosen by trial; or, in `same_as`, the tensor with the same bytes. For the model: source
///   files, codec headers, recipe, seed and program. In `base` the model that tensors are stored
///   relative to: its name, where it was, and name and blake3 of each tensor that is needed. A
///   tensor has the number of its base tensor; one without chunks equals it;
/// - `netweight.crc32c`: CRC-32C of this string, eight hexadecimal digits.
///
/// In a model of one file, the manifest is the first section, `__netweight__/manifest`: a Zstandard
/// frame with zeros behind it, up to a multiple of 8 bytes. Then `netweight` is
/// `{"kind":"packed model","version":2,"bytes":B,"crc32c":C}` with the length of the text and the
/// CRC-32C of the section. Files of older programs have the text itself.
///
/// Further U8 sections hold what the source files have beside tensors, as Zstandard frames:
/// `__netweight__/header/N` the header of source file `N` byte for byte, with the length before it;
/// `__netweight__/index` the index of a sharded model. A safetensors file is its header followed by
/// its tensors without gaps, so that a model of exact codecs comes back byte for byte.
///
/// Sections are ordered by quality level, then from wide to narrow dtypes, then by tensor: the
/// first bytes of the file are a coarse model ([`Self::levels`]), and every section is aligned to
/// its dtype. The first level ends with the headers and the index. Before each level but the first,
/// zeros in `__netweight__/padding/LEVEL` align it.
///
/// A set has the sections in the same order in several files, `NAME-00001-of-00003.nw.safetensors`
/// and so on, each a safetensors file. The manifest is in the first one, and `shards` in it lists
/// length and first quality level of each. Every other file has the metadata string
/// `netweight.shard` with its number, the count and the blake3 of the manifest's text, and
/// `netweight.shard.crc32c`. `NAME.nw.safetensors.index.json` is the usual index of a sharded
/// model, for other programs.
pub struct Packed {
    /// The file; the index of a set, or without one its first file.
    pub(crate) path: PathBuf,
    pub(super) set: Set,
    /// In source order.
    pub(crate) entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    pub(super) base: Option<Base>,
    pub(crate) files: Vec<StoredFile>,
    pub(crate) index: Option<StoredFile>,
    /// Name and bytes of what aligns the sections.
    pub(super) paddings: Vec<(String, Bytes)>,
    program: String,
    pub(crate) seed: u64,
    recipe: String,
    pub(super) levels: Vec<PackedLevel>,
    /// The quality level of its tensors.
    pub(super) level: usize,
}

/// The verbatim bytes of a source file that are not tensors.
pub(crate) struct StoredFile {
    pub(crate) record: FileRecord,
    /// Stored name of the frame.
    pub(crate) section: String,
    pub(crate) frame: Bytes,
}

impl Packed {
    /// Opens a packed file (`*.nw.safetensors`), or a set by its index or any of its files, or the
    /// only packed model of a directory. The codecs of its tensors must be in `registry`.
    /// [`Self::with_bases`] attaches the base of a model that has one. Of a file that was cut off,
    /// and of a set without its last files, the quality levels that are whole can be read
    /// ([`Self::at_level`]).
    ///
    /// The file must not be changed or shortened while it is in use, as for
    /// [`Checkpoint::open`](crate::Checkpoint::open).
    ///
    /// # Errors
    /// [`Error`] if there is no packed file, or its manifest is damaged, needs a newer program, or
    /// contradicts the sections of the file, or the file ends before its first quality level does,
    /// or a file of the set is another one; [`Error::Incomplete`] if the first quality level needs
    /// a file that is missing or cut off. Sections are checked when they are read.
    #[tracing::instrument(level = "debug", skip_all, fields(path = %path.as_ref().display()))]
    pub fn open(path: impl AsRef<Path>, registry: &Registry) -> Result<Self, Error> {
        let (path, listed) = locate(path.as_ref())?;
        let found = Unassembled::read(&path)?;
        if listed && !found.set.is_several() {
            return Err(wrong(&path, "an index lists it as a shard, and it is a model of its own"));
        }
        Self::of(found, registry)
    }

    /// Opens files that do not have their names yet: one, or those of a set.
    pub(crate) fn open_all(paths: &[&Path], registry: &Registry) -> Result<Self, Error> {
        Self::of(Unassembled::read_all(paths)?, registry)
    }

    fn of(found: Unassembled, registry: &Registry) -> Result<Self, Error> {
        let first = found.set.first().to_owned();
        let packed = Self::assemble(found, registry).map_err(|reason| Error::Manifest { path: first, reason })?;
        if packed.levels[0].whole { Ok(packed) } else { Err(packed.set.cut_off()) }
    }

    fn assemble(found: Unassembled, registry: &Registry) -> Result<Self, String> {
        let Unassembled { set, manifest, mut stored } = found;
        let headers = manifest.codecs.iter().map(|header| header.get());
        let parse = |(i, header): (usize, &str)| {
            registry.parse_header(header).map_err(|e| format!("codec {i} of its manifest: {e}"))
        };
        let codecs = headers.enumerate().map(parse).collect::<Result<Vec<Arc<dyn Codec>>, _>>()?;
        let bases = manifest.base.as_ref().map_or(0, |base| base.tensors.len());
        let limits = Limits { files: manifest.files.len(), bases };
        let (entries, by_name) = entries(manifest.tensors, limits, &codecs, &mut stored)?;
        let files = manifest.files.into_iter().enumerate();
        let files = files.map(|(i, record)| StoredFile::take(record, names::header(i), &mut stored));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let index = manifest.index.map(|record| StoredFile::take(record, names::INDEX.to_owned(), &mut stored));
        let index = index.transpose()?;
        let (levels, others) = stored.finish();
        let (paddings, strange): (BTreeMap<_, _>, BTreeMap<_, _>) =
            others.into_iter().partition(|(name, _)| name.starts_with(names::PADDING));
        if let Some((name, _)) = strange.first_key_value() {
            return Err(format!("the manifest does not know the section `{name}`"));
        }
        Ok(Self {
            path: set.path(),
            set,
            entries,
            by_name,
            base: manifest.base.map(Base::new),
            files,
            index,
            paddings: paddings.into_iter().filter_map(|(name, place)| Some((name, data(place)?))).collect(),
            program: manifest.program,
            seed: manifest.seed,
            recipe: manifest.recipe.get().to_owned(),
            level: levels.len() - 1,
            levels,
        })
    }

    /// The packed file; of a set the index, or without one the first file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The packed file; all files of a set, those that are missing too, and its index.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.set.paths()
    }

    /// The packed file, or the files of a set, without its index.
    pub fn packed_files(&self) -> impl Iterator<Item = PackedFile> {
        self.set.files()
    }

    /// The most bytes that a file of a set should have; `None` for a model in one file. A larger
    /// file has one section, or a header, that needs more.
    pub fn max_shard_size(&self) -> Option<u64> {
        self.set.max_bytes
    }

    /// Size of the packed file in bytes; of a set, of all files that are there, without the index.
    pub fn file_bytes(&self) -> u64 {
        self.set.bytes()
    }

    /// Name and version of the program that packed the model.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The recipe of the packing, as JSON.
    pub fn recipe(&self) -> &str {
        &self.recipe
    }

    /// Names of the source files, relative to the model's directory.
    pub fn source_files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.record.name.as_str())
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the model has no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensors in source order: by file, then by offset.
    pub fn tensors(&self) -> impl Iterator<Item = PackedTensor<'_>> {
        self.entries.iter().map(|entry| PackedTensor::new(self, entry))
    }

    /// Those that no other tensor stands for ([`PackedTensor::same_as`]).
    pub fn stored_tensors(&self) -> impl Iterator<Item = PackedTensor<'_>> {
        self.tensors().filter(|tensor| tensor.same_as().is_none())
    }

    /// The tensor `name`. Nothing is decoded yet.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] if no tensor has this name.
    pub fn tensor(&self, name: &str) -> Result<PackedTensor<'_>, Error> {
        match self.by_name.get(name) {
            Some(&i) => Ok(PackedTensor::new(self, &self.entries[i])),
            None => Err(Error::UnknownTensor { path: self.path.clone(), tensor: name.to_owned(), count: self.len() }),
        }
    }

    pub(crate) fn pages(&self) -> Pages {
        self.set.pages()
    }

    /// Gives back the memory of the sections that were read so far, and of the base.
    pub(crate) fn release(&self) {
        self.set.release();
        if let Some(base) = &self.base {
            base.release();
        }
    }

    pub(super) fn failed(&self, part: String, error: CodecError) -> Error {
        Error::Chunk { path: self.path.clone(), part, error: error.into() }
    }

    pub(super) fn damaged(&self, part: String, reason: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), part, reason: reason.into() }
    }

    /// As [`Self::damaged`], for these bytes of a section: it names the file that holds them.
    pub(super) fn damaged_section(&self, section: &Bytes, part: String, reason: impl Into<String>) -> Error {
        Error::Damaged { path: self.set.holder(section), part, reason: reason.into() }
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("path", &self.path).field("tensors", &self.len()).finish_non_exhaustive()
    }
}

impl StoredFile {
    /// Takes the section of this name from `stored`.
    fn take(record: FileRecord, section: String, stored: &mut Stored) -> Result<Self, String> {
        if !stays_inside(&record.name) {
            return Err(format!("the source file `{}` is not a plain path below a directory", record.name));
        }
        let place = stored.take_frame(&section, 0).ok_or_else(|| format!("the section `{section}` is missing"))?;
        // A file without its first level does not open.
        Ok(Self { record, section, frame: data(place).unwrap_or_default() })
    }
}

/// The bytes of a section, if the file holds them.
fn data(place: Place) -> Option<Bytes> {
    Some(place.section?.data().clone())
}

/// Whether these are the metadata of a packed model, or of a file of a set.
pub(crate) fn is_packed(metadata: &BTreeMap<String, String>) -> bool {
    metadata.contains_key(MEMBER_KEY) || metadata.get(KEY).is_some_and(|text| is_manifest(text))
}
