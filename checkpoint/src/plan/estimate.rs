//! What a plan will write and need, from a few pieces of the model that are encoded on trial.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use codec_api::{Codec, Registry};

use super::Plan;
use super::commit::{Frames, Piece};
use super::sample::{Group, Trial, TrialCost, fixed_size};
use crate::error::Error;
use crate::packed::{ChunkRecord, Hash, INTERVAL, KEY, head, header, section_name};

/// Memory of the program itself, and most memory of pages of the packed file while it is checked.
const PROGRAM: u64 = 14 << 20;
const PAGES: u64 = 64 << 20;

/// Bytes that the system copies, and a disk stores, in a second; and the seconds until a file is
/// safe on it. A dry run writes nothing, so it cannot measure them.
const DISK: f64 = 1e9;
const SYNC: f64 = 0.001;

/// What a plan will write and need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Estimate {
    /// The tensors by codec.
    pub shares: Vec<Share>,
    /// Bytes of the packed file, its header included.
    pub file_bytes: u64,
    /// Seconds of units and commit, with the check of the packed file.
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
    tensor: usize,
    group: Group,
    weights: u64,
    dense: u64,
    bytes: u64,
    /// Seconds of its own trial.
    cost: Option<TrialCost>,
}

impl SizedChunk {
    /// A part of its cost: of its own trial, or in proportion to another one of its group.
    fn seconds(&self, trials: &[Trial], part: impl Fn(&TrialCost) -> f64) -> f64 {
        match &self.cost {
            Some(cost) => part(cost),
            None => self.weights as f64 * per_weight(trials, self.group, |trial| part(&trial.cost)),
        }
    }
}

impl Plan {
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
        let chunks = |unit: &Vec<[usize; 2]>| unit.iter().filter_map(|chunk| sized.get(chunk)).collect();
        let units: Vec<Vec<&SizedChunk>> = self.units.iter().map(chunks).collect();
        Ok(Estimate {
            file_bytes,
            seconds: self.seconds(trials, &units, file_bytes, jobs),
            peak_bytes: peak(trials, &sized, &units, file_bytes, jobs),
            tried: trials.iter().map(|trial| trial.encoded.spec.elements() as u64).sum(),
            shares,
        })
    }

    /// Every chunk with its size: of its own trial, as the codec states it, or in proportion to the
    /// trials of its group.
    fn sized(&self, trials: &[Trial], codecs: &[Arc<dyn Codec>]) -> BTreeMap<[usize; 2], SizedChunk> {
        let mut known = BTreeMap::new();
        let mut rates = Vec::<(Group, [u64; 2])>::new();
        for trial in trials {
            let figures = [trial.encoded.payload.bytes(), trial.encoded.spec.byte_len() as u64];
            let rows = &trial.sample.rows;
            known.insert((trial.sample.tensor, rows.start, rows.end), (figures[0], trial.cost));
            let others = |other: &Trial| other.group == trial.group && !other.sample.timed;
            // A chunk that was taken for its time would count too much.
            if trial.sample.timed && trials.iter().any(others) {
                continue;
            }
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
                let (rows, weights) = (tensor.rows(chunk), tensor.weights(chunk));
                let dense = tensor.byte_len(weights);
                let codec = &*codecs[tensor.codec];
                let scaled = |(bytes, all): (&u64, &u64)| (dense as f64 * *bytes as f64 / *all as f64) as u64;
                let most = || tensor.spec.with_rows(rows.len()).map_or(dense, |spec| *codec.cost(&spec).bytes.end());
                let own = known.get(&(i, rows.start, rows.end));
                let (bytes, cost) = (own.map(|(bytes, _)| *bytes), own.map(|(_, cost)| *cost));
                let bytes = bytes.or_else(|| fixed_size(codec, tensor, rows.len())).or_else(|| contest.map(scaled));
                let bytes = bytes.or_else(|| rate.map(scaled)).unwrap_or_else(most);
                sized.insert([i, chunk], SizedChunk { tensor: i, group, weights, dense, bytes, cost });
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
                let record = if own(&trial) { record } else { with_own_digits(record, &tensor.name) };
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
        let head = match self.max_shard_size {
            // The manifest of a set is text.
            Some(_) => header(specs, (KEY, &text)),
            None => head(specs, &text),
        };
        let head = head.map_err(|reason| self.wrong(reason))?;
        Ok((head.len() + pieces.iter().map(|frame| frame.entry().1.byte_len()).sum::<usize>()) as u64)
    }
}

