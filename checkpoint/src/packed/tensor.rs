//! The tensors of a packed model.

use std::fmt;
use std::ops::Range;

use codec_api::util::{widen, zeros};
use codec_api::{Certificate, TensorSpec};

use super::chunk::{PackedChunk, place};
use super::entry::Entry;
use super::manifest::{BaseTensorRecord, Hash};
use super::open::Packed;
use crate::error::Error;
use crate::plan::Tried;

/// A tensor of a packed model, at a quality level ([`Packed::levels`]), which is the last one
/// unless another one is asked for. Its values are those of the stored dtype: a lossy codec's
/// weights are rounded to it, and [`Self::certificate`] states the error of the result.
#[derive(Clone, Copy)]
pub struct PackedTensor<'a> {
    pub(super) packed: &'a Packed,
    entry: &'a Entry,
    pub(super) holder: &'a Entry,
    level: usize,
}

impl<'a> PackedTensor<'a> {
    pub(super) fn new(packed: &'a Packed, entry: &'a Entry) -> Self {
        Self { packed, entry, holder: &packed.entries[entry.holder], level: packed.level }
    }

    /// The tensor at a quality level of the model.
    ///
    /// # Errors
    /// [`Error::Level`] if the model has no such level. Whether the file holds the level is checked
    /// when it is read.
    pub fn at_level(mut self, level: usize) -> Result<Self, Error> {
        self.packed.check_level(level)?;
        self.level = level;
        Ok(self)
    }

