//! What a plan will write and need, from a few pieces of the model that are encoded on trial.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use codec_api::{BaseTensor, Chunking, Codec, CodecError, DecodeCx, Dtype, EncodedTensor, Registry, TensorView};

use super::commit::{Frames, Piece};
use super::run::TriedRows;
use super::{Plan, PlannedTensor};
use crate::error::Error;
use crate::packed::{ChunkRecord, Hash, KEY, header, section_name};

/// Pieces of each group of tensors, and weights of a piece.
const PIECES: usize = 16;
const WEIGHTS: usize = 1 << 17;

/// Pieces of a codec whose size is known without a trial.
const FIXED: usize = 4;

/// Memory of the program itself, and most memory of pages of the packed file while it is checked.
const PROGRAM: u64 = 14 << 20;
const PAGES: u64 = 64 << 20;

/// Bytes that a disk reads or writes in a second, and the seconds until a file is safe on it.
const DISK: f64 = 1e9;
const SYNC: f64 = 0.005;

/// The tensors that share their figures: those of one codec and dtype.
type Group = (usize, Dtype);

/// Rows of a tensor that are to be encoded on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    tensor: usize,
    rows: Range<usize>,
}

/// Rows that were encoded on trial.
#[derive(Debug)]
pub struct Trial {
    sample: Sample,
    group: Group,
    record: ChunkRecord,
    encoded: EncodedTensor,
    /// Hash and rows of the base.
    base: Option<(Hash, Bytes)>,
    cost: TrialCost,
}

/// What a trial has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrialCost {
    /// Seconds of [`Plan::encode_sample`].
    pub encode: f64,
    /// Seconds of [`Trial::check`].
    pub check: f64,
    /// Largest heap memory of the encode, in bytes.
    pub heap: u64,
}

/// What a plan will write and need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Estimate {
    /// The tensors by codec.
    pub shares: Vec<Share>,
    /// Bytes of the packed file, its header included.
    pub file_bytes: u64,
    /// Seconds of all steps, with the check of the packed file.
    pub seconds: f64,
    /// Largest memory of the process, in bytes.
    pub peak_bytes: u64,
    /// Number of weights that were encoded on trial.
    pub tried: u64,
}

/// What a plan will write with one codec.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Share {
    /// The codec.
    pub codec: Arc<dyn Codec>,
    /// Number of tensors; of those with the same bytes, one counts.
    pub tensors: usize,
    /// Bytes of the tensors in their stored dtypes.
    pub dense_bytes: u64,
    /// Bytes of their sections.
    pub bytes: u64,
}

/// A chunk of the plan with its estimated size.
struct SizedChunk {
    group: Group,
    weights: u64,
    dense: u64,
    bytes: u64,
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
        Ok(Hash::of(&self.encoded.decode_bytes(&cx)?) == self.record.blake3)
    }

    /// With what the trial has cost.
    #[must_use]
    pub fn with_cost(mut self, cost: TrialCost) -> Self {
        self.cost = cost;
        self
    }
}

impl Plan {
    /// Pieces of the model for trials. Of each codec and dtype about two million weights at equal
    /// distances, beginning at a place that the seed decides, or all chunks if they have no more;
    /// fewer if the codec's size is known without a trial.
    ///
    /// # Errors
    /// [`Error::Plan`] if a codec is not in `registry`.
    pub fn samples(&self, registry: &Registry) -> Result<Vec<Sample>, Error> {
        let codecs = self.make_codecs(registry)?;
        let mut groups = BTreeMap::<(usize, String), Vec<(Sample, usize)>>::new();
        for (i, tensor) in self.stored() {
            let group = groups.entry((tensor.codec, tensor.spec.dtype().to_string())).or_default();
            for chunk in 0..tensor.chunks() {
                let rows = tensor.rows(chunk);
                let weights = rows.len() * tensor.spec.matrix().1;
                group.push((Sample { tensor: i, rows }, weights));
            }
        }
        let mut samples = Vec::new();
        for ((codec, _), chunks) in &groups {
            let fixed = |(sample, _): &(Sample, usize)| self.fixed_size(&*codecs[*codec], sample).is_some();
            let pieces = if chunks.iter().all(fixed) { FIXED } else { PIECES };
            self.sample_group(chunks, pieces, &*codecs[*codec], &mut samples);
        }
        Ok(samples)
    }

