//! Ternary quantisation, `quant.ternary`: every weight is −α, 0 or +α.
//!
//! # Source
//! BitNet b1.58: Ma et al., arXiv 2402.17764, section 2 (`absmean`: α = mean |w|). `least_squares` alternates between
//! assigning weights to the nearest level and α = mean |w| of the non-zero ones, from the same start, until α stays:
//! ternary weight networks, Li et al., arXiv 1605.04711, section 2.2.
//!
//! # Sections
//! With `R × C` the matrix view and `B = ⌈C/5⌉` bytes in a row:
//! - `codes` U8 `[R, B]`: byte `j` of a row is `Σᵢ 3ⁱ·dᵢ` over the digits `dᵢ` (0, 1, 2 for −α, 0, +α) of the weights in columns
//!   `i·B + j`, `i` = 0 … 4. Digits beyond the row are 1;
//! - `scale` F32 `[1]`, or `[R]` by row: α.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.ternary","version":1,"scope":"tensor","fit":"least_squares"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `scope` is `tensor` or `row`; `fit` is `least_squares` or `absmean`.
//!
//! # Bound
//! `MaxAbs`, measured.
//!
//! # Cost
//! `R·⌈C/5⌉ + 4` bytes, 1.6 bits per weight; `R·⌈C/5⌉ + 4·R` by row.
//!
//! # Limits
//! F32, F16 and BF16. By tensor it cannot be cut into chunks.

use std::num::NonZeroUsize;

use codec_api::{
    Chunking, Codec, CodecError, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset,
    Result, Section, TensorSpec, TensorView, first_non_finite, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, load, store, sum};

use crate::error::{MaxError, certify};

/// What shares a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All weights of the tensor.
    #[default]
    Tensor,
    /// A row of the matrix view.
    Row,
}

/// How the scale is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// For the least squared error.
    #[default]
    LeastSquares,
    /// The mean magnitude, as `BitNet` b1.58 does.
    Absmean,
}

/// Configuration of `quant.ternary`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Ternary {
    /// Format version.
    pub version: FormatVersion<1>,
    /// What shares a scale.
    pub scope: Scope,
    /// How the scale is chosen.
    pub fit: Fit,
}

impl Ternary {
    /// A ternary quantiser.
    pub fn new(scope: Scope, fit: Fit) -> Self {
        Self { version: FormatVersion, scope, fit }
    }

    fn scales(&self, rows: usize) -> usize {
        if self.scope == Scope::Row { rows } else { 1 }
    }

    /// The scale of weights whose sum is beyond f32; or which of them is not finite, counted from `offset`.
    fn fit_large(&self, weights: &[f32], offset: usize) -> Result<f32> {
        match first_non_finite(weights) {
            Some(index) => Err(CodecError::NonFinite { index: offset + index }),
            None => Ok(self.fit(weights, 1.0 / (1u64 << 40) as f32)),
        }
    }

    /// The scale; not finite if a weight is not, or if a sum of weights times `down` is beyond f32.
    fn fit(&self, weights: &[f32], down: f32) -> f32 {
        let mut scale = mean_magnitude(weights, -1.0, down);
        if self.fit == Fit::LeastSquares && scale.is_finite() {
            for _ in 0..MAX_ROUNDS {
                let next = mean_magnitude(weights, scale * 0.5, down);
                if next == scale {
                    break;
                }
                scale = next;
            }
        }
        scale
    }
}

/// Weights in a byte.
const DIGITS: usize = 5;
/// Rounds of fitting the scale; Gaussian weights take about ten.
const MAX_ROUNDS: usize = 30;

#[typetag::serde(name = "quant.ternary")]
impl Codec for Ternary {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        if self.scope == Scope::Tensor { Chunking::Whole } else { Chunking::Rows(NonZeroUsize::MIN) }
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (rows, columns) = spec.matrix();
        let n = spec.elements() as f64;
        let passes = if self.fit == Fit::LeastSquares { 10.0 } else { 1.0 };
        CostEstimate::fixed((rows * columns.div_ceil(DIGITS) + 4 * self.scales(rows)) as u64)
            .ops((10.0 + 4.0 * passes) * n, 4.0 * n)
            .scratch(4 * self.scales(rows) as u64 + crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_f32()?;
        let (rows, columns) = tensor.spec().matrix();
        let scope = if self.scope == Scope::Row { columns } else { values.len() };
        let mut scales = Vec::with_capacity(self.scales(rows));
        for (i, weights) in values.chunks(scope.max(1)).enumerate() {
            cx.cancel.check()?;
            let scale = self.fit(weights, 1.0);
            scales.push(if scale.is_finite() { scale } else { self.fit_large(weights, i * scope)? });
        }
        scales.resize(self.scales(rows), 0.0);
        let row_len = columns.div_ceil(DIGITS);
        let mut packed = vec![0; rows * row_len];
        let largest = quantise(&values, columns, &scales, &mut packed);
        cx.progress.tick(values.len() as u64);
        Ok(Payload::new(certify(largest))
            .with("codes", Section::new(Dtype::U8, [rows, row_len], packed)?)
            .with("scale", Section::from_values(Dtype::F32, [scales.len()], scales)?))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let (rows, columns) = spec.matrix();
        let packed = payload.bytes("codes", Dtype::U8, &[rows, columns.div_ceil(DIGITS)])?;
        let scales = payload.values("scale", Dtype::F32, &[self.scales(rows)])?;
        cx.cancel.check()?;
        dequantise(packed, columns, &scales, out);
        Ok(())
    }
}

