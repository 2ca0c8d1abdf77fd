//! Triangular factors of curvatures.

use faer::linalg::solvers::{Llt, LltError};
use faer::{Mat, Side};

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
