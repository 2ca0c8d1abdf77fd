//! Ternary quantisation, `quant.ternary`: every weight is −α, 0 or +α.
//!
//! # Source
//! BitNet b1.58: Ma et al., arXiv 2402.17764, section 2 (`absmean`: α = mean |w|). For given
//! non-zero weights the least squared error has α = mean |w| of them (ternary weight networks, Li
//! et al., arXiv 1605.04711, section 2.2), and the best threshold has the largest `(Σ|w|)²/n` of
//! the `n` weights above it. `least_squares` finds this threshold in a histogram, and then
//! alternates between assigning weights to the nearest level and α, until α no longer changes.
//! With calibration it also tries means weighted by the importance of the inputs, and keeps the α
//! with the least weighted error. `TQ2_0` of ggml has planes of two bits like those of `lanes`, of
//! 32 weights.
//!
//! # Sections
//! With `R × C` the matrix view:
//! - `codes` U8. Digits 0, 1, 2 stand for −α, 0, +α; those of weights beyond the row are 1.
//!   - With `packing` `trits` `[R, B]`, where `B = ⌈C/5⌉`: byte `j` of a row is `Σᵢ 3ⁱ·dᵢ`, with
//!     `dᵢ` the digit of the weight in column `i·B + j`, `i` = 0 … 4.
//!   - With `lanes` `[R, G, 16]`, where `G = ⌈C/64⌉`: byte `j` of group `g` is `Σᵢ 4ⁱ·dᵢ`, with
//!     `dᵢ` the digit of the weight in column `64·g + 16·i + j`, `i` = 0 … 3. A matrix–vector
//!     product unpacks it with a shift and a mask.
//! - `scale` F32 `[1]`, or `[R]` by row: α.
//!
//! # Header
//! ```
//! let header =
//!     r#"{"codec":"quant.ternary","version":1,"scope":"tensor","fit":"least_squares","packing":"trits"}"#;
//! let codec: Box<dyn codec_api::Codec> = serde_json::from_str(header)?;
//! assert_eq!(serde_json::to_string(&codec)?, header);
//! # use codec_quant as _;
//! # Ok::<(), serde_json::Error>(())
//! ```
//! `scope` is `tensor` or `row`; `fit` is `least_squares` or `absmean`; `packing` is `trits` or
//! `lanes`.
//!
//! # Bound
//! At most `α/2`, or `|w| − α` for a weight beyond `3α/2`.
//!
//! # Cost
//! `R·⌈C/5⌉` bytes of codes, 1.6 bits per weight; with `lanes` `16·R·⌈C/64⌉`, 2 bits if 64 divides
//! `C`. The scale takes 4 bytes, or `4·R` by row.
//!
//! In `lanes` every row ends with whole vectors, because the products read whole vectors. That
//! costs nothing in the layers of most models, where 64 divides `C`. Narrow rows take more:
//!
//! | C | 1 | 31 | 33 | 64 | 72 | 172 |
//! |---|---|---|---|---|---|---|
//! | bits per weight, `lanes` | 128 | 4.13 | 3.88 | 2 | 3.56 | 2.23 |
//! | bits per weight, `trits` | 8 | 1.81 | 1.70 | 1.63 | 1.67 | 1.63 |
//!
//! # Limits
//! F32, F16 and BF16. Chunks share the scale of their tensor: `least_squares` finds it in up to 31
//! passes, or 93 with calibration, `absmean` in one. All columns are one panel, and each is encoded
//! alone. Any range of rows decodes alone. Both layouts multiply without decoding. `absmean`
//! ignores calibration, and scales by row ignore it if the rows are inputs. A payload is refused if
//! a byte of `trits` is above 242, a code of `lanes` is 3, or a scale is not finite.

mod fit;
mod histogram;
mod linear;
mod matrix;
mod packing;
mod panels;
mod trits;

use codec_api::{
    Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, Needs, Panels, Payload, PayloadView,
    Preset, Result, RowReader, Rows, Section, Surveyed, TensorSpec, TensorView, register_codec, typetag,
};
pub use fit::Fit;
use matrix::Matrix;
pub use packing::Packing;
use serde::{Deserialize, Serialize};

use crate::Scope;

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
    /// How codes lie in bytes.
    pub packing: Packing,
}

impl Ternary {
    /// A ternary quantiser.
    pub fn new(scope: Scope, fit: Fit, packing: Packing) -> Self {
        Self { version: FormatVersion, scope, fit, packing }
    }

    /// Codes weights by the scales `coding`.
    fn payload(&self, spec: &TensorSpec, values: &[f32], coding: &[f32], scales: Vec<f32>) -> Result<Payload> {
        let (rows, columns) = spec.matrix();
        let mut codes = vec![0; rows * self.packing.row_len(columns)];
        packing::encode(self.packing, values, columns, coding, &mut codes);
        Payload::new()
            .with("codes", Section::new(Dtype::U8, self.packing.shape((rows, columns)), codes)?)?
            .with("scale", Section::from_values(Dtype::F32, [scales.len()], scales)?)
    }
}

#[typetag::serde(name = "quant.ternary")]
impl Codec for Ternary {
    fn needs(&self) -> Needs {
        Needs::default().calibration(self.fit.calibration())
    }

    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (rows, columns) = spec.matrix();
        let (n, codes) = (spec.elements() as f64, rows * self.packing.row_len(columns));
        // For each row, an encode keeps the two sums of a pass, and a decode less.
        CostEstimate::fixed((codes + 4 * self.scope.scales(rows)) as u64)
            .ops((10.0 + self.fit.ops()) * n, 3.0 * n)
            .scratch(crate::importance_bytes(spec) + crate::widened_bytes(spec) + 16 * rows as u64 + histogram::BYTES)
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let (spec, values) = (tensor.spec(), tensor.to_f32()?);
        let scales = self.scales(spec, &values, cx)?;
        cx.progress.tick(values.len() as u64);
        self.payload(spec, &values, &scales, scales.clone())
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        crate::decode_rows(self, spec, payload, cx, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_surveyed(&self) -> Option<&dyn Surveyed> {
        if self.scope == Scope::Tensor { Some(self) } else { None }
    }

    fn as_panels(&self) -> Option<&dyn Panels> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

impl Rows for Ternary {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(Matrix::open(self, spec, &payload)?))
    }
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("least-squares", Ternary::default()),
        Preset::new("absmean", Ternary::new(Scope::Tensor, Fit::Absmean, Packing::Trits)),
        Preset::new("row", Ternary::new(Scope::Row, Fit::LeastSquares, Packing::Trits)),
        Preset::new("lanes", Ternary::new(Scope::Tensor, Fit::LeastSquares, Packing::Lanes)),
        Preset::new("lanes-absmean", Ternary::new(Scope::Tensor, Fit::Absmean, Packing::Lanes)),
        Preset::new("lanes-row", Ternary::new(Scope::Row, Fit::LeastSquares, Packing::Lanes)),
    ]
}

register_codec!("quant.ternary", "-1, 0, +1: five weights a byte, or two bits each", presets,
    .probes(|| ["trits", "lanes"].map(|p| format!("quant.ternary:scope=row:fit=absmean:packing={p}")).to_vec()));
