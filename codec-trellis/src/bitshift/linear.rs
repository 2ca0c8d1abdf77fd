//! Multiplication with the codes: decodes one span at a time into a buffer that stays in the cache.

use codec_api::{LinearKernel, LinearOp, PayloadView, Result, TensorSpec, check_batch};

use super::Bitshift;
use super::decode::Prepared;

#[derive(Debug)]
struct BitshiftLinear {
    prepared: Prepared,
    rows: usize,
    columns: usize,
}

impl LinearKernel for Bitshift {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        let (rows, columns) = spec.matrix();
        Ok(Box::new(BitshiftLinear { prepared: Prepared::read(self, spec, &payload)?, rows, columns }))
    }
}

impl LinearOp for BitshiftLinear {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        check_batch((self.rows, self.columns), x, y)?;
        let layout = &self.prepared.layout;
        let mut weights = vec![0.0; layout.span.min(layout.elements)];
        for span in 0..layout.spans() {
            let weights = &mut weights[..layout.weights(span)];
            self.prepared.decode(span..span + 1, weights);
            for (i, weights) in weights.chunks(self.columns).enumerate() {
                let row = span * layout.rows + i;
                for (x, y) in x.chunks(self.columns).zip(y.chunks_mut(self.rows)) {
                    y[row] = simd::dot(weights, x);
                }
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        simd::dot_tolerance(self.columns)
    }

    fn resident_bytes(&self) -> u64 {
        self.prepared.resident_bytes()
    }
}
