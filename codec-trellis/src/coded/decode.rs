//! From sections to weights.

use std::ops::Range;

use codec_api::{CodecError, DecodeCx, Dtype, PayloadView, Result, TensorSpec};
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

/// A payload, read and checked as far as possible without decoding.
pub(super) struct Reader<'a> {
    payload: PayloadView<'a>,
    machine: Machine,
    columns: usize,
    segments: Segments,
    alphabet: Alphabet,
    tables_of: [u16; CONTEXTS],
    decoder: Decoder,
    points: Points,
    exponent: Exponent,
    scales: Option<Scales>,
    inputs: Option<Inputs>,
    /// The stream, the escapes and the low bits of each segment.
    parts: Vec<[&'a [u8]; 3]>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(states: States, spec: &TensorSpec, payload: PayloadView<'a>) -> Result<Self> {
        let segments = Segments::of(spec);
        // Checks the size before any allocation.
        let (bytes, least) = (payload.byte_section(STREAMS)?.len() as u64, segments.state_bytes());
        if bytes < least {
            return Err(payload.corrupt(STREAMS, format!("{bytes} bytes; the states alone take {least}")));
        }
        let scales = read_scales(spec, &payload)?;
        let model = Model::read(&payload, if scales.is_some() { CONTEXTS } else { 1 })?;
        let streams = cut(&payload, STREAMS, LENGTHS, segments)?;
        let escapes = if payload.has(ESCAPES) {
            cut(&payload, ESCAPES, ESCAPE_LENGTHS, segments)?
        } else {
            vec![&[][..]; segments.count()]
        };
        let low = low_parts(&payload, segments, model.alphabet.low_bits)?;
        let parts = streams.into_iter().zip(escapes).zip(low).map(|((s, e), l)| [s, e, l]).collect();
        Ok(Self {
            machine: Machine::new(states.get()),
            columns: spec.matrix().1,
            segments,
            alphabet: model.alphabet,
            tables_of: model.tables_of,
            decoder: Decoder::new(&model.frequencies),
            points: Points::read(&payload)?,
            exponent: Exponent::read(&payload)?,
            scales,
            inputs: Inputs::read(spec, &payload)?,
            payload,
            parts,
        })
    }

    /// Decodes a range of the flat tensor.
    pub(super) fn decode(&self, weights: Range<usize>, cx: &DecodeCx<'_>, out: &mut [f32]) -> Result<()> {
        let mut rest = out;
        for segment in self.segments.holding(&weights) {
            cx.cancel.check()?;
            let all = self.segments.weights(segment);
            let wanted = all.start.max(weights.start)..all.end.min(weights.end);
            let (now, after) = rest.split_at_mut(wanted.len());
            if wanted == all {
                self.segment(segment, now)?;
            } else {
                let mut whole = vec![0.0; all.len()];
                self.segment(segment, &mut whole)?;
                now.copy_from_slice(&whole[wanted.start - all.start..wanted.end - all.start]);
            }
            rest = after;
        }
        Ok(())
    }

    fn segment(&self, segment: usize, out: &mut [f32]) -> Result<()> {
        let first = self.segments.weights(segment).start;
        let [stream, escapes, low] = self.parts[segment];
        let damaged = |e: entropy::Error| self.payload.corrupt(STREAMS, format!("segment {segment}: {e}"));
        let states = entropy::States::narrow(stream, out.len(), width(out.len())).map_err(damaged)?;
        let table = self.decoder.table().ok_or_else(|| CodecError::Limit("no table".to_owned()))?;
        let shifts = self.points.shift_table();
        let plan = Plan {
            table,
            machine: self.machine,
            alphabet: self.alphabet,
            step: self.points.step,
            shifts: shifts.as_ref(),
            tables_of: self.tables_of[0],
            low,
        };
        let tables = self.scales.as_ref().map_or_else(Vec::new, |scales| self.tables(scales, first, out.len()));
        let (states, escapes) = run(&plan, states, &tables, escapes, out);
        let escapes = escapes.ok_or_else(|| self.payload.corrupt(ESCAPES, format!("segment {segment}: damaged")))?;
        states.finish().map_err(damaged)?;
        if !escapes.is_empty() {
            return Err(self.payload.corrupt(ESCAPES, format!("segment {segment}: {} bytes are left", escapes.len())));
        }
        if let Some(inputs) = &self.inputs {
            inputs.multiply(first, self.columns, true, out);
        }
        self.exponent.restore(out);
        Ok(())
    }

    /// The tables of each weight, for both parities.
    fn tables(&self, scales: &Scales, first: usize, len: usize) -> Vec<u16> {
        let mut contexts = vec![0; len];
        scales.contexts(first, &mut contexts);
        contexts.iter().map(|c| self.tables_of[usize::from(*c) % CONTEXTS]).collect()
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
fn cut<'a>(payload: &PayloadView<'a>, name: &str, lengths: &str, segments: Segments) -> Result<Vec<&'a [u8]>> {
    let mut rest: &[u8] = payload.byte_section(name)?;
    let others = segments.count() - 1;
    let told: Vec<u32> = if others > 0 { payload.values(lengths, Dtype::U32, &[others])? } else { Vec::new() };
    let mut parts = Vec::with_capacity(segments.count());
    for len in told {
        let (part, after) = rest
            .split_at_checked(len as usize)
            .ok_or_else(|| payload.corrupt(lengths, format!("more bytes than `{name}` has")))?;
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    Ok(parts)
}

