//! Ternary quantisation in the order of vector lanes, `quant.ternary2`: −α, 0 and +α as in
//! `quant.ternary`, in two bits that a matrix–vector product unpacks with a shift and a mask.
//!
//! It is a codec of its own, not a packing option of `quant.ternary`, because a new key would break
//! the headers of version 1, which must state every key.
//!
//! # Source
//! The weights are those of `quant.ternary` with the same `scope` and `fit` ([its
//! documentation](super) has the sources). `TQ2_0` of ggml also has planes of two bits over
//! neighbouring weights, there of 32 weights.
//!
//! # Sections
//! With `R × C` the matrix view and `G = ⌈C/64⌉` groups in a row:
//! - `codes` U8 `[R, G, 16]`: byte `j` of group `g` holds the weights of columns `64·g + 16·i + j`,
//!   `i` = 0 … 3, in its bits `2i` and `2i + 1`: 0, 1, 2 for −α, 0, +α. Weights beyond the row are
//!   1;
//! - `scale` F32 `[1]`, or `[R]` by row: α.
//!
//! # Header
//! ```
//! let header = r#"{"codec":"quant.ternary2","version":1,"scope":"tensor","fit":"least_squares"}"#;
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
//! `16·R·⌈C/64⌉ + 4` bytes, 2 bits per weight; `16·R·⌈C/64⌉ + 4·R` by row.
//!
//! # Limits
//! F32, F16 and BF16. With one scale for the tensor it cannot be cut into chunks. A payload with a
//! code 3 or a scale that is not finite is refused.

use codec_api::{
    Chunking, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, LinearKernel, Payload, PayloadView,
    Preset, Result, Section, TensorSpec, TensorView, register_codec, typetag,
};
use serde::{Deserialize, Serialize};
use simd::{LANES, kernel, lanes, load, store, stream};

use super::Fit;
use super::planes::{GROUP, PLANES, Prepared, row_len};
use crate::Scope;
use crate::error::{MaxError, certify};

/// Groups decoded per step.
const AT_ONCE: usize = 8;

/// Configuration of `quant.ternary2`; see the [module's documentation](self) for the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Ternary2 {
    /// Format version.
    pub version: FormatVersion<1>,
    /// Which weights share a scale.
    pub scope: Scope,
    /// How the scale is chosen.
    pub fit: Fit,
}

impl Ternary2 {
    /// A ternary quantiser.
    pub fn new(scope: Scope, fit: Fit) -> Self {
        Self { version: FormatVersion, scope, fit }
    }
}

#[typetag::serde(name = "quant.ternary2")]
impl Codec for Ternary2 {
    fn accepts(&self, spec: &TensorSpec) -> Result<()> {
        spec.require_float()
    }

    fn chunking(&self, _: &TensorSpec) -> Chunking {
        self.scope.chunking()
    }

    fn cost(&self, spec: &TensorSpec) -> CostEstimate {
        let (rows, columns) = spec.matrix();
        let (n, scales) = (spec.elements() as f64, self.scope.scales(rows));
        CostEstimate::fixed((rows * row_len(columns) + 4 * scales) as u64)
            .ops((10.0 + self.fit.ops()) * n, 2.0 * n)
            .scratch(4 * scales as u64 + crate::widened_bytes(spec))
    }

    fn encode(&self, tensor: TensorView<'_>, cx: &EncodeCx<'_>) -> Result<Payload> {
        let values = tensor.to_f32()?;
        let (rows, columns) = tensor.spec().matrix();
        let scales = self.fit.scales(self.scope, tensor.spec(), &values, cx)?;
        let mut packed = vec![0; rows * row_len(columns)];
        let largest = quantise(&values, columns, &scales, &mut packed);
        cx.progress.tick(values.len() as u64);
        Ok(Payload::new(certify(largest))
            .with("codes", Section::new(Dtype::U8, [rows, columns.div_ceil(GROUP), LANES], packed)?)
            .with("scale", Section::from_values(Dtype::F32, [scales.len()], scales)?))
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        let prepared = Prepared::read(self.scope, spec, &payload)?;
        cx.cancel.check()?;
        dequantise(&prepared, out);
        Ok(())
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

kernel! {
    /// Codes all rows; returns the largest error. Ties go to zero.
    fn quantise<'a>(_simd, values: &'a [f32], columns: usize, scales: &'a [f32], packed: &'a mut [u8]) -> f32 {
        let mut largest = MaxError::new();
        let rows = values.chunks(columns.max(1)).zip(packed.chunks_mut(row_len(columns).max(1)));
        for (row, (values, packed)) in rows.enumerate() {
            let scale = scales[row.min(scales.len() - 1)];
            let half = scale * 0.5;
            for (group, packed) in values.chunks(GROUP).zip(packed.as_chunks_mut::<LANES>().0) {
                for plane in 0..PLANES {
                    let x = load(group.get(plane * LANES..).unwrap_or_default());
                    let signs: [i32; LANES] = lanes!(i => i32::from(x[i] > half) - i32::from(x[i] < -half));
                    largest.add(&x, &lanes!(i => signs[i] as f32 * scale));
                    *packed = lanes!(i => packed[i] | ((signs[i] + 1) as u8) << (2 * plane));
                }
            }
        }
        largest.get()
    }
}

kernel! {
    fn dequantise<'a>(simd, prepared: &'a Prepared, out: &'a mut [f32]) {
        let columns = prepared.columns;
        stream(out, |writer| {
            for row in 0..prepared.rows {
                let scale = prepared.scale(row);
                // The look-up uses the low 4 bits; the table repeats, so bits 2–3 do not matter.
                let levels: [f32; LANES] = lanes!(i => ((i % 4) as f32 - 1.0) * scale);
                for (i, bytes) in prepared.codes(row).chunks(AT_ONCE * LANES).enumerate() {
                    let out = writer.next((AT_ONCE * GROUP).min(columns - i * AT_ONCE * GROUP));
                    let (groups, rest) = out.as_chunks_mut::<GROUP>();
                    let (full, last) = bytes.as_chunks::<LANES>().0.split_at(groups.len());
                    for (out, bytes) in groups.iter_mut().zip(full) {
                        for (plane, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                            *out = simd.lookup16(&levels, &lanes!(i => bytes[i] >> (2 * plane)));
                        }
                    }
                    for (bytes, out) in last.iter().zip(rest.chunks_mut(GROUP)) {
                        for (plane, out) in out.chunks_mut(LANES).enumerate() {
                            store(simd.lookup16(&levels, &lanes!(i => bytes[i] >> (2 * plane))), out);
                        }
                    }
                }
            }
        });
    }
}

fn presets() -> Vec<Preset> {
    vec![
        Preset::new("least-squares", Ternary2::new(Scope::Tensor, Fit::LeastSquares)),
        Preset::new("absmean", Ternary2::new(Scope::Tensor, Fit::Absmean)),
        Preset::new("row", Ternary2::new(Scope::Row, Fit::LeastSquares)),
    ]
}

register_codec!("quant.ternary2", "-1, 0, +1 in two bits, multiplied without decoding", presets,
    .probes(|| vec!["quant.ternary2:scope=row:fit=absmean".to_owned()]));
