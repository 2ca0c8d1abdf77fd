//! The tensors of a packed model.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use codec_api::util::{round, widen, zeros};
use codec_api::{BaseTensor, Certificate, CodecError, DecodeCx, EncodedTensor, TensorSpec, TensorView};

use super::entry::{Chunk, Entry};
use super::manifest::{BaseTensorRecord, Hash, crc32c};
use super::names;
use super::open::Packed;
use crate::error::Error;

/// A tensor of a packed model. Its values are those of the stored dtype: a lossy codec's weights
/// are rounded to it, and [`Self::certificate`] states the error of the result.
#[derive(Clone, Copy)]
pub struct PackedTensor<'a> {
    pub(super) packed: &'a Packed,
    entry: &'a Entry,
    pub(super) holder: &'a Entry,
}

/// The encoded rows of a tensor that decode together.
#[derive(Clone, Copy)]
pub struct PackedChunk<'a> {
    packed: &'a Packed,
    /// The tensor that holds the chunk.
    holder: &'a Entry,
    number: usize,
    chunk: &'a Chunk,
}

impl<'a> PackedTensor<'a> {
    pub(super) fn new(packed: &'a Packed, entry: &'a Entry) -> Self {
        Self { packed, entry, holder: &packed.entries[entry.holder] }
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
    pub(super) fn file(&self) -> usize {
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

    /// The chunks in the order of their rows: at least one, but none of a tensor that equals its
    /// base. Tensors with the same bytes have the same chunks.
    pub fn chunks(&self) -> impl Iterator<Item = PackedChunk<'a>> + use<'a> {
        let (packed, holder) = (self.packed, self.holder);
        let numbered = holder.chunks.iter().enumerate();
        numbered.map(move |(number, chunk)| PackedChunk { packed, holder, number, chunk })
    }

    /// The error of the tensor, all chunks together.
    pub fn certificate(&self) -> Certificate {
        let mut sum = Certificate::EMPTY;
        self.holder.chunks.iter().for_each(|chunk| sum.add(&chunk.record.certificate));
        sum
    }

    /// Bytes of the sections; 0 if another tensor holds them.
    pub fn bytes(&self) -> u64 {
        self.entry.chunks.iter().map(|chunk| chunk.encoded.payload.bytes()).sum()
    }

    /// blake3 of the decoded bytes if there is one chunk or an equal base; else blake3 of the
    /// hashes of the chunks, 32 bytes each.
    pub fn hash(&self) -> Hash {
        match (&*self.holder.chunks, self.base()) {
            ([only], _) => only.record.blake3,
            ([], Some((_, base))) => base,
            (chunks, _) => Hash::of(&chunks.iter().flat_map(|chunk| chunk.record.blake3.0).collect::<Vec<u8>>()),
        }
    }

    /// Decodes rows of the matrix view ([`TensorSpec::matrix`]) as f32, row-major, into exactly
    /// their number of values. Only the chunks of these rows are read. It checks their sections
    /// against the stored checksums when it reads them for the first time.
    ///
    /// # Errors
    /// [`Error::Chunk`] for rows or a length that do not fit the tensor, and for a dtype other than
    /// F32, F16 and BF16; [`Error::Damaged`] if a section is damaged; [`Error::Base`] if a base is
    /// needed and missing.
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
    /// is; [`Error::Base`] if a base is needed and missing.
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
    fn check_sizes(&self) -> Result<(), Error> {
        if self.equals_base() {
            return self.packed.require_base();
        }
        self.chunks().try_for_each(|chunk| chunk.check_size())
    }
}

impl<'a> PackedChunk<'a> {
    /// Its rows of the tensor's matrix view.
    pub fn rows(&self) -> Range<usize> {
        let [first, end] = self.chunk.record.rows;
        first..end
    }

    /// Dtype and shape of the chunk.
    pub fn spec(&self) -> &'a TensorSpec {
        &self.chunk.encoded.spec
    }

    /// Codec, payload and certificate. Its sections are not checked yet.
    pub fn encoded(&self) -> &'a EncodedTensor {
        &self.chunk.encoded
    }

    /// blake3 of the decoded bytes.
    pub fn hash(&self) -> Hash {
        self.chunk.record.blake3
    }

