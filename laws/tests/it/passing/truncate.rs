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
//! None in advance: the largest error follows from the weights.
//!
//! # Cost
//! Two bytes per weight.
//!
//! # Limits
//! Floats only.

use std::ops::Range;

use codec_api::{
    Bytes, Codec, CostEstimate, DecodeCx, Dtype, EncodeCx, FormatVersion, Inputs, LinearKernel, LinearOp, Payload,
    PayloadView, Preset, Product, Result, RowReader, Rows, Section, TensorSpec, TensorView, check_product, check_rows,
    register_codec, typetag,
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
        cx.progress.tick(values.len() as u64);
        Payload::new().with("halves", Section::from_values(Dtype::U16, [halves.len()], halves)?)
    }

    fn decode(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        spec.check_output(out.len())?;
        self.open(spec, payload, cx)?.read(0..spec.matrix().0, out)
    }

    fn as_rows(&self) -> Option<&dyn Rows> {
        Some(self)
    }

    fn as_linear(&self) -> Option<&dyn LinearKernel> {
        Some(self)
    }
}

impl Rows for Truncate {
    fn open(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(Matrix::new(spec, &payload)?))
    }
}

impl LinearKernel for Truncate {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, _: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        Ok(Box::new(Matrix::new(spec, &payload)?))
    }
}

#[derive(Debug)]
struct Matrix {
    shape: (usize, usize),
    halves: Bytes,
}

impl Matrix {
    fn new(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let halves = payload.bytes("halves", Dtype::U16, &[spec.elements()])?.clone();
        Ok(Self { shape: spec.matrix(), halves })
    }

    /// The weights of some rows.
    fn weights(&self, rows: Range<usize>) -> impl Iterator<Item = f32> {
        let columns = self.shape.1;
        let halves = &self.halves[2 * rows.start * columns..2 * rows.end * columns];
        halves.as_chunks().0.iter().map(|half| widened(u16::from_le_bytes(*half)))
    }
}

impl RowReader for Matrix {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_rows(self.shape, &rows, out)?;
        out.iter_mut().zip(self.weights(rows)).for_each(|(out, w)| *out = w);
        Ok(())
    }

    fn resident_bytes(&self) -> u64 {
        self.halves.len() as u64
    }
}

impl LinearOp for Matrix {
    fn shape(&self) -> (usize, usize) {
        self.shape
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product(self.shape, product, &rows, x, y)?;
        let batch = x.batch();
        for (i, row) in rows.enumerate() {
            for b in 0..batch {
                let (x, weights) = (x.vector(b), self.weights(row..row + 1));
                match product {
                    Product::Forward => y[i * batch + b] = weights.zip(x).map(|(w, x)| w * x).sum(),
                    Product::Transposed => {
                        y[b..].iter_mut().step_by(batch).zip(weights).for_each(|(y, w)| *y += w * x[row]);
                    }
                }
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        // A value is rounded as a product and in one sum over all of a row or a column.
        self.shape.0.max(self.shape.1) as f32 * f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        self.halves.len() as u64
    }
}

fn widened(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

fn presets() -> Vec<Preset> {
    vec![Preset::new("default", Truncate::default())]
}
register_codec!("test.truncate", "upper half of each f32", presets);