    /// Takes pieces of these chunks, at equal distances.
    fn sample_group(&self, chunks: &[(Sample, usize)], pieces: usize, codec: &dyn Codec, out: &mut Vec<Sample>) {
        let all: usize = chunks.iter().map(|(_, weights)| weights).sum();
        if all <= pieces * WEIGHTS {
            out.extend(chunks.iter().map(|(sample, _)| sample.clone()));
            return;
        }
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
    }

    /// Encodes a sample as a unit would.
    ///
    /// # Errors
    /// As [`Self::run_unit`].
    pub fn encode_sample(&self, sample: &Sample, registry: &Registry) -> Result<Trial, Error> {
        let tensor = &self.tensors[sample.tensor];
        let TriedRows { record, payload, base } = self.try_rows(sample.tensor, &sample.rows, registry)?;
        let codec = registry.parse_header(self.codecs[record.codec].get()).map_err(|e| self.wrong(e.to_string()))?;
        let spec = tensor.spec.with_rows(sample.rows.len());
        let encoded = spec.and_then(|spec| EncodedTensor::from_parts(spec, codec, payload, record.certificate));
        let encoded = encoded.map_err(|e| self.wrong(e.to_string()))?;
        let group = (tensor.codec, tensor.spec.dtype());
        Ok(Trial { sample: sample.clone(), group, record, encoded, base, cost: TrialCost::default() })
    }

    /// What the plan will write and need with this number of threads, from the trials of
    /// [`Self::samples`]. Chunks of a group without a trial, because they are too large for one,
    /// count as the most that their codec states.
    ///
    /// # Errors
    /// [`Error::Plan`] if a codec is not in `registry`, or the model is too large for one file.
    pub fn estimate(&self, trials: &[Trial], jobs: usize, registry: &Registry) -> Result<Estimate, Error> {
        let codecs = self.make_codecs(registry)?;
        let sized = self.sized(trials, &codecs);
        let none = |codec: &Arc<dyn Codec>| Share { codec: Arc::clone(codec), tensors: 0, dense_bytes: 0, bytes: 0 };
        let mut shares: Vec<Share> = codecs.iter().map(none).collect();
        self.stored().for_each(|(_, tensor)| shares[tensor.codec].tensors += 1);
        for chunk in sized.values() {
            shares[chunk.group.0].dense_bytes += chunk.dense;
            shares[chunk.group.0].bytes += chunk.bytes;
        }
        shares.retain(|share| share.tensors > 0);
        let sections: u64 = shares.iter().map(|share| share.bytes).sum();
        let file_bytes = sections + self.header_bytes(trials)?;
        let units = self.unit_figures(&sized);
        Ok(Estimate {
            file_bytes,
            seconds: seconds(trials, &sized, &units, file_bytes, jobs),
            peak_bytes: peak(trials, &sized, &units, file_bytes, jobs),
            tried: trials.iter().map(|trial| trial.encoded.spec.elements() as u64).sum(),
            shares,
        })
    }

    /// The tensors that are stored themselves.
    fn stored(&self) -> impl Iterator<Item = (usize, &PlannedTensor)> {
        self.tensors.iter().enumerate().filter(|(_, tensor)| tensor.is_stored())
    }

    /// The size of the payload, if it does not depend on the values.
    fn fixed_size(&self, codec: &dyn Codec, sample: &Sample) -> Option<u64> {
        let spec = self.tensors[sample.tensor].spec.with_rows(sample.rows.len()).ok()?;
        let bytes = codec.cost(&spec).bytes;
        (bytes.start() == bytes.end()).then(|| *bytes.end())
    }

