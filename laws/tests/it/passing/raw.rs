//! Stores the bytes unchanged.
//!
//! # Source
//! None: the simplest exact codec.
//!
//! # Sections
//! `data` U8 `[byte_len]`: the tensor's bytes. `crc32c` U32 `[1]`: their crc32c.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"test.raw","version":1}"#;
//! ```
//!
//! # Bound
//! Exact.
//!
//! # Cost
//! The stored bytes, and 4.
//!
//! # Limits
//! None.

use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Lossless, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, register_codec, typetag, util::widen,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    version: FormatVersion<1>,
}

#[typetag::serde(name = "test.raw")]
impl Codec for Raw {
    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.byte_len() as u64 + 4)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let bytes = tensor.bytes();
        cx.progress.tick(tensor.spec().elements() as u64);
        let data = Section::new(Dtype::U8, [bytes.len()], bytes.to_vec())?;
        Payload::new().with("data", data)?.with_checksum(bytes)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        widen(spec.dtype(), checked(spec, &payload)?, out)
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
        _: &DecodeCx<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let data = checked(spec, &payload)?;
        if data.len() != out.len() {
            return Err(codec_api::CodecError::Usage(format!("{} places for {} bytes", out.len(), data.len())));
        }
        out.copy_from_slice(data);
        Ok(())
    }
}

/// The stored bytes after a check of their checksum.
fn checked<'a>(spec: &TensorSpec, payload: &PayloadView<'a>) -> Result<&'a [u8]> {
    let data = payload.bytes("data", Dtype::U8, &[spec.byte_len()])?;
    payload.verify_checksum(data)?;
    Ok(data)
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Raw::default())]
}
register_codec!("test.raw", "the bytes as they are", presets);
