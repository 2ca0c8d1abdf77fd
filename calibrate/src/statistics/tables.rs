//! Statistics of the embedding, the positions and the head.

use std::path::Path;

use checkpoint::{AtomicFile, Checkpoint};
use codec_api::InputAxis;
use runtime::{Batch, Layered};
use safetensors::tensor::Dtype;

use super::file::{Stored, write};
use super::gram::Gram;
use super::part::{Mean, Outputs, Part};
use crate::error::{Error, Result};

/// The least share of a token that an embedding assumes, as a part of an equal one: rare tokens
/// keep some precision. The same holds for experts with few tokens.
pub(super) const RARE: f64 = 0.02;

/// The least gradient of a position, as a part of the mean.
const FAINT: f64 = 0.05;

/// The metadata key of the file of [`Head`], and its tensors.
const KEY: &str = "netweight.calibration.head";
const INPUTS: &str = "inputs";
const VARIANCES: &str = "variances";

/// What is summed up at the head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) inputs: Gram,
    /// For each token of the vocabulary, the sum of `p·(1 − p)`.
    pub(super) variances: Vec<f64>,
}

impl Head {
    /// Writes the sums, for [`Self::open`].
    pub(super) fn save(inputs: &Gram, variances: &[f64], path: &Path) -> Result<()> {
        let sums = inputs.sums();
        let stored = [(INPUTS, &*sums), (VARIANCES, variances)];
        let stored = stored.map(|(name, values)| Stored::vector(name, Dtype::F64, bytemuck::cast_slice(values)));
        write(AtomicFile::create(path)?, (KEY, String::new()), stored.into())
    }

    pub(super) fn open(path: &Path, width: usize) -> Result<Self> {
        let file = Checkpoint::open(path)?;
        let values = |name: &str| -> Result<Vec<f64>> { Ok(bytemuck::pod_collect_to_vec(&file.bytes(name)?.1)) };
        let inputs = Gram::of_sums(width, &values(INPUTS)?);
        let inputs = inputs.ok_or_else(|| {
            let reason = "it has another size; delete its folder, and give the command again".to_owned();
            Error::File { path: path.to_owned(), reason }
        })?;
        Ok(Self { inputs, variances: values(VARIANCES)? })
    }
}

/// Gradients behind the embedding.
#[derive(Debug)]
pub(super) struct Embedded {
    gradients: Gram,
    /// For each position, the squared gradients.
    energies: Vec<f64>,
}

impl Embedded {
    pub(super) fn new(model: &Layered<'_>) -> Self {
        let config = model.config();
        Self { gradients: Gram::new(config.width), energies: vec![0.0; config.context] }
    }

    /// Adds the gradients of a batch.
    pub(super) fn add(&mut self, batch: &Batch<'_>, g: &[f32], width: usize) {
        self.gradients.add(g);
        for ((_, position), g) in batch.ids().zip(g.chunks_exact(width)) {
            self.energies[position] += g.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
        }
    }

    /// The importance of each position: an error there meets one token of a sequence.
    fn positions(&self) -> Vec<f32> {
        let mean = self.energies.iter().sum::<f64>() / self.energies.len().max(1) as f64;
        let relative = |energy: &f64| if mean > 0.0 { (energy / mean).max(FAINT) } else { 1.0 };
        self.energies.iter().map(|energy| (relative(energy) / self.energies.len() as f64) as f32).collect()
    }
}

/// Writes the statistics of the tables of a model.
pub(super) fn save(
    model: &Layered<'_>,
    mut head: Head,
    embedded: Option<&Embedded>,
    sequences: &[Vec<u32>],
    path: &Path,
) -> Result<()> {
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let n = tokens.max(1) as f64;
    let mut counts = vec![0.0; model.config().vocabulary];
    sequences.iter().flatten().for_each(|id| counts[*id as usize] += 1.0);
    let counts: Vec<f64> = counts.into_iter().map(|count: f64| count / n).collect();
    let predicted: Vec<f64> = head.variances.iter().map(|variance| variance / n).collect();
    let (embedding, positions, name) = model.tables();
    if let (None, Some(embedded)) = (&name, embedded) {
        head.inputs.add_sum(&embedded.gradients);
    }
    // Without gradients, outputs of other matrices have the importance 1, and these on average.
    let unit = if embedded.is_some() { 1.0 } else { counts.len() as f64 };
    let shares = |shares: Vec<f64>| -> Vec<f32> {
        let least = RARE / shares.len() as f64;
        shares.into_iter().map(|share| (unit * share.max(least)) as f32).collect()
    };
    let mut all: Vec<(String, &Gram, Vec<f32>)> = Vec::new();
    if let (Some(positions), Some(embedded)) = (positions, embedded) {
        all.push((positions, &embedded.gradients, embedded.positions()));
    }
    match (name, embedded) {
        // The rows are looked up at the input, and multiplied at the output.
        (None, _) => {
            let both = counts.iter().zip(&predicted).map(|(count, variance)| 0.5 * (count + variance)).collect();
            all.push((embedding, &head.inputs, shares(both)));
        }
        (Some(name), embedded) => {
            all.push((name, &head.inputs, shares(predicted)));
            all.extend(embedded.map(|embedded| (embedding, &embedded.gradients, shares(counts))));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut part = Part::default();
    for (tensor, inputs, outputs) in all {
        part.add(&tensor, InputAxis::Columns, Mean(inputs, n), Some(Outputs::Diagonal(outputs)))?;
    }
    part.write(path)
}