    /// Every chunk with its size: of its own trial, as the codec states it, or in proportion to the
    /// trials of its group.
    fn sized(&self, trials: &[Trial], codecs: &[Arc<dyn Codec>]) -> BTreeMap<[usize; 2], SizedChunk> {
        let mut known = BTreeMap::new();
        let mut rates = Vec::<(Group, [u64; 2])>::new();
        for trial in trials {
            let figures = [trial.encoded.payload.bytes(), trial.encoded.spec.byte_len() as u64];
            known.insert((trial.sample.tensor, trial.sample.rows.start, trial.sample.rows.end), figures[0]);
            match rates.iter_mut().find(|(group, _)| *group == trial.group) {
                Some((_, sum)) => *sum = [sum[0] + figures[0], sum[1] + figures[1]],
                None => rates.push((trial.group, figures)),
            }
        }
        let mut sized = BTreeMap::new();
        for (i, tensor) in self.stored() {
            let group = (tensor.codec, tensor.spec.dtype());
            let rate = rates.iter().find(|(known, _)| *known == group).map(|(_, [bytes, dense])| (bytes, dense));
            // The choice of the codec has encoded the whole tensor.
            let contest = tensor.tried.first().and_then(|tried| tried.bytes);
            let all = tensor.spec.byte_len() as u64;
            let contest = contest.as_ref().map(|bytes| (bytes, &all));
            for chunk in 0..tensor.chunks() {
                let rows = tensor.rows(chunk);
                let weights = (rows.len() * tensor.spec.matrix().1) as u64;
                let dense = weights * tensor.spec.dtype().bitsize() as u64 / 8;
                let sample = Sample { tensor: i, rows: rows.clone() };
                let codec = &*codecs[tensor.codec];
                let scaled = |(bytes, all): (&u64, &u64)| (dense as f64 * *bytes as f64 / *all as f64) as u64;
                let most = || tensor.spec.with_rows(rows.len()).map_or(dense, |spec| *codec.cost(&spec).bytes.end());
                let bytes = known.get(&(i, rows.start, rows.end)).copied();
                let bytes = bytes.or_else(|| self.fixed_size(codec, &sample)).or_else(|| contest.map(scaled));
                let bytes = bytes.or_else(|| rate.map(scaled));
                sized.insert([i, chunk], SizedChunk { group, weights, dense, bytes: bytes.unwrap_or_else(most) });
            }
        }
        sized
    }

    /// Bytes of the header with its manifest, and of the frames. Chunks that were not tried have
    /// the record of another one.
    fn header_bytes(&self, trials: &[Trial]) -> Result<u64, Error> {
        let mut chunks: Vec<Vec<ChunkRecord>> = self.tensors.iter().map(|_| Vec::new()).collect();
        let mut named = Vec::new();
        for (i, tensor) in self.stored() {
            let group = (tensor.codec, tensor.spec.dtype());
            for chunk in 0..tensor.chunks() {
                let rows = tensor.rows(chunk);
                let own = |trial: &&Trial| trial.sample.tensor == i && trial.sample.rows == rows;
                let like = || trials.iter().find(|trial| trial.group == group).or(trials.first());
                let Some(trial) = trials.iter().find(own).or_else(like) else { continue };
                let record = ChunkRecord { rows: [rows.start, rows.end], ..trial.record.clone() };
                let sections = trial.encoded.payload.sections().iter();
                named.extend(sections.map(|(name, section)| (section_name(&tensor.name, chunk, name), section.spec())));
                chunks[i].push(record);
            }
        }
        let Frames { pieces, files, index } = self.frames()?;
        let text = serde_json::to_string(&self.manifest(files, index, chunks)?);
        let text = text.map_err(|e| self.wrong(e.to_string()))?;
        let specs = named.iter().map(|(name, spec)| (name.as_str(), *spec));
        let specs = specs.chain(pieces.iter().map(Piece::entry));
        let head = header(specs, (KEY, &text)).map_err(|reason| self.wrong(reason))?;
        Ok((head.len() + pieces.iter().map(|frame| frame.entry().1.byte_len()).sum::<usize>()) as u64)
    }

