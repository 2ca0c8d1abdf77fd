//! The stored bytes as they are, `lossless.raw`: the baseline, and what to fall back to.
//!
//! # Source
//! None needed. The checksum is CRC-32C (Castagnoli; RFC 3720, appendix B.4).
//!
//! # Sections
//! - `data`, the tensor itself, of its own dtype and shape: any safetensors reader can use it;
//! - `crc32c` U32 `[1]`: CRC-32C of `data`.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"lossless.raw","version":1}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_lossless as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Bound
//! `Exact`.
//!
//! # Cost
//! The stored size + 4 bytes.
//!
//! # Limits
//! None: every dtype and shape. Decoding to f32 exists for F32, F16 and BF16; the others decode to their bytes.

use codec_api::{
    Bound, Codec, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Lossless, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

use crate::checksum::{CHECKSUM_BYTES, check_bytes, checksum, decode_f32, verify};

/// Configuration of `lossless.raw`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Raw {
    /// Format version.
    pub version: FormatVersion<1>,
}

#[typetag::serde(name = "lossless.raw")]
impl Codec for Raw {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.byte_len() as f64;
        let scratch = if spec.is_float() { spec.byte_len() as u64 } else { 0 };
        CostEstimate::fixed(spec.byte_len() as u64 + CHECKSUM_BYTES).ops(n, n).scratch(scratch).rel_rmse(0.0)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        cx.cancel.check()?;
        let (name, crc) = checksum(bytes)?;
        cx.progress.tick(spec.elements() as u64);
        let data = Section::new(spec.dtype(), spec.shape(), bytes.to_vec())?;
        Ok(Payload::new(Bound::Exact).with("data", data).with(name, crc))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        decode_f32(self, spec, payload, cx, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }
}

impl Lossless for Raw {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        check_bytes(spec, out.len())?;
        cx.cancel.check()?;
        out.copy_from_slice(payload.bytes("data", spec.dtype(), spec.shape())?);
        verify(&payload, out)
    }
}

register_codec!("lossless.raw", "the stored bytes, unchanged", || vec![Preset::new("default", Raw::default())]);
