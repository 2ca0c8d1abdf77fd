//! Pieces of a model that are encoded on trial.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use codec_api::{BaseTensor, Chunking, Codec, CodecError, DecodeCx, Dtype, EncodedTensor, Registry, TensorView};

use super::run::{Shared, TriedRows};
use super::{Plan, PlannedTensor};
use crate::error::Error;
use crate::packed::{ChunkRecord, Hash};

/// Pieces of each group of tensors, and weights of a piece.
const PIECES: usize = 16;
const WEIGHTS: usize = 1 << 17;

/// Pieces of a codec whose size is known without a trial.
const FIXED: usize = 4;

/// The tensors that share their figures: those of one codec and dtype.
pub(super) type Group = (usize, Dtype);

/// Rows of a tensor that are to be encoded on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub(super) tensor: usize,
    pub(super) rows: Range<usize>,
    /// Whether it is a chunk of the plan whose time and memory stand for others.
    pub(super) timed: bool,
}

/// What a sample shares with the other chunks of its tensor ([`Plan::survey_sample`]).
#[derive(Debug)]
pub struct SampleStatistics(Shared);

/// Rows that were encoded on trial.
#[derive(Debug)]
pub struct Trial {
    pub(super) sample: Sample,
    pub(super) group: Group,
    pub(super) record: ChunkRecord,
    pub(super) encoded: EncodedTensor,
    /// Hash and rows of the base.
    base: Option<(Hash, Bytes)>,
    /// What it has cost; nothing until the caller says it.
    pub cost: TrialCost,
}

/// What a trial has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrialCost {
    /// Seconds of [`Plan::survey_sample`].
    pub survey: f64,
    /// Seconds of [`Plan::encode_sample`].
    pub encode: f64,
    /// Seconds of [`Trial::check`].
    pub check: f64,
    /// Largest heap memory of survey and encoding, in bytes.
    pub heap: u64,
    /// Largest heap memory of the check, in bytes.
    pub check_heap: u64,
}

impl Sample {
    /// Whether its time and memory count.
    pub fn is_timed(&self) -> bool {
        self.timed
    }
}

impl TrialCost {
    /// Seconds of all steps.
    pub fn seconds(&self) -> f64 {
        self.survey + self.encode + self.check
    }
}

impl Trial {
    /// Decodes the rows and compares them with their hash, as the check of a packed file does.
    ///
    /// # Errors
    /// Those of the codec.
    pub fn check(&self) -> Result<bool, CodecError> {
        let mut cx = DecodeCx::new();
        if let Some((hash, bytes)) = &self.base {
            cx = cx.with_base(BaseTensor::with_id(hash.0, TensorView::new(self.encoded.spec.clone(), bytes)?));
        }
        let mut hasher = blake3::Hasher::new();
        self.encoded.visit_stored(&cx, |_, bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(Hash(hasher.finalize().into()) == self.record.blake3)
    }
}

impl Plan {
    /// Pieces of the model for trials. Of each codec and dtype the largest chunk, whose time and
    /// memory count, and for the size about two million weights at equal distances, beginning at a
    /// place that the seed decides, or all chunks if they have no more; fewer if the codec's size
    /// is known without a trial.
    ///
    /// # Errors
    /// [`Error::Plan`] if a codec is not in `registry`.
    pub fn samples(&self, registry: &Registry) -> Result<Vec<Sample>, Error> {
        let codecs = self.make_codecs(registry)?;
        let mut groups = BTreeMap::<(usize, String), Vec<(Sample, usize)>>::new();
        for (i, tensor) in self.stored() {
            let group = groups.entry((tensor.codec, tensor.spec.dtype().to_string())).or_default();
            for chunk in 0..tensor.chunks() {
                let sample = Sample { tensor: i, rows: tensor.rows(chunk), timed: false };
                group.push((sample, tensor.weights(chunk) as usize));
            }
        }
        let mut samples = Vec::new();
        for ((codec, _), chunks) in &groups {
            let codec = &*codecs[*codec];
            let fixed = |(sample, _): &(Sample, usize)| {
                fixed_size(codec, &self.tensors[sample.tensor], sample.rows.len()).is_some()
            };
            let pieces = if chunks.iter().all(fixed) { FIXED } else { PIECES };
            // Of equal ones the first.
            let largest = chunks.iter().enumerate().max_by_key(|(i, (_, weights))| (*weights, Reverse(*i)));
            let largest = largest.map(|(_, (sample, _))| sample);
            samples.extend(largest.map(|sample| Sample { timed: true, ..sample.clone() }));
            let mut pieces = self.sample_group(chunks, pieces, codec);
            pieces.retain(|piece| Some(piece) != largest);
            samples.extend(pieces);
        }
        Ok(samples)
    }

