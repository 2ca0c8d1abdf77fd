//! What an error costs.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// `tr(R E C Eᵀ)` of an error `E`, with the curvature `R` of its rows and `C` of its columns. All
/// matrices are row-major, the curvatures symmetric; `None` stands for the identity. Half of the
/// result is the expected rise of the loss per token.
///
/// # Panics
/// If the lengths do not belong to a matrix of `shape`.
pub fn proxy(error: &[f32], shape: (usize, usize), rows: Option<&[f32]>, columns: Option<&[f32]>) -> f64 {
    let (m, n) = shape;
    assert_eq!(error.len(), m * n, "the error is a {m} × {n} matrix");
    let wide = |values: &[f32], m: usize, n: usize| {
        assert_eq!(values.len(), m * n, "a {m} × {n} matrix");
        let values = MatRef::from_row_major_slice(values, m, n);
        Mat::from_fn(m, n, |i, j| f64::from(values[(i, j)]))
    };
    let error = wide(error, m, n);
    let product = |a: &Mat<f64>, b: &Mat<f64>| {
        let mut out = Mat::zeros(m, n);
        matmul(out.as_mut(), Accum::Replace, a.as_ref(), b.as_ref(), 1.0, Par::Seq);
        out
    };
    let right = columns.map_or_else(|| error.clone(), |columns| product(&error, &wide(columns, n, n)));
    let left = rows.map_or_else(|| error.clone(), |rows| product(&wide(rows, m, m), &error));
    (0..n).map(|j| (0..m).map(|i| right[(i, j)] * left[(i, j)]).sum::<f64>()).sum()
}
