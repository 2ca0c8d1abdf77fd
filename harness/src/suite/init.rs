//! Distributions of generated weights: PyTorch's default initialisations, and matrices of a known
//! structure.

use codec_api::{Dtype, TensorSpec};

use super::random::Draw;
use super::{Item, SuiteError, narrow};

/// The distribution of one parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Init {
    /// Every element has this value.
    Constant(f32),
    /// N(0, 1).
    Normal,
    /// N(0, sd²).
    Scaled { sd: f64 },
    /// N(0, 1), clamped to −limit..limit.
    Clipped { limit: f64 },
    /// N(0, 1) with probability `density`, else 0.
    Sparse { density: f64 },
    /// `U·V + noise·N(0, 1)` with U and V of N(0, 1); U has `rank` columns and V has `rank` rows.
    LowRank { rank: usize, noise: f64 },
    /// Laplace of unit variance.
    Laplace,
    /// U(−limit, limit).
    Uniform { limit: f64 },
    /// `rᵢ·cⱼ·N(0, 1)` with row and column scales `exp(sd·N(0, 1))`.
    ScaleMixed { sd: f64 },
}

impl Init {
    /// Distribution of weight and bias of `Linear` and `Conv`, and of `LSTM` with its hidden size
    /// as `fan_in`.
    pub(super) fn fan_in(fan_in: usize) -> Self {
        Self::Uniform { limit: (1.0 / fan_in as f64).sqrt() }
    }

    /// Glorot's uniform distribution, which `MultiheadAttention` uses for its input projection.
    pub(super) fn xavier(fan_in: usize, fan_out: usize) -> Self {
        Self::Uniform { limit: (6.0 / (fan_in + fan_out) as f64).sqrt() }
    }

    /// A tensor whose values depend only on seed and name.
    pub(super) fn item(self, seed: u64, name: String, dtype: Dtype, shape: &[usize]) -> Result<Item, SuiteError> {
        let wrong = |source| SuiteError::Tensor { tensor: name.clone(), source };
        let spec = TensorSpec::new(dtype, shape).map_err(wrong)?;
        let data = narrow(&self.values(&spec, &mut Draw::new(seed, &name)), dtype);
        Ok(Item::new(name, spec, data))
    }

    fn values(self, spec: &TensorSpec, draw: &mut Draw) -> Vec<f32> {
        let n = spec.elements();
        match self {
            Self::Constant(value) => vec![value; n],
            Self::Normal => (0..n).map(|_| draw.normal() as f32).collect(),
            Self::Scaled { sd } => (0..n).map(|_| (sd * draw.normal()) as f32).collect(),
            Self::Clipped { limit } => (0..n).map(|_| draw.normal().clamp(-limit, limit) as f32).collect(),
            Self::Sparse { density } => {
                (0..n).map(|_| if draw.chance(density) { draw.normal() as f32 } else { 0.0 }).collect()
            }
            Self::LowRank { rank, noise } => low_rank(spec.matrix(), rank, noise, draw),
            Self::Laplace => (0..n).map(|_| draw.laplace() as f32).collect(),
            Self::Uniform { limit } => (0..n).map(|_| draw.uniform(limit) as f32).collect(),
            Self::ScaleMixed { sd } => {
                let (rows, columns) = spec.matrix();
                let mut scales = |n: usize| -> Vec<f64> { (0..n).map(|_| libm::exp(sd * draw.normal())).collect() };
                let (row_scales, column_scales) = (scales(rows), scales(columns));
                let products = row_scales.iter().flat_map(|r| column_scales.iter().map(move |c| r * c));
                products.map(|scale| (scale * draw.normal()) as f32).collect()
            }
        }
    }
}

/// Sums the products in f64 in the order of the rank.
fn low_rank((rows, columns): (usize, usize), rank: usize, noise: f64, draw: &mut Draw) -> Vec<f32> {
    let mut normal = |n: usize| -> Vec<f64> { (0..n).map(|_| draw.normal()).collect() };
    let (left, right) = (normal(rows * rank), normal(rank * columns));
    let mut values = Vec::with_capacity(rows * columns);
    for left in left.chunks(rank) {
        let mut row: Vec<f64> = (0..columns).map(|_| noise * draw.normal()).collect();
        for (l, right) in left.iter().zip(right.chunks(columns)) {
            row.iter_mut().zip(right).for_each(|(w, r)| *w += l * r);
        }
        values.extend(row.iter().map(|w| *w as f32));
    }
    values
}
