//! What is summed over the batches of a calibration.

use std::collections::BTreeMap;

use codec_api::InputAxis;
use runtime::{Batch, Differentiable, Observer};

use super::gram::Gram;
use super::{Curve, TensorStatistics};
use crate::error::{Error, Result};

/// The least share of a token that an embedding assumes, as a part of an equal one: rare tokens
/// keep some precision.
const RARE: f64 = 0.02;

/// The least gradient of a position, as a part of the mean.
const FAINT: f64 = 0.05;

/// Sums over all tokens so far.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By the first tensor of those with these inputs.
    inputs: BTreeMap<String, Gram>,
    /// The tensor whose inputs those of a tensor are.
    same: BTreeMap<String, String>,
    outputs: BTreeMap<String, Gram>,
    embedded: Option<Gram>,
    /// For each token, how often it occurs.
    counts: Vec<f64>,
    /// For each token, the sum of `p·(1 − p)`.
    variances: Vec<f64>,
    /// For each position, the squared gradients.
    energies: Vec<f64>,
    tokens: usize,
}

impl Sums {
    pub(super) fn new(model: &Differentiable) -> Self {
        let config = model.config();
        let [counts, variances] = [(); 2].map(|()| vec![0.0; config.vocabulary]);
        Self { counts, variances, energies: vec![0.0; config.context], ..Self::default() }
    }

    /// Counts the tokens of a batch.
    pub(super) fn count(&mut self, batch: &Batch<'_>) {
        self.tokens += batch.tokens();
        batch.ids().for_each(|(id, _)| self.counts[id as usize] += 1.0);
    }

    /// The statistics of all matrices.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a curvature that is not finite.
    pub(super) fn statistics(mut self, model: &Differentiable) -> Result<BTreeMap<String, TensorStatistics>> {
        let (embedding, positions, head) = model.tables();
        let (embedding, positions, head) =
            (embedding.to_owned(), positions.map(str::to_owned), head.map(str::to_owned));
        let mut all = BTreeMap::new();
        for place in model.linears() {
            let inputs = self.matrix(self.inputs.get(self.same.get(&place.tensor).unwrap_or(&place.tensor)));
            let outputs = self.outputs.get(&place.tensor).map(|gram| self.matrix(Some(gram)));
            all.insert(place.tensor, TensorStatistics { axis: place.axis, inputs, outputs });
        }
        let columns = |inputs, outputs| TensorStatistics { axis: InputAxis::Columns, inputs, outputs: Some(outputs) };
        let rows = self.positions();
        if let (Some(positions), Some(embedded)) = (positions, &self.embedded) {
            all.insert(positions, columns(self.matrix(Some(embedded)), Curve::Diagonal(rows)));
        }
        let n = self.tokens.max(1) as f64;
        let (counts, variances) = (self.counts.iter().map(|n| *n / self.tokens.max(1) as f64), self.variances.iter());
        // Without gradients, outputs of other matrices have the importance 1, and these on average.
        let unit = if self.embedded.is_some() { 1.0 } else { self.counts.len() as f64 };
        let shares = |shares: Vec<f64>| {
            let least = RARE / shares.len() as f64;
            Curve::Diagonal(shares.into_iter().map(|share| (unit * share.max(least)) as f32).collect())
        };
        let predicted: Vec<f64> = variances.map(|variance| variance / n).collect();
        let counts: Vec<f64> = counts.collect();
        if let Some(head) = head {
            let inputs = self.matrix(self.inputs.get(&head));
            all.insert(head, columns(inputs, shares(predicted)));
            if let Some(embedded) = &self.embedded {
                all.insert(embedding, columns(self.matrix(Some(embedded)), shares(counts)));
            }
        } else {
            // The rows are looked up at the input, and multiplied at the output.
            let both = counts.iter().zip(&predicted).map(|(count, variance)| 0.5 * (count + variance)).collect();
            let mut sum = self.inputs.remove(&embedding);
            if let (Some(sum), Some(embedded)) = (&mut sum, &self.embedded) {
                sum.add_sum(embedded);
            }
            let inputs = self.matrix(sum.as_ref());
            all.insert(embedding, columns(inputs, shares(both)));
        }
        for (tensor, found) in &all {
            check(tensor, found)?;
        }
        Ok(all)
    }

    fn matrix(&self, gram: Option<&Gram>) -> Curve {
        let Some(gram) = gram else { return Curve::Diagonal(Vec::new()) };
        let values = gram.mean(self.tokens);
        Curve::Matrix { order: values.len().isqrt(), values }
    }

    /// The importance of each position: an error there meets one token of a sequence.
    fn positions(&self) -> Vec<f32> {
        let mean = self.energies.iter().sum::<f64>() / self.energies.len().max(1) as f64;
        let relative = |energy: &f64| if mean > 0.0 { (energy / mean).max(FAINT) } else { 1.0 };
        self.energies.iter().map(|energy| (relative(energy) / self.energies.len() as f64) as f32).collect()
    }
}

fn check(tensor: &str, found: &TensorStatistics) -> Result<()> {
    for curve in [Some(&found.inputs), found.outputs.as_ref()].into_iter().flatten() {
        let (values, order) = match curve {
            Curve::Matrix { order, values } => (values, *order),
            Curve::Diagonal(values) => (values, 1),
        };
        if let Some(at) = codec_api::util::first_non_finite(values) {
            let error = Error::NotFinite { row: at / order.max(1), column: at % order.max(1) };
            return Err(Error::Tensor { tensor: tensor.to_owned(), error: Box::new(error) });
        }
    }
    Ok(())
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

    fn embedded(&mut self, tokens: &Batch<'_>, g: &[f32], width: usize) {
        self.embedded.get_or_insert_with(|| Gram::new(width)).add(g);
        for ((_, position), g) in tokens.ids().zip(g.chunks_exact(width)) {
            self.energies[position] += g.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
        }
    }

    fn predicted(&mut self, variances: &[f64]) {
        self.variances.iter_mut().zip(variances).for_each(|(sum, variance)| *sum += variance);
    }
}
