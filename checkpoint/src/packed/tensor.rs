//! The tensors of a packed model.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;

use codec_api::util::round;
use codec_api::{Certificate, CodecError, DecodeCx, EncodedTensor, TensorSpec};

use super::entry::{Chunk, Entry};
use super::manifest::{Hash, crc32c};
use super::names;
use super::open::Packed;
use crate::error::Error;

/// A tensor of a packed model. Its values are those of the stored dtype: a lossy codec's weights
/// are rounded to it, and [`Self::certificate`] states the error of the result.
#[derive(Clone, Copy)]
pub struct PackedTensor<'a> {
    packed: &'a Packed,
    entry: &'a Entry,
    holder: &'a Entry,
}

/// The encoded rows of a tensor that decode together.
#[derive(Clone, Copy)]
pub struct PackedChunk<'a> {
    packed: &'a Packed,
    /// The tensor that holds the chunk.
    tensor: &'a str,
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
    pub(crate) fn file(&self) -> usize {
        self.entry.file
    }

    /// The tensor that holds the chunks of this one, if it is another one: both have the same
    /// bytes, which are stored once.
    pub fn same_as(&self) -> Option<&'a str> {
        (!std::ptr::eq(self.entry, self.holder)).then_some(&*self.holder.name)
    }

    /// The chunks in the order of their rows, at least one. Tensors with the same bytes have the
    /// same chunks.
    pub fn chunks(&self) -> impl Iterator<Item = PackedChunk<'a>> + use<'a> {
        let (packed, tensor) = (self.packed, &*self.holder.name);
        let numbered = self.holder.chunks.iter().enumerate();
        numbered.map(move |(number, chunk)| PackedChunk { packed, tensor, number, chunk })
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

    /// blake3 of the decoded bytes if there is one chunk; else blake3 of the hashes of the chunks,
    /// 32 bytes each.
    pub fn hash(&self) -> Hash {
        match &*self.holder.chunks {
            [only] => only.record.blake3,
            chunks => Hash::of(&chunks.iter().flat_map(|chunk| chunk.record.blake3.0).collect::<Vec<u8>>()),
        }
    }

    /// Decodes rows of the matrix view ([`TensorSpec::matrix`]) as f32, row-major, into exactly
    /// their number of values. Only the chunks of these rows are read. It checks their sections
    /// against the stored checksums when it reads them for the first time.
    ///
    /// # Errors
    /// [`Error::Chunk`] for rows or a length that do not fit the tensor, and for a dtype other than
    /// F32, F16 and BF16; [`Error::Damaged`] if a section is damaged.
    pub fn rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let spec = self.spec();
        let (all, columns) = spec.matrix();
        let fail = |error| self.packed.failed(place(self.name(), &rows), error);
        spec.require_float().map_err(fail)?;
        codec_api::check_rows((all, columns), &rows, out).map_err(fail)?;
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
        let mut out = vec![0.0; self.spec().elements()];
        self.rows(0..self.spec().matrix().0, &mut out)?;
        Ok(out)
    }

    /// Decodes to the bytes of the stored dtype, into exactly `spec().byte_len()` bytes, and checks
    /// every checksum and hash.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a section or a decoded byte is wrong; [`Error::Chunk`] if the length
    /// is.
    pub fn decode_stored(&self, out: &mut [u8]) -> Result<(), Error> {
        let all = 0..self.spec().matrix().0;
        let fail = |error| self.packed.failed(place(self.name(), &all), error);
        self.spec().check_output_bytes(out.len()).map_err(fail)?;
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
        let mut out = vec![0; self.spec().byte_len()];
        self.decode_stored(&mut out)?;
        Ok(out)
    }

    /// Checks that the stored sections are large enough for the tensor, before memory is allocated
    /// for it.
    fn check_sizes(&self) -> Result<(), Error> {
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
    /// [`Error::Damaged`] if something is wrong.
    pub fn decode_stored(&self, out: &mut [u8]) -> Result<(), Error> {
        self.check_sections()?;
        self.chunk.encoded.decode_stored(&DecodeCx::new(), out).map_err(|e| self.failed(e))?;
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
        let mut out = vec![0; self.spec().byte_len()];
        self.decode_stored(&mut out)?;
        Ok(out)
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
                let place = names::section(self.tensor, self.number, name);
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
        self.check_sections()?;
        let reader = self.chunk.encoded.open_rows(&DecodeCx::new()).map_err(|e| self.failed(e))?;
        reader.read(rows, out).map_err(|e| self.failed(e))?;
        round(self.spec().dtype(), out).map_err(|e| self.failed(e))
    }

    pub(crate) fn place(&self) -> String {
        place(self.tensor, &self.rows())
    }

    fn failed(&self, error: CodecError) -> Error {
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
