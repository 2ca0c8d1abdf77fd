//! Refits singular values to the coded vectors: coarse codes change the lengths and directions of
//! vectors.

use crate::factors::Factors;
use crate::linear::dot;

/// Fraction of the squared error that refitting must save to be worth decoding again.
const WORTHWHILE: f64 = 1e-3;

/// For each pair of coded vectors `û`, `v̂`, the value with the least squared error, as if the
/// other pairs were orthogonal, which they nearly are: `ûᵀWv̂ / (‖û‖²‖v̂‖²)`, where `ûᵀWv̂` is
/// nearly `s (û·u)(v̂·v)`. `None` if this saves too little of the squared error, the sum of the
/// truncation error (`left`, in the scale of the singular values) and the coding error.
pub(crate) fn refit(factors: &Factors, u: &[f32], v: &[f32], left: f64) -> Option<Vec<f32>> {
    let (rows, columns) = (factors.rows, factors.columns);
    let left_vectors = u.chunks_exact(rows).zip(factors.u.chunks_exact(rows));
    let right_vectors = v.chunks_exact(columns).zip(factors.v.chunks_exact(columns));
    let (mut error, mut saved) = (left, 0.0);
    let fitted = left_vectors.zip(right_vectors).zip(&factors.s).map(|(((u, coded_u), (v, coded_v)), s)| {
        let (of_u, of_v) = (dot(coded_u, coded_u), dot(coded_v, coded_v));
        let (along_u, along_v) = (dot(coded_u, u), dot(coded_v, v));
        let (square, lengths) = (f64::from(*s) * f64::from(*s), of_u * of_v);
        // ‖û v̂ᵀ − u vᵀ‖², since u and v have length 1.
        error += square * (lengths - 2.0 * along_u * along_v + 1.0);
        let factor = if lengths > 0.0 { along_u * along_v / lengths } else { 1.0 };
        saved += square * lengths * (factor - 1.0) * (factor - 1.0);
        (f64::from(*s) * factor) as f32
    });
    let fitted: Vec<f32> = fitted.collect();
    (saved > WORTHWHILE * error && fitted.iter().all(|s| s.is_finite())).then_some(fitted)
}
