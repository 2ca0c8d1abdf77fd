//! A norm with its name.

use std::ops::Deref;

use crate::decoder::Norm;

/// A norm whose tensors are `name.weight` and, if it has a bias, `name.bias`.
#[derive(Clone, Debug)]
pub(super) struct NamedNorm {
    pub(super) name: String,
    pub(super) norm: Norm,
}

impl NamedNorm {
    /// Its weight and its bias with the names of their tensors.
    pub(super) fn vectors(&mut self) -> impl Iterator<Item = (String, &mut Vec<f32>)> {
        let bias = (!self.norm.bias.is_empty()).then(|| (format!("{}.bias", self.name), &mut self.norm.bias));
        [(format!("{}.weight", self.name), &mut self.norm.weight)].into_iter().chain(bias)
    }
}

impl Deref for NamedNorm {
    type Target = Norm;

    fn deref(&self) -> &Norm {
        &self.norm
    }
}