    /// Takes pieces of these chunks, at equal distances.
    fn sample_group(&self, chunks: &[(Sample, usize)], pieces: usize, codec: &dyn Codec) -> Vec<Sample> {
        let all: usize = chunks.iter().map(|(_, weights)| weights).sum();
        if all <= pieces * WEIGHTS {
            return chunks.iter().map(|(sample, _)| sample.clone()).collect();
        }
        let mut out = Vec::new();
        let step = all / pieces;
        let mut next = usize::from(Hash::of(&self.seed.to_le_bytes()).0[0]) * step / 256;
        let mut begin = 0;
        for (sample, weights) in chunks {
            while next < begin + weights {
                let tensor = &self.tensors[sample.tensor];
                let columns = tensor.spec.matrix().1.max(1);
                out.extend(piece(sample, (next - begin) / columns, tensor, codec));
                next += step;
            }
            begin += weights;
        }
        out.dedup();
        out
    }

    /// The statistics that the chunks of the sample's tensor share, if time and memory of the
    /// sample count and its codec needs them.
    ///
    /// # Errors
    /// As [`Self::run_unit`].
    pub fn survey_sample(&self, sample: &Sample, registry: &Registry) -> Result<SampleStatistics, Error> {
        let survey = || self.survey_tensor(sample.tensor, registry);
        Ok(SampleStatistics(if sample.timed { survey()? } else { Ok(None) }))
    }

    /// Encodes a sample as a unit would.
    ///
    /// # Errors
    /// As [`Self::run_unit`].
    pub fn encode_sample(
        &self,
        sample: &Sample,
        statistics: &SampleStatistics,
        registry: &Registry,
    ) -> Result<Trial, Error> {
        let tensor = &self.tensors[sample.tensor];
        let TriedRows { record, payload, base } =
            self.try_rows(sample.tensor, &sample.rows, &statistics.0, registry)?;
        let codec = registry.parse_header(self.codecs[record.codec].get()).map_err(|e| self.wrong(e.to_string()))?;
        let spec = tensor.spec.with_rows(sample.rows.len());
        let encoded = spec.and_then(|spec| EncodedTensor::from_parts(spec, codec, payload, record.certificate));
        let encoded = encoded.map_err(|e| self.wrong(e.to_string()))?;
        let group = (tensor.codec, tensor.spec.dtype());
        Ok(Trial { sample: sample.clone(), group, record, encoded, base, cost: TrialCost::default() })
    }

    /// The tensors that are stored themselves.
    pub(super) fn stored(&self) -> impl Iterator<Item = (usize, &PlannedTensor)> {
        self.tensors.iter().enumerate().filter(|(_, tensor)| tensor.is_stored())
    }
}

/// The size of the payload of so many rows, if it does not depend on the values.
pub(super) fn fixed_size(codec: &dyn Codec, tensor: &PlannedTensor, rows: usize) -> Option<u64> {
    let bytes = codec.cost(&tensor.spec.with_rows(rows).ok()?).bytes;
    (bytes.start() == bytes.end()).then(|| *bytes.end())
}

/// Rows of the chunk around `row`, as many as a piece has; `None` if the codec does not cut the
/// tensor and it is too large for a trial.
fn piece(chunk: &Sample, row: usize, tensor: &PlannedTensor, codec: &dyn Codec) -> Option<Sample> {
    let (first, end) = (chunk.rows.start, chunk.rows.end);
    let columns = tensor.spec.matrix().1.max(1);
    if (end - first) * columns <= WEIGHTS {
        return Some(chunk.clone());
    }
    let Chunking::Rows(granule) = codec.chunking(&tensor.spec) else {
        return ((end - first) * columns <= PIECES * WEIGHTS).then(|| chunk.clone());
    };
    // Eight rows of any dtype are whole bytes.
    let granule = granule.get().next_multiple_of(if tensor.spec.dtype().bitsize() < 8 { 8 } else { 1 });
    let rows = (WEIGHTS / columns).next_multiple_of(granule).max(granule);
    let begin = (first + row).min(end.saturating_sub(rows)).max(first);
    let begin = first + (begin - first) / granule * granule;
    Some(Sample { tensor: chunk.tensor, rows: begin..(begin + rows).min(end), timed: false })
}
