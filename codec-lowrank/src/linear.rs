//! Multiplication with the factors: two thin products, without the dense matrix.

use std::ops::Range;

use codec_api::{DecodeCx, Inputs, LinearKernel, LinearOp, PayloadView, Product, Result, TensorSpec, check_product};

use crate::factors::Factors;
use crate::keys::Svd;

/// Outputs whose sums are computed together, on the stack.
const PART: usize = 256;

/// The factors, and the tolerance that follows from them.
#[derive(Debug)]
struct LowRank {
    factors: Factors,
    tolerance: f32,
}

impl LinearKernel for Svd {
    fn prepare(&self, spec: &TensorSpec, payload: PayloadView<'_>, cx: &DecodeCx<'_>) -> Result<Box<dyn LinearOp>> {
        let factors = Factors::read(self, spec, &payload, cx)?;
        Ok(Box::new(LowRank { tolerance: tolerance(&factors), factors }))
    }
}

impl LinearOp for LowRank {
    fn shape(&self) -> (usize, usize) {
        (self.factors.rows, self.factors.columns)
    }

    fn apply(&self, product: Product, range: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<()> {
        check_product(self.shape(), product, &range, x, y)?;
        let Factors { rows, columns, u, v, .. } = &self.factors;
        let (inputs, outputs, from, to) = match product {
            Product::Forward => (0..*columns, range, (&v[..], *columns), (&u[..], *rows)),
            Product::Transposed => (range, 0..*columns, (&u[..], *rows), (&v[..], *columns)),
        };
        for vector in 0..x.batch() {
            let shares = self.factors.shares(from, inputs.clone(), &x.vector(vector)[inputs.clone()]);
            for first in outputs.clone().step_by(PART) {
                let sums = &mut [0.0; PART][..PART.min(outputs.end - first)];
                add_scaled(&shares, to.0, to.1, first, sums);
                let y = y[(first - outputs.start) * x.batch()..].chunks_exact_mut(x.batch());
                for (y, sum) in y.zip(sums) {
                    let before = if product == Product::Forward { 0.0 } else { f64::from(y[vector]) };
                    y[vector] = (before + *sum) as f32;
                }
            }
        }
        Ok(())
    }

    fn tolerance(&self) -> f32 {
        self.tolerance
    }

    fn resident_bytes(&self) -> u64 {
        let Factors { s, u, v, .. } = &self.factors;
        [s, u, v].map(|values| size_of_val(values.as_slice()) as u64).iter().sum()
    }
}

impl Factors {
    /// For each component, its singular value times the product of its vector with `x`. The vectors
    /// have `len` elements each, and `x` those of `range`.
    fn shares(&self, (vectors, len): (&[f32], usize), range: Range<usize>, x: &[f32]) -> Vec<f64> {
        self.values().zip(vectors.chunks_exact(len)).map(|(s, vector)| s * dot(&vector[range.clone()], x)).collect()
    }
}

/// Tolerance of the operator of `A = Σ s_k u_k v_kᵀ` against the decoded matrix Ŵ. All norms are
/// Frobenius norms; `ε` is `f32::EPSILON`, `δ` is `f64::EPSILON`.
///
/// - Ŵ is A with each weight summed in f64 and rounded to f32. Sums in f64 lose at most
///   `(r + 1)·δ/2·G` with `G = Σ |s_k|·‖u_k‖·‖v_k‖`, since `G` is a bound of the norm of the terms'
///   magnitudes. Rounding to f32 loses `ε/2·‖A‖`, and 2⁻¹⁵⁰ for each weight in the range of
///   subnormal numbers. Clamping loses what a weight exceeds the range of f32 by.
/// - A product in f64 loses at most `(l/16 + r + 7)·δ/2·G·‖x‖` (sixteen partial sums of an inner
///   product of `l` terms, then the sum over `k`), by the Cauchy–Schwarz inequality. Rounding to
///   f32 loses `ε/2·‖A‖·‖x‖`, once more for each further range of rows that is added to `y`.
///
/// So the error relative to `‖A‖·‖x‖` is at most `ε + lost/‖A‖ + a·√(m·n)/‖A‖`, with `lost` for the
/// sums in f64 and `a` for subnormal and clamped weights. `G/‖A‖` is at most √r for orthonormal
/// vectors. The vectors of a payload are only nearly orthonormal if the inner codec is coarse, and
/// in a payload from elsewhere the components may cancel. So nothing is assumed: `‖A v‖/‖v‖`, for
/// the `v` of the largest component, is a lower bound of `‖A‖`. All is doubled, since ‖Ŵ‖ is at
/// least half of `‖A‖` if the result is below 1. `8ε` instead of `2ε` also covers several ranges of
/// rows.
fn tolerance(factors: &Factors) -> f32 {
    let (rows, columns) = (factors.rows, factors.columns);
    let (mut terms, mut highest, mut largest) = (0.0, 0.0, (0.0, &factors.v[..columns]));
    let vectors = factors.u.chunks_exact(rows).zip(factors.v.chunks_exact(columns));
    for (s, (u, v)) in factors.values().zip(vectors) {
        let term = s.abs() * (dot(u, u) * dot(v, v)).sqrt();
        terms += term;
        highest += s.abs() * f64::from(simd::max_abs(u)) * f64::from(simd::max_abs(v));
        if term > largest.0 {
            largest = (term, v);
        }
    }
    let base = 8.0 * f64::from(f32::EPSILON);
    if terms == 0.0 {
        return base as f32;
    }
    let shares = factors.shares((&factors.v, columns), 0..columns, largest.1);
    let mut product = vec![0.0; rows];
    add_scaled(&shares, &factors.u, rows, 0, &mut product);
    let steps = (rows.max(columns) / simd::LANES + 2 * factors.s.len() + 16) as f64;
    let lost = steps * 0.5 * f64::EPSILON * terms;
    let norm = (product.iter().map(|y| y * y).sum::<f64>() / dot(largest.1, largest.1)).sqrt();
    let of_weight = 2f64.powi(-150) + (highest - f64::from(f32::MAX)).max(0.0);
    let absolute = lost + of_weight * (rows as f64 * columns as f64).sqrt();
    // The product, too, is a sum in f64.
    (base + 2.0 * absolute / (norm - lost).max(0.0)) as f32
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
    /// Adds the vectors, of `len` elements and each times its factor, to `sums`: their elements
    /// from `first` on.
    pub(crate) fn add_scaled<'a>(_simd, factors: &'a [f64], vectors: &'a [f32], len: usize, first: usize, sums: &'a mut [f64]) {
        for (factor, vector) in factors.iter().zip(vectors.chunks_exact(len)) {
            for (sum, value) in sums.iter_mut().zip(&vector[first..]) {
                *sum += factor * f64::from(*value);
            }
        }
    }
}
