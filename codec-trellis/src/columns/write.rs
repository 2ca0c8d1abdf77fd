//! From multiples to sections.

use codec_api::{CodecError, EncodeCx, Payload, Result, Section};
use entropy::{Encoder, Frequencies, STATES};

use super::CODES;
use super::codes;
use super::contexts::Contexts;
use super::layout::{Layout, Segment};
use super::steps::Steps;
use crate::coded::alphabet::{Alphabet, ESCAPE};
use crate::coded::encode::low_bits;
use crate::coded::escapes::{self, Escape};
use crate::coded::model::{CONTEXTS, Model};
use crate::coded::segments::width;
use crate::coded::stats::Stats;

/// The section for the multiples of a matrix, column by column.
pub(super) fn payload(layout: Layout, steps: &Steps, multiples: &[i32], cx: &EncodeCx<'_>) -> Result<Payload> {
    if multiples.is_empty() {
        return Ok(Payload::new());
    }
    let alphabet = Alphabet::best(&stats(multiples));
    let (model, contexts) = model(layout, steps, multiples, alphabet)?;
    let scales = contexts.as_ref().map_or_else(|| Ok(<[Vec<u8>; 2]>::default()), |contexts| texts(contexts, steps))?;
    let mut head = steps.base.to_le_bytes().to_vec();
    for part in [model.text()].into_iter().chain(steps.texts()?.iter().chain(&scales).map(|text| &**text)) {
        number(part.len(), &mut head);
        head.extend_from_slice(part);
    }
    let writer = Writer::new(layout, multiples, &model, contexts.as_ref())?;
    let mut streams = Vec::new();
    for segment in 0..layout.segments() {
        cx.cancel.check()?;
        let before = streams.len();
        let escapes = writer.segment(layout.segment(segment), &mut streams)?;
        number(streams.len() - before, &mut head);
        number(escapes.len(), &mut head);
        streams.extend(escapes);
        writer.low(layout.segment(segment), &mut streams);
    }
    let mut codes = Vec::with_capacity(head.len() + streams.len() + 5);
    number(head.len(), &mut codes);
    codes.extend(head);
    codes.extend(streams);
    Payload::new().with(CODES, Section::from_bytes(codes)?)
}

/// Appends a number in bytes of seven bits, the lowest first.
fn number(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn stats(multiples: &[i32]) -> Stats {
    let (mut stats, mut x) = (Stats::new(), Vec::new());
    for multiples in multiples.chunks(1 << 12) {
        x.clear();
        x.extend(multiples.iter().map(|j| *j as f32));
        stats.add(&x, multiples);
    }
    stats
}

/// The scales of rows and of columns, written.
fn texts(contexts: &Contexts, steps: &Steps) -> Result<[Vec<u8>; 2]> {
    let text = |scales: &[u8], steps: &[u8]| codes::encode(&Contexts::residuals(scales, steps));
    Ok([text(&contexts.rows, &steps.rows)?, text(&contexts.columns, &steps.columns)?])
}

/// The smallest model, with contexts if they save more than they cost.
fn model(layout: Layout, steps: &Steps, multiples: &[i32], alphabet: Alphabet) -> Result<(Model, Option<Contexts>)> {
    let none = || CodecError::Unsuitable { reason: "no table fits the multiples".to_owned(), number: 0.0 };
    let symbol = |j: i32| usize::from(alphabet.symbol(alphabet.upper(j)));
    let mut counts = vec![[0; 256]; 2];
    for j in multiples {
        counts[(j & 1) as usize][symbol(*j)] += 1;
    }
    let plain = Model::best(alphabet, &counts).ok_or_else(none)?;
    let Some(contexts) = Contexts::of(layout, multiples) else { return Ok((plain, None)) };
    let mut counts = vec![[0; 256]; 2 * CONTEXTS];
    for row in 0..layout.rows {
        for (column, context) in contexts.of_row(row).enumerate() {
            let j = multiples[column * layout.rows + row];
            counts[CONTEXTS * (j & 1) as usize + usize::from(context)][symbol(j)] += 1;
        }
    }
    let by_contexts = Model::best(alphabet, &counts).ok_or_else(none)?;
    let bytes: usize = texts(&contexts, steps)?.iter().map(Vec::len).sum();
    let pays = by_contexts.size() + 8.0 * (bytes as f64) < plain.size();
    Ok(if pays { (by_contexts, Some(contexts)) } else { (plain, None) })
}

/// The tables of a model and one more, for lanes without a weight: its only symbol takes no bits.
pub(super) fn tables(model: &Model) -> Option<Vec<Frequencies>> {
    let mut nothing = [0; 256];
    nothing[usize::from(model.alphabet.symbol(0))] = 1;
    Some([&model.frequencies[..], &[Frequencies::of_counts(&nothing)?]].concat())
}

/// Writes segments.
struct Writer<'a> {
    layout: Layout,
    multiples: &'a [i32],
    model: &'a Model,
    /// The context of each weight, row by row; empty without contexts.
    contexts: Vec<u8>,
    encoder: Encoder,
}

impl<'a> Writer<'a> {
    fn new(layout: Layout, multiples: &'a [i32], model: &'a Model, given: Option<&Contexts>) -> Result<Self> {
        let mut contexts = Vec::new();
        if let Some(given) = given {
            contexts.reserve_exact(multiples.len());
            (0..layout.rows).for_each(|row| contexts.extend(given.of_row(row)));
        }
        let tables = tables(model).ok_or_else(|| CodecError::Limit("no table".to_owned()))?;
        Ok(Self { layout, multiples, model, contexts, encoder: Encoder::new(&tables) })
    }

    /// The multiple of each lane in each step of a segment.
    fn lanes(segment: Segment) -> impl Iterator<Item = Option<(usize, usize)>> {
        (0..segment.steps() * STATES).map(move |at| segment.place(at / STATES, at % STATES))
    }

    /// Appends the stream of a segment, and returns its escapes.
    fn segment(&self, segment: Segment, streams: &mut Vec<u8>) -> Result<Vec<u8>> {
        let Model { alphabet, tables_of, frequencies, .. } = self.model;
        let (mut symbols, mut tables, mut escapes) = (Vec::new(), Vec::new(), Vec::new());
        for place in Self::lanes(segment) {
            let Some((row, column)) = place else {
                symbols.push(alphabet.symbol(0));
                tables.push(frequencies.len() as u8);
                continue;
            };
            let j = self.multiples[column * self.layout.rows + row];
            let context = self.contexts.get(row * self.layout.columns + column).copied().unwrap_or_default();
            let table = (tables_of[usize::from(context)] >> (8 * (j & 1))) as u8;
            let upper = alphabet.upper(j);
            let mut symbol = alphabet.symbol(upper);
            if symbol == ESCAPE || frequencies[usize::from(table)].get(symbol) == 0 {
                symbol = ESCAPE;
                escapes::write(Escape::Upper(upper), &mut escapes);
            }
            symbols.push(symbol);
            tables.push(table);
        }
        let encoded = self.encoder.append_narrow(&symbols, &tables, width(segment.weights()), streams);
        encoded.map_err(CodecError::codec)?;
        Ok(escapes)
    }

    /// Appends the low bits of a segment.
    fn low(&self, segment: Segment, out: &mut Vec<u8>) {
        if self.model.alphabet.low_bits == 0 {
            return;
        }
        let multiple = |(row, column): (usize, usize)| self.multiples[column * self.layout.rows + row];
        let multiples: Vec<i32> = Self::lanes(segment).map(|place| place.map_or(0, multiple)).collect();
        low_bits(&multiples, self.model.alphabet.low_bits, out);
    }
}
