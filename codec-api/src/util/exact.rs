//! Shared by all exact codecs: the checksum of the stored bytes, and decoding to f32 from these
//! bytes.

use crc_fast::{CrcAlgorithm, Digest};

use crate::codec::Lossless;
use crate::context::DecodeCx;
use crate::error::{CodecError, Result};
use crate::payload::{Payload, PayloadView, Section};
use crate::tensor::{Dtype, TensorSpec};
use crate::util::{widen, zeros};

/// Name of the section that holds the CRC-32C of the stored bytes.
const CHECKSUM: &str = "crc32c";

/// Incremental checksum, for decoders that add each piece of the output while it is in the cache.
#[derive(Clone, Debug)]
pub struct Checksum(Digest);

impl Default for Checksum {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Checksum {
    /// Adds the next bytes.
    pub fn update(&mut self, decoded: &[u8]) {
        self.0.update(decoded);
    }

    /// CRC-32C (Castagnoli; RFC 3720, appendix B.4) of all bytes added so far.
    fn get(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Payload {
    /// Size of the section that [`Self::with_checksum`] adds.
    pub const CHECKSUM_BYTES: u64 = 4;

    /// Adds the section `crc32c` U32 `[1]`: CRC-32C of the tensor's stored bytes.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the payload has a checksum already.
    pub fn with_checksum(self, stored: &[u8]) -> Result<Self> {
        let mut checksum = Checksum::default();
        checksum.update(stored);
        self.with(CHECKSUM, Section::from_values(Dtype::U32, [1], vec![checksum.get()])?)
    }
}

/// Name of the section that [`Payload::sealed`] adds.
const SEAL: &str = "seal";

impl Payload {
    /// Size of the section `seal`.
    pub const SEAL_BYTES: u64 = 4;

    /// Largest ratio of stored bytes to payload bytes in a [sealed](Self::sealed) payload.
    pub const MOST_EXPANSION: usize = 1 << 20;

    /// Protects a payload of compressed bytes with two sections:
    /// - `padding` U8: zeros, added only if the other sections have fewer bytes than the stored
    ///   bytes divided by 2²⁰, so that a small file cannot claim a huge tensor.
    /// - `seal` U32 `[1]`: CRC-32C of the stored bytes followed by the bytes of all other sections
    ///   in the order of their names. It detects every changed bit, even a bit that would not
    ///   change a weight.
    ///
    /// # Errors
    /// [`CodecError::Usage`] if the payload has a seal already.
    pub fn sealed(mut self, stored: &[u8]) -> Result<Self> {
        let missing = (stored.len() / Self::MOST_EXPANSION).saturating_sub(self.bytes() as usize);
        if missing > 0 {
            self = self.with("padding", Section::from_bytes(vec![0; missing])?)?;
        }
        let seal = self.view().seal(stored);
        self.with(SEAL, Section::from_values(Dtype::U32, [1], vec![seal])?)
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

    /// Checks the decoded bytes and the sections against the section `seal`.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] with both checksums if they differ; [`CodecError::MissingSection`]
    /// without the section.
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
    /// Checks decoded bytes against the section `crc32c`.
    ///
    /// # Errors
    /// [`CodecError::Corrupt`] with both checksums if they differ; [`CodecError::MissingSection`]
    /// without the section.
    pub fn verify_checksum(&self, decoded: &[u8]) -> Result<()> {
        let mut checksum = Checksum::default();
        checksum.update(decoded);
        self.verify(&checksum)
    }

    /// Like [`Self::verify_checksum`], for a checksum that was computed incrementally.
    ///
    /// # Errors
    /// As [`Self::verify_checksum`].
    pub fn verify(&self, checksum: &Checksum) -> Result<()> {
        self.compare(CHECKSUM, "the decoded bytes have", checksum.get())
    }
}

/// Implements [`crate::Codec::decode`] for an exact codec: decodes the stored bytes of an F32, F16
/// or BF16 tensor, then converts them to f32.
///
/// # Errors
/// [`CodecError::Unsupported`] for every other dtype: only [`Lossless::decode_bytes`] decodes
/// these. Otherwise as [`Lossless::decode_bytes`].
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
    let mut bytes = zeros(spec.byte_len())?;
    codec.decode_bytes(spec, payload, cx, &mut bytes)?;
    widen(spec.dtype(), &bytes, out)
}
