//! How a layer's weights begin: PyTorch's default initialisations.

use codec_api::{Dtype, TensorSpec};

use super::random::Draw;
use super::{Item, SuiteError, narrow};

/// The distribution of one parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Init {
    /// Every element is this.
    Constant(f32),
    /// N(0, 1).
    Normal,
    /// Laplace of unit variance.
    Laplace,
    /// U(−limit, limit).
    Uniform { limit: f64 },
    /// `rᵢ·cⱼ·N(0, 1)` with row and column scales `exp(sd·N(0, 1))`.
    ScaleMixed { sd: f64 },
}

impl Init {
    /// What `Linear` and `Conv` draw weight and bias from, and `LSTM` with its hidden size for `fan_in`.
    pub(super) fn fan_in(fan_in: usize) -> Self {
        Self::Uniform { limit: (1.0 / fan_in as f64).sqrt() }
    }

    /// Glorot's uniform, as `MultiheadAttention` draws its input projection.
    pub(super) fn xavier(fan_in: usize, fan_out: usize) -> Self {
        Self::Uniform { limit: (6.0 / (fan_in + fan_out) as f64).sqrt() }
    }

    /// A tensor whose values follow from seed and name.
    pub(super) fn item(self, seed: u64, name: String, dtype: Dtype, shape: &[usize]) -> Result<Item, SuiteError> {
        let wrong = |source| SuiteError::Tensor { tensor: name.clone(), source };
        let spec = TensorSpec::new(dtype, shape).map_err(wrong)?;
        let data = narrow(&self.values(&spec, &mut Draw::new(seed, &name)), dtype);
        Ok(Item { name, spec, data, base: None })
    }

    fn values(self, spec: &TensorSpec, draw: &mut Draw) -> Vec<f32> {
        let n = spec.elements();
        match self {
            Self::Constant(value) => vec![value; n],
            Self::Normal => (0..n).map(|_| draw.normal() as f32).collect(),
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
