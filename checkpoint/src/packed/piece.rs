//! Tensors cut into pieces that fit the memory, for readers of whole tensors and models.

use std::ops::Range;

use bytes::Bytes;
use codec_api::Certificate;

use super::chunk::PackedChunk;
use super::manifest::Hash;
use super::open::Packed;
use super::tensor::PackedTensor;
use crate::error::Error;
use crate::model::cut;

/// Weights of a piece of a base.
const PIECE: usize = 1 << 22;

/// Rows of a tensor that are read at once.
pub(crate) enum Piece<'a> {
    /// A stored chunk.
    Chunk(PackedChunk<'a>),
    /// Rows of a tensor that equals the base tensor of this number.
    Base { packed: &'a Packed, number: usize, rows: Range<usize>, elements: usize, byte_len: usize },
}

impl Piece<'_> {
    /// Its rows of the tensor's matrix view.
    pub(crate) fn rows(&self) -> Range<usize> {
        match self {
            Self::Chunk(chunk) => chunk.rows(),
            Self::Base { rows, .. } => rows.clone(),
        }
    }

    /// The error of the decoded bytes.
    pub(crate) fn certificate(&self) -> Certificate {
        match self {
            Self::Chunk(chunk) => chunk.certificate(),
            Self::Base { .. } => Certificate::EMPTY,
        }
    }

    /// Number of weights.
    pub(super) fn elements(&self) -> u64 {
        match self {
            Self::Chunk(chunk) => chunk.spec().elements() as u64,
            Self::Base { elements, .. } => *elements as u64,
        }
    }

    /// Bytes in the stored dtype.
    pub(crate) fn byte_len(&self) -> u64 {
        match self {
            Self::Chunk(chunk) => chunk.spec().byte_len() as u64,
            Self::Base { byte_len, .. } => *byte_len as u64,
        }
    }

    /// The end of its sections in all files of the model, one after the other.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Chunk(chunk) => chunk.end(),
            Self::Base { .. } => 0,
        }
    }

    /// A chunk at the last quality level that the file holds; others as they are.
    pub(super) fn at_whole_level(self) -> Self {
        match self {
            Self::Chunk(chunk) => Self::Chunk(chunk.at_whole_level()),
            base @ Self::Base { .. } => base,
        }
    }

    /// The bytes in the stored dtype; every checksum and hash is checked.
    pub(crate) fn decode(&self) -> Result<Bytes, Error> {
        match self {
            Self::Chunk(chunk) => Ok(chunk.decode_bytes()?.into()),
            Self::Base { packed, number, rows, .. } => Ok(packed.base_rows(*number, rows)?.1),
        }
    }

    /// As [`Self::decode`], without the bytes.
    pub(super) fn verify(&self) -> Result<(), Error> {
        match self {
            Self::Chunk(chunk) => chunk.verify(),
            Self::Base { .. } => self.decode().map(drop),
        }
    }
}

impl<'a> PackedTensor<'a> {
    /// The pieces in the order of their rows.
    pub(crate) fn pieces(&self) -> Vec<Piece<'a>> {
        let Some(number) = self.equal_base() else { return self.chunks().map(Piece::Chunk).collect() };
        let (packed, (rows, columns)) = (self.packed, self.spec().matrix());
        // Eight rows of any dtype are whole bytes.
        let step = (PIECE / columns.max(1) / 8 * 8).max(8);
        let piece = |first: usize| {
            let rows = first..rows.min(first.saturating_add(step));
            let elements = rows.len() * columns;
            Piece::Base { packed, number, rows, elements, byte_len: elements * self.spec().dtype().bitsize() / 8 }
        };
        (0..rows).step_by(step).map(piece).collect()
    }

    /// The bytes of rows in the stored dtype; every checksum and hash is checked.
    pub(crate) fn stored_rows(&self, rows: &Range<usize>) -> Result<Bytes, Error> {
        if let Some(number) = self.equal_base() {
            return Ok(self.packed.base_rows(number, rows)?.1);
        }
        let mut parts = Vec::new();
        for chunk in self.chunks() {
            let stored = chunk.rows();
            let part = rows.start.max(stored.start)..rows.end.min(stored.end);
            if part.start < part.end {
                let bytes = Bytes::from(chunk.decode_bytes()?);
                let part = part.start - stored.start..part.end - stored.start;
                parts.push(cut(chunk.spec().clone(), &bytes, &part).map_err(|e| chunk.failed(e))?);
            }
        }
        Ok(if let [only] = &*parts { only.clone() } else { parts.concat().into() })
    }

    /// blake3 of the bytes in the stored dtype. A tensor of several chunks is decoded for it.
    pub(crate) fn stored_hash(&self) -> Result<Hash, Error> {
        if self.equals_base() || self.holder.chunks.len() == 1 {
            return Ok(self.hash());
        }
        let mut hasher = blake3::Hasher::new();
        for chunk in self.chunks() {
            hasher.update(&chunk.decode_bytes()?);
        }
        Ok(Hash(hasher.finalize().into()))
    }
}