/// Bytes of the low bits of a segment.
pub(super) fn low_bytes(weights: usize, low_bits: u32) -> usize {
    weights.div_ceil(STATES) * 4 * low_bits as usize
}

fn low_parts<'a>(payload: &PayloadView<'a>, segments: Segments, low_bits: u32) -> Result<Vec<&'a [u8]>> {
    let sizes: Vec<usize> = (0..segments.count()).map(|s| low_bytes(segments.weights(s).len(), low_bits)).collect();
    let mut rest: &[u8] = &[];
    if low_bits > 0 {
        rest = payload.bytes(LOW, Dtype::U8, &[sizes.iter().sum()])?;
    }
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        // The sizes add up to the size of the section.
        let (part, after) = rest.split_at(size.min(rest.len()));
        parts.push(part);
        rest = after;
    }
    Ok(parts)
}

/// The data that is constant within a segment.
struct Plan<'a> {
    table: Table<'a>,
    machine: Machine,
    alphabet: Alphabet,
    step: f32,
    shifts: Option<&'a Lanes>,
    /// The tables of all weights, if there are no contexts.
    tables_of: u16,
    low: &'a [u8],
}

/// The final states and the remaining escapes; `None` if the escapes are damaged.
type Outcome<'a> = (entropy::States<'a>, Option<&'a [u8]>);

kernel! {
    fn run<'a, 'p>(simd, plan: &'p Plan<'p>, states: entropy::States<'a>, tables: &'p [u16], escapes: &'a [u8], out: &'p mut [f32]) -> Outcome<'a> {
        let Plan { table, machine, alphabet, step, shifts, tables_of, low } = *plan;
        let (mut states, mut escapes) = (states, escapes);
        let mut trellis = [[0u32; LANES]; 2];
        let middle = alphabet.reach as i32 + 1;
        let low_bits = alphabet.low_bits as usize;
        let mut low = low.chunks_exact((4 * low_bits).max(1));
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
                weights = fill(&symbols, out.len(), &mut escapes, &mut upper);
                if weights.is_none() {
                    return (states, None);
                }
            }
            let low = if low_bits > 0 { low.next().unwrap_or_default() } else { &[] };
            let mut values = [[0.0; LANES]; 2];
            for vector in 0..2 {
                let mut bits = [0u32; LANES];
                for (plane, word) in low.as_chunks::<4>().0.iter().enumerate() {
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
        (states, Some(escapes))
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
