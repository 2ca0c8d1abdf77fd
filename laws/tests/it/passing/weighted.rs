//! The sign of each weight and one scale, optionally weighted by calibration.
//!
//! # Source
//! None: the simplest codec with calibration.
//!
//! # Sections
//! `scale` F32 `[1]`: the mean magnitude; with calibration, each column is weighted by the mean
//! square of its input. `signs` U8 `[⌈elements / 8⌉]`: one bit per weight, lowest bit first; 1
//! is negative.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"test.weighted","version":1,"required":true}"#;
//! ```
//!
//! # Bound
//! None in advance: the largest error follows from the weights.
//!
//! # Cost
//! One bit per weight, and 4 bytes.
//!
//! # Limits
//! Floats only.

use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Need, Needs, Payload, PayloadView,
    Preset, Result, Section, TensorSpec, TensorView, register_codec, typetag, util::Importance,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Weighted {
    version: FormatVersion<1>,
    /// Whether calibration is required.
    required: bool,
}

#[typetag::serde(name = "test.weighted")]
impl Codec for Weighted {
    fn needs(&self) -> Needs {
        Needs::default().calibration(if self.required { Need::Requires } else { Need::Uses })
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.elements().div_ceil(8) as u64 + 4).scratch(12 * spec.elements() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        if self.required && cx.calibration.is_none() {
            return Err(CodecError::MissingCalibration);
        }
        cx.cancel.check()?;
        let values = tensor.to_finite_f32()?;
        let relative = Importance::new(tensor.spec(), cx)?;
        let importance = |i: usize| relative.as_ref().map_or(1.0, |relative| f64::from(relative.of(i)));
        let (sum, total) = values
            .iter()
            .enumerate()
            .fold((0.0, 0.0), |(sum, total), (i, v)| (sum + importance(i) * f64::from(v.abs()), total + importance(i)));
        let scale = if total > 0.0 { (sum / total) as f32 } else { 0.0 };
        let mut signs = vec![0u8; values.len().div_ceil(8)];
        for (i, v) in values.iter().enumerate() {
            signs[i / 8] |= u8::from(*v < 0.0) << (i % 8);
        }
        cx.progress.tick(values.len() as u64);
        Payload::new()
            .with("scale", Section::from_values(Dtype::F32, [1], vec![scale])?)?
            .with("signs", Section::from_bytes(signs)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let scale = payload.values::<f32>("scale", Dtype::F32, &[1])?[0];
        let signs = payload.bytes("signs", Dtype::U8, &[out.len().div_ceil(8)])?;
        for (i, w) in out.iter_mut().enumerate() {
            *w = if signs[i / 8] >> (i % 8) & 1 == 1 { -scale } else { scale };
        }
        Ok(())
    }
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("default", Weighted::default()),
        Preset::new("required", Weighted { required: true, ..Weighted::default() }),
    ]
}
register_codec!("test.weighted", "sign and weighed mean magnitude", presets);
