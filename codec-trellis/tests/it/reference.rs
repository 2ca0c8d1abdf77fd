//! A decoder that follows the module's documentation literally, one weight at a time.

use codec_api::{EncodeCx, Payload};
use entropy::plane::{self, Known};
use entropy::{Frequencies, Tables};
use harness::testing::weights;

use super::{assert_same_bits, decode, encode};

/// The sections of a payload.
struct Sections<'a>(&'a Payload);

impl Sections<'_> {
    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.0.sections().get(name).map(|section| section.data().to_vec())
    }

    fn words(&self, name: &str) -> Vec<usize> {
        let bytes = self.bytes(name).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word) as usize).collect()
    }

    fn plane(&self, name: &str, len: usize) -> Option<Vec<u8>> {
        let mut out = vec![0; len];
        plane::decode(&self.bytes(name)?, Known::default(), &mut out).unwrap();
        Some(out)
    }
}

/// Frequencies by parity and context.
struct Model {
    low_bits: usize,
    reach: i64,
    tables: [Vec<Frequencies>; 2],
}

fn model(text: &[u8], contexts: usize) -> Model {
    let (way, low_bits, reach, mut rest) = (text[0], usize::from(text[1]), i64::from(text[2]), &text[3..]);
    let tables = if way == 0 {
        let (group, frequencies) = Tables::read(&mut rest).unwrap();
        [0, contexts]
            .map(|first| (0..contexts).map(|c| frequencies[usize::from(group[first + c])].clone()).collect::<Vec<_>>())
    } else {
        let (own, e) = (usize::from(rest[0]), f64::from(rest[1]) / 10.0);
        let v = f64::from(u16::from_le_bytes([rest[2], rest[3]]));
        [0.0, 1.0].map(|parity| {
            let table = |c: usize| {
                let width = libm::exp2(v / 256.0 - 64.0 + c.min(own - 1) as f64 / 4.0);
                let count = (1u64 << low_bits) as f64;
                let mean = |symbol: i64| 2.0 * ((symbol - reach - 1) as f64 * count + (count - 1.0) / 2.0) + parity;
                let energy: Vec<f64> = (1..2 * reach + 2).map(|s| libm::pow(mean(s).abs() / width, e)).collect();
                let least = energy.iter().copied().fold(f64::INFINITY, f64::min);
                let densities: Vec<f64> = energy.iter().map(|energy| libm::exp(least - energy)).collect();
                let sum: f64 = densities.iter().sum();
                let rare = 1.0 / 16384.0;
                let mut p = vec![rare];
                p.extend(densities.iter().map(|d| if d / sum > rare { d / sum } else { 0.0 }));
                Frequencies::of_probabilities(&p).unwrap()
            };
            (0..contexts).map(table).collect()
        })
    };
    Model { low_bits, reach, tables }
}

/// rANS, one state at a time.
struct Stream<'a> {
    states: Vec<u32>,
    words: &'a [u8],
}

impl<'a> Stream<'a> {
    fn new(bytes: &'a [u8], symbols: usize) -> Self {
        let mut width = 1;
        while width < 32 && 2 * width <= symbols / 8192 {
            width *= 2;
        }
        let (states, words) = bytes.split_at(4 * width);
        Self { states: states.as_chunks().0.iter().map(|s| u32::from_le_bytes(*s)).collect(), words }
    }

    fn next(&mut self, i: usize, frequencies: &Frequencies) -> u8 {
        let width = self.states.len();
        let state = &mut self.states[i % width];
        let slot = *state & 4095;
        let (mut symbol, mut start) = (0, 0);
        while start + u32::from(frequencies.get(symbol)) <= slot {
            start += u32::from(frequencies.get(symbol));
            symbol += 1;
        }
        *state = u32::from(frequencies.get(symbol)) * (*state >> 12) + slot - start;
        if *state < 1 << 16 {
            let (word, rest) = self.words.split_first_chunk().unwrap();
            (*state, self.words) = (*state << 16 | u32::from(u16::from_le_bytes(*word)), rest);
        }
        symbol
    }
}

fn number(escapes: &mut &[u8]) -> i64 {
    let (mut n, mut place) = (0, 0);
    loop {
        let byte = escapes[0];
        *escapes = &escapes[1..];
        n |= i64::from(byte & 127) << place;
        place += 7;
        if byte < 128 {
            return n;
        }
    }
}