    /// Why another codec than that of the recipe encoded the chunk.
    pub fn refused(&self) -> Option<&'a str> {
        self.chunk.record.refused.as_deref()
    }

    /// Decodes to the bytes of the stored dtype, into exactly `spec().byte_len()` bytes, and checks
    /// the checksums of the sections and the hash of the result.
    ///
    /// # Errors
    /// [`Error::Damaged`] if something is wrong; [`Error::Base`] if the base is.
    pub fn decode_stored(&self, out: &mut [u8]) -> Result<(), Error> {
        let base = self.checked_base()?;
        self.decode_relative(base.as_ref(), out)
    }

    fn decode_relative(&self, base: Option<&(Hash, Bytes)>, out: &mut [u8]) -> Result<(), Error> {
        self.chunk.encoded.decode_stored(&self.context(base)?, out).map_err(|e| self.failed(e))?;
        let found = Hash::of(out);
        if found == self.hash() {
            return Ok(());
        }
        let reason = format!("its decoded bytes have blake3 {found}, stored is {}", self.hash());
        Err(self.packed.damaged(self.place(), reason))
    }

    /// As [`Self::decode_stored`].
    ///
    /// # Errors
    /// As [`Self::decode_stored`].
    pub fn decode_bytes(&self) -> Result<Vec<u8>, Error> {
        self.check_size()?;
        let base = self.checked_base()?;
        let mut out = zeros(self.spec().byte_len()).map_err(|e| self.failed(e))?;
        self.decode_relative(base.as_ref(), &mut out)?;
        Ok(out)
    }

    /// Checks the sections, then gives hash and rows of the base if they need one.
    fn checked_base(&self) -> Result<Option<(Hash, Bytes)>, Error> {
        self.check_sections()?;
        let needed = self.holder.base.filter(|_| !self.chunk.encoded.payload.bases().is_empty());
        needed.map(|number| self.packed.base_rows(number, &self.rows())).transpose()
    }

    fn context<'b>(&self, base: Option<&'b (Hash, Bytes)>) -> Result<DecodeCx<'b>, Error> {
        let Some((hash, bytes)) = base else { return Ok(DecodeCx::new()) };
        let view = TensorView::new(self.spec().clone(), bytes).map_err(|e| self.failed(e))?;
        Ok(DecodeCx::new().with_base(BaseTensor::with_id(hash.0, view)))
    }

    /// Compares the sections with their stored checksums.
    pub(super) fn check_sections(&self) -> Result<(), Error> {
        self.packed.check_length()?;
        if self.chunk.checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        for (name, section) in self.chunk.encoded.payload.sections() {
            let (found, stored) = (crc32c(section.data()), self.chunk.record.sections.get(name).copied());
            if Some(found) != stored {
                let stored = stored.map_or_else(|| "none".to_owned(), |crc| format!("{crc:08x}"));
                let place = names::section(&self.holder.name, self.number, name);
                return Err(self.packed.damaged(
                    format!("{}, section `{name}` (`{place}`)", self.place()),
                    format!("it has CRC-32C {found:08x}, stored is {stored}"),
                ));
            }
        }
        self.chunk.checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Checks the payload size against the codec's cost.
    fn check_size(&self) -> Result<(), Error> {
        let encoded = &self.chunk.encoded;
        let (bytes, allowed) = (encoded.payload.bytes(), encoded.codec.cost(&encoded.spec).bytes);
        if allowed.contains(&bytes) {
            return Ok(());
        }
        let reason = format!(
            "its sections have {bytes} bytes, its codec writes {} to {} for {}",
            allowed.start(),
            allowed.end(),
            encoded.spec
        );
        Err(self.packed.damaged(self.place(), reason))
    }

    /// Reads rows of the chunk, counted from its first.
    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let base = self.checked_base()?;
        let reader = self.chunk.encoded.open_rows(&self.context(base.as_ref())?).map_err(|e| self.failed(e))?;
        reader.read(rows, out).map_err(|e| self.failed(e))?;
        round(self.spec().dtype(), out).map_err(|e| self.failed(e))
    }

    fn place(&self) -> String {
        place(&self.holder.name, &self.rows())
    }

    pub(super) fn failed(&self, error: CodecError) -> Error {
        self.packed.failed(self.place(), error)
    }
}

/// A part of a tensor, for messages.
pub(crate) fn place(tensor: &str, rows: &Range<usize>) -> String {
    format!("tensor `{tensor}`, rows {}..{}", rows.start, rows.end)
}

impl fmt::Debug for PackedTensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedTensor({:?}, {})", self.name(), self.spec())
    }
}

impl fmt::Debug for PackedChunk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedChunk({})", self.place())
    }
}
