//! A model whose tensors are the bases of those of another model: dense or packed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use codec_api::{CodecError, Registry, TensorSpec, TensorView};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::identity::FileIdentity;
use crate::packed::{Hash, Packed};

/// Most packed models of a chain, each the base of the one before.
pub(crate) const MAX_DEPTH: usize = 8;

/// A model whose tensors are bases.
#[derive(Debug)]
pub(crate) enum BaseModel {
    Dense(Checkpoint),
    /// With its own base, if it has one.
    Packed(Box<Packed>),
}

impl BaseModel {
    /// Opens the model at `path`, and its own bases, which are those of `bases`, the nearest first,
    /// or where the manifests say. `above` are the packed files that lead here.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and of [`Packed::with_bases`].
    pub(crate) fn open(
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
            None => Ok(Self::Dense(model)),
        }
    }

    /// The names of the tensors in file order.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Dense(model) => model.names().collect(),
            Self::Packed(packed) => packed.tensors().map(|tensor| tensor.name()).collect(),
        }
    }

    /// # Errors
    /// [`Error::UnknownTensor`].
    pub(crate) fn spec(&self, tensor: &str) -> Result<&TensorSpec, Error> {
        match self {
            Self::Dense(model) => model.spec(tensor),
            Self::Packed(packed) => Ok(packed.tensor(tensor)?.spec()),
        }
    }

    /// The stored bytes of rows of the matrix view. Those of a packed model are decoded and
    /// checked.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`]; [`Error::Tensor`] for rows that are not there; those of a decode.
    pub(crate) fn rows(&self, tensor: &str, rows: &Range<usize>) -> Result<Bytes, Error> {
        match self {
            Self::Dense(model) => {
                let (spec, bytes) = model.bytes(tensor)?;
                cut(spec, &bytes, rows).map_err(|error| {
                    let path = model.files()[0].clone();
                    Error::Tensor { path, tensor: tensor.to_owned(), error }
                })
            }
            Self::Packed(packed) => packed.tensor(tensor)?.stored_rows(rows),
        }
    }

    /// blake3 of the stored bytes of a tensor.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(crate) fn hash(&self, tensor: &str) -> Result<Hash, Error> {
        match self {
            Self::Dense(model) => Ok(Hash::of(&model.bytes(tensor)?.1)),
            Self::Packed(packed) => packed.tensor(tensor)?.stored_hash(),
        }
    }

    /// Checks that a packed model has the base that it needs.
    ///
    /// # Errors
    /// [`Error::Base`].
    pub(crate) fn require_base(&self) -> Result<(), Error> {
        match self {
            Self::Dense(_) => Ok(()),
            Self::Packed(packed) => packed.require_base(),
        }
    }

    /// The files of the model and of its own bases.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Dense(model) => {
                model.files().iter().map(PathBuf::as_path).chain(model.index()).map(Into::into).collect()
            }
            Self::Packed(packed) => {
                let mut files = packed.base_files();
                files.push(packed.path().to_owned());
                files
            }
        }
    }

    /// Gives back the memory of the pages that were read so far.
    pub(crate) fn release(&self) {
        match self {
            Self::Dense(model) => model.release(),
            Self::Packed(packed) => packed.release(),
        }
    }
}

/// The bytes of rows of the matrix view.
pub(crate) fn cut(spec: TensorSpec, bytes: &Bytes, rows: &Range<usize>) -> Result<Bytes, CodecError> {
    let view = TensorView::new(spec, bytes)?;
    Ok(bytes.slice_ref(view.rows(rows.start, rows.end)?.bytes()))
}
