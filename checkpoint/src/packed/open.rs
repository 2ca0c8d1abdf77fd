//! Opens packed files.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use codec_api::{Codec, CodecError, Registry, Section, read_safetensors_header, read_safetensors_prefix};

use super::base::Base;
use super::entry::{Entry, Limits, entries};
use super::levels::{PackedLevel, Place, Stored};
use super::manifest::{FileRecord, KEY, Manifest, checked, is_manifest};
use super::names;
use super::tensor::PackedTensor;
use crate::error::Error;
use crate::index::stays_inside;
use crate::map::{Mapped, map};
use crate::shard::{open, refused};

/// The end of the name of every packed file.
pub const PACKED_EXTENSION: &str = ".nw.safetensors";

/// A packed model, memory-mapped: a whole model, each tensor encoded by a codec, in one file.
/// Opening it reads the header only; a tensor, or the rows of it that are asked for, is decoded
/// when it is read. Threads may share it.
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
/// - `netweight.crc32c`: CRC-32C of the manifest, eight hexadecimal digits.
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
pub struct Packed {
    pub(crate) path: PathBuf,
    mapped: Mapped,
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
    pub(super) file_bytes: u64,
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
    /// Opens a packed file (`*.nw.safetensors`), or the only one of a directory. The codecs of its
    /// tensors must be in `registry`. [`Self::with_bases`] attaches the base of a model that has
    /// one. Of a file that was cut off, the quality levels that are whole can be read
    /// ([`Self::at_level`]).
    ///
    /// The file must not be changed or shortened while it is in use, as for
    /// [`Checkpoint::open`](crate::Checkpoint::open).
    ///
    /// # Errors
    /// [`Error`] if there is no packed file, or its manifest is damaged, needs a newer program, or
    /// contradicts the sections of the file, or the file ends before its first quality level does.
    /// Sections are checked when they are read.
    #[tracing::instrument(level = "debug", skip_all, fields(path = %path.as_ref().display()))]
    pub fn open(path: impl AsRef<Path>, registry: &Registry) -> Result<Self, Error> {
        let path = locate(path.as_ref())?;
        let (bytes, mapped) = map(&open(&path)?, &path).map_err(|e| Error::io(&path, e))?;
        let (manifest, stored) = read(&path, &bytes)?;
        let packed = Self::assemble(&path, mapped, manifest, stored, registry, bytes.len() as u64)
            .map_err(|reason| Error::Manifest { path: path.clone(), reason })?;
        // The strict reader names the tensor where the file ends.
        if !packed.levels[0].whole {
            read_safetensors_header(&bytes).map_err(|e| refused(&path, &bytes, e))?;
        }
        Ok(packed)
    }

    fn assemble(
        path: &Path,
        mapped: Mapped,
        manifest: Manifest,
        mut stored: Stored,
        registry: &Registry,
        file_bytes: u64,
    ) -> Result<Self, String> {
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
        let (levels, others) = stored.finish(file_bytes);
        let (paddings, strange): (BTreeMap<_, _>, BTreeMap<_, _>) =
            others.into_iter().partition(|(name, _)| name.starts_with(names::PADDING));
        if let Some((name, _)) = strange.first_key_value() {
            return Err(format!("the manifest does not know the section `{name}`"));
        }
        Ok(Self {
            path: path.to_owned(),
            mapped,
            entries,
            by_name,
            base: manifest.base.map(Base::new),
            files,
            index,
            paddings: paddings.into_iter().filter_map(|(name, place)| Some((name, data(place)?))).collect(),
            program: manifest.program,
            seed: manifest.seed,
            recipe: manifest.recipe.get().to_owned(),
            file_bytes,
            level: levels.len() - 1,
            levels,
        })
    }

    /// The packed file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the packed file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
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

    /// Gives back the memory of the sections that were read so far, and of the base.
    pub(crate) fn release(&self) {
        self.mapped.release();
        if let Some(base) = &self.base {
            base.release();
        }
    }

    /// Checks that the file has not become shorter.
    pub(super) fn check_length(&self) -> Result<(), Error> {
        self.mapped.check(&self.path)
    }

    pub(super) fn failed(&self, part: String, error: CodecError) -> Error {
        Error::Chunk { path: self.path.clone(), part, error: error.into() }
    }

    pub(super) fn damaged(&self, part: String, reason: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), part, reason: reason.into() }
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

/// Whether these are the metadata of a packed model.
pub(crate) fn is_packed(metadata: &BTreeMap<String, String>) -> bool {
    metadata.get(KEY).is_some_and(|text| is_manifest(text))
}

/// The packed file at this path.
fn locate(path: &Path) -> Result<PathBuf, Error> {
    let io = |e| Error::io(path, e);
    if !std::fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(path.to_owned());
    }
    let mut found = Vec::new();
    for file in std::fs::read_dir(path).map_err(io)? {
        let file = file.map_err(io)?;
        if file.file_name().to_str().is_some_and(|name| name.ends_with(PACKED_EXTENSION)) {
            found.push(file.path());
        }
    }
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (_, others) => Err(Error::Manifest {
            path: path.to_owned(),
            reason: if others == 0 {
                format!("no file in it is named `*{PACKED_EXTENSION}`")
            } else {
                format!("{} files in it are named `*{PACKED_EXTENSION}`; give one of them", others + 1)
            },
        }),
    }
}

/// The manifest and the sections.
fn read(path: &Path, bytes: &Bytes) -> Result<(Manifest, Stored), Error> {
    let (header, start) = read_safetensors_prefix(bytes).map_err(|e| refused(path, bytes, e))?;
    let wrong = |reason: String| Error::Manifest { path: path.to_owned(), reason };
    let strings = header.metadata().clone().unwrap_or_default();
    if !strings.get(KEY).is_some_and(|text| is_manifest(text)) {
        return Err(wrong(format!("it has no manifest under `{KEY}` in its `__metadata__`")));
    }
    let text = checked(&strings, KEY).map_err(wrong)?;
    let manifest = Manifest::parse(text).map_err(wrong)?;
    let mut sections = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (begin, end) = info.data_offsets;
        let whole = end <= bytes.len() - start;
        let section = || Section::new(info.dtype, info.shape.clone(), bytes.slice(start + begin..start + end));
        let section = whole.then(section).transpose().map_err(|e| wrong(format!("section `{name}`: {e}")))?;
        sections.insert(
            name,
            Place { section, bytes: (end - begin) as u64, end: (start as u64).saturating_add(end as u64) },
        );
    }
    Ok((manifest, Stored::new(sections, start as u64)))
}