/// The record with other hashes and errors, which compress as badly as those of the chunk will.
fn with_own_digits(mut record: ChunkRecord, tensor: &str) -> ChunkRecord {
    let rows = record.rows;
    let own = |of: &str| Hash::of(format!("{of} {tensor} {rows:?}").as_bytes());
    let digits = |of: &str| own(of).0.first_chunk().map_or(0, |digits| u32::from_le_bytes(*digits));
    record.blake3 = own("");
    record.sections.iter_mut().for_each(|(section, checksum)| *checksum = digits(section));
    let certificate = &mut record.certificate;
    let errors = [&mut certificate.max_abs, &mut certificate.squared_error, &mut certificate.energy];
    for (error, of) in errors.into_iter().zip(["max_abs", "squared_error", "energy"]) {
        *error *= 1.0 + f64::from(digits(of)) * 1e-12;
    }
    record
}

/// A figure of the timed trial of a group, in proportion to its weights; of any if the group has
/// none.
fn per_weight(trials: &[Trial], group: Group, figure: impl Fn(&Trial) -> f64) -> f64 {
    let mut timed = trials.iter().filter(|trial| trial.sample.timed);
    let trial = timed.clone().find(|trial| trial.group == group).or_else(|| timed.next());
    trial.map_or(0.0, |trial| figure(trial) / trial.encoded.spec.elements().max(1) as f64)
}

impl Plan {
    fn seconds(&self, trials: &[Trial], units: &[Vec<&SizedChunk>], file_bytes: u64, jobs: usize) -> f64 {
        // Each thread takes the next unit when it has done one.
        let mut threads = vec![0.0f64; jobs.max(1)];
        let mut check = 0.0;
        for chunks in units {
            let mut unit = SYNC;
            for chunk in chunks {
                unit += chunk.seconds(trials, |cost| cost.encode);
                check += chunk.seconds(trials, |cost| cost.check);
            }
            let tensors: BTreeSet<usize> = chunks.iter().map(|chunk| chunk.tensor).collect();
            unit += tensors.into_iter().map(|tensor| self.survey_seconds(tensor, trials)).sum::<f64>();
            if let Some(first) = threads.iter_mut().min_by(|a, b| a.total_cmp(b)) {
                *first += unit;
            }
        }
        let encode = threads.into_iter().fold(0.0, f64::max);
        // One thread copies the sections, and the others check them. Meanwhile the disk stores
        // them, but for what was copied last.
        let copy = file_bytes as f64 / DISK;
        encode + copy.max((copy + check) / jobs as f64) + copy.min(INTERVAL.as_secs_f64()) + 4.0 * SYNC
    }

    /// Seconds of the survey of a tensor, in proportion to its weights.
    fn survey_seconds(&self, tensor: usize, trials: &[Trial]) -> f64 {
        let planned = &self.tensors[tensor];
        let group = (planned.codec, planned.spec.dtype());
        let timed = trials.iter().find(|trial| trial.sample.timed && trial.group == group);
        timed.filter(|_| planned.chunks() > 1).map_or(0.0, |trial| {
            let all = self.tensors[trial.sample.tensor].spec.elements() as f64;
            trial.cost.survey * planned.spec.elements() as f64 / all
        })
    }
}

/// The larger of what the units need and what the check needs.
fn peak(
    trials: &[Trial],
    sized: &BTreeMap<[usize; 2], SizedChunk>,
    units: &[Vec<&SizedChunk>],
    file_bytes: u64,
    jobs: usize,
) -> u64 {
    let scaled = |chunk: &SizedChunk, heap: fn(&TrialCost) -> u64| {
        (per_weight(trials, chunk.group, |trial| heap(&trial.cost) as f64) * chunk.weights as f64) as u64
    };
    // A unit holds its payloads until they are written, and the pages of one chunk.
    let need = |chunks: &Vec<&SizedChunk>| {
        let payloads: u64 = chunks.iter().map(|chunk| chunk.bytes).sum();
        payloads + chunks.iter().map(|chunk| chunk.dense + scaled(chunk, |cost| cost.heap)).max().unwrap_or(0)
    };
    let mut needs: Vec<u64> = units.iter().map(need).collect();
    needs.sort_by_key(|bytes| Reverse(*bytes));
    let encode: u64 = needs.iter().take(jobs).sum();
    let check = sized.values().map(|chunk| scaled(chunk, |cost| cost.check_heap)).max().unwrap_or(0);
    PROGRAM + encode.max(jobs as u64 * check + file_bytes.min(PAGES))
}
