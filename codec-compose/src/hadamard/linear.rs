//! Multiplication with the rotated matrix: vectors are rotated instead of the weights.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{
    Cancel, DecodeCx, Inputs, LinearKernel, LinearOp, PayloadView, Product, Result, RowsLinear, TensorSpec,
    check_product, open_linear, open_rows,
};

use super::rotation::Rotation;
use super::{Hadamard, INNER, rotated_spec};

impl LinearKernel for Hadamard {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        let (rotated, payload, cx) = (rotated_spec(spec)?, payload.scoped(INNER), cx.for_child());
        let inner = open_linear(&*self.inner, &rotated, payload.clone(), &cx)?;
        let operator = Rotated { inner, rotation: self.rotation(spec)? };
        if operator.tolerance() <= MOST_TOLERANCE {
            return Ok(Box::new(operator));
        }
        let rows = open_rows(&*self.inner, &rotated, payload, &cx)?;
        Ok(Box::new(Rotated { inner: Box::new(RowsLinear::new(rows)), ..operator }))
    }
}

/// The largest tolerance with which the operator of the inner codec is used, and not its decoded
/// rows: half of what law 8 allows, because a rotation spreads the errors of the operator.
const MOST_TOLERANCE: f32 = 5e-3;

/// `W·x = (W·Rᵀ)·(R·x)` and `Wᵀ·x = Rᵀ·((W·Rᵀ)ᵀ·x)`; `inner` multiplies with `W·Rᵀ`.
#[derive(Debug)]
struct Rotated {
    inner: Box<dyn LinearOp>,
    rotation: Rotation,
}

impl LinearOp for Rotated {
    fn shape(&self) -> (usize, usize) {
        self.inner.shape()
    }

    fn granule(&self) -> NonZeroUsize {
        self.inner.granule()
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product(self.shape(), product, &rows, x, y)?;
        match product {
            Product::Forward => {
                let mut rotated = x.values().to_vec();
                self.rotation.forward(&mut rotated, &Cancel::new())?;
                self.inner.apply(product, rows, &Inputs::new(&rotated, x.batch())?, y)
            }
            Product::Transposed => {
                let mut sums = vec![0.0; y.len()];
                self.inner.apply(product, rows, x, &mut sums)?;
                self.add_rotated_back(&sums, x.batch(), y)
            }
        }
    }

    /// With u = ε/2, the largest relative error of a rounding, `Ŵ = Ŵ'·R` and `d` the depth:
    /// - A rotation rounds every value `d` times. All of its steps scale the norm of a vector by a
    ///   constant, and so a rotated `v` is off by at most `d·u·‖v‖`. This holds for the inputs or
    ///   the sums here, and for the rows of `Ŵ'` in a decoder: together `2·d·u = d·ε`.
    /// - An output of `inner` is off by at most `t·‖Ŵ'‖·‖x‖`. In a transposed product these errors
    ///   are rotated too. An output gets at most the norm of the errors of its window, or of two
    ///   that overlap: `√P` or `√(2·P)` times a single one.
    ///
    /// `‖Ŵ'‖` is `‖Ŵ‖` but for `(d + 2)·u`, because ±1/√P is rounded to f32. The last factor allows
    /// for this, and for products of the terms above.
    fn tolerance(&self) -> f32 {
        let spread = (self.rotation.mixed() as f32).sqrt();
        (spread * self.inner.tolerance() + self.rotation.depth() as f32 * f32::EPSILON) * 1.001
    }

    fn resident_bytes(&self) -> u64 {
        self.inner.resident_bytes() + self.rotation.resident_bytes() as u64
    }
}

impl Rotated {
    /// Rotates the vectors in `sums`, `columns × batch`, back and adds them to `y`.
    fn add_rotated_back(&self, sums: &[f32], batch: usize, y: &mut [f32]) -> Result<()> {
        let mut vector = vec![0.0; self.shape().1];
        for i in 0..batch {
            for (v, sum) in vector.iter_mut().zip(sums.iter().skip(i).step_by(batch)) {
                *v = *sum;
            }
            self.rotation.backward(&mut vector, &Cancel::new())?;
            for (y, v) in y.iter_mut().skip(i).step_by(batch).zip(&vector) {
                *y += v;
            }
        }
        Ok(())
    }
}
