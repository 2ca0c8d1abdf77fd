//! Multiplying with the codes: one row at a time is decoded into a buffer that stays in the cache.

use codec_api::{LinearKernel, LinearOp, PayloadView, Result, TensorSpec, check_batch};

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
        check_batch((rows, columns), x, y)?;
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
        simd::dot_tolerance(self.0.layout.columns)
    }

    fn resident_bytes(&self) -> u64 {
        self.0.resident_bytes() as u64
    }
}
