//! The frequencies that code the symbols.

use codec_api::{PayloadView, Result, Section};
use entropy::{Frequencies, Scales, Tables};

use super::alphabet::{Alphabet, Counts, ESCAPE};
use super::escapes;
use super::shape::Shape;

/// Number of contexts for each parity.
pub(crate) const CONTEXTS: usize = Scales::CONTEXTS;

/// The alphabet, and a table for each parity and context.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub alphabet: Alphabet,
    /// For each context, the table of even multiples in the lower byte, and that of odd multiples
    /// in the upper byte.
    pub tables_of: [u16; CONTEXTS],
    pub frequencies: Vec<Frequencies>,
    /// The model in the form of a payload.
    text: Vec<u8>,
    /// Bits of the symbols, including the escapes for symbols without a frequency in their table.
    bits: f64,
}

/// Above this many weights, the few hundred bytes of tables do not matter.
const MANY: u64 = 1 << 21;

/// Ways of writing frequencies.
const TABLES: u8 = 0;
const SHAPE: u8 = 1;

impl Model {
    /// The model with the smallest sum of text and symbols. `counts` has two entries, one for each
    /// parity, or 128.
    pub(crate) fn best(alphabet: Alphabet, counts: &Counts) -> Option<Self> {
        let tables = Self::of_tables(alphabet, counts)?;
        if counts.as_flattened().iter().sum::<u64>() > MANY {
            return Some(tables);
        }
        let shaped = Self::of_shape(alphabet, counts)?;
        Some(if shaped.size() < tables.size() { shaped } else { tables })
    }

    /// Bits of text and symbols.
    pub(crate) fn size(&self) -> f64 {
        self.bits + 8.0 * self.text.len() as f64
    }

    /// Bytes of the section.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text.len()
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

    /// Tables for both parities and each of the first `used` contexts.
    fn shaped(alphabet: Alphabet, shape: Shape, used: usize, text: Vec<u8>) -> Option<Self> {
        let ids = (0..2).flat_map(|parity| (0..used).map(move |context| (parity, context)));
        let frequencies = ids.map(|(parity, c)| shape.frequencies(alphabet, parity, c)).collect::<Option<Vec<_>>>()?;
        let group: Vec<u8> = (0..2 * used as u8).collect();
        Some(Self::new(alphabet, &group, frequencies, text, used))
    }

    /// From tables by id; the first `contexts` ids are those of even multiples.
    fn new(alphabet: Alphabet, group: &[u8], frequencies: Vec<Frequencies>, text: Vec<u8>, contexts: usize) -> Self {
        let of = |id: usize| u16::from(group.get(id).copied().unwrap_or_default());
        let tables_of = std::array::from_fn(|c| {
            let c = c.min(contexts - 1);
            of(c) | of(contexts + c) << 8
        });
        Self { alphabet, tables_of, frequencies, text, bits: 0.0 }
    }

    /// Adds the bits of symbols with these counts.
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

    pub(crate) fn section(&self) -> Result<Section> {
        Section::from_bytes(self.text.clone())
    }

    /// Reads the output of [`Self::section`], for `contexts` contexts of each parity.
    pub(crate) fn read(payload: &PayloadView<'_>, contexts: usize) -> Result<Self> {
        let damaged = || payload.corrupt(MODEL, "it is no model");
        Self::parse(payload.byte_section(MODEL)?, contexts).ok_or_else(damaged)
    }

    /// The text that a decoder reads ([`Self::parse`]).
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Reads a model's text; `None` if it is none.
    pub(crate) fn parse(text: &[u8], contexts: usize) -> Option<Self> {
        let (&[kind, low_bits, reach], mut rest) = text.split_first_chunk()?;
        let alphabet = Alphabet::new(low_bits, reach)?;
        let model = match kind {
            TABLES => {
                let (group, frequencies) = Tables::read(&mut rest).ok()?;
                Some(Self::new(alphabet, &group, frequencies, Vec::new(), contexts))
            }
            SHAPE => {
                let (&[used], after) = rest.split_first_chunk()?;
                rest = after;
                let shape = Shape::read(&mut rest)?;
                let used = Some(usize::from(used)).filter(|used| (1..=contexts).contains(used))?;
                Self::shaped(alphabet, shape, used, Vec::new())
            }
            _ => None,
        };
        model.filter(|_| rest.is_empty())
    }
}

pub(crate) const MODEL: &str = "model";
