//! The matrix for comparing decompositions, in these tests and in the bench.

use faer::{Mat, MatRef};
use harness::testing::weights;

/// A matrix with the singular values 1, 1/2, 1/3, … and random singular vectors; it has at least as
/// many rows as columns.
pub fn harmonic([rows, columns]: [usize; 2]) -> Vec<f32> {
    let all = weights("gaussian:4096x1024", (rows + columns) * columns);
    let (left, right) = all.split_at(rows * columns);
    let basis = |values, rows| MatRef::from_row_major_slice(values, rows, columns).qr().compute_thin_Q();
    let scale = |i, j| if i == j { 1.0 / (i + 1) as f32 } else { 0.0 };
    let matrix = basis(left, rows) * Mat::from_fn(columns, columns, scale) * basis(right, columns).transpose();
    (0..rows * columns).map(|i| matrix[(i / columns, i % columns)]).collect()
}

/// The smallest relative error of any matrix of this rank to [`harmonic`].
pub fn best_of_harmonic(columns: usize, rank: usize) -> f64 {
    let squares = |from: usize| (from..=columns).map(|i| 1.0 / (i * i) as f64).sum::<f64>();
    (squares(rank + 1) / squares(1)).sqrt()
}
