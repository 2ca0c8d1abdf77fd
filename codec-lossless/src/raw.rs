//! The stored bytes unchanged, `lossless.raw`: the baseline and the fallback.
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
//! None: every dtype and shape. Decoding to f32 exists for F32, F16 and BF16; the others decode to
//! their bytes.

use codec_api::{
    Bound, Bytes, Codec, CostEstimate, DecodeCx, EncodeCx, FormatVersion, LinearKernel, LinearOp, Lossless, Payload,
    PayloadView, Preset, Result, Section, TensorSpec, TensorView, check_batch, decode_exact, register_codec, typetag,
    widen,
};
use serde::{Deserialize, Serialize};

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
        CostEstimate::fixed(spec.byte_len() as u64 + Payload::CHECKSUM_BYTES).ops(n, n).scratch(scratch).rel_rmse(0.0)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        cx.cancel.check()?;
        cx.progress.tick(spec.elements() as u64);
        let data = Section::new(spec.dtype(), spec.shape(), bytes.to_vec())?;
        Payload::new(Bound::Exact).with("data", data).with_checksum(bytes)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        decode_exact(self, spec, payload, cx, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
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
        spec.check_output_bytes(out.len())?;
        cx.cancel.check()?;
        out.copy_from_slice(payload.bytes("data", spec.dtype(), spec.shape())?);
        payload.verify_checksum(out)
    }
}

impl LinearKernel for Raw {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        spec.require_float()?;
        let data = payload.bytes("data", spec.dtype(), spec.shape())?.clone();
        payload.verify_checksum(&data)?;
        Ok(Box::new(Stored { spec: spec.clone(), data }))
    }
}

/// The stored matrix, shared with the payload.
#[derive(Debug)]
struct Stored {
    spec: TensorSpec,
    data: Bytes,
}

impl LinearOp for Stored {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let (rows, columns) = self.spec.matrix();
        check_batch((rows, columns), x, y)?;
        let mut weights = vec![0.0; columns];
        for row in 0..rows {
            let len = self.data.len() / rows;
            widen(self.spec.dtype(), &self.data[row * len..][..len], &mut weights)?;
            for (x, y) in x.chunks(columns).zip(y.chunks_mut(rows)) {
                y[row] = simd::dot(&weights, x);
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        simd::dot_tolerance(self.spec.matrix().1)
    }

    fn resident_bytes(&self) -> u64 {
        self.data.len() as u64
    }
}

register_codec!("lossless.raw", "the stored bytes, unchanged", || vec![Preset::new("default", Raw::default())]);
