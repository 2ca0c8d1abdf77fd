//! A model to compare: dense or packed.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use codec_api::{Registry, TensorSpec};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::map::Mapped;
use crate::packed::Packed;

/// Elements of a piece of a dense tensor.
const PIECE: usize = 1 << 22;

/// A model, dense or packed.
#[derive(Debug)]
pub enum Model {
    /// Files of tensors.
    Dense(Checkpoint),
    /// A packed file.
    Packed(Packed),
}

impl Model {
    /// Opens a dense model ([`Checkpoint::open`]) or a packed one ([`Packed::open`]).
    ///
    /// # Errors
    /// Those of the two.
    pub fn open(path: impl AsRef<Path>, registry: &Registry) -> Result<Self, Error> {
        let model = Checkpoint::open(path)?;
        if model.is_packed() {
            return Ok(Self::Packed(Packed::open(&model.files()[0], registry)?));
        }
        Ok(Self::Dense(model))
    }

    /// The names of the tensors, in the order of the files.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Dense(model) => model.names().collect(),
            Self::Packed(packed) => packed.tensors().map(|tensor| tensor.name()).collect(),
        }
    }

    /// Dtype and shape of the tensor `name`.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] if no tensor has this name.
    pub fn spec(&self, name: &str) -> Result<&TensorSpec, Error> {
        match self {
            Self::Dense(model) => model.spec(name),
            Self::Packed(packed) => Ok(packed.tensor(name)?.spec()),
        }
    }

    pub(super) fn maps(&self) -> Vec<&Mapped> {
        match self {
            Self::Dense(model) => model.maps().iter().collect(),
            Self::Packed(packed) => vec![&packed.mapped],
        }
    }

    /// The rows that a packed tensor decodes together.
    pub(super) fn chunks(&self, name: &str) -> Result<Option<Vec<Range<usize>>>, Error> {
        match self {
            Self::Dense(_) => Ok(None),
            Self::Packed(packed) => Ok(Some(packed.tensor(name)?.chunks().map(|chunk| chunk.rows()).collect())),
        }
    }

    /// The stored bytes of rows of the matrix view.
    pub(super) fn bytes(&self, name: &str, rows: &Range<usize>) -> Result<Bytes, Error> {
        let packed = match self {
            Self::Packed(packed) => packed,
            Self::Dense(model) => {
                let (spec, bytes) = model.bytes(name)?;
                return Ok(bytes.slice(byte_range(&spec, rows)));
            }
        };
        let tensor = packed.tensor(name)?;
        let wanted = byte_range(tensor.spec(), rows);
        let mut out = Vec::new();
        for chunk in tensor.chunks() {
            let stored = byte_range(tensor.spec(), &chunk.rows());
            let part = wanted.start.max(stored.start)..wanted.end.min(stored.end);
            if part.is_empty() && !wanted.is_empty() {
                continue;
            }
            let decoded = chunk.decode_bytes()?;
            if part == stored && part == wanted {
                return Ok(decoded.into());
            }
            out.extend_from_slice(&decoded[part.start - stored.start..part.end - stored.start]);
        }
        Ok(out.into())
    }
}

/// The bytes of these rows in the tensor.
fn byte_range(spec: &TensorSpec, rows: &Range<usize>) -> Range<usize> {
    let bits = spec.matrix().1 * spec.dtype().bitsize();
    rows.start * bits / 8..rows.end * bits / 8
}

/// Pieces of a dense tensor: rows of whole bytes, about [`PIECE`] elements.
pub(super) fn pieces(spec: &TensorSpec) -> Vec<Range<usize>> {
    let (rows, columns) = spec.matrix();
    // Eight rows of any dtype are whole bytes.
    let step = (PIECE / columns.max(1)).next_multiple_of(8).max(8);
    (0..rows.max(1)).step_by(step).map(|first| first.min(rows)..(first + step).min(rows)).collect()
}
