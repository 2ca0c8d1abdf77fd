//! The check of a decomposition: its residual and the orthonormality of its vectors, estimated
//! with random vectors.

use codec_api::EncodeCx;
use codec_api::rand_xoshiro::Xoshiro256PlusPlus;
use codec_api::rand_xoshiro::rand_core::Rng;
use faer::Mat;

use crate::linear::{add_scaled, dot};
use crate::thin::Parts;
use crate::triples::ROUNDING;

/// Random vectors of an estimate. An error of one component is underestimated tenfold with a
/// probability of 4·10⁻⁵.
const PROBES: usize = 4;

/// Random signs for the vectors of checks.
pub(crate) struct Probes(Xoshiro256PlusPlus);

impl Probes {
    pub(crate) fn new(cx: &EncodeCx<'_>) -> Self {
        Self(cx.rng(0))
    }

    fn signs(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| if self.0.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }).collect()
    }
}

/// What a decomposition claims to be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Claim {
    /// `A = L·S·Rᵀ`.
    All,
    /// `A·R = L·S`: only some of the components.
    Some,
}

/// The largest of three deviations. `‖A − L·S·Rᵀ‖/‖A‖` is estimated as the root of the mean of
/// `‖(A − L·S·Rᵀ)x‖²`, over vectors `x` of random signs (Hutchinson's estimator); for some of the
/// components it is `‖A·R − L·S‖/‖S‖`. The other two are `‖LᵀL − I‖/√n` and `‖RᵀR − I‖/√n`,
/// estimated in the same way for the `n` components that are more than rounding errors. An estimate
/// takes a few products with a vector, in f64. The result is infinite if a number is not finite.
pub(crate) fn deviation(a: &Mat<f32>, parts: &Parts, claim: Claim, probes: &mut Probes) -> f64 {
    let significant = parts.s.iter().filter(|s| **s > ROUNDING * parts.s[0]).count();
    let (mut of_left, mut of_right, mut of_residual) = (0.0, 0.0, 0.0);
    for _ in 0..PROBES {
        let signs = probes.signs(significant);
        of_left += skewness(&parts.left, &signs);
        of_right += skewness(&parts.right, &signs);
        let x = if claim == Claim::All { probes.signs(a.ncols()) } else { narrowed(combined(&parts.right, &signs)) };
        of_residual += residual(a, parts, &x);
    }
    let energy: f64 = match claim {
        Claim::All => (0..a.ncols()).map(|j| dot(a.col_as_slice(j), a.col_as_slice(j))).sum(),
        Claim::Some => parts.s.iter().map(|s| f64::from(*s) * f64::from(*s)).sum(),
    };
    let of_vectors = [of_left, of_right].map(|sum| sum / significant.max(1) as f64);
    let largest = if energy > 0.0 { [of_vectors[0], of_vectors[1], of_residual / energy] } else { [of_residual; 3] };
    let sum = largest.into_iter().fold(0.0, f64::max) / PROBES as f64;
    if largest.iter().all(|off| off.is_finite()) { sum.sqrt() } else { f64::INFINITY }
}

/// `‖(MᵀM − I)x‖²` for the first columns of `M`, as many as `x` has elements.
fn skewness(m: &Mat<f32>, x: &[f32]) -> f64 {
    let sum = narrowed(combined(m, x));
    x.iter().enumerate().map(|(k, x)| (dot(m.col_as_slice(k), &sum) - f64::from(*x)).powi(2)).sum()
}

/// `‖A·x − L·S·Rᵀ·x‖²`.
fn residual(a: &Mat<f32>, parts: &Parts, x: &[f32]) -> f64 {
    let mut rest = combined(a, x);
    for (k, s) in parts.s.iter().enumerate() {
        add(-f64::from(*s) * dot(parts.right.col_as_slice(k), x), parts.left.col_as_slice(k), &mut rest);
    }
    rest.iter().map(|x| x * x).sum()
}

/// The sum of the first columns of `m`, each times its element of `x`.
fn combined(m: &Mat<f32>, x: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0; m.nrows()];
    x.iter().enumerate().for_each(|(k, x)| add(f64::from(*x), m.col_as_slice(k), &mut sums));
    sums
}

fn narrowed(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

/// Adds a vector times a factor.
fn add(factor: f64, vector: &[f32], sums: &mut [f64]) {
    add_scaled(&[factor], vector, vector.len().max(1), 0, sums);
}
