//! Compression of a whole model, each layer after what the compressed ones before it really give.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkpoint::Checkpoint;
use codec_api::util::narrowed;
use codec_api::{Codec, EncodeCx, InputAxis, Payload, TensorView};
use rayon::prelude::*;
use runtime::{Batch, Differentiable, Place, SideBySide};

use crate::calibrated::Calibrated;
use crate::drift::{Correction, Drift};
use crate::error::Result;
use crate::feedback::Fed;
use crate::statistics::{Statistics, batches};

/// Most batches of sequences that run through the model. Their activations are in memory.
pub(crate) const BATCHES: usize = 32;

/// A model that is compressed.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model, to read its tensors.
    pub source: &'a Checkpoint,
    /// The model, to run it.
    pub model: &'a Differentiable,
    /// Its statistics, with their sequences.
    pub statistics: &'a Statistics,
    /// Seed of the encodes.
    pub seed: u64,
}

/// Compresses a model with one damping.
#[derive(Clone, Copy, Debug)]
pub struct Sequential<'a> {
    /// What is compressed.
    pub subject: Subject<'a>,
    /// The factors of its statistics.
    pub calibrated: &'a Calibrated,
}

/// What a compression gives.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// By the names of the tensors.
    pub payloads: BTreeMap<String, Payload>,
    /// The KL divergence of the predictions from those of the dense model, in nats per token of the
    /// sequences that are held out; `None` if there are none.
    pub divergence: Option<f64>,
}

impl Compressed {
    /// Bytes of all payloads.
    pub fn bytes(&self) -> u64 {
        self.payloads.values().map(Payload::bytes).sum()
    }
}

/// The codec of a tensor; `None` if the tensor stays as it is.
pub type Choice<'a> = dyn Fn(&str, InputAxis) -> Result<Option<Arc<dyn Codec>>> + Sync + 'a;

impl Sequential<'_> {
    /// Encodes the matrices in the order in which tokens go through them, on rayon's current pool.
    ///
    /// Linear layers, but routers and experts, get the targets that make up best for the errors of
    /// earlier layers; then comes the feedback within the matrix. The result is the same with any
    /// number of threads.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] with the tensor whose curvature cannot be factorised, or that its
    /// codec refuses; those of the model.
    pub fn run(&self, codec: &Choice<'_>) -> Result<Compressed> {
        let mut sequences = batches(&self.subject.statistics.sequences);
        sequences.truncate(BATCHES);
        let kept = sequences.len();
        let all = [sequences, batches(&self.subject.statistics.held_out)].concat();
        let views: Vec<Vec<&[u32]>> = all.iter().map(|batch| batch.iter().map(|ids| &**ids).collect()).collect();
        let views: Vec<Batch<'_>> = views.iter().map(|sequences| Batch { sequences, first: 0 }).collect();

        let mut payloads = BTreeMap::new();
        let [embedding, positions] = self.tables(codec, &mut payloads)?;
        let mut pair = SideBySide::new(self.subject.model, &views, embedding.as_deref(), positions.as_deref())?;
        loop {
            let group = pair.group();
            if group.is_empty() {
                break;
            }
            for (name, fed) in self.group(codec, &pair, &group, kept)? {
                pair.replace(&name, &fed.decoded)?;
                payloads.insert(name, fed.payload);
            }
            pair.advance()?;
        }
        let tokens: usize = views[kept..].iter().map(Batch::tokens).sum();
        let divergence = (kept..views.len()).map(|batch| pair.divergence(batch)).sum::<f64>();
        Ok(Compressed { payloads, divergence: (tokens > 0).then(|| divergence / tokens as f64) })
    }

    /// Encodes the embedding and the positions.
    fn tables(&self, codec: &Choice<'_>, payloads: &mut BTreeMap<String, Payload>) -> Result<[Option<Vec<f32>>; 2]> {
        let (embedding, positions, _) = self.subject.model.tables();
        let mut decoded = [None, None];
        for (name, decoded) in [Some(embedding), positions].into_iter().zip(&mut decoded) {
            let Some(name) = name else { continue };
            let axis = self.calibrated.axis(name).unwrap_or(InputAxis::Columns);
            let Some(codec) = codec(name, axis)? else { continue };
            let (tensor, cx) = (self.subject.source.tensor(name)?, EncodeCx::for_tensor(self.subject.seed, name));
            let fed = self.calibrated.encode(name, &codec, &tensor, &cx).map_err(|error| error.of(name))?;
            payloads.insert(name.to_owned(), fed.payload);
            *decoded = Some(fed.decoded);
        }
        Ok(decoded)
    }

    /// Encodes the linear layers of a group.
    fn group(
        &self,
        codec: &Choice<'_>,
        pair: &SideBySide<'_>,
        group: &[Place],
        kept: usize,
    ) -> Result<Vec<(String, Fed)>> {
        let codecs = group.iter().map(|place| codec(&place.tensor, place.axis)).collect::<Result<Vec<_>>>()?;
        let chosen = || group.iter().zip(&codecs).filter_map(|(place, codec)| Some((place, codec.clone()?)));
        let Some((first, _)) = chosen().next() else { return Ok(Vec::new()) };
        let correct = || -> Result<Correction> {
            let (rows, columns) = self.subject.source.spec(&first.tensor)?.matrix();
            let mut drift = Drift::new(if first.axis == InputAxis::Columns { columns } else { rows });
            pair.inputs(0..kept, |inputs| drift.add(&inputs));
            drift.correction(self.calibrated.damping()).map_err(|error| error.of(&first.tensor))
        };
        let correction = pair.has_inputs().then(correct).transpose()?;
        let encode = |(place, codec): (&Place, Arc<dyn Codec>)| {
            let fed = self.encode(place, &codec, correction.as_ref()).map_err(|error| error.of(&place.tensor))?;
            Ok((place.tensor.clone(), fed))
        };
        chosen().collect::<Vec<_>>().into_par_iter().map(encode).collect()
    }

    fn encode(&self, place: &Place, codec: &Arc<dyn Codec>, correction: Option<&Correction>) -> Result<Fed> {
        let tensor = self.subject.source.tensor(&place.tensor)?;
        let cx = EncodeCx::for_tensor(self.subject.seed, &place.tensor);
        let Some(correction) = correction else {
            return self.calibrated.encode(&place.tensor, codec, &tensor, &cx);
        };
        let corrected = correction.apply(&tensor.to_finite_f32()?, place.axis);
        // A payload belongs to a dtype.
        let bytes = narrowed(tensor.spec().dtype(), &corrected)?;
        let corrected = TensorView::new(tensor.spec().clone(), &bytes)?;
        self.calibrated.encode(&place.tensor, codec, &corrected, &cx)
    }
}
