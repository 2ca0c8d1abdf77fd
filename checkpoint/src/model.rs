//! A model, dense, packed or computed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use codec_api::{CodecError, Registry, TensorSpec, TensorView};

use crate::checkpoint::Checkpoint;
use crate::computed::Computed;
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::layout::directory;
use crate::map::Pages;
use crate::packed::{Hash, Packed};

/// Most packed models of a chain, each the base of the one before.
pub(crate) const MAX_DEPTH: usize = 8;

/// A model, dense, packed or computed.
#[derive(Debug)]
pub enum Model {
    /// Files of tensors.
    Dense(Checkpoint),
    /// A packed file, with its base if it has one.
    Packed(Box<Packed>),
    /// Expressions of tensors of other models, which are computed when they are read.
    Computed(Computed),
}

impl Model {
    /// Opens a dense model ([`Checkpoint::open`]), a packed one with the bases that it needs
    /// ([`Packed::with_bases`]), or a computed one, if a crate of this program opens it.
    ///
    /// # Errors
    /// Those of the two, and of [`Packed::require_base`]; [`Error::Unfit`] for a computed model
    /// that this program does not open, or that is computed of itself.
    pub fn open(path: impl AsRef<Path>, bases: &[PathBuf], registry: &Registry) -> Result<Self, Error> {
        let model = Self::open_below(path.as_ref(), bases, &[], registry)?;
        model.require_base()?;
        Ok(model)
    }