fn parts(bytes: &[u8], lengths: &[usize], count: usize) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut parts = Vec::new();
    for i in 0..count {
        let (part, after) = rest.split_at(lengths.get(i).copied().unwrap_or(rest.len()));
        parts.push(part.to_vec());
        rest = after;
    }
    parts
}

fn reference(states: u32, payload: &Payload, rows: usize, columns: usize) -> Vec<f32> {
    let sections = Sections(payload);
    let (h0, h1) = match states {
        4 => (0o5, 0o2),
        8 => (0o13, 0o4),
        16 => (0o23, 0o4),
        32 => (0o45, 0o10),
        64 => (0o103, 0o24),
        128 => (0o235, 0o126),
        256 => (0o515, 0o362),
        _ => (0o2007, 0o664),
    };
    let step = f32::from_le_bytes(sections.bytes("step").unwrap().try_into().unwrap());
    let shifts = sections.bytes("shifts").unwrap_or(vec![0; 3]);
    let scales = sections.plane("rows", rows).map(|of_rows| (of_rows, sections.plane("columns", columns).unwrap()));
    let model = model(&sections.bytes("model").unwrap(), if scales.is_some() { 64 } else { 1 });
    let n = rows * columns;
    let count = n.div_ceil(1 << 18);
    let of_segment = if columns > 1 << 18 { 1 << 18 } else { rows.div_ceil(count) * columns };
    let count = n.div_ceil(of_segment);
    let streams = parts(&sections.bytes("streams").unwrap(), &sections.words("lengths"), count);
    let escapes = parts(&sections.bytes("escapes").unwrap_or_default(), &sections.words("escape_lengths"), count);
    let low = sections.words("low");
    let (mut out, mut first_low) = (Vec::new(), 0);
    for segment in 0..count {
        let first = segment * of_segment;
        let len = of_segment.min(n - first);
        let (mut stream, mut escapes) = (Stream::new(&streams[segment], len), escapes[segment].as_slice());
        let mut trellis = [0u32; 32];
        for i in 0..len {
            let (row, column) = ((first + i) / columns, (first + i) % columns);
            let context = scales.as_ref().map_or(0, |(r, c)| usize::from(r[row].midpoint(c[column]))).min(63);
            let s = &mut trellis[i % 32];
            let symbol = stream.next(i, &model.tables[(*s % 2) as usize][context]);
            let (mut q, mut weight) = (i64::from(symbol) - model.reach - 1, None);
            if symbol == 0 {
                let n = number(&mut escapes);
                if n < 2 {
                    weight = Some(f32::from_le_bytes(escapes[..4].try_into().unwrap()));
                    escapes = &escapes[4..];
                    q = n;
                } else {
                    q = if n % 2 == 0 { n / 2 - 1 } else { -((n - 1) / 2) };
                }
            }
            let mut k = q << model.low_bits;
            for b in 0..model.low_bits {
                k |= ((low[first_low + i / 32 * model.low_bits + b] >> (i % 32) & 1) as i64) << b;
            }
            let j = 2 * k + i64::from(*s % 2);
            *s = (*s / 2) ^ ((*s % 2) * (h0 / 2)) ^ ((k & 1) as u32 * (h1 / 2));
            let shift = match j.abs() {
                0 => 0.0,
                magnitude => f32::from(shifts[(magnitude as usize).min(3) - 1] as i8) / 128.0,
            };
            let value = (j.abs() as f32 - shift).copysign(j as f32) * step;
            out.push(weight.unwrap_or(value));
        }
        assert!(stream.words.is_empty() && escapes.is_empty());
        first_low += len.div_ceil(32) * model.low_bits;
    }
    out
}

#[test]
fn the_documented_format_is_the_format() {
    for (suite, rows, columns) in
        [("gaussian", 3, 33), ("laplace", 40, 250), ("scale-mixed", 200, 200), ("scale-mixed", 310, 1000)]
    {
        let mut values = weights(suite, rows * columns);
        values[rows] = 3e7;
        for (states, bits) in [(4, 1.0), (8, 3.0), (16, 0.5), (32, 2.0), (64, 6.0), (128, 9.0), (256, 1.5), (1024, 4.0)]
        {
            let case = format!("trellis:states={states}:bits={bits} of {suite} {rows} × {columns}");
            let encoded =
                encode(&format!("trellis:states={states}:bits={bits}"), &[rows, columns], &values, &EncodeCx::new(0));
            let found = reference(states, &encoded.payload, rows, columns);
            assert_same_bits(&found, &decode(&encoded), &case);
        }
    }
}
