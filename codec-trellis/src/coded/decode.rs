//! From sections to weights.

use std::ops::Range;

use codec_api::{Bytes, Cancel, CodecError, Dtype, PayloadView, Result, TensorSpec};
use entropy::{Decoder, LaneSymbols, STATES, Scales};
use simd::{LANES, Table, kernel, lanes, load, store};

use super::alphabet::{Alphabet, ESCAPE};
use super::escapes::{self, Escape};
use super::exponent::Exponent;
use super::inputs::Inputs;
use super::machine::{Machine, States};
use super::metric::Lanes;
use super::model::{CONTEXTS, Model};
use super::points::{self, Points};
use super::segments::{Segments, width};

/// Names of sections.
pub(super) const STREAMS: &str = "streams";
pub(super) const LENGTHS: &str = "lengths";
pub(super) const LOW: &str = "low";
pub(super) const ESCAPES: &str = "escapes";
pub(super) const ESCAPE_LENGTHS: &str = "escape_lengths";
pub(super) const ROW_SCALES: &str = "rows";
pub(super) const COLUMN_SCALES: &str = "columns";

/// Weights that are decoded at a time: a multiple of [`STATES`].
const TILE: usize = 2048;

/// A payload of segments, checked as far as possible without decoding.
#[derive(Debug)]
pub(super) struct Reader {
    shape: (usize, usize),
    machine: Machine,
    segments: Segments,
    alphabet: Alphabet,
    tables_of: [u16; CONTEXTS],
    decoder: Decoder,
    /// Number of tables of the decoder.
    tables: usize,
    points: Points,
    exponent: Exponent,
    scales: Option<Scales>,
    inputs: Option<Inputs>,
    /// The stream, the escapes and the low bits of each segment.
    parts: Vec<[Bytes; 3]>,
    /// Full names of the sections of streams and of escapes.
    names: [String; 2],
}

impl Reader {
    /// `spec` has elements.
    pub(super) fn new(states: States, spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Self> {
        let segments = Segments::of(spec);
        // Checks the size before any allocation.
        let (bytes, least) = (payload.byte_section(STREAMS)?.len() as u64, segments.state_bytes());
        if bytes < least {
            return Err(payload.corrupt(STREAMS, format!("{bytes} bytes; the states alone take {least}")));
        }
        let scales = read_scales(spec, payload)?;
        let model = Model::read(payload, if scales.is_some() { CONTEXTS } else { 1 })?;
        let streams = cut(payload, STREAMS, LENGTHS, segments)?;
        let escapes = if payload.has(ESCAPES) {
            cut(payload, ESCAPES, ESCAPE_LENGTHS, segments)?
        } else {
            vec![Bytes::new(); segments.count()]
        };
        let low = low_parts(payload, segments, model.alphabet.low_bits)?;
        let parts: Vec<_> = streams.into_iter().zip(escapes).zip(low).map(|((s, e), l)| [s, e, l]).collect();
        Ok(Self {
            shape: spec.matrix(),
            machine: Machine::new(states.get()),
            segments,
            alphabet: model.alphabet,
            tables_of: model.tables_of,
            decoder: Decoder::new(&model.frequencies),
            tables: model.frequencies.len().next_power_of_two(),
            points: Points::read(payload)?,
            exponent: Exponent::read(payload)?,
            scales,
            inputs: Inputs::read(spec, payload)?,
            parts,
            names: [STREAMS, ESCAPES].map(|name| full_name(payload, name)),
        })
    }

    /// Rows of a segment; 0 if a row is longer.
    pub(super) fn granule(&self) -> usize {
        self.segments.longest() / self.shape.1
    }

    pub(super) fn resident_bytes(&self) -> usize {
        let of_scales = if self.scales.is_some() { self.shape.0 + self.shape.1 } else { 0 };
        let of_inputs = self.inputs.as_ref().map_or(0, Inputs::resident_bytes);
        let of_parts: usize = self.parts.as_flattened().iter().map(|part| size_of::<Bytes>() + part.len()).sum();
        size_of::<Self>() + TABLE_BYTES * self.tables + of_scales + of_inputs + of_parts
    }

    /// Decodes a range of the flat tensor.
    pub(super) fn decode(&self, weights: Range<usize>, cancel: &Cancel, out: &mut [f32]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let mut rest = out;
        for segment in self.segments.holding(&weights) {
            cancel.check()?;
            let all = self.segments.weights(segment);
            let wanted = all.start.max(weights.start)..all.end.min(weights.end);
            let (now, after) = rest.split_at_mut(wanted.len());
            self.segment(segment, &wanted, now)?;
            if let Some(inputs) = &self.inputs {
                inputs.multiply(wanted.start, self.shape.1, now);
            }
            self.exponent.restore(now);
            rest = after;
        }
        Ok(())
    }

    /// Decodes a segment from its start to the end of `wanted`. Only `wanted` is kept.
    fn segment(&self, segment: usize, wanted: &Range<usize>, out: &mut [f32]) -> Result<()> {
        let all = self.segments.weights(segment);
        let [stream, escapes, low] = &self.parts[segment];
        let damaged = |e: entropy::Error| self.damaged(0, segment, &e.to_string());
        let states = entropy::States::narrow(stream, all.len(), width(all.len())).map_err(damaged)?;
        let shifts = self.points.shift_table();
        let plan = Plan {
            table: self.decoder.table().ok_or_else(|| CodecError::Limit("no table".to_owned()))?,
            machine: self.machine,
            alphabet: self.alphabet,
            step: self.points.step,
            shifts: shifts.as_ref(),
            tables_of: self.tables_of[0],
        };
        let mut place = Place { states, trellis: [[0; LANES]; 2], escapes, low };
        let (mut rest, mut unwanted, mut tables) = (out, [0.0; TILE], [0; TILE]);
        for first in (all.start..wanted.end).step_by(TILE) {
            let end = all.end.min(first + TILE);
            let kept = first.max(wanted.start).min(end)..end.min(wanted.end);
            let (now, after) = rest.split_at_mut(kept.len());
            let whole = now.len() == end - first;
            let tile = if whole { &mut *now } else { &mut unwanted[..end - first] };
            let tables = self.tables(first, &mut tables[..tile.len()]);
            place = run(&plan, place, tables, tile).ok_or_else(|| self.damaged(1, segment, "damaged"))?;
            if !whole {
                now.copy_from_slice(&unwanted[kept.start - first..kept.end - first]);
            }
            rest = after;
        }
        if wanted.end < all.end {
            return Ok(());
        }
        place.states.finish().map_err(damaged)?;
        let left = place.escapes.len();
        if left == 0 { Ok(()) } else { Err(self.damaged(1, segment, &format!("{left} bytes are left"))) }
    }

    /// Writes the tables of a tile of weights, for both parities; none without scales.
    fn tables<'t>(&self, first: usize, tables: &'t mut [u16]) -> &'t [u16] {
        let Some(scales) = &self.scales else { return &[] };
        let mut contexts = [0; TILE];
        let contexts = &mut contexts[..tables.len()];
        scales.contexts(first, contexts);
        for (table, context) in tables.iter_mut().zip(contexts) {
            *table = self.tables_of[usize::from(*context) % CONTEXTS];
        }
        tables
    }

    #[cold]
    fn damaged(&self, section: usize, segment: usize, reason: &str) -> CodecError {
        CodecError::corrupt(&self.names[section], format!("segment {segment}: {reason}"))
    }
}

