//! From sections to weights.

use codec_api::{Cancel, CodecError, PayloadView, Result};
use entropy::{Decoder, STATES};
use simd::LANES;

use super::codes;
use super::contexts::Contexts;
use super::layout::{Layout, Segment};
use super::steps::Steps;
use super::write::tables;
use super::{CODES, Columns, HEAD, STREAMS};
use crate::coded::decode::{Place, Plan, low_bytes, run};
use crate::coded::machine::Machine;
use crate::coded::model::{CONTEXTS, Model};
use crate::coded::segments::width;

/// Decodes all weights of a matrix that has some.
pub(super) fn decode(
    codec: &Columns,
    layout: Layout,
    payload: &PayloadView<'_>,
    cancel: &Cancel,
    out: &mut [f32],
) -> Result<()> {
    let [(head, in_head), (mut rest, in_streams)] = parts(payload)?;
    let damaged = |reason: &str| payload.corrupt(in_head, reason);
    let head = Head::read(layout, head).map_err(|reason| damaged(&reason))?;
    let tables = tables(&head.model).ok_or_else(|| damaged("it is no model"))?;
    let decoder = Decoder::new(&tables);
    let plan = Plan {
        table: decoder.table().ok_or_else(|| CodecError::Limit("no table".to_owned()))?,
        machine: Machine::new(codec.states.get()),
        alphabet: head.model.alphabet,
        step: 1.0,
        shifts: None,
        tables_of: head.model.tables_of[0],
    };
    let factors = head.steps.tables();
    for (number, lengths) in head.lengths.iter().enumerate() {
        cancel.check()?;
        let segment = layout.segment(number);
        let low = low_bytes(segment.steps() * STATES, head.model.alphabet.low_bits);
        let mut parts = [&[][..]; 3];
        for (part, len) in parts.iter_mut().zip([lengths[0], lengths[1], low]) {
            let cut = rest.split_at_checked(len);
            (*part, rest) = cut.ok_or_else(|| payload.corrupt(in_streams, format!("segment {number} is cut off")))?;
        }
        let mut weight = |row: usize, column: usize, j: f32| {
            out[layout.index(codec.order, row, column)] = j * (factors.1[column] * factors.0[row]);
        };
        let read = head.segment(layout, segment, &plan, parts, &mut weight);
        read.map_err(|reason| payload.corrupt(in_streams, format!("segment {number}: {reason}")))?;
    }
    if rest.is_empty() { Ok(()) } else { Err(payload.corrupt(in_streams, format!("{} bytes are left", rest.len()))) }
}

/// The head and the streams, and the sections that they are in.
fn parts<'a>(payload: &PayloadView<'a>) -> Result<[(&'a [u8], &'static str); 2]> {
    if payload.has(HEAD) {
        return Ok([(payload.byte_section(HEAD)?, HEAD), (payload.byte_section(STREAMS)?, STREAMS)]);
    }
    let mut rest: &[u8] = payload.byte_section(CODES)?;
    let cut = number(&mut rest).and_then(|len| rest.split_at_checked(len));
    let (head, streams) = cut.ok_or_else(|| payload.corrupt(CODES, "its head is cut off"))?;
    Ok([(head, CODES), (streams, CODES)])
}

/// The head.
struct Head {
    steps: Steps,
    model: Model,
    contexts: Option<Contexts>,
    /// Bytes of the stream and of the escapes of each segment.
    lengths: Vec<[usize; 2]>,
}

impl Head {
    fn read(layout: Layout, bytes: &[u8]) -> Result<Self, String> {
        let short = || "it is cut off".to_owned();
        let (base, mut rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let mut parts = [&[][..]; 5];
        for part in &mut parts {
            let len = number(&mut rest).ok_or_else(short)?;
            (*part, rest) = rest.split_at_checked(len).ok_or_else(short)?;
        }
        let [model, rows, columns, scales @ ..] = parts;
        let steps = Steps::read(f32::from_le_bytes(*base), [rows, columns], layout)?;
        let mut contexts = None;
        if scales.iter().any(|text| !text.is_empty()) {
            let [rows, columns] = scales;
            contexts = Some(Contexts {
                rows: Contexts::scales(&codes::decode(rows, layout.rows)?, &steps.rows),
                columns: Contexts::scales(&codes::decode(columns, layout.columns)?, &steps.columns),
            });
        }
        let known = if contexts.is_some() { CONTEXTS } else { 1 };
        let model = Model::parse(model, known).ok_or_else(|| "it has no model".to_owned())?;
        let mut lengths = Vec::new();
        for _ in 0..layout.segments() {
            let length = |rest: &mut &[u8]| number(rest).ok_or_else(short);
            lengths.push([length(&mut rest)?, length(&mut rest)?]);
        }
        if rest.is_empty() { Ok(Self { steps, model, contexts, lengths }) } else { Err("it is too long".to_owned()) }
    }

    /// Decodes a segment and calls `weight` with the row, the column and the multiple of each
    /// weight.
    fn segment(
        &self,
        layout: Layout,
        segment: Segment,
        plan: &Plan<'_>,
        [stream, escapes, low]: [&[u8]; 3],
        weight: &mut dyn FnMut(usize, usize, f32),
    ) -> Result<(), String> {
        let failed = |error: entropy::Error| error.to_string();
        let states = entropy::States::narrow(stream, segment.steps() * STATES, width(segment.weights()));
        let mut place = Place { states: states.map_err(failed)?, trellis: [[0; LANES]; 2], escapes, low };
        let rows = segment.rows();
        let mut contexts = Vec::new();
        if let Some(given) = &self.contexts {
            contexts.reserve_exact(rows.len() * layout.columns);
            rows.clone().for_each(|row| contexts.extend(given.of_row(row)));
        }
        let nothing = self.model.frequencies.len() as u16 * 0x101;
        let table = |(row, column): (usize, usize)| {
            let context = contexts.get((row - rows.start) * layout.columns + column).copied().unwrap_or_default();
            self.model.tables_of[usize::from(context) % CONTEXTS]
        };
        let (mut tables, mut values) = (vec![0; layout.height * STATES], vec![0.0; layout.height * STATES]);
        for column in 0..segment.width() {
            let first = column * layout.height;
            let places = |at: usize| segment.place(first + at / STATES, at % STATES);
            for (at, of) in tables.iter_mut().enumerate() {
                *of = places(at).map_or(nothing, table);
            }
            place = run(plan, place, &tables, &mut values).ok_or_else(|| "its escapes are damaged".to_owned())?;
            for (at, j) in values.iter().enumerate() {
                if let Some((row, column)) = places(at) {
                    weight(row, column, *j);
                }
            }
        }
        place.states.finish().map_err(failed)?;
        if place.escapes.is_empty() {
            Ok(())
        } else {
            Err(format!("{} bytes of escapes are left", place.escapes.len()))
        }
    }
}

/// Reads a number in bytes of seven bits, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for place in 0..8 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
