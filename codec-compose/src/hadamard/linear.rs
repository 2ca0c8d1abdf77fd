//! Multiplication with the rotated matrix: it rotates the inputs instead of the weights.

use codec_api::{Cancel, LinearKernel, LinearOp, PayloadView, Result, TensorSpec, check_batch};

use super::rotation::Rotation;
use super::{Hadamard, INNER, rotated_spec};

impl LinearKernel for Hadamard {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        let inner = self.inner.require_linear()?.prepare(&rotated_spec(spec)?, payload.scoped(INNER))?;
        Ok(Box::new(Rotated { inner, matrix: spec.matrix(), rotation: self.rotation(spec) }))
    }
}

/// `W·x = (W·Rᵀ)·(R·x)`; `inner` multiplies with `W·Rᵀ`.
#[derive(Debug)]
struct Rotated {
    inner: Box<dyn LinearOp>,
    matrix: (usize, usize),
    rotation: Rotation,
}

impl LinearOp for Rotated {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        check_batch(self.matrix, x, y)?;
        let mut rotated = x.to_vec();
        self.rotation.forward(&mut rotated, &Cancel::new())?;
        self.inner.apply(&rotated, y)
    }

    fn tolerance(&self) -> f32 {
        // Every step rounds: of the inputs here, and of the weights in a decoder. These errors are
        // relative to the product of both norms, which a rotation preserves. The sum of the
        // products' magnitudes is rarely far below that product; the factor of 4 allows for it.
        4.0 * (self.inner.tolerance() + 2.0 * self.rotation.depth() as f32 * f32::EPSILON)
    }

    fn resident_bytes(&self) -> u64 {
        self.inner.resident_bytes() + self.rotation.resident_bytes() as u64
    }
}
