//! Eight-bit floats, `quant.fp8`: E4M3 or E5M2 with a scale for the tensor or for each row.
//!
//! # Source
//! Micikevicius et al., arXiv 2209.05433; OCP 8-bit Floating Point Specification (OFP8), version
//! 1.0. E4M3 is the variant without infinities ("fn").
//!
//! # Sections
//! With `R` the rows of the matrix view:
//! - `values` `F8_E4M3` or `F8_E5M2`, of the tensor's own shape;
//! - `scale` F32 `[1]`, or `[R]` by row. A weight is its value times its scale.
//!
//! Quotients of weight and scale are rounded to nearest, ties to even. The scale is `max|w|`
//! divided by the largest number (448 or 57 344). By row the encoder also tries 9/8, 10/8 … 15/8 of
//! that scale and keeps the one with the least squared error. (A scale twice as large repeats the
//! same errors one exponent lower. A few weights cause most of the error of a row, so their
//! positions within an exponent matter; a whole matrix contains all positions, whatever the scale.)
//! Calibration weights the squared errors by the mean squares of the inputs, and then the scale of
//! a tensor is also chosen among these eight. By row, only calibration by column has an effect: in
//! calibration by row the errors of a row weigh the same.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.fp8","version":1,"format":"e4m3","scope":"row"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `format` is `e4m3` or `e5m2`; `scope` is `tensor` or `row`.
//!
//! # Bound
//! At most 2⁻⁴ (E4M3) or 2⁻³ (E5M2) of a weight and, near zero, 2⁻¹⁰ or 2⁻¹⁷ times the scale.
//!
//! # Cost
//! `n + 4` bytes, 8 bits per weight; `n + 4·R` by row.
//!
//! # Limits
//! F32, F16 and BF16. Weights of at most 4.1e-6 (E4M3) or 2.5e-10 (E5M2) of the largest weight
//! that shares their scale may become zeros. A payload is refused if a value is NaN or infinite, or
//! if 448 (57 344) times a scale overflows f32.

mod decode;
mod panels;
mod scale;

use codec_api::util::Importance;
use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, InputAxis, Need, Needs, Panels, Payload,
    PayloadView, Preset, Result, Rows, Section, Surveyed, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, load, max_abs, store};

use self::scale::scale_of_row;
use crate::Scope;
use crate::blocks::{PART, by_parts};
use crate::minifloat::{E4m3, E5m2, Minifloat};

/// An eight-bit float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Four exponent bits, three mantissa bits; up to 448, no infinities.
    #[default]
    E4m3,
    /// Five exponent bits, two mantissa bits; up to 57 344.
    E5m2,
}

impl Format {
    fn dtype(self) -> Dtype {
        match self {
            Self::E4m3 => Dtype::F8_E4M3,
            Self::E5m2 => Dtype::F8_E5M2,
        }
    }

    /// The largest number.
    fn most(self) -> f32 {
        match self {
            Self::E4m3 => E4m3::MOST,
            Self::E5m2 => E5m2::MOST,
        }
    }

    /// Code of the largest number.
    fn largest(self) -> u8 {
        match self {
            Self::E4m3 => E4m3::LARGEST,
            Self::E5m2 => E5m2::LARGEST,
        }
    }
}

/// Configuration of `quant.fp8`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Fp8 {
    /// Format version.
    pub version: FormatVersion<1>,
    /// The format of a value.
    pub format: Format,
    /// Which weights share a scale.
    pub scope: Scope,
}

impl Fp8 {
    /// Eight-bit floats of this format.
    pub fn new(format: Format, scope: Scope) -> Self {
        Self { version: FormatVersion, format, scope }
    }
}

/// Weights decoded per step.
const PIECE: usize = 512;
/// Candidate scales: 1 to 15/8 times the smallest one, in steps of 1/8.
const CANDIDATES: usize = 8;

