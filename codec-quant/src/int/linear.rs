//! Multiplying with the codes: one row at a time is decoded into a buffer that stays in the cache.

use codec_api::{CodecError, LinearKernel, LinearOp, PayloadView, Result, TensorSpec};

use super::IntQuant;
use super::decode::Prepared;

#[derive(Debug)]
struct IntLinear(Prepared);

impl LinearKernel for IntQuant {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        Ok(Box::new(IntLinear(Prepared::read(self, spec, &payload)?)))
    }
}

impl LinearOp for IntLinear {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        let (rows, columns) = (self.0.layout.rows, self.0.layout.columns);
        let batch = y.len().checked_div(rows).unwrap_or(0);
        if x.len() != batch * columns || y.len() != batch * rows {
            let reason = format!("{} inputs and {} outputs for a matrix of {rows} x {columns}", x.len(), y.len());
            return Err(CodecError::Limit(reason));
        }
        let mut weights = vec![0.0; columns];
        for row in 0..rows {
            self.0.decode_rows(row..row + 1, &mut weights);
            for (x, y) in x.chunks(columns).zip(y.chunks_mut(rows)) {
                y[row] = simd::dot(&weights, x);
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        // Every product and every partial sum on a value's way rounds once: columns/16 additions in its lane, 4 in the tree.
        (self.0.layout.columns.div_ceil(simd::LANES) + 6) as f32 * f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        self.0.resident_bytes() as u64
    }
}