/// Bytes of a table of the [`Decoder`].
const TABLE_BYTES: usize = 16 << 10;

/// The full name of a section, for errors after a payload was opened.
pub(crate) fn full_name(payload: &PayloadView<'_>, name: &str) -> String {
    match payload.corrupt(name, "") {
        CodecError::Corrupt { section, .. } => section,
        _ => name.to_owned(),
    }
}

fn read_scales(spec: &TensorSpec, payload: &PayloadView<'_>) -> Result<Option<Scales>> {
    if !payload.has(ROW_SCALES) {
        return Ok(None);
    }
    let planes = [&**payload.byte_section(ROW_SCALES)?, &**payload.byte_section(COLUMN_SCALES)?];
    Scales::decode(planes, spec.matrix()).map(Some).map_err(|e| payload.corrupt(ROW_SCALES, e.to_string()))
}

/// Splits a section into the parts of the segments; the lengths of all parts but the last are
/// stored.
fn cut(payload: &PayloadView<'_>, name: &str, lengths: &str, segments: Segments) -> Result<Vec<Bytes>> {
    let mut rest = payload.byte_section(name)?.clone();
    let others = segments.count() - 1;
    let told: Vec<u32> = if others > 0 { payload.values(lengths, Dtype::U32, &[others])? } else { Vec::new() };
    let mut parts = Vec::with_capacity(segments.count());
    for len in told {
        if len as usize > rest.len() {
            return Err(payload.corrupt(lengths, format!("more bytes than `{name}` has")));
        }
        parts.push(rest.split_to(len as usize));
    }
    parts.push(rest);
    Ok(parts)
}

/// Bytes of the low bits of a segment.
pub(crate) fn low_bytes(weights: usize, low_bits: u32) -> usize {
    weights.div_ceil(STATES) * 4 * low_bits as usize
}

fn low_parts(payload: &PayloadView<'_>, segments: Segments, low_bits: u32) -> Result<Vec<Bytes>> {
    let sizes = (0..segments.count()).map(|s| low_bytes(segments.weights(s).len(), low_bits));
    let mut rest = Bytes::new();
    if low_bits > 0 {
        rest = payload.bytes(LOW, Dtype::U8, &[sizes.clone().sum()])?.clone();
    }
    // The sizes add up to the size of the section.
    Ok(sizes.map(|size| rest.split_to(size)).collect())
}

