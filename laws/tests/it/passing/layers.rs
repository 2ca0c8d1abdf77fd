//! Two layers of 8-bit codes; the second encodes the residual of the first.
//!
//! # Source
//! None: the simplest progressive codec.
//!
//! # Sections
//! For each layer `k` from 0: `k.step` F32 `[1]`, the largest magnitude of the residual divided by
//! 128; `k.codes` I8 `[elements]`, the residual in steps, rounded and clamped to ±127. A weight is
//! the sum over layers of code times step.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"test.layers","version":1}"#;
//! ```
//!
//! # Bound
//! None in advance: the largest error follows from the weights.
//!
//! # Cost
//! Two bytes per weight, and 8 bytes.
//!
//! # Limits
//! Floats only.

use codec_api::{
    Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset,
    Progressive, QualityLevel, Result, Section, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

const LAYERS: usize = 2;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Layers {
    version: FormatVersion<1>,
}

#[typetag::serde(name = "test.layers")]
impl Codec for Layers {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed((LAYERS * (spec.elements() + 4)) as u64).scratch(24 * spec.elements() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let values = tensor.to_finite_f32()?;
        let mut decoded = vec![0f32; values.len()];
        let mut sections = Vec::new();
        for _ in 0..LAYERS {
            let rest: Vec<f32> = values.iter().zip(&decoded).map(|(v, d)| v - d).collect();
            let step = rest.iter().fold(0.0, |m: f32, r| m.max(r.abs())) / 128.0;
            // A step of 0 gives codes of 0: NaN converts to 0.
            let codes: Vec<i8> = rest.iter().map(|r| (r / step).round().clamp(-127.0, 127.0) as i8).collect();
            add(&mut decoded, step, &codes);
            sections.push((step, codes));
        }
        cx.progress.tick(values.len() as u64);
        let mut payload = Payload::new();
        for (k, (step, codes)) in sections.into_iter().enumerate() {
            payload = payload
                .with(&format!("{k}.step"), Section::from_values(Dtype::F32, [1], vec![step])?)?
                .with(&format!("{k}.codes"), Section::from_values(Dtype::I8, [codes.len()], codes)?)?;
        }
        Ok(payload)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        self.decode_level(LAYERS - 1, spec, payload, cx, out)
    }

    fn as_progressive(&self) -> Option<&dyn Progressive> {
        Some(self)
    }
}

impl Progressive for Layers {
    fn decode_level(
        &self,
        level: usize,
        spec: &TensorSpec,
        payload: PayloadView<'_>,
        _: &DecodeCx<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        spec.check_output(out.len())?;
        if level >= LAYERS {
            return Err(CodecError::Usage(format!("level {level}: the levels are 0 to {}", LAYERS - 1)));
        }
        out.fill(0.0);
        for k in 0..=level {
            let step = payload.values::<f32>(&format!("{k}.step"), Dtype::F32, &[1])?[0];
            add(out, step, &payload.values::<i8>(&format!("{k}.codes"), Dtype::I8, &[out.len()])?);
        }
        Ok(())
    }

    fn levels(&self, spec: &TensorSpec) -> Vec<QualityLevel> {
        let bytes = spec.elements() as u64 + 4;
        (0..LAYERS).map(|k| QualityLevel::new(vec![format!("{k}.step"), format!("{k}.codes")], bytes..=bytes)).collect()
    }
}

fn add(out: &mut [f32], step: f32, codes: &[i8]) {
    for (w, code) in out.iter_mut().zip(codes) {
        *w += step * f32::from(*code);
    }
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Layers::default())]
}
register_codec!("test.layers", "two layers of 8-bit codes", presets);