    /// The name.
    pub fn name(&self) -> &'a str {
        &self.entry.name
    }

    /// Dtype and shape.
    pub fn spec(&self) -> &'a TensorSpec {
        &self.entry.spec
    }

    /// Number of its source file.
    pub(crate) fn file(&self) -> usize {
        self.entry.file
    }

    /// The tensor that holds the chunks of this one, if it is another one: both have the same
    /// bytes, which are stored once.
    pub fn same_as(&self) -> Option<&'a str> {
        (!std::ptr::eq(self.entry, self.holder)).then_some(&*self.holder.name)
    }

    /// The name of the tensor's base and the blake3 of that one's bytes, if it has a base.
    pub fn base(&self) -> Option<(&'a str, Hash)> {
        let BaseTensorRecord { name, blake3 } = self.packed.base_tensor(self.holder.base?)?;
        Some((name, *blake3))
    }

    /// Whether the tensor has the bytes of its base. Then nothing else is stored of it.
    pub fn equals_base(&self) -> bool {
        self.equal_base().is_some()
    }

    /// The number of the base tensor with the same bytes.
    pub(super) fn equal_base(&self) -> Option<usize> {
        self.holder.base.filter(|_| self.holder.chunks.is_empty())
    }

    /// What was tried if the codec was chosen by trial; the chosen one first.
    pub fn tried(&self) -> &'a [Tried] {
        &self.holder.tried
    }

    /// The chunks in the order of their rows: at least one, but none of a tensor that equals its
    /// base. Tensors with the same bytes have the same chunks.
    pub fn chunks(&self) -> impl Iterator<Item = PackedChunk<'a>> + use<'a> {
        let (packed, holder, level) = (self.packed, self.holder, self.level);
        let numbered = holder.chunks.iter().enumerate();
        numbered.map(move |(number, chunk)| {
            let level = level.min(chunk.bytes.len() - 1);
            PackedChunk { packed, holder, number, chunk, level }
        })
    }

    /// The error of the tensor, all chunks together.
    pub fn certificate(&self) -> Certificate {
        let mut sum = Certificate::EMPTY;
        self.chunks().for_each(|chunk| sum.add(&chunk.certificate()));
        sum
    }

    /// Bytes of the sections; 0 if another tensor holds them.
    pub fn bytes(&self) -> u64 {
        if self.same_as().is_some() { 0 } else { self.chunks().map(|chunk| chunk.bytes()).sum() }
    }

    /// blake3 of the decoded bytes if there is one chunk or an equal base; else blake3 of the
    /// hashes of the chunks, 32 bytes each.
    pub fn hash(&self) -> Hash {
        match (&*self.chunks().collect::<Vec<_>>(), self.base()) {
            ([only], _) => only.hash(),
            ([], Some((_, base))) => base,
            (chunks, _) => Hash::of(&chunks.iter().flat_map(|chunk| chunk.hash().0).collect::<Vec<u8>>()),
        }
    }

    /// Decodes rows of the matrix view ([`TensorSpec::matrix`]) as f32, row-major, into exactly
    /// their number of values. Only the chunks of these rows are read, and at another level than
    /// the last of a codec the whole chunks. It checks their sections against the stored checksums
    /// when it reads them for the first time.
    ///
    /// # Errors
    /// [`Error::Chunk`] for rows or a length that do not fit the tensor, and for a dtype other than
    /// F32, F16 and BF16; [`Error::Damaged`] if a section is damaged; [`Error::Base`] if a base is
    /// needed and missing; [`Error::Level`] if the file was cut off before the end of the level.
    pub fn rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let spec = self.spec();
        let (all, columns) = spec.matrix();
        let fail = |error| self.packed.failed(place(self.name(), &rows), error);
        spec.require_float().map_err(fail)?;
        codec_api::check_rows((all, columns), &rows, out).map_err(fail)?;
        if let Some(number) = self.equal_base() {
            let (_, bytes) = self.packed.base_rows(number, &rows)?;
            return widen(spec.dtype(), &bytes, out).map_err(fail);
        }
        for chunk in self.chunks() {
            let stored = chunk.rows();
            let part = rows.start.max(stored.start)..rows.end.min(stored.end);
            if part.start < part.end {
                let place = (part.start - rows.start) * columns..(part.end - rows.start) * columns;
                chunk.read_rows(part.start - stored.start..part.end - stored.start, &mut out[place])?;
            }
        }
        Ok(())
    }

    /// All values as f32, row-major.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        self.check_sizes()?;
        let all = 0..self.spec().matrix().0;
        let mut out = zeros(self.spec().elements()).map_err(|e| self.packed.failed(place(self.name(), &all), e))?;
        self.rows(all, &mut out)?;
        Ok(out)
    }

    /// Decodes to the bytes of the stored dtype, into exactly `spec().byte_len()` bytes, and checks
    /// every checksum and hash.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a section or a decoded byte is wrong; [`Error::Chunk`] if the length
    /// is; [`Error::Base`] if a base is needed and missing; [`Error::Level`] as for [`Self::rows`].
    pub fn decode_stored(&self, out: &mut [u8]) -> Result<(), Error> {
        let all = 0..self.spec().matrix().0;
        let fail = |error| self.packed.failed(place(self.name(), &all), error);
        self.spec().check_output_bytes(out.len()).map_err(fail)?;
        if let Some(number) = self.equal_base() {
            out.copy_from_slice(&self.packed.base_rows(number, &all)?.1);
            return Ok(());
        }
        let mut rest = out;
        for chunk in self.chunks() {
            let (first, others) = rest.split_at_mut(chunk.spec().byte_len());
            chunk.decode_stored(first)?;
            rest = others;
        }
        Ok(())
    }

    /// As [`Self::decode_stored`].
    ///
    /// # Errors
    /// As [`Self::decode_stored`].
    pub fn decode_bytes(&self) -> Result<Vec<u8>, Error> {
        self.check_sizes()?;
        let all = 0..self.spec().matrix().0;
        let mut out = zeros(self.spec().byte_len()).map_err(|e| self.packed.failed(place(self.name(), &all), e))?;
        self.decode_stored(&mut out)?;
        Ok(out)
    }

    /// Checks that the stored sections, or the base, are large enough for the tensor, before memory
    /// is allocated for it.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Base`] or [`Error::Level`] if not.
    pub fn check_sizes(&self) -> Result<(), Error> {
        if self.equals_base() {
            return self.packed.require_base();
        }
        self.chunks().try_for_each(|chunk| chunk.check_size())
    }
}

impl fmt::Debug for PackedTensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedTensor({:?}, {})", self.name(), self.spec())
    }
}