    /// Opens one of two models that are compared. If it finds its base, it ignores `bases`: they
    /// may be those of the other one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_one_of_two(path: impl AsRef<Path>, bases: &[PathBuf], registry: &Registry) -> Result<Self, Error> {
        match Self::open(&path, &[], registry) {
            Err(Error::Base { .. }) if !bases.is_empty() => Self::open(path, bases, registry),
            opened => opened,
        }
    }

    /// Opens the model at `path`, and its own bases, which are those of `bases`, the nearest first,
    /// or where the manifests say. `above` are the packed files that lead here.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and of [`Packed::with_bases`].
    pub(crate) fn open_below(
        path: &Path,
        bases: &[PathBuf],
        above: &[FileIdentity],
        registry: &Registry,
    ) -> Result<Self, Error> {
        let model = Checkpoint::open(path)?;
        if model.is_packed() {
            let packed = Packed::open(&model.files()[0], registry)?.attach(bases, above, registry)?;
            return Ok(Self::Packed(Box::new(packed)));
        }
        match bases.first() {
            Some(other) => Err(Error::no_base(other, path)),
            None if model.is_computed() => Ok(Self::Computed(Computed::open(model, above, registry)?)),
            None => Ok(Self::Dense(model)),
        }
    }

    /// The names of the tensors, in the order of the files.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Dense(model) => model.names().collect(),
            Self::Packed(packed) => packed.tensors().map(|tensor| tensor.name()).collect(),
            Self::Computed(model) => model.inner().tensors().iter().map(|(name, _)| &**name).collect(),
        }
    }

    /// Dtype and shape of the tensor `tensor`.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] if no tensor has this name.
    pub fn spec(&self, tensor: &str) -> Result<&TensorSpec, Error> {
        match self {
            Self::Dense(model) => model.spec(tensor),
            Self::Packed(packed) => Ok(packed.tensor(tensor)?.spec()),
            Self::Computed(model) => model.spec(tensor),
        }
    }

    /// The stored bytes of a tensor: those of a dense model are a slice of its map, others are
    /// decoded or computed.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn bytes(&self, tensor: &str) -> Result<Bytes, Error> {
        match self {
            Self::Dense(model) => Ok(model.bytes(tensor)?.1),
            Self::Packed(packed) => Ok(packed.tensor(tensor)?.decode_bytes()?.into()),
            Self::Computed(model) => model.rows(tensor, &(0..model.spec(tensor)?.matrix().0)),
        }
    }

    /// The stored bytes of rows of the matrix view. Those of a packed model are decoded and
    /// checked, and those of a computed one are computed.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`]; [`Error::Tensor`] for rows that are not there; those of a decode
    /// and of what is computed.
    pub fn rows(&self, tensor: &str, rows: &Range<usize>) -> Result<Bytes, Error> {
        match self {
            Self::Dense(model) => {
                let (spec, bytes) = model.bytes(tensor)?;
                cut(spec, &bytes, rows).map_err(|error| {
                    let path = model.files()[0].clone();
                    Error::Tensor { path, tensor: tensor.to_owned(), error }
                })
            }
            Self::Packed(packed) => packed.tensor(tensor)?.stored_rows(rows),
            Self::Computed(model) => model.rows(tensor, rows),
        }
    }

    /// The rows that a packed tensor decodes together; none for a dense one, or if it equals its
    /// base.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`].
    pub(crate) fn chunks(&self, tensor: &str) -> Result<Vec<Range<usize>>, Error> {
        match self {
            Self::Dense(_) | Self::Computed(_) => Ok(Vec::new()),
            Self::Packed(packed) => Ok(packed.tensor(tensor)?.chunks().map(|chunk| chunk.rows()).collect()),
        }
    }

    /// blake3 of the stored bytes of a tensor.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn hash(&self, tensor: &str) -> Result<Hash, Error> {
        match self {
            Self::Dense(model) => Ok(Hash::of(&model.bytes(tensor)?.1)),
            Self::Packed(packed) => packed.tensor(tensor)?.stored_hash(),
            Self::Computed(model) => model.hash(tensor),
        }
    }

    /// Checks that a packed model has the base that it needs.
    ///
    /// # Errors
    /// [`Error::Base`].
    pub(crate) fn require_base(&self) -> Result<(), Error> {
        match self {
            Self::Dense(_) | Self::Computed(_) => Ok(()),
            Self::Packed(packed) => packed.require_base(),
        }
    }

    /// The files of the model itself: those of its tensors or of its expressions, and its index.
    pub fn own_files(&self) -> Vec<PathBuf> {
        match self {
            Self::Dense(model) => {
                model.files().iter().map(PathBuf::as_path).chain(model.index()).map(Into::into).collect()
            }
            Self::Packed(packed) => packed.paths(),
            Self::Computed(model) => vec![model.path().to_owned()],
        }
    }

    /// The files of the model, those of its own bases, and those that it is computed of.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = match self {
            Self::Dense(_) => Vec::new(),
            Self::Packed(packed) => packed.base_files(),
            Self::Computed(model) => model.inner().files(),
        };
        files.extend(self.own_files());
        files
    }

    /// The file of a model, or the index of its shards.
    pub fn path(&self) -> &Path {
        match self {
            Self::Packed(packed) => packed.path(),
            Self::Dense(model) => match (model.files(), model.index()) {
                ([_], _) | (_, None) => model.files().first().map_or(Path::new(""), PathBuf::as_path),
                (_, Some(index)) => index,
            },
            Self::Computed(model) => model.path(),
        }
    }

    /// The directory of the model's files.
    pub fn directory(&self) -> &Path {
        match self {
            Self::Dense(model) => model.files().first().map_or(Path::new("."), |file| directory(file)),
            _ => directory(self.path()),
        }
    }

    /// The memory maps of the files, without those of bases and of what is computed.
    pub fn pages(&self) -> Pages {
        match self {
            Self::Dense(model) => model.pages(),
            Self::Packed(packed) => packed.pages(),
            Self::Computed(_) => Pages::default(),
        }
    }

    /// Gives back the memory of the pages that were read so far. Pages that are read again come
    /// from the system's cache or from the file.
    pub fn release(&self) {
        match self {
            Self::Dense(model) => model.release(),
            Self::Packed(packed) => packed.release(),
            Self::Computed(model) => model.inner().release(),
        }
    }
}

/// The bytes of rows of the matrix view.
pub(crate) fn cut(spec: TensorSpec, bytes: &Bytes, rows: &Range<usize>) -> Result<Bytes, CodecError> {
    let view = TensorView::new(spec, bytes)?;
    Ok(bytes.slice_ref(view.rows(rows.start, rows.end)?.bytes()))
}
