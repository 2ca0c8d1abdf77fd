//! Which frequencies symbols are coded with.

use codec_api::{PayloadView, Result, Section};
use entropy::{Frequencies, Scales, Tables};

use super::alphabet::{Alphabet, ESCAPE};
use super::escapes;
use super::shape::Shape;

/// Contexts of either parity.
pub(super) const CONTEXTS: usize = Scales::CONTEXTS;

/// How often each symbol occurs, by parity and context: those of odd multiples follow those of even ones.
pub(super) type Counts = [[u64; 256]];

/// The alphabet, and a table for each context.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub alphabet: Alphabet,
    /// The table of each context of even multiples, and in the upper byte that of odd ones.
    pub tables_of: [u16; CONTEXTS],
    pub frequencies: Vec<Frequencies>,
    /// As a payload has it.
    text: Vec<u8>,
    /// Bits of the symbols, and of the escapes' text for those that have no frequency in their table.
    bits: f64,
}

/// Tables cost a few hundred bytes: of so many weights that is nothing.
const MANY: u64 = 1 << 21;

/// How frequencies are written.
const TABLES: u8 = 0;
const SHAPE: u8 = 1;

impl Model {
    /// The smallest model of these symbols, in text and symbols together. There are two contexts, one for each parity, or 128.
    pub(super) fn best(alphabet: Alphabet, counts: &Counts) -> Option<Self> {
        let tables = Self::of_tables(alphabet, counts)?;
        if counts.as_flattened().iter().sum::<u64>() > MANY {
            return Some(tables);
        }
        let shaped = Self::of_shape(alphabet, counts)?;
        Some(if shaped.size() < tables.size() { shaped } else { tables })
    }

    /// Bits of text and symbols.
    pub(super) fn size(&self) -> f64 {
        self.bits + 8.0 * self.text.len() as f64
    }

    fn of_tables(alphabet: Alphabet, counts: &Counts) -> Option<Self> {
        let tables = Tables::of_counts(counts)?;
        let text = [&[TABLES, alphabet.low_bits as u8, alphabet.reach as u8], &tables.head[..]].concat();
        let model = Self::new(alphabet, &tables.group, tables.frequencies, text, counts.len() / 2);
        Some(model.priced(counts))
    }

    fn of_shape(alphabet: Alphabet, counts: &Counts) -> Option<Self> {
        let contexts = counts.len() / 2;
        let used = (0..contexts).filter(|c| [*c, contexts + c].iter().any(|id| counts[*id].iter().any(|n| *n > 0)));
        let used = used.max()? + 1;
        let shape = Shape::fit(alphabet, counts);
        let mut text = vec![SHAPE, alphabet.low_bits as u8, alphabet.reach as u8, used as u8];
        shape.write(&mut text);
        Some(Self::shaped(alphabet, shape, used, text)?.priced(counts))
    }

    /// A table for each parity and each of the first contexts.
    fn shaped(alphabet: Alphabet, shape: Shape, used: usize, text: Vec<u8>) -> Option<Self> {
        let ids = (0..2).flat_map(|parity| (0..used).map(move |context| (parity, context)));
        let frequencies = ids.map(|(parity, c)| shape.frequencies(alphabet, parity, c)).collect::<Option<Vec<_>>>()?;
        let group: Vec<u8> = (0..2 * used as u8).collect();
        Some(Self::new(alphabet, &group, frequencies, text, used))
    }

    /// Of tables for ids, of which the first `contexts` are those of even multiples.
    fn new(alphabet: Alphabet, group: &[u8], frequencies: Vec<Frequencies>, text: Vec<u8>, contexts: usize) -> Self {
        let of = |id: usize| u16::from(group.get(id).copied().unwrap_or_default());
        let tables_of = std::array::from_fn(|c| {
            let c = c.min(contexts - 1);
            of(c) | of(contexts + c) << 8
        });
        Self { alphabet, tables_of, frequencies, text, bits: 0.0 }
    }

    /// With the bits that symbols counted like this take.
    fn priced(mut self, counts: &Counts) -> Self {
        let contexts = counts.len() / 2;
        for (id, counts) in counts.iter().enumerate() {
            let table = self.tables_of[id % contexts] >> (8 * (id / contexts)) & 0xff;
            let frequencies = &self.frequencies[usize::from(table)];
            let mut coded = *counts;
            for symbol in 1..self.alphabet.symbols() {
                if frequencies.get(symbol as u8) == 0 {
                    let count = std::mem::take(&mut coded[symbol]);
                    coded[usize::from(ESCAPE)] += count;
                    self.bits += count as f64 * escapes::bits(symbol.abs_diff(self.alphabet.reach as usize + 1));
                }
            }
            self.bits += frequencies.cost(&coded);
        }
        self
    }

    pub(super) fn section(&self) -> Result<Section> {
        Section::from_bytes(self.text.clone())
    }

    /// Reads what [`Self::section`] wrote, for so many contexts of either parity.
    pub(super) fn read(payload: &PayloadView<'_>, contexts: usize) -> Result<Self> {
        let damaged = || payload.corrupt(MODEL, "it is no model");
        let text = payload.byte_section(MODEL)?;
        let (&[kind, low_bits, reach], mut rest) = text.split_first_chunk().ok_or_else(damaged)?;
        let alphabet = Alphabet::new(low_bits, reach).ok_or_else(damaged)?;
        let model = match kind {
            TABLES => {
                let (group, frequencies) = Tables::read(&mut rest).map_err(|_| damaged())?;
                Some(Self::new(alphabet, &group, frequencies, Vec::new(), contexts))
            }
            SHAPE => {
                let (&[used], after) = rest.split_first_chunk().ok_or_else(damaged)?;
                rest = after;
                let shape = Shape::read(&mut rest).ok_or_else(damaged)?;
                let used = Some(usize::from(used)).filter(|used| (1..=contexts).contains(used)).ok_or_else(damaged)?;
                Self::shaped(alphabet, shape, used, Vec::new())
            }
            _ => None,
        };
        model.filter(|_| rest.is_empty()).ok_or_else(damaged)
    }
}

pub(super) const MODEL: &str = "model";
