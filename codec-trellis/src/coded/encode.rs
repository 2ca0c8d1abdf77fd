//! From multiples to sections.

use codec_api::{CodecError, Dtype, EncodeCx, Payload, Result, Section};
use entropy::{Encoder, STATES, Scales};

use super::alphabet::{Alphabet, Counts, ESCAPE, escaped};
use super::decode::{COLUMN_SCALES, ESCAPE_LENGTHS, ESCAPES, LENGTHS, LOW, ROW_SCALES, STREAMS, low_bytes};
use super::escapes::{self, Escape};
use super::inputs::Inputs;
use super::model::{CONTEXTS, MODEL, Model};
use super::points::Points;
use super::quantise::{Quantised, Source, too_large};
use super::segments::{Segments, width};
use super::stats::{Stats, Uppers};

/// Scales of rows and columns, and their coded planes.
#[derive(Clone, Debug)]
pub(super) struct Contexts {
    scales: Scales,
    planes: [Vec<u8>; 2],
}

impl Contexts {
    /// Whether a matrix is so large that scales of rows and columns may save more than their bytes.
    pub(super) fn pay(rows: usize, columns: usize) -> bool {
        rows >= 2 && columns >= 2 && rows * columns >= 1 << 12
    }

    /// From the sums of squares of rows and of columns; `None` if their means do not differ.
    pub(super) fn of([rows, columns]: &[Vec<f64>; 2]) -> Result<Option<Self>> {
        if !Self::pay(rows.len(), columns.len()) {
            return Ok(None);
        }
        let Some(scales) = Scales::of_logarithms(&logarithms(rows), &logarithms(columns)) else { return Ok(None) };
        let planes = scales.encode().map_err(CodecError::codec)?;
        Ok(Some(Self { scales, planes }))
    }

    fn bytes(&self) -> usize {
        self.planes.iter().map(Vec::len).sum()
    }
}

/// Logarithms of the square roots of sums, in parts of an octave.
fn logarithms(sums: &[f64]) -> Vec<i64> {
    let log = |sum: &f64| libm::round(0.5 * Scales::PER_OCTAVE as f64 * libm::log2(sum.max(1e-300))) as i64;
    sums.iter().map(log).collect()
}

/// A model and points for a quantised tensor, and their cost.
pub(super) struct Coding<'a> {
    model: Model,
    points: Points,
    contexts: Option<&'a Contexts>,
    /// Approximate bytes of the payload, without [`fixed_bytes`].
    pub bytes: f64,
    /// Those of them that do not grow with the number of rows.
    pub tables: f64,
    /// Squared error, in squared weights.
    pub distortion: f64,
}

impl<'a> Coding<'a> {
    /// The smallest coding. It uses `contexts` only if they save more than they cost.
    pub(super) fn best(found: &Quantised, segments: Segments, contexts: Option<&'a Contexts>) -> Option<Self> {
        let stats = &found.stats;
        let alphabet = Alphabet::best(stats);
        let uppers = stats.uppers(alphabet.low_bits);
        let mut model = Model::best(alphabet, &counts(&uppers, stats, alphabet))?;
        let mut used = None;
        if let Some(contexts) = contexts {
            let by_contexts = Model::best(alphabet, &counts_by(found, segments, alphabet, &contexts.scales))?;
            if by_contexts.size() + 8.0 * (contexts.bytes() as f64) < model.size() {
                (model, used) = (by_contexts, Some(contexts));
            }
        }
        let points = Points::fit(stats, found.plan.step);
        let step = f64::from(found.plan.step);
        let low = low_bytes(stats.weights, alphabet.low_bits);
        let large = stats.too_large as usize * escapes::WEIGHT_BYTES;
        let escaped = escaped(&uppers, alphabet.reach);
        let bytes =
            (model.size() + escaped) / 8.0 + (low + large + points.bytes() + used.map_or(0, Contexts::bytes)) as f64;
        let tables = (model.text_bytes() + used.map_or(0, |contexts| contexts.planes[1].len())) as f64;
        let distortion = points.distortion(stats, found.plan.step) * step * step;
        Some(Self { model, points, contexts: used, bytes, tables, distortion })
    }

    /// All sections.
    pub(super) fn payload(&self, source: &Source<'_>, found: &Quantised, cx: &EncodeCx<'_>) -> Result<Payload> {
        let mut parts = Parts::default();
        let encoder = Encoder::new(&self.model.frequencies);
        for segment in 0..source.segments.count() {
            cx.cancel.check()?;
            self.segment(segment, source, found, &encoder, &mut parts)?;
        }
        let mut payload = self.points.write(Payload::new())?.with(MODEL, self.model.section()?)?;
        if let Some(Contexts { planes: [rows, columns], .. }) = self.contexts {
            payload = payload.with(ROW_SCALES, Section::from_bytes(rows.clone())?)?;
            payload = payload.with(COLUMN_SCALES, Section::from_bytes(columns.clone())?)?;
        }
        payload = source.exponent.write(parts.write(payload)?)?;
        if let Some(inputs) = &source.inputs { inputs.write(payload) } else { Ok(payload) }
    }

