//! Multiplication: the sum of the products of both codecs.

use std::num::NonZeroUsize;
use std::ops::Range;

use codec_api::{
    DecodeCx, Inputs, LinearKernel, LinearOp, PayloadView, Product, Result, TensorSpec, check_product, open_linear,
};

use super::{FIRST, Residual, SECOND, common, rest_spec};

impl LinearKernel for Residual {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        let first = open_linear(&*self.first, spec, payload.scoped(FIRST), cx)?;
        let second = open_linear(&*self.second, &rest_spec(spec)?, payload.scoped(SECOND), &cx.for_child())?;
        Ok(Box::new(Sum { first, second }))
    }
}

#[derive(Debug)]
struct Sum {
    first: Box<dyn LinearOp>,
    second: Box<dyn LinearOp>,
}

impl LinearOp for Sum {
    fn shape(&self) -> (usize, usize) {
        self.first.shape()
    }

    fn granule(&self) -> NonZeroUsize {
        common(self.first.granule(), self.second.granule())
    }

    fn apply(&self, product: Product, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product(self.shape(), product, &rows, x, y)?;
        // A buffer even for a transposed product, which adds to its output: in `y` the small sums
        // of `second` would be rounded like the large ones of `first`.
        let mut rest = vec![0.0; y.len()];
        self.second.apply(product, rows.clone(), x, &mut rest)?;
        self.first.apply(product, rows, x, y)?;
        for (y, rest) in y.iter_mut().zip(rest) {
            *y += rest;
        }
        Ok(())
    }

    /// The encoder refuses a first part `F` that is worse than zeros: `‖W − F‖ ≤ ‖W‖`, so that
    /// `‖F‖ ≤ 2·‖W‖`. At a relative error of one half `‖W‖ ≤ 2·‖Ŵ‖`. The norm of the first part is
    /// then at most `4·‖Ŵ‖`, and that of the second part, `Ŵ − F`, at most `5·‖Ŵ‖`. The sums of the
    /// parts are rounded in a decoder, and those of the products here: a whole ε together; another
    /// one allows for the errors of what is rounded.
    fn tolerance(&self) -> f32 {
        4.0 * self.first.tolerance() + 5.0 * self.second.tolerance() + 2.0 * f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        self.first.resident_bytes() + self.second.resident_bytes()
    }
}
