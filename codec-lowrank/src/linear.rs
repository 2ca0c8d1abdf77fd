//! Multiplication with the factors: two thin products, without the dense matrix.

use codec_api::{DecodeCx, LinearKernel, LinearOp, PayloadView, Result, TensorSpec, check_batch};

use crate::factors::Factors;
use crate::keys::Svd;

impl LinearKernel for Svd {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>) -> Result<Box<dyn LinearOp>> {
        Ok(Box::new(Factors::read(self, spec, &payload, &DecodeCx::new())?))
    }
}

impl LinearOp for Factors {
    fn apply(&self, x: &[f32], y: &mut [f32]) -> Result<()> {
        check_batch((self.rows, self.columns), x, y)?;
        let mut sums = vec![0.0; self.rows];
        for (x, y) in x.chunks_exact(self.columns).zip(y.chunks_exact_mut(self.rows)) {
            sums.fill(0.0);
            for ((s, u), v) in self.values().zip(self.u.chunks_exact(self.rows)).zip(self.v.chunks_exact(self.columns))
            {
                add_scaled(s * dot(v, x), u, &mut sums);
            }
            for (y, sum) in y.iter_mut().zip(&sums) {
                *y = *sum as f32;
            }
        }
        Ok(())
    }

    /// The decoded matrix is rounded to f32, and so is the product; all intermediate sums are in
    /// f64.
    fn tolerance(&self) -> f32 {
        2.0 * f32::EPSILON
    }

    fn resident_bytes(&self) -> u64 {
        (size_of_val(self.s.as_slice()) + size_of_val(self.u.as_slice()) + size_of_val(self.v.as_slice())) as u64
    }
}

simd::kernel! {
    /// `Σ aᵢ·bᵢ` in f64.
    pub(crate) fn dot<'a>(_simd, a: &'a [f32], b: &'a [f32]) -> f64 {
        let mut lanes = [0.0; simd::LANES];
        for (a, b) in a.chunks(simd::LANES).zip(b.chunks(simd::LANES)) {
            let (a, b) = (simd::load(a), simd::load(b));
            for i in 0..simd::LANES {
                lanes[i] += f64::from(a[i]) * f64::from(b[i]);
            }
        }
        simd::sum(lanes)
    }
}

simd::kernel! {
    /// Adds `factor · values` to `sums`.
    fn add_scaled<'a>(_simd, factor: f64, values: &'a [f32], sums: &'a mut [f64]) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += factor * f64::from(*value);
        }
    }
}