    fn segment(
        &self,
        segment: usize,
        source: &Source<'_>,
        found: &Quantised,
        encoder: &Encoder,
        parts: &mut Parts,
    ) -> Result<()> {
        found.multiples.read(segment, &mut parts.multiples);
        let multiples = &parts.multiples;
        let tables = self.tables(source.segments.weights(segment).start, multiples);
        let alphabet = self.model.alphabet;
        let mut symbols: Vec<u8> = multiples.iter().map(|j| alphabet.symbol(alphabet.upper(*j))).collect();
        let weights = source.segment(segment);
        let inverse = 1.0 / found.plan.step;
        let escapes_before = parts.escapes.len();
        for (((symbol, table), j), w) in symbols.iter_mut().zip(&tables).zip(multiples).zip(weights.iter()) {
            let upper = alphabet.upper(*j);
            if too_large(w * inverse) {
                *symbol = ESCAPE;
                escapes::write(Escape::Weight(upper & 1 == 1, *w), &mut parts.escapes);
            } else if *symbol == ESCAPE || self.model.frequencies[usize::from(*table)].get(*symbol) == 0 {
                *symbol = ESCAPE;
                escapes::write(Escape::Upper(upper), &mut parts.escapes);
            }
        }
        parts.escape_lengths.push((parts.escapes.len() - escapes_before) as u32);
        let before = parts.streams.len();
        encoder
            .append_narrow(&symbols, &tables, width(symbols.len()), &mut parts.streams)
            .map_err(CodecError::codec)?;
        parts.lengths.push((parts.streams.len() - before) as u32);
        low_bits(multiples, alphabet.low_bits, &mut parts.low);
        Ok(())
    }

    /// The table of each weight.
    fn tables(&self, first: usize, multiples: &[i32]) -> Vec<u8> {
        let mut contexts = vec![0; multiples.len()];
        if let Some(Contexts { scales, .. }) = self.contexts {
            scales.contexts(first, &mut contexts);
        }
        let table = |(context, j): (&u8, &i32)| (self.model.tables_of[usize::from(*context)] >> (8 * (j & 1))) as u8;
        contexts.iter().zip(multiples).map(table).collect()
    }
}

/// The streams, escapes and low bits of all segments.
#[derive(Default)]
struct Parts {
    /// Those of the segment that is written.
    multiples: Vec<i32>,
    streams: Vec<u8>,
    lengths: Vec<u32>,
    escapes: Vec<u8>,
    escape_lengths: Vec<u32>,
    low: Vec<u8>,
}

impl Parts {
    fn write(mut self, mut payload: Payload) -> Result<Payload> {
        self.lengths.pop();
        self.escape_lengths.pop();
        let several = !self.lengths.is_empty();
        let lengths = |lengths: Vec<u32>| Section::from_values(Dtype::U32, [lengths.len()], lengths);
        payload = payload.with(STREAMS, Section::from_bytes(self.streams)?)?;
        if several {
            payload = payload.with(LENGTHS, lengths(self.lengths)?)?;
        }
        if !self.escapes.is_empty() {
            payload = payload.with(ESCAPES, Section::from_bytes(self.escapes)?)?;
            if several {
                payload = payload.with(ESCAPE_LENGTHS, lengths(self.escape_lengths)?)?;
            }
        }
        if self.low.is_empty() { Ok(payload) } else { payload.with(LOW, Section::from_bytes(self.low)?) }
    }
}

/// Appends the low bits of a segment. Each 32 weights give a word of 32 bits for each low bit, the
/// lowest first.
pub(crate) fn low_bits(multiples: &[i32], low_bits: u32, out: &mut Vec<u8>) {
    for step in multiples.chunks(STATES) {
        for plane in 0..low_bits {
            let mut word = 0u32;
            for (lane, j) in step.iter().enumerate() {
                word |= ((j >> 1 >> plane & 1) as u32) << lane;
            }
            out.extend(word.to_le_bytes());
        }
    }
}

/// Counts of each symbol by parity.
fn counts(uppers: &Uppers, stats: &Stats, alphabet: Alphabet) -> Vec<[u64; 256]> {
    let mut counts = vec![[0; 256]; 2];
    for (sides, counts) in uppers.iter().zip(&mut counts) {
        for (side, sign) in sides.iter().zip([1, -1]) {
            for (magnitude, n) in side.iter().enumerate() {
                counts[usize::from(alphabet.symbol(sign * magnitude as i32))] += u64::from(*n);
            }
        }
    }
    let_escape(&mut counts, stats);
    counts
}

/// If some weights are too large for multiples, an escape may occur in any context.
fn let_escape(counts: &mut Counts, stats: &Stats) {
    for counts in counts.iter_mut().filter(|counts| counts.iter().any(|n| *n > 0)) {
        counts[usize::from(ESCAPE)] += stats.too_large;
    }
}

/// Counts of each symbol by parity and context.
fn counts_by(found: &Quantised, segments: Segments, alphabet: Alphabet, scales: &Scales) -> Vec<[u64; 256]> {
    let mut counts = vec![[0; 256]; 2 * CONTEXTS];
    let (mut contexts, mut multiples) = (vec![0; segments.longest()], Vec::new());
    for segment in 0..segments.count() {
        let range = segments.weights(segment);
        let contexts = &mut contexts[..range.len()];
        scales.contexts(range.start, contexts);
        found.multiples.read(segment, &mut multiples);
        for (j, context) in multiples.iter().zip(contexts) {
            let id = CONTEXTS * (j & 1) as usize + usize::from(*context);
            counts[id][usize::from(alphabet.symbol(alphabet.upper(*j)))] += 1;
        }
    }
    let_escape(&mut counts, &found.stats);
    counts
}

/// Bytes besides [`Coding::bytes`]: states and lengths of the streams, exponent and inputs.
pub(super) fn fixed_bytes(source: &Source<'_>) -> f64 {
    /// Bits of the stream that a state of 32 bits holds.
    const HELD: f64 = 8.0;
    let segments = source.segments.count();
    let states: usize = (0..segments).map(|s| width(source.segments.weights(s).len())).sum();
    let inputs = source.inputs.as_ref().map_or(0, Inputs::bytes);
    let lengths = 4 * (segments - 1) + source.exponent.bytes() + inputs;
    states as f64 * (32.0 - HELD) / 8.0 + lengths as f64
}
