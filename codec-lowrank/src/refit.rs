//! Singular values that suit the coded vectors: coarse codes make vectors longer or shorter, and turn them.

use faer::Mat;

use crate::factors::Factors;
use crate::linear::dot;
use crate::matrix::Matrix;
use crate::triples::product;

/// Part of the squared error that refitting has to save: less is not worth decoding again.
const WORTHWHILE: f64 = 1e-3;

/// For each pair of coded vectors the value of least squared error, `uᵀWv / (‖u‖²‖v‖²)`, as if the others were at right angles, which they
/// nearly are. `None` if they save too little of the relative squared error there is.
pub(crate) fn refit(matrix: &Matrix, factors: &Factors, squared_error: f64) -> Option<Vec<f32>> {
    let rank = factors.s.len();
    // faer's own buffers are aligned, which its bits may depend on.
    let mut u = Mat::zeros(factors.rows, rank);
    for (k, from) in factors.u.chunks_exact(factors.rows).enumerate() {
        u.col_as_slice_mut(k).copy_from_slice(from);
    }
    let images = product(matrix.transposed.as_ref(), u.as_ref());
    let mut saved = 0.0;
    let fitted = factors.v.chunks_exact(factors.columns).zip(&factors.s).enumerate().map(|(k, (v, s))| {
        let (u, image) = (u.col_as_slice(k), images.col_as_slice(k));
        let lengths = dot(u, u) * dot(v, v);
        let fitted = if lengths > 0.0 { (dot(v, image) / lengths) as f32 } else { *s };
        saved += lengths * f64::from(fitted - s).powi(2);
        fitted
    });
    let fitted: Vec<f32> = fitted.collect();
    (saved > WORTHWHILE * squared_error * matrix.energy && fitted.iter().all(|s| s.is_finite())).then_some(fitted)
}
