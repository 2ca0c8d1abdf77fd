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
//! Exact.
//!
//! # Cost
//! The stored size + 4 bytes. Ranges of rows are converted from their own bytes.
//!
//! # Limits
//! None: every dtype and shape. Decoding to f32 exists for F32, F16 and BF16; the others decode to
//! their bytes.

use std::ops::Range;

use codec_api::util::widen;
use codec_api::{
    Bytes, Codec, CodecError, CostEstimate, DecodeCx, EncodeCx, FormatVersion, Lossless, Payload, PayloadView, Preset,
    Result, RowReader, Rows, Section, TensorSpec, TensorView, check_rows, register_codec, typetag,
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
        CostEstimate::fixed(spec.byte_len() as u64 + Payload::CHECKSUM_BYTES).ops(n, n).rel_rmse(0.0)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let (spec, bytes) = (tensor.spec(), tensor.bytes());
        cx.cancel.check()?;
        cx.progress.tick(spec.elements() as u64);
        Payload::new().with("data", Section::new(spec.dtype(), spec.shape(), bytes.to_vec())?)?.with_checksum(bytes)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let reader = self.open(spec, payload.clone(), cx)?;
        payload.verify_checksum(payload.section("data")?.data())?;
        reader.read(0..spec.matrix().0, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
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

/// The checksum is that of all elements, so that rows are read without it.
impl Rows for Raw {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        if !spec.is_float() {
            let reason = format!("dtype {} does not decode to f32 without loss; decode its bytes", spec.dtype());
            return Err(CodecError::Unsupported(reason));
        }
        cx.cancel.check()?;
        let data = payload.bytes("data", spec.dtype(), spec.shape())?.clone();
        Ok(Box::new(Stored { spec: spec.clone(), data }))
    }
}

/// The stored floats, shared with the payload.
#[derive(Debug)]
struct Stored {
    spec: TensorSpec,
    data: Bytes,
}

impl RowReader for Stored {
    fn shape(&self) -> (usize, usize) {
        self.spec.matrix()
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape(), &rows, out)?;
        let width = self.spec.dtype().bitsize() / 8;
        let start = rows.start * self.shape().1 * width;
        widen(self.spec.dtype(), &self.data[start..start + out.len() * width], out)
    }

    fn resident_bytes(&self) -> u64 {
        self.data.len() as u64
    }
}

register_codec!("lossless.raw", "the stored bytes, unchanged", || vec![Preset::new("default", Raw::default())]);