kernel! {
    /// Mean magnitude of the weights whose magnitude is above `threshold`; 0 if there are none. `down` is a power of two that
    /// keeps the sums below the end of f32.
    fn mean_magnitude<'a>(_simd, weights: &'a [f32], threshold: f32, down: f32) -> f32 {
        /// Weights whose sum is kept in f32; all together are summed in f64.
        const PART: usize = 4096;
        let (mut total, mut total_count) = (0.0, 0.0);
        for part in weights.chunks(PART) {
            let (mut sums, mut counts) = ([0.0f32; LANES], [0.0f32; LANES]);
            for x in part.chunks(LANES) {
                let x = load(x);
                // NaN is not below the threshold: it shows in the result.
                let magnitudes: [f32; LANES] = lanes!(i => if x[i].abs() <= threshold { 0.0 } else { x[i].abs() });
                sums = lanes!(i => sums[i] + magnitudes[i] * down);
                counts = lanes!(i => counts[i] + if x[i].abs() <= threshold { 0.0 } else { 1.0 });
            }
            total += f64::from(sum(sums));
            total_count += f64::from(sum(counts));
        }
        // What fills the last block up is zero, and counts only below a negative threshold.
        let total_count = if threshold < 0.0 { weights.len() as f64 } else { total_count };
        if total_count == 0.0 { 0.0 } else { (total / f64::from(down) / total_count) as f32 }
    }
}

kernel! {
    /// Codes all rows; returns the largest error.
    fn quantise<'a>(_simd, values: &'a [f32], columns: usize, scales: &'a [f32], packed: &'a mut [u8]) -> f32 {
        let row_len = columns.div_ceil(DIGITS).max(1);
        let mut largest = MaxError::new();
        for (row, (values, packed)) in values.chunks(columns.max(1)).zip(packed.chunks_mut(row_len)).enumerate() {
            let scale = scales[row.min(scales.len() - 1)];
            let mut power = 1;
            for digit in 0..DIGITS {
                let plane = values.get(digit * row_len..).unwrap_or_default();
                let plane = &plane[..plane.len().min(row_len)];
                largest = quantise_plane(plane, scale, power, &mut packed[..plane.len()], largest);
                for byte in &mut packed[plane.len()..] {
                    *byte += power;
                }
                power = power.wrapping_mul(3);
            }
        }
        largest.get()
    }
}

/// Adds one digit to each byte; ties go to zero. The largest error goes in and out by value: it stays in a register.
#[inline(always)]
fn quantise_plane(plane: &[f32], scale: f32, power: u8, bytes: &mut [u8], mut largest: MaxError) -> MaxError {
    for (x, bytes) in plane.chunks(LANES).zip(bytes.chunks_mut(LANES)) {
        let x = load(x);
        let half = scale * 0.5;
        let signs: [i32; LANES] = lanes!(i => i32::from(x[i] > half) - i32::from(x[i] < -half));
        largest.add(&x, &lanes!(i => signs[i] as f32 * scale));
        let sums: [u8; LANES] = load(bytes);
        let sums = lanes!(i => sums[i].wrapping_add((signs[i] + 1) as u8 * power));
        store(sums, bytes);
    }
    largest
}

kernel! {
    fn dequantise<'a>(_simd, packed: &'a [u8], columns: usize, scales: &'a [f32], out: &'a mut [f32]) {
        let row_len = columns.div_ceil(DIGITS).max(1);
        for (row, (packed, out)) in packed.chunks(row_len).zip(out.chunks_mut(columns.max(1))).enumerate() {
            let scale = scales[row.min(scales.len() - 1)];
            let mut planes = out.chunks_mut(row_len);
            let mut next = || planes.next().unwrap_or_default();
            dequantise_plane::<1>(packed, scale, next());
            dequantise_plane::<3>(packed, scale, next());
            dequantise_plane::<9>(packed, scale, next());
            dequantise_plane::<27>(packed, scale, next());
            dequantise_plane::<81>(packed, scale, next());
        }
    }
}

#[inline(always)]
fn dequantise_plane<const POWER: u8>(bytes: &[u8], scale: f32, plane: &mut [f32]) {
    for (w, byte) in plane.iter_mut().zip(bytes) {
        *w = (f32::from(byte / POWER % 3) - 1.0) * scale;
    }
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("least-squares", Ternary::new(Scope::Tensor, Fit::LeastSquares)),
        Preset::new("absmean", Ternary::new(Scope::Tensor, Fit::Absmean)),
        Preset::new("row", Ternary::new(Scope::Row, Fit::LeastSquares)),
    ]
}

register_codec!("quant.ternary", "-1, 0, +1, five weights a byte", presets);
