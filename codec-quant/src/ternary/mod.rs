//! Ternary quantisation, `quant.ternary`: every weight is −α, 0 or +α.
//!
//! # Source
//! BitNet b1.58: Ma et al., arXiv 2402.17764, section 2 (`absmean`: α = mean |w|). `least_squares`
//! starts from the same α and alternates between assigning weights to the nearest level and α =
//! mean |w| of the non-zero ones, until α no longer changes: ternary weight networks, Li et al.,
//! arXiv 1605.04711, section 2.2.
//!
//! # Sections
//! With `R × C` the matrix view and `B = ⌈C/5⌉` bytes in a row:
//! - `codes` U8 `[R, B]`: byte `j` of a row is `Σᵢ 3ⁱ·dᵢ` over the digits `dᵢ` (0, 1, 2 for −α, 0,
//!   +α) of the weights in columns `i·B + j`, `i` = 0 … 4. Digits beyond the row are 1;
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
//! F32, F16 and BF16. With one scale for the tensor it cannot be cut into chunks.

mod fit;
mod linear;
mod planes;
pub mod ternary2;

use codec_api::{
    Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Payload, PayloadView, Preset, Result,
    Section, TensorSpec, TensorView, register_codec, typetag,
};
pub use fit::Fit;
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, load, store};
pub use ternary2::Ternary2;

use crate::Scope;
use crate::error::{MaxError, certify};

/// Configuration of `quant.ternary`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Ternary {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Which weights share a scale.
    pub scope: Scope,
    /// How the scale is chosen.
    pub fit: Fit,
}

impl Ternary {
    /// A ternary quantiser.
    pub fn new(scope: Scope, fit: Fit) -> Self {
        Self { version: FormatVersion, scope, fit }
    }
}

/// Weights per byte.
const DIGITS: usize = 5;

#[typetag::serde(name = "quant.ternary")]
impl Codec for Ternary {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        self.scope.chunking()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (rows, columns) = spec.matrix();
        let (n, scales) = (spec.elements() as f64, self.scope.scales(rows));
        CostEstimate::fixed((rows * columns.div_ceil(DIGITS) + 4 * scales) as u64)
            .ops((10.0 + self.fit.ops()) * n, 4.0 * n)
            .scratch(4 * scales as u64 + crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_f32()?;
        let (rows, columns) = tensor.spec().matrix();
        let scales = self.fit.scales(self.scope, tensor.spec(), &values, cx)?;
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
        let scales = payload.values("scale", Dtype::F32, &[self.scope.scales(rows)])?;
        cx.cancel.check()?;
        dequantise(packed, columns, &scales, out);
        Ok(())
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

/// Adds one digit to each byte; ties go to zero. Passing the largest error by value keeps it in
/// registers.
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

register_codec!("quant.ternary", "-1, 0, +1, five weights a byte", presets,
    .probes(|| vec!["quant.ternary:scope=row:fit=absmean".to_owned()]));
