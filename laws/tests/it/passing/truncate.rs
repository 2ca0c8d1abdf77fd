//! The upper half of each f32, truncated without rounding.
//!
//! # Source
//! None: the simplest codec with a linear operator.
//!
//! # Sections
//! `halves` U16 `[elements]`: the upper 16 bits of each weight as f32.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"test.truncate","version":1}"#;
//! ```
//!
//! # Bound
//! The largest error, measured.
//!
//! # Cost
//! Two bytes per weight.
//!
//! # Limits
//! Floats only.

use codec_api::{
    Bound, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, LinearOp, Payload,
    PayloadView, Preset, Result, Section, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Truncate {
    version: FormatVersion<1>,
}

#[typetag::serde(name = "test.truncate")]
impl Codec for Truncate {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(2 * spec.elements() as u64).scratch(12 * spec.elements() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let values = tensor.to_finite_f32()?;
        let halves: Vec<u16> = values.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
        let decoded: Vec<f32> = halves.iter().map(|h| widened(*h)).collect();
        cx.progress.tick(values.len() as u64);
        Ok(Payload::new(Bound::measure_max_abs(&values, &decoded))
            .with("halves", Section::from_values(Dtype::U16, [halves.len()], halves)?))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let halves = payload.values("halves", Dtype::U16, &[out.len()])?;
        out.iter_mut().zip(halves).for_each(|(w, h)| *w = widened(h));
        Ok(())
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

impl LinearKernel for Truncate {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        let halves = payload.values("halves", Dtype::U16, &[spec.elements()])?;
        let (outputs, inputs) = spec.matrix();
        Ok(Box::new(Operator { outputs, inputs, halves }))
    }
}

#[derive(Debug)]
struct Operator {
    outputs: usize,
    inputs: usize,
    halves: Vec<u16>,
}

impl LinearOp for Operator {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let batch = x.len() / self.inputs.max(1);
        if x.len() != batch * self.inputs || y.len() != batch * self.outputs {
            let reason = format!(
                "{} inputs and {} outputs for a matrix of {} by {}",
                x.len(),
                y.len(),
                self.outputs,
                self.inputs
            );
            return Err(CodecError::Limit(reason));
        }
        if self.halves.is_empty() {
            y.fill(0.0);
            return Ok(());
        }
        for (x, y) in x.chunks_exact(self.inputs).zip(y.chunks_exact_mut(self.outputs)) {
            for (row, y) in self.halves.chunks_exact(self.inputs).zip(y) {
                *y = row.iter().zip(x).map(|(h, x)| widened(*h) * x).sum();
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        self.inputs as f32 * f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        2 * self.halves.len() as u64
    }
}

fn widened(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Truncate::default())]
}
register_codec!("test.truncate", "upper half of each f32", presets);