/// The data that is constant within a segment.
pub(crate) struct Plan<'a> {
    pub(crate) table: Table<'a>,
    pub(crate) machine: Machine,
    pub(crate) alphabet: Alphabet,
    pub(crate) step: f32,
    pub(crate) shifts: Option<&'a Lanes>,
    /// The tables of all weights, if there are no contexts.
    pub(crate) tables_of: u16,
}

/// A place in a segment: the states there, and the escapes and low bits from there on.
pub(crate) struct Place<'a> {
    pub(crate) states: entropy::States<'a>,
    pub(crate) trellis: LaneSymbols<u32>,
    pub(crate) escapes: &'a [u8],
    pub(crate) low: &'a [u8],
}

kernel! {
    /// Decodes the next weights: a multiple of 32, or all that are left. `None` if the escapes are
    /// damaged. The place moves in and back by value: behind a pointer it would stay in memory.
    pub(crate) fn run<'a, 'p>(
        simd,
        plan: &'p Plan<'p>,
        place: Place<'a>,
        tables: &'p [u16],
        out: &'p mut [f32],
    ) -> Option<Place<'a>> {
        let Plan { table, machine, alphabet, step, shifts, tables_of } = *plan;
        let Place { mut states, mut trellis, mut escapes, mut low } = place;
        let middle = alphabet.reach as i32 + 1;
        let low_bits = alphabet.low_bits as usize;
        let mut first = 0;
        for out in out.chunks_mut(STATES) {
            let mut of = [[tables_of; LANES]; 2];
            if !tables.is_empty() {
                let (a, b) = tables[first..][..out.len()].split_at(out.len().min(LANES));
                of = [load(a), load(b)];
                first += STATES;
            }
            let contexts: LaneSymbols<u32> = [
                lanes!(i => u32::from(of[0][i]) >> (8 * (trellis[0][i] & 1)) & 0xff),
                lanes!(i => u32::from(of[1][i]) >> (8 * (trellis[1][i] & 1)) & 0xff),
            ];
            let symbols = states.step(simd, table, &contexts);
            let mut upper: LaneSymbols<i32> = [
                lanes!(i => i32::from(symbols[0][i]) - middle),
                lanes!(i => i32::from(symbols[1][i]) - middle),
            ];
            let mut weights = None;
            if symbols[0].contains(&ESCAPE) || symbols[1].contains(&ESCAPE) {
                weights = Some(fill(&symbols, out.len(), &mut escapes, &mut upper)?);
            }
            let planes;
            (planes, low) = low.split_at((4 * low_bits).min(low.len()));
            let mut values = [[0.0; LANES]; 2];
            for vector in 0..2 {
                let mut bits = [0u32; LANES];
                for (plane, word) in planes.as_chunks::<4>().0.iter().enumerate() {
                    let word = u32::from_le_bytes(*word) >> (LANES * vector);
                    bits = lanes!(i => bits[i] | (word >> i & 1) << plane);
                }
                let k: [u32; LANES] = lanes!(i => (upper[vector][i] as u32) << low_bits | bits[i]);
                let parity: [u32; LANES] = lanes!(i => trellis[vector][i] & 1);
                let multiples: [i32; LANES] = lanes!(i => (k[i] << 1 | parity[i]) as i32);
                trellis[vector] = lanes!(i => machine.next(trellis[vector][i], k[i] & 1));
                values[vector] = points::values(simd, step, shifts, &multiples);
            }
            let (a, b) = out.split_at_mut(out.len().min(LANES));
            store(values[0], a);
            store(values[1], b);
            if let Some(weights) = weights {
                put(&weights, out);
            }
        }
        Some(Place { states, trellis, escapes, low })
    }
}

/// For each lane, the weight that is stored in the escapes, if any.
type Weights = [Option<f32>; STATES];

/// Reads the escapes of a step: upper parts and weights. `None` if they are damaged.
#[cold]
#[inline(never)]
fn fill(symbols: &LaneSymbols<u8>, len: usize, escapes: &mut &[u8], upper: &mut LaneSymbols<i32>) -> Option<Weights> {
    let mut weights = [None; STATES];
    for lane in (0..len).filter(|lane| symbols.as_flattened()[*lane] == ESCAPE) {
        let part = &mut upper.as_flattened_mut()[lane];
        match escapes::read(escapes)? {
            Escape::Upper(q) => *part = q,
            Escape::Weight(bit, weight) => {
                *part = bit.into();
                weights[lane] = Some(weight);
            }
        }
    }
    Some(weights)
}

#[cold]
#[inline(never)]
fn put(weights: &Weights, out: &mut [f32]) {
    for (out, weight) in out.iter_mut().zip(weights) {
        *out = weight.unwrap_or(*out);
    }
}
