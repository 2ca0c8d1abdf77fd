//! SCE: select, calculate, erase.

use std::ops::Range;

use crate::blocks::{Inputs, Scratch, dot, tiles};
use crate::error::Result;
use crate::select::{Lanes, Largest, Ties, largest};

/// What SCE knows of a tensor.
#[derive(Debug)]
pub(super) struct Selected {
    /// The elements with the largest variance, if not all count.
    selection: Option<Largest>,
    weights: Vec<f32>,
}

/// The variance of each element over the models.
struct Variance<'a>(&'a Inputs<'a>);

impl Lanes for Variance<'_> {
    fn count(&self) -> usize {
        1
    }

    fn fill<'s>(&self, range: &Range<usize>, scratch: &'s mut Scratch) -> Result<&'s mut [Vec<f32>]> {
        let count = self.0.models.len();
        let buffers = scratch.take(count + 2, range.len());
        let (first, rest) = buffers.split_at_mut(1);
        self.0.read(range.start, rest)?;
        variances(&rest[..count], &mut first[0]);
        Ok(buffers)
    }
}

/// The population variance of each element.
fn variances(models: &[Vec<f32>], out: &mut [f32]) {
    let count = models.len() as f32;
    for (i, out) in out.iter_mut().enumerate() {
        let mean = models.iter().map(|d| d[i]).sum::<f32>() / count;
        *out = models.iter().map(|d| (d[i] - mean) * (d[i] - mean)).sum::<f32>() / count;
    }
}

impl Selected {
    pub(super) fn new(share: f64, inputs: &Inputs<'_>) -> Result<Self> {
        let mut selected = Self { selection: None, weights: Vec::new() };
        if share < 1.0 {
            let counts = inputs.per_block(|range, scratch| {
                let mut count = 0;
                for tile in tiles(range) {
                    count += Variance(inputs).fill(&tile, scratch)?[0].iter().filter(|x| **x != 0.0).count();
                }
                Ok(count)
            })?;
            let kept = (share * counts.iter().sum::<usize>() as f64) as usize;
            selected.selection = largest(inputs, &Variance(inputs), &[kept], Ties::First)?.pop();
        }
        let models = inputs.models.len();
        let sums = inputs.per_block(|range, scratch| {
            let mut sums = vec![0.0; models];
            for tile in tiles(range) {
                let values = selected.differences(inputs, &tile, scratch)?;
                sums.iter_mut().zip(values.iter()).for_each(|(sum, d)| *sum += dot(d, d));
            }
            Ok(sums)
        })?;
        let mut energies = vec![0.0; models];
        for sums in sums {
            energies.iter_mut().zip(sums).for_each(|(energy, sum)| *energy += sum);
        }
        let means: Vec<f64> = energies.iter().map(|energy| energy / inputs.elements().max(1) as f64).collect();
        let all: f64 = means.iter().sum();
        let weight = |mean: &f64| if all < 1e-6 { 1.0 / models as f64 } else { mean / all };
        selected.weights = means.iter().map(|mean| weight(mean) as f32).collect();
        Ok(selected)
    }

    /// The differences of the models that count, and the base.
    fn differences<'s>(
        &self,
        inputs: &Inputs<'_>,
        tile: &Range<usize>,
        scratch: &'s mut Scratch,
    ) -> Result<&'s mut [Vec<f32>]> {
        let models = inputs.models.len();
        let buffers = &mut Variance(inputs).fill(tile, scratch)?[..models + 2];
        let (variance, values) = buffers.split_at_mut(1);
        if let Some(selection) = self.selection {
            for (i, x) in variance[0].iter().enumerate() {
                if x.to_bits() & 0x7fff_ffff < selection.least(tile.start + i) {
                    values[..models].iter_mut().for_each(|d| d[i] = 0.0);
                }
            }
        }
        Ok(values)
    }

    /// Computes the elements of a tile.
    pub(super) fn apply(
        &self,
        inputs: &Inputs<'_>,
        tile: &Range<usize>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let values = self.differences(inputs, tile, scratch)?;
        let (models, base) = values.split_at(inputs.models.len());
        for (i, out) in out.iter_mut().enumerate() {
            let elected = if models.iter().map(|d| d[i]).sum::<f32>() >= 0.0 { 1.0 } else { -1.0 };
            let (mut sum, mut weights) = (0.0, 0.0);
            for (d, weight) in models.iter().zip(&self.weights).filter(|(d, _)| d[i] * elected > 0.0) {
                sum += weight * d[i];
                weights += weight;
            }
            *out = base[0][i] + sum / f32::max(weights, 1e-6);
        }
        Ok(())
    }
}