#[typetag::serde(name = "quant.fp8")]
impl Codec for Fp8 {
    fn needs(&self) -> Needs {
        Needs::default().calibration(Need::Uses)
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (n, rows) = (spec.elements(), spec.matrix().0);
        let (search, errors) = match self.scope {
            Scope::Tensor => (0.0, size_of::<[f64; CANDIDATES]>() * rows),
            Scope::Row => (12.0 * CANDIDATES as f64, 0),
        };
        CostEstimate::fixed((n + 4 * self.scope.scales(rows)) as u64)
            .ops((15.0 + search) * n as f64, 3.0 * n as f64)
            .scratch(crate::importance_bytes(spec) + crate::widened_bytes(spec) + errors as u64)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let (spec, values) = (tensor.spec(), tensor.to_f32()?);
        let importance = self.row_importance(spec, cx)?;
        let (mut scales, size) = match self.scope {
            Scope::Tensor => (vec![self.scale_of_tensor(&TensorView::from_f32(spec.shape(), &values)?, cx)?], PART),
            Scope::Row => (Vec::with_capacity(spec.matrix().0), spec.matrix().1.max(1)),
        };
        let mut codes = vec![0; values.len()];
        by_parts(&values, size, cx, |part| {
            let magnitude = max_abs(part.values);
            if self.scope == Scope::Row {
                scales.push(scale_of_row(
                    self.format,
                    part.values,
                    magnitude,
                    importance.as_ref().map(Importance::inputs),
                ));
            }
            let scale = scales.last().copied().unwrap_or(0.0);
            quantise(self.format, part.values, scale, part.of(&mut codes, 1));
            magnitude
        })?;
        self.payload(spec, codes, scales)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        crate::decode_rows(self, spec, payload, cx, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_panels(&self) -> Option<&dyn Panels> {
        Some(self)
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        if self.scope == Scope::Tensor { Some(self) } else { None }
    }
}

impl Fp8 {
    /// The importances that the scale of a row depends on.
    fn row_importance(&self, spec: &TensorSpec, cx: &EncodeCx<'_>) -> Result<Option<Importance>> {
        if self.scope == Scope::Tensor {
            return Ok(None);
        }
        Ok(Importance::new(spec, cx)?.filter(|importance| importance.axis() == InputAxis::Columns))
    }

    fn payload(&self, spec: &TensorSpec, codes: Vec<u8>, scales: Vec<f32>) -> Result<Payload> {
        Payload::new()
            .with("values", Section::new(self.format.dtype(), spec.shape(), codes)?)?
            .with("scale", Section::from_values(Dtype::F32, [scales.len()], scales)?)
    }
}

kernel! {
    /// Codes weights that share a scale.
    fn quantise<'a>(_simd, format: Format, values: &'a [f32], scale: f32, codes: &'a mut [u8]) {
        match format {
            Format::E4m3 => quantise_to::<E4m3>(values, scale, codes),
            Format::E5m2 => quantise_to::<E5m2>(values, scale, codes),
        }
    }
}

#[inline(always)]
fn quantise_to<F: Minifloat>(values: &[f32], scale: f32, codes: &mut [u8]) {
    let divisor = divisor(scale);
    for (x, codes) in values.chunks(LANES).zip(codes.chunks_mut(LANES)) {
        let x = load(x);
        store(F::round(&lanes!(i => x[i] / divisor)), codes);
    }
}

/// What weights are divided by. With a scale of 0 all weights are zeros: avoid dividing by it.
#[inline(always)]
fn divisor(scale: f32) -> f32 {
    if scale == 0.0 { 1.0 } else { scale }
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("e4m3-row", Fp8::new(Format::E4m3, Scope::Row)),
        Preset::new("e4m3", Fp8::new(Format::E4m3, Scope::Tensor)),
        Preset::new("e5m2-row", Fp8::new(Format::E5m2, Scope::Row)),
    ]
}

register_codec!("quant.fp8", "E4M3 or E5M2 with a scale by tensor or row", presets,
    .probes(|| vec!["quant.fp8:format=e5m2:scope=tensor".to_owned()]));
