//! Triangular factors of curvatures.

use faer::linalg::solvers::{Llt, LltError};
use faer::linalg::triangular_solve::{solve_unit_lower_triangular_in_place, solve_unit_upper_triangular_in_place};
use faer::reborrow::ReborrowMut;
use faer::{Mat, MatMut, MatRef, Par, Side};

use crate::error::{Error, Result};

/// A positive definite matrix `H = M·D·Mᵀ`, with `M` unit upper triangular and `D` diagonal. Column
/// `j` of `M` tells how the errors of the earlier columns of a weight matrix act on column `j`, and
/// `d[j]` is what an error of column `j` costs once the later columns have made up for it.
#[derive(Clone, Debug)]
pub struct Factor {
    pivots: Vec<f64>,
    /// `M`, row-major; `None` for the identity.
    unit: Option<Vec<f64>>,
}

impl Factor {
    /// Factorises `H + damping·mean(diag H)·I`, where `matrix` is `H`, row-major and symmetric; its
    /// upper triangle is not read.
    ///
    /// The factor is that of a Cholesky decomposition of the matrix with both axes reversed, in
    /// f64. Its last bits may depend on the CPU, because the crate `faer` selects its instructions.
    ///
    /// # Errors
    /// [`Error::Usage`] for a wrong length or a negative damping, [`Error::NotFinite`],
    /// [`Error::Zero`], and [`Error::Singular`] with too little damping.
    pub fn new(matrix: &[f32], order: usize, damping: f64) -> Result<Self> {
        if order.checked_mul(order) != Some(matrix.len()) {
            return Err(Error::Usage(format!("{} values for a matrix of order {order}", matrix.len())));
        }
        if !(0.0..=1e6).contains(&damping) {
            return Err(Error::Usage(format!("a damping of {damping}, where 0 to 10⁶ is possible")));
        }
        if let Some(at) = matrix.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { row: at / order, column: at % order });
        }
        let mean = (0..order).map(|i| f64::from(matrix[i * order + i])).sum::<f64>() / order.max(1) as f64;
        if order > 0 && mean <= 0.0 {
            return Err(Error::Zero);
        }
        let last = order.wrapping_sub(1);
        let reversed = Mat::from_fn(order, order, |i, j| {
            let entry = f64::from(matrix[(last - i.min(j)) * order + last - i.max(j)]);
            if i == j { entry + damping * mean } else { entry }
        });
        let decomposed = Llt::new(reversed.as_ref(), Side::Lower);
        let decomposed = decomposed.map_err(|error| {
            let LltError::NonPositivePivot { index } = error;
            Error::Singular { index: last - index.min(last) }
        })?;
        let lower = decomposed.L();
        let mut unit = vec![0.0; order * order];
        let mut pivots = vec![0.0; order];
        for j in 0..order {
            let diagonal = lower[(last - j, last - j)];
            pivots[j] = diagonal * diagonal;
            for i in 0..=j {
                unit[i * order + j] = lower[(last - i, last - j)] / diagonal;
            }
        }
        match pivots.iter().position(|pivot| !pivot.is_normal()) {
            Some(index) => Err(Error::Singular { index }),
            None => Ok(Self { pivots, unit: Some(unit) }),
        }
    }

    /// A diagonal matrix.
    ///
    /// # Errors
    /// [`Error::NotFinite`] and [`Error::Singular`] for entries that are not positive numbers.
    pub fn diagonal(entries: &[f32]) -> Result<Self> {
        for (index, entry) in entries.iter().enumerate() {
            if !entry.is_finite() {
                return Err(Error::NotFinite { row: index, column: index });
            }
            if *entry <= 0.0 {
                return Err(Error::Singular { index });
            }
        }
        Ok(Self { pivots: entries.iter().map(|entry| f64::from(*entry)).collect(), unit: None })
    }

    /// The identity: all errors count the same, and none acts on another one.
    pub fn identity(order: usize) -> Self {
        Self { pivots: vec![1.0; order], unit: None }
    }

    /// Replaces the columns of `b` by the solutions `x` of `H·x = b`, damping included.
    ///
    /// # Panics
    /// If `b` has another number of rows.
    pub(crate) fn solve(&self, mut b: MatMut<'_, f64>) {
        let order = self.order();
        assert_eq!(b.nrows(), order, "{order} rows");
        let unit = self.unit().map(|unit| MatRef::from_row_major_slice(unit, order, order));
        if let Some(unit) = unit {
            solve_unit_upper_triangular_in_place(unit, b.rb_mut(), Par::Seq);
        }
        for column in 0..b.ncols() {
            for (row, pivot) in self.pivots.iter().enumerate() {
                b[(row, column)] /= pivot;
            }
        }
        if let Some(unit) = unit {
            solve_unit_lower_triangular_in_place(unit.transpose(), b, Par::Seq);
        }
    }

    /// The diagonal of `H`, damping included.
    pub(crate) fn diagonal_entries(&self) -> Vec<f32> {
        let order = self.order();
        let Some(unit) = self.unit() else { return self.pivots.iter().map(|pivot| *pivot as f32).collect() };
        let entry = |row: &[f64]| row.iter().zip(&self.pivots).map(|(m, pivot)| m * m * pivot).sum::<f64>() as f32;
        unit.chunks_exact(order).map(entry).collect()
    }

    /// Number of rows and columns.
    pub fn order(&self) -> usize {
        self.pivots.len()
    }

    /// `D`.
    pub fn pivots(&self) -> &[f64] {
        &self.pivots
    }

    /// `M`, row-major; `None` for the identity.
    pub fn unit(&self) -> Option<&[f64]> {
        self.unit.as_deref()
    }
}
