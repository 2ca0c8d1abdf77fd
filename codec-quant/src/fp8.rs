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
//! `MaxAbs`, measured; about 2⁻⁴ (E4M3) or 2⁻³ (E5M2) of the largest weight at most.
//!
//! # Cost
//! `n + 4` bytes, 8 bits per weight; `n + 4·R` by row.
//!
//! # Limits
//! F32, F16 and BF16. With one scale for the tensor it cannot be cut into chunks. Weights of at
//! most 4.1e-6 (E4M3) or 2.5e-10 (E5M2) of the largest weight that shares their scale may become
//! zeros. A payload is refused if a value is NaN or infinite, or if 448 (57 344) times a scale
//! overflows f32.

use codec_api::{
    Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, Simd, kernel, lanes, load, max_abs, store, stream, sum};

use crate::Scope;
use crate::blocks::{PART, by_parts, check_finite};
use crate::error::{MaxError, certify};
use crate::minifloat::{E4m3, E5m2, Minifloat, scale_for};

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
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        self.scope.chunking()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (n, scales) = (spec.elements(), self.scope.scales(spec.matrix().0));
        let search = if self.scope == Scope::Row { 12.0 * CANDIDATES as f64 } else { 0.0 };
        CostEstimate::fixed((n + 4 * scales) as u64)
            .ops((15.0 + search) * n as f64, 3.0 * n as f64)
            .scratch(4 * scales as u64 + crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        cx.cancel.check()?;
        let values = tensor.to_f32()?;
        let (rows, columns) = tensor.spec().matrix();
        let together = self.scope.weights(columns, values.len());
        let mut codes = vec![0; values.len()];
        let mut scales = Vec::with_capacity(self.scope.scales(rows));
        let mut largest = 0.0f32;
        for (i, (values, codes)) in values.chunks(together).zip(codes.chunks_mut(together)).enumerate() {
            let magnitude = max_abs(values);
            check_finite(magnitude, values, i * together)?;
            let mut scale = scale_for(magnitude, self.format.most());
            if self.scope == Scope::Row {
                scale = best_scale(self.format, values, scale);
            }
            let error = by_parts(values, PART, cx, |part| {
                (quantise(self.format, part.values, scale, part.of(codes, 1)), magnitude)
            })?;
            largest = largest.max(error);
            scales.push(scale);
        }
        scales.resize(self.scope.scales(rows), 0.0);
        Ok(Payload::new(certify(largest))
            .with("values", Section::new(self.format.dtype(), tensor.spec().shape(), codes)?)
            .with("scale", Section::from_values(Dtype::F32, [scales.len()], scales)?))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let (rows, columns) = spec.matrix();
        let codes = payload.bytes("values", self.format.dtype(), spec.shape())?;
        let scales: Vec<f32> = payload.values("scale", Dtype::F32, &[self.scope.scales(rows)])?;
        if let Some(scale) = scales.iter().find(|scale| !(*scale * self.format.most()).is_finite()) {
            return Err(payload.corrupt("scale", format!("{scale} makes weights beyond f32")));
        }
        cx.cancel.check()?;
        let largest = dequantise(self.format, codes, &scales, self.scope.weights(columns, out.len()), out);
        if largest > self.format.largest() {
            return Err(payload.corrupt("values", "a value is not finite"));
        }
        Ok(())
    }
}

kernel! {
    /// The candidate from `scale` to 15/8 of it with the least squared error; ties go to the
    /// smallest.
    fn best_scale<'a>(_simd, format: Format, values: &'a [f32], scale: f32) -> f32 {
        match format {
            Format::E4m3 => best_scale_of::<E4m3>(values, scale),
            Format::E5m2 => best_scale_of::<E5m2>(values, scale),
        }
    }
}

