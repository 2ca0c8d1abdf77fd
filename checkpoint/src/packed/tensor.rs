//! The tensors of a packed model.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use codec_api::util::{round, widen, zeros};
use codec_api::{
    BaseTensor, Certificate, Codec, CodecError, DecodeCx, EncodedTensor, QualityLevel, TensorSpec, TensorView,
};

use super::entry::{Chunk, Entry, level_of};
use super::manifest::{BaseTensorRecord, Hash, crc32c};
use super::names;
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

/// The encoded rows of a tensor that decode together.
#[derive(Clone, Copy)]
pub struct PackedChunk<'a> {
    packed: &'a Packed,
    /// The tensor that holds the chunk.
    holder: &'a Entry,
    number: usize,
    chunk: &'a Chunk,
    /// One of the levels of its codec.
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

    /// The codec.
    pub fn codec(&self) -> &'a dyn Codec {
        &*self.chunk.encoded.codec
    }

    /// All levels: codec, payload and certificate. The sections are not checked yet, and of a file
    /// that was cut off only those are there that it holds.
    pub fn encoded(&self) -> &'a EncodedTensor {
        &self.chunk.encoded
    }

    /// The error of the decoded bytes.
    pub fn certificate(&self) -> Certificate {
        let record = &self.chunk.record;
        record.levels.get(self.level).map_or(record.certificate, |level| level.certificate)
    }

    /// blake3 of the decoded bytes.
    pub fn hash(&self) -> Hash {
        let record = &self.chunk.record;
        record.levels.get(self.level).map_or(record.blake3, |level| level.blake3)
    }

    /// Bytes of the sections.
    pub fn bytes(&self) -> u64 {
        self.chunk.bytes[self.level]
    }

    /// The chunk at the last level that the file holds, unless it is at a lower one.
    pub(super) fn at_whole_level(self) -> Self {
        // A file whose first level is not whole does not open.
        Self { level: self.level.min(self.chunk.whole.saturating_sub(1)), ..self }
    }

    /// Whether this is the last level of the codec.
    fn is_complete(&self) -> bool {
        self.level + 1 == self.chunk.bytes.len()
    }

    /// Why another codec than that of the recipe encoded the chunk.
    pub fn refused(&self) -> Option<&'a str> {
        self.chunk.record.refused.as_deref()
    }

    /// Decodes to the bytes of the stored dtype, into exactly `spec().byte_len()` bytes, and checks
    /// the checksums of the sections and the hash of the result.
    ///
    /// # Errors
    /// [`Error::Damaged`] if something is wrong; [`Error::Base`] if the base is; [`Error::Level`] if
    /// the file was cut off before the end of the level.
    pub fn decode_stored(&self, out: &mut [u8]) -> Result<(), Error> {
        let base = self.checked_base()?;
        self.decode_relative(base.as_ref(), out)
    }

    fn decode_relative(&self, base: Option<&(Hash, Bytes)>, out: &mut [u8]) -> Result<(), Error> {
        let (encoded, cx) = (&self.chunk.encoded, self.context(base)?);
        let decoded = if self.is_complete() {
            encoded.decode_stored(&cx, out)
        } else {
            encoded.decode_level_stored(self.level, &cx, out)
        };
        decoded.map_err(|e| self.failed(e))?;
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

    /// Checks that the file holds the level.
    fn check_whole(&self) -> Result<(), Error> {
        if self.level < self.chunk.whole {
            return Ok(());
        }
        Err(self.packed.cut_off(self.level, &format!("{}: ", self.place())))
    }

    /// Compares the sections of the level and those before with their stored checksums.
    pub(super) fn check_sections(&self) -> Result<(), Error> {
        self.check_whole()?;
        self.packed.check_length()?;
        if self.chunk.checked.load(Ordering::Relaxed) > self.level {
            return Ok(());
        }
        let encoded = &self.chunk.encoded;
        let levels = encoded.codec.levels(&encoded.spec);
        for (name, section) in encoded.payload.sections() {
            if level_of(&levels, name) > self.level {
                continue;
            }
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
        self.chunk.checked.fetch_max(self.level + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Checks that the sections are there, and their size against what the codec states.
    fn check_size(&self) -> Result<(), Error> {
        self.check_whole()?;
        let (encoded, bytes) = (&self.chunk.encoded, self.bytes());
        let (least, most) = if self.is_complete() {
            encoded.codec.cost(&encoded.spec).bytes.into_inner()
        } else {
            let levels = encoded.codec.levels(&encoded.spec);
            let sum =
                |end: fn(&QualityLevel) -> u64| levels[..=self.level].iter().map(end).fold(0, u64::saturating_add);
            (sum(|level| *level.bytes.start()), sum(|level| *level.bytes.end()))
        };
        if least <= bytes && bytes <= most {
            return Ok(());
        }
        let reason =
            format!("its sections have {bytes} bytes, its codec writes {least} to {most} for {}", encoded.spec);
        Err(self.packed.damaged(self.place(), reason))
    }

    /// Reads rows of the chunk, counted from its first.
    fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let base = self.checked_base()?;
        let (encoded, cx) = (&self.chunk.encoded, self.context(base.as_ref())?);
        let read = if self.is_complete() {
            encoded.open_rows(&cx).and_then(|reader| reader.read(rows, out))
        } else {
            let first = rows.start * self.spec().matrix().1;
            encoded.decode_level(self.level, &cx).map(|values| out.copy_from_slice(&values[first..first + out.len()]))
        };
        read.and_then(|()| round(self.spec().dtype(), out)).map_err(|e| self.failed(e))
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