    /// Source bytes, part bytes and largest chunk of every unit, the largest unit first.
    fn unit_figures<'a>(&self, sized: &'a BTreeMap<[usize; 2], SizedChunk>) -> Vec<(u64, u64, Vec<&'a SizedChunk>)> {
        let unit = |pieces: &Vec<[usize; 2]>| {
            let chunks: Vec<_> = pieces.iter().filter_map(|piece| sized.get(piece)).collect();
            (chunks.iter().map(|chunk| chunk.dense).sum(), chunks.iter().map(|chunk| chunk.bytes).sum(), chunks)
        };
        let mut units: Vec<(u64, u64, Vec<&SizedChunk>)> = self.units.iter().map(unit).collect();
        units.sort_by_key(|(dense, bytes, _)| Reverse(dense + bytes));
        units
    }
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
    Some(Sample { tensor: chunk.tensor, rows: begin..(begin + rows).min(end) })
}

/// A figure of the trials of a group in proportion to their weights; of all trials if the group has
/// none.
fn per_weight(trials: &[Trial], group: Group, figure: impl Fn(&Trial) -> f64) -> f64 {
    let of = |wanted: &dyn Fn(&Trial) -> bool| {
        let chosen = trials.iter().filter(|trial| wanted(trial));
        let sums = chosen.fold((0.0, 0), |(sum, n), t| (sum + figure(t), n + t.encoded.spec.elements()));
        (sums.1 > 0).then(|| sums.0 / sums.1 as f64)
    };
    of(&|trial| trial.group == group).or_else(|| of(&|_| true)).unwrap_or(0.0)
}

type Units<'a> = [(u64, u64, Vec<&'a SizedChunk>)];

fn seconds(
    trials: &[Trial],
    sized: &BTreeMap<[usize; 2], SizedChunk>,
    units: &Units<'_>,
    file_bytes: u64,
    jobs: usize,
) -> f64 {
    let mut rates = BTreeMap::new();
    let mut encode = |chunk: &SizedChunk| {
        let key = (chunk.group.0, chunk.group.1.to_string());
        let rate = rates.entry(key).or_insert_with(|| {
            [|t: &Trial| t.cost.encode, |t: &Trial| t.cost.check].map(|of| per_weight(trials, chunk.group, of))
        });
        rate.map(|rate| rate * chunk.weights as f64)
    };
    let mut longest = 0.0f64;
    let mut all = 0.0;
    for (_, _, chunks) in units {
        let unit: f64 = chunks.iter().map(|chunk| encode(chunk)[0]).sum();
        longest = longest.max(unit);
        all += unit + SYNC;
    }
    let check: f64 = sized.values().map(|chunk| encode(chunk)[1]).sum();
    // The parts are written and read, and so is the packed file.
    let disk = 4.0 * file_bytes as f64 / DISK + 4.0 * SYNC;
    (all / jobs as f64).max(longest) + check / jobs as f64 + disk
}

/// The larger of what the units need and what the check needs.
fn peak(
    trials: &[Trial],
    sized: &BTreeMap<[usize; 2], SizedChunk>,
    units: &Units<'_>,
    file_bytes: u64,
    jobs: usize,
) -> u64 {
    let heap = |chunk: &SizedChunk| {
        (per_weight(trials, chunk.group, |trial| trial.cost.heap as f64) * chunk.weights as f64) as u64
    };
    let largest =
        |chunks: &[&SizedChunk]| chunks.iter().max_by_key(|chunk| chunk.weights).map_or(0, |chunk| heap(chunk));
    let unit = |(dense, bytes, chunks): &(u64, u64, Vec<&SizedChunk>)| dense + bytes + largest(chunks);
    let encode: u64 = units.iter().take(jobs).map(unit).sum();
    let decoded = sized.values().map(|chunk| 2 * chunk.dense).max().unwrap_or(0);
    PROGRAM + encode.max(jobs as u64 * decoded + file_bytes.min(PAGES))
}
