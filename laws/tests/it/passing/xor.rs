//! Stores the bitwise difference from a base tensor.
//!
//! # Source
//! None: the simplest codec relative to a base.
//!
//! # Sections
//! `xor` U8 `[byte_len]`: the bytes of the tensor xor those of the base. `base` U8 `[32]`: blake3
//! of the base's bytes. `crc32c` U32 `[1]`: crc32c of the tensor's bytes.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"test.xor","version":1}"#;
//! ```
//!
//! # Bound
//! Exact.
//!
//! # Cost
//! The stored bytes, and 36.
//!
//! # Limits
//! Base and tensor must have the same dtype and shape.

use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Lossless, Need, Needs, Payload,
    PayloadView, Preset, Result, Section, TensorSpec, TensorView, register_codec, typetag, util::widen,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Xor {
    version: FormatVersion<1>,
}

#[typetag::serde(name = "test.xor")]
impl Codec for Xor {
    fn needs(&self) -> Needs {
        Needs::default().base(Need::Requires)
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.byte_len() as u64 + 36).scratch(4 * spec.byte_len() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let base = cx.base_of(tensor.spec())?;
        cx.cancel.check()?;
        let xor: Vec<u8> = tensor.bytes().iter().zip(base.view.bytes()).map(|(a, b)| a ^ b).collect();
        cx.progress.tick(tensor.spec().elements() as u64);
        Payload::new().with_base(base.id)?.with("xor", Section::from_bytes(xor)?)?.with_checksum(tensor.bytes())
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        widen(spec.dtype(), &restored(spec, &payload, cx)?, out)
    }

    fn as_lossless(&self) -> Option<&dyn Lossless> {
        Some(self)
    }
}

impl Lossless for Xor {
    fn decode_bytes(
        &self,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        cx: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let bytes = restored(spec, &payload, cx)?;
        if bytes.len() != out.len() {
            return Err(CodecError::Usage(format!("{} places for {} bytes", out.len(), bytes.len())));
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }
}

fn restored(spec: &TensorSpec, payload: &PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Vec<u8>> {
    let base = payload.base(spec, cx)?;
    let xor = payload.bytes("xor", Dtype::U8, &[spec.byte_len()])?;
    let bytes: Vec<u8> = xor.iter().zip(base.view.bytes()).map(|(a, b)| a ^ b).collect();
    payload.verify_checksum(&bytes)?;
    Ok(bytes)
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Xor::default())]
}
register_codec!("test.xor", "difference in bits to a base", presets);