#[inline(always)]
fn best_scale_of<F: Minifloat>(values: &[f32], scale: f32) -> f32 {
    if scale == 0.0 {
        return scale;
    }
    let mut errors = [[0.0; LANES]; CANDIDATES];
    for values in values.chunks(PIECE) {
        let mut normal = [0.0; PIECE];
        for (x, normal) in values.chunks(LANES).zip(normal.chunks_mut(LANES)) {
            let x = load(x);
            store(lanes!(i => x[i].abs() / scale), normal);
        }
        for (k, errors) in errors.iter_mut().enumerate() {
            *errors = with_errors::<F>(&normal, factor(k), *errors);
        }
    }
    let (mut best, mut least) = (scale, sum(errors[0]));
    for (k, errors) in errors.into_iter().enumerate() {
        let (scale, error) = (scale * factor(k), sum(errors));
        if error < least && (scale * F::MOST).is_finite() {
            (best, least) = (scale, error);
        }
    }
    best
}

/// Adds the squared errors of magnitudes for a scale. Passing the sums by value keeps them in
/// registers.
#[inline(always)]
fn with_errors<F: Minifloat>(x: &[f32; PIECE], scale: f32, mut sums: [f32; LANES]) -> [f32; LANES] {
    let inverse = 1.0 / scale;
    for x in x.as_chunks::<LANES>().0 {
        let off: [f32; LANES] = lanes!(i => x[i] - F::round_magnitude(x[i] * inverse).0 * scale);
        sums = lanes!(i => sums[i] + off[i] * off[i]);
    }
    sums
}

#[inline(always)]
fn factor(candidate: usize) -> f32 {
    1.0 + candidate as f32 / CANDIDATES as f32
}

kernel! {
    /// Codes weights that share a scale; returns the largest error.
    fn quantise<'a>(simd, format: Format, values: &'a [f32], scale: f32, codes: &'a mut [u8]) -> f32 {
        match format {
            Format::E4m3 => quantise_to::<E4m3>(values, scale, codes),
            Format::E5m2 => quantise_to::<E5m2>(values, scale, codes),
        }
    }
}

#[inline(always)]
fn quantise_to<F: Minifloat>(values: &[f32], scale: f32, codes: &mut [u8]) -> f32 {
    let mut error = MaxError::new();
    // With a scale of 0 all weights are zeros: avoid dividing by it.
    let divisor = if scale == 0.0 { 1.0 } else { scale };
    for (x, codes) in values.chunks(LANES).zip(codes.chunks_mut(LANES)) {
        let x = load(x);
        let rounded = F::round(&lanes!(i => x[i] / divisor));
        error.add(&x, &lanes!(i => rounded.values[i] * scale));
        store(rounded.codes, codes);
    }
    error.get()
}

kernel! {
    /// Decodes all weights; returns the largest code without its sign bit. Each run of `together`
    /// weights shares a scale.
    fn dequantise<'a>(simd, format: Format, codes: &'a [u8], scales: &'a [f32], together: usize, out: &'a mut [f32]) -> u8 {
        match format {
            Format::E4m3 => dequantise_from::<E4m3, _>(simd, codes, scales, together, out),
            Format::E5m2 => dequantise_from::<E5m2, _>(simd, codes, scales, together, out),
        }
    }
}

#[inline(always)]
fn dequantise_from<F: Minifloat, S: Simd>(
    simd: S,
    codes: &[u8],
    scales: &[f32],
    together: usize,
    out: &mut [f32],
) -> u8 {
    let mut largest = [0; LANES];
    stream(out, |writer| {
        for (codes, scale) in codes.chunks(together).zip(scales) {
            for codes in codes.chunks(PIECE) {
                let (blocks, rest) = writer.next(codes.len()).as_chunks_mut::<LANES>();
                let (full, last) = codes.as_chunks::<LANES>();
                for (codes, out) in full.iter().zip(blocks) {
                    let values = F::widen(simd, codes);
                    *out = lanes!(i => values[i] * scale);
                    largest = lanes!(i => largest[i].max(codes[i] & !F::SIGN));
                }
                if !rest.is_empty() {
                    let codes = load(last);
                    let values = F::widen(simd, &codes);
                    store(lanes!(i => values[i] * scale), rest);
                    largest = lanes!(i => largest[i].max(codes[i] & !F::SIGN));
                }
            }
        }
    });
    largest.into_iter().fold(0, u8::max)
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
