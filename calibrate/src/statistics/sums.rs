//! What is summed over the batches of a layer.

use std::collections::BTreeMap;

use runtime::{Observer, Place};

use super::gram::Gram;
use super::part::{Outputs, Part};
use crate::error::{Error, Result};

/// Sums over all tokens so far.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By the first tensor of those with these inputs.
    inputs: BTreeMap<String, Gram>,
    /// The tensor whose inputs those of a tensor are.
    same: BTreeMap<String, String>,
    outputs: BTreeMap<String, Gram>,
    /// For each token of the vocabulary, the sum of `p·(1 − p)`.
    pub(super) variances: Vec<f64>,
}

impl Sums {
    /// The inputs of a tensor.
    ///
    /// # Errors
    /// [`Error::Usage`] if no inputs were shown.
    pub(super) fn inputs(&self, tensor: &str) -> Result<&Gram> {
        let found = self.inputs.get(self.same.get(tensor).map_or(tensor, String::as_str));
        found.ok_or_else(|| Error::Usage(format!("no inputs of `{tensor}`")))
    }

    /// The statistics of these linear layers.
    pub(super) fn part(&self, mut places: Vec<Place>, tokens: usize) -> Result<Part<'_>> {
        places.sort_by(|a, b| a.tensor.cmp(&b.tensor));
        let mut part = Part::new(tokens);
        for place in &places {
            let outputs = self.outputs.get(&place.tensor).map(Outputs::Matrix);
            part.add(&place.tensor, place.axis, self.inputs(&place.tensor)?, outputs)?;
        }
        Ok(part)
    }
}

impl Observer for Sums {
    fn inputs(&mut self, tensors: &[&str], x: &[f32], width: usize) {
        let Some((first, others)) = tensors.split_first() else { return };
        for other in others {
            self.same.insert((*other).to_owned(), (*first).to_owned());
        }
        self.inputs.entry((*first).to_owned()).or_insert_with(|| Gram::new(width)).add(x);
    }

    fn gradients(&mut self, tensor: &str, g: &[f32], width: usize) {
        self.outputs.entry(tensor.to_owned()).or_insert_with(|| Gram::new(width)).add(g);
    }

    fn predicted(&mut self, variances: &[f64]) {
        self.variances.resize(variances.len(), 0.0);
        self.variances.iter_mut().zip(variances).for_each(|(sum, variance)| *sum += variance);
    }
}
