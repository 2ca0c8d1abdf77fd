//! What every exact codec shares: the checksum of the stored bytes, and decoding to f32 by way of them.

use crc_fast::{CrcAlgorithm, Digest};

use crate::codec::Lossless;
use crate::context::DecodeCx;
use crate::error::{CodecError, Result};
use crate::payload::{Payload, PayloadView, Section};
use crate::tensor::{Dtype, TensorSpec, widen};

/// Name of the section with the CRC-32C of the stored bytes.
const CHECKSUM: &str = "crc32c";

/// The checksum of decoded bytes, for decoders that take them piece by piece while they are in the cache.
#[derive(Clone, Debug)]
pub struct Checksum(Digest);

impl Default for Checksum {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Checksum {
    /// Adds the bytes that follow.
    pub fn update(&mut self, decoded: &[u8]) {
        self.0.update(decoded);
    }

    /// CRC-32C (Castagnoli; RFC 3720, appendix B.4) of all bytes so far.
    fn get(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Payload {
    /// Bytes of the section that [`Self::with_checksum`] adds.
    pub const CHECKSUM_BYTES: u64 = 4;

    /// Adds the section `crc32c` U32 `[1]`: CRC-32C of the tensor's stored bytes.
    ///
    /// # Errors
    /// Never: the section has the size of its shape.
    pub fn with_checksum(self, stored: &[u8]) -> Result<Self> {
        let mut checksum = Checksum::default();
        checksum.update(stored);
        Ok(self.with(CHECKSUM, Section::from_values(Dtype::U32, [1], vec![checksum.get()])?))
    }
}

/// Name of the section that [`Payload::sealed`] adds.
const SEAL: &str = "seal";

impl Payload {
    /// Bytes of the section `seal`.
    pub const SEAL_BYTES: u64 = 4;

    /// Stored bytes that a byte of a [sealed](Self::sealed) payload stands for at most.
    pub const MOST_EXPANSION: usize = 1 << 20;

    /// Adds what makes a payload of compressed bytes safe: the section `padding` U8 of zeros if the others take less than a 2²⁰th of the stored bytes (no
    /// few bytes shall stand for an enormous tensor), and the section `seal` U32 `[1]`, CRC-32C of the stored bytes followed by those of all
    /// other sections in the order of their names. So a changed bit is noticed even where it would not change a weight.
    ///
    /// # Errors
    /// Never: the sections have the sizes of their shapes.
    pub fn sealed(mut self, stored: &[u8]) -> Result<Self> {
        let missing = (stored.len() / Self::MOST_EXPANSION).saturating_sub(self.bytes() as usize);
        if missing > 0 {
            self = self.with("padding", Section::from_bytes(vec![0; missing])?);
        }
        let seal = self.view().seal(stored);
        Ok(self.with(SEAL, Section::from_values(Dtype::U32, [1], vec![seal])?))
    }
}

impl PayloadView<'_> {
    fn seal(&self, stored: &[u8]) -> u32 {
        let mut checksum = Checksum::default();
        checksum.update(stored);
        for (_, section) in self.sections().filter(|(name, _)| *name != SEAL) {
            checksum.update(section.data());
        }
        checksum.get()
    }

    /// Compares decoded bytes and the sections with the section `seal`.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] with both checksums, [`CodecError::Missing`] without the section.
    pub fn verify_seal(&self, decoded: &[u8]) -> Result<()> {
        self.compare(SEAL, "the decoded bytes and the sections have", self.seal(decoded))
    }

    fn compare(&self, name: &str, what: &str, found: u32) -> Result<()> {
        let stored = self.values::<u32>(name, Dtype::U32, &[1])?[0];
        if stored == found {
            return Ok(());
        }
        Err(self.corrupt(name, format!("{what} CRC-32C {found:08x}, stored is {stored:08x}: the payload is damaged")))
    }
}

impl PayloadView<'_> {
    /// Compares decoded bytes with the section `crc32c`.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] with both checksums, [`CodecError::Missing`] without the section.
    pub fn verify_checksum(&self, decoded: &[u8]) -> Result<()> {
        let mut checksum = Checksum::default();
        checksum.update(decoded);
        self.verify(&checksum)
    }

    /// [`Self::verify_checksum`] for a checksum made piece by piece.
    ///
    /// # Errors
    /// As [`Self::verify_checksum`].
    pub fn verify(&self, checksum: &Checksum) -> Result<()> {
        self.compare(CHECKSUM, "the decoded bytes have", checksum.get())
    }
}

/// [`crate::Codec::decode`] of an exact codec: F32, F16 and BF16 to f32 by way of the stored bytes.
///
/// # Errors
/// [`CodecError::Unsupported`] for other dtypes, which decode to their bytes alone; else as [`Lossless::decode_bytes`].
pub fn decode_exact(
    codec: &dyn Lossless,
    spec: &TensorSpec,
    payload: PayloadView<'_>,
    cx: &DecodeCx<'_>,
    out: &mut [f32],
) -> Result<()> {
    spec.check_output(out.len())?;
    if !spec.is_float() {
        let reason = format!("dtype {} does not decode to f32 without loss; decode its bytes", spec.dtype());
        return Err(CodecError::Unsupported(reason));
    }
    if spec.dtype() == Dtype::F32 {
        return codec.decode_bytes(spec, payload, cx, bytemuck::cast_slice_mut(out));
    }
    let mut bytes = vec![0; spec.byte_len()];
    codec.decode_bytes(spec, payload, cx, &mut bytes)?;
    widen(spec.dtype(), &bytes, out)
}
