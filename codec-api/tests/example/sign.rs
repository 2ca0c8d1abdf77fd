//! The sign of each weight and one scale, the mean magnitude.
//!
//! # Source
//! XNOR-Net: Rastegari et al., arXiv 1603.05279, section 3.1.
//!
//! # Sections
//! - `scale` F32 `[1]`: `mean |w|`;
//! - `signs` U8 `[⌈n/8⌉]`: a bit per weight, lowest bit first; 1 is negative.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"example.sign","version":1}"#;
//! ```
//!
//! # Bound
//! The squared error is at most `Σ w²`, the squared error of zeros.
//!
//! # Cost
//! `⌈n/8⌉ + 4` bytes.
//!
//! # Limits
//! F32, F16 and BF16.

use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset, Result, Section,
    TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sign {
    version: FormatVersion<1>,
}

#[typetag::serde(name = "example.sign")]
impl Codec for Sign {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let n = spec.elements();
        // An encode of 16-bit weights holds them as f32.
        CostEstimate::fixed(n.div_ceil(8) as u64 + 4).ops(3.0 * n as f64, 2.0 * n as f64).scratch(4 * n as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_finite_f32()?;
        cx.cancel.check()?;
        let n = values.len();
        let scale = (values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / n.max(1) as f64) as f32;
        let mut signs = vec![0u8; n.div_ceil(8)];
        for (i, v) in values.iter().enumerate() {
            signs[i / 8] |= u8::from(*v < 0.0) << (i % 8);
        }
        cx.progress.tick(n as u64);
        Payload::new()
            .with("scale", Section::from_values(Dtype::F32, [1], vec![scale])?)?
            .with("signs", Section::from_bytes(signs)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        cx.cancel.check()?;
        let scale = payload.values::<f32>("scale", Dtype::F32, &[1])?[0];
        let signs = payload.bytes("signs", Dtype::U8, &[out.len().div_ceil(8)])?;
        for (i, w) in out.iter_mut().enumerate() {
            *w = if signs[i / 8] >> (i % 8) & 1 == 1 { -scale } else { scale };
        }
        Ok(())
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Sign::default())]
}

register_codec!("example.sign", "sign and mean magnitude", presets);
