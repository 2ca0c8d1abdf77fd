//! The encoded rows of a tensor that decode together.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use codec_api::util::{round, zeros};
use codec_api::{
    BaseTensor, Certificate, Codec, CodecError, DecodeCx, EncodedTensor, QualityLevel, Section, TensorSpec, TensorView,
};

use super::entry::{Chunk, Entry, level_of};
use super::manifest::{Hash, crc32c};
use super::names;
use super::open::Packed;
use crate::error::Error;

/// The encoded rows of a tensor that decode together.
#[derive(Clone, Copy)]
pub struct PackedChunk<'a> {
    pub(super) packed: &'a Packed,
    /// The tensor that holds the chunk.
    pub(super) holder: &'a Entry,
    pub(super) number: usize,
    pub(super) chunk: &'a Chunk,
    /// One of the levels of its codec.
    pub(super) level: usize,
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

    /// As [`Self::encoded`], after the check of all sections against their stored checksums.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a section is damaged; [`Error::Level`] if the chunk is at another
    /// level than the last of its codec, or the file was cut off before its end.
    pub fn checked(&self) -> Result<&'a EncodedTensor, Error> {
        self.check_sections()?;
        if self.is_complete() {
            return Ok(&self.chunk.encoded);
        }
        let reason = format!("{}: a lower level than the last is decoded, not used as it is", self.place());
        Err(Error::Level { path: self.packed.path.clone(), reason })
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
    /// [`Error::Damaged`] if something is wrong; [`Error::Base`] if the base is; [`Error::Level`]
    /// if the file was cut off before the end of the level.
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
        self.check_hash(Hash::of(out))
    }

    fn check_hash(&self, found: Hash) -> Result<(), Error> {
        if found == self.hash() {
            return Ok(());
        }
        let reason = format!("its decoded bytes have blake3 {found}, stored is {}", self.hash());
        Err(self.packed.damaged(self.place(), reason))
    }

    /// As [`Self::decode_stored`], without the bytes.
    ///
    /// # Errors
    /// As [`Self::decode_stored`].
    pub(super) fn verify(&self) -> Result<(), Error> {
        if !self.is_complete() {
            return self.decode_bytes().map(drop);
        }
        self.check_size()?;
        let base = self.checked_base()?;
        let mut hasher = blake3::Hasher::new();
        let visited = self.chunk.encoded.visit_stored(&self.context(base.as_ref())?, |_, bytes| {
            hasher.update(bytes);
            Ok(())
        });
        visited.map_err(|e| self.failed(e))?;
        self.check_hash(Hash(hasher.finalize().into()))
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
        self.packed.set.check(&self.chunk.encoded.payload.sections().values().map(Section::data))?;
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
                return Err(self.packed.damaged_section(
                    section.data(),
                    format!("{}, section `{name}` (`{place}`)", self.place()),
                    format!("it has CRC-32C {found:08x}, stored is {stored}"),
                ));
            }
        }
        self.chunk.checked.fetch_max(self.level + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Checks that the sections are there, and their size against what the codec states.
    pub(super) fn check_size(&self) -> Result<(), Error> {
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
    pub(super) fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
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

impl fmt::Debug for PackedChunk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedChunk({})", self.place())
    }
}
