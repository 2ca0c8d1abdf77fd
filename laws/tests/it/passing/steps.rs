//! Eight-bit codes in steps of the largest weight, in the second version of its format.
//!
//! # Source
//! None: the simplest codec whose format has changed.
//!
//! # Sections
//! `step` F32 `[1]`: the largest magnitude divided by 127. `codes` U8 `[elements]`: a weight is its
//! code times the step. With `codes=signed` a code is an i8; with `codes=shifted`, as version 1
//! wrote them, 128 is subtracted from it.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"test.steps","version":2,"codes":"signed"}"#;
//! ```
//! Version 1 has no `codes`.
//!
//! # Bound
//! Half a step.
//!
//! # Cost
//! One byte per weight, and 4 bytes.
//!
//! # Limits
//! Floats only.

use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Pass, Payload, PayloadView, Preset, Result, Section,
    Statistics, Surveyed, TensorSpec, TensorView, Upgrade, register_codec, statistics, typetag,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Steps {
    version: FormatVersion<2>,
    codes: Codes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Codes {
    #[default]
    Signed,
    Shifted,
}

impl Codes {
    /// What is added to a code modulo 256.
    fn shift(self) -> u8 {
        if self == Self::Shifted { 128 } else { 0 }
    }
}

#[typetag::serde(name = "test.steps")]
impl Codec for Steps {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        CostEstimate::fixed(spec.elements() as u64 + 4).scratch(8 * spec.elements() as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let values = tensor.to_finite_f32()?;
        let step = statistics(self, &tensor, cx)?.scalars[0] as f32 / 127.0;
        // A step of 0 gives codes of 0: NaN converts to 0.
        let code = |v: &f32| ((v / step).round().clamp(-127.0, 127.0) as i8 as u8).wrapping_add(self.codes.shift());
        let codes: Vec<u8> = values.iter().map(code).collect();
        cx.progress.tick(values.len() as u64);
        Payload::new()
            .with("step", Section::from_values(Dtype::F32, [1], vec![step])?)?
            .with("codes", Section::from_bytes(codes)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let step = payload.values::<f32>("step", Dtype::F32, &[1])?[0];
        let codes = payload.bytes("codes", Dtype::U8, &[out.len()])?;
        for (w, code) in out.iter_mut().zip(codes) {
            *w = f32::from(code.wrapping_sub(self.codes.shift()) as i8) * step;
        }
        Ok(())
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        Some(self)
    }
}

/// The largest magnitude.
impl Surveyed for Steps {
    fn observe(&self, chunk: TensorView<'_>, _: &EncodeCx<'_>) -> Result<Statistics> {
        let largest = chunk.to_finite_f32()?.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        Ok(Statistics::new(vec![largest.into()], Vec::new()))
    }

    fn combine(&self, _: usize, chunks: Vec<Statistics>) -> Result<Pass> {
        let largest = chunks.iter().fold(0.0, |m: f64, chunk| m.max(chunk.scalars[0]));
        Ok(Pass::Last(Statistics::new(vec![largest], Vec::new())))
    }
}

const UPGRADES: &[Upgrade] = &[Upgrade::new(r#"{"codec":"test.steps","version":1}"#, |header| {
    header.insert("codes".to_owned(), "shifted".into());
    Ok(())
})];

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("default", Steps::default()),
        Preset::new("shifted", Steps { codes: Codes::Shifted, ..Steps::default() }),
    ]
}
register_codec!("test.steps", "steps of the largest weight", presets, .upgrades(UPGRADES));
