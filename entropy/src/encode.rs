//! From symbols to bytes. The encoder goes from last to first, so that the decoder goes from first
//! to last.

use simd::{LANES, Simd, Table, kernel, lanes, load};

use crate::frequencies::{PRECISION, TOTAL};
use crate::states::{STATES, VECTORS};
use crate::{Error, Frequencies, LOWEST, check_contexts};

/// Number of symbols in a table.
const SYMBOLS: usize = 256;

/// Entry that leaves a state unchanged: the only symbol of its table. Lanes without a symbol use
/// it.
const NOTHING: u32 = TOTAL;

/// Encoding tables, one for each context.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// start · 2¹⁶ + frequency for each context and symbol, padded to a power of two of contexts.
    entries: Vec<u32>,
    contexts: usize,
}

impl Encoder {
    /// Builds a table of 1 KiB for each context; there must be 1 to 256 contexts.
    pub fn new(frequencies: &[Frequencies]) -> Self {
        let mut entries = vec![0; frequencies.len().next_power_of_two() * SYMBOLS];
        for (table, frequencies) in entries.chunks_mut(SYMBOLS).zip(frequencies) {
            for (symbol, start, f) in frequencies.ranges() {
                table[usize::from(symbol)] = start << 16 | f;
            }
        }
        Self { entries, contexts: frequencies.len() }
    }

    /// Encodes symbols and appends the stream to `out`. `contexts` holds one context for each
    /// symbol, or is empty if all symbols have context 0. The stream takes at most two bytes for
    /// each symbol and 4 for each of 32 states. After an error nothing is appended.
    ///
    /// # Errors
    /// [`Error::Impossible`], [`Error::Contexts`] and [`Error::NoTable`].
    pub fn append(&self, symbols: &[u8], contexts: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        check_contexts(contexts, symbols.len(), self.contexts)?;
        let Some(table) = Table::new(&self.entries) else { return Err(Error::NoTable { context: 0, tables: 0 }) };
        // A symbol emits at most one word, and words are written in blocks.
        let mut words = vec![0; symbols.len() + LANES];
        let (states, free, possible) = run(table, symbols, contexts, &mut words);
        if !possible {
            return Err(self.impossible(symbols, contexts));
        }
        let states = &states.as_flattened()[..symbols.len().min(STATES)];
        let words = &words[free..];
        out.reserve_exact(4 * states.len() + 2 * words.len());
        out.extend(states.iter().flat_map(|state| state.to_le_bytes()));
        // Whole words: an iterator over bytes would append each on its own.
        let first = out.len();
        out.resize(first + 2 * words.len(), 0);
        for (bytes, word) in out[first..].as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        Ok(())
    }

    /// Like [`Self::append`], but for a stream of `width` states, at most 32; symbol `i` belongs to
    /// state `i mod width`. Each state takes 4 bytes, which is much for few symbols.
    /// [`States::narrow`](crate::States::narrow) decodes the stream.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_narrow(&self, symbols: &[u8], contexts: &[u8], width: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let width = width.clamp(1, STATES);
        if width == STATES {
            return self.append(symbols, contexts, out);
        }
        check_contexts(contexts, symbols.len(), self.contexts)?;
        let (mut states, mut words) = (vec![LOWEST; width], Vec::new());
        for (i, symbol) in symbols.iter().enumerate().rev() {
            let context = contexts.get(i).copied().unwrap_or_default();
            let entry = self.entries[usize::from(context) * SYMBOLS + usize::from(*symbol)];
            if entry == 0 {
                return Err(self.impossible(symbols, contexts));
            }
            let (state, frequency) = (&mut states[i % width], entry & 0xffff);
            if *state >> (32 - PRECISION) >= frequency {
                words.push(*state as u16);
                *state >>= 16;
            }
            *state = ((*state / frequency) << PRECISION) + *state % frequency + (entry >> 16);
        }
        out.extend(states.iter().take(symbols.len()).flat_map(|state| state.to_le_bytes()));
        out.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
        Ok(())
    }

    /// Encodes into a new buffer; see [`Self::append`].
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn encode(&self, symbols: &[u8], contexts: &[u8]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.append(symbols, contexts, &mut bytes)?;
        Ok(bytes)
    }

    /// The error for the first symbol with frequency 0.
    fn impossible(&self, symbols: &[u8], contexts: &[u8]) -> Error {
        let contexts = contexts.iter().copied().chain(std::iter::repeat(0));
        let without =
            |(symbol, context): &(u8, u8)| self.entries[usize::from(*context) * SYMBOLS + usize::from(*symbol)] == 0;
        let (symbol, context) = symbols.iter().copied().zip(contexts).find(without).unwrap_or_default();
        Error::Impossible { symbol, context }
    }
}

/// The final states, the number of unused words at the front, and whether every symbol had a
/// frequency above 0.
type Outcome = ([[u32; LANES]; VECTORS], usize, bool);

kernel! {
    fn run<'a>(simd, table: Table<'a>, symbols: &'a [u8], contexts: &'a [u8], words: &'a mut [u16]) -> Outcome {
        let mut states = [[LOWEST; LANES]; VECTORS];
        let mut free = words.len();
        let mut least = [u32::MAX; LANES];
        for step in (0..symbols.len().div_ceil(STATES)).rev() {
            for vector in (0..VECTORS).rev() {
                let first = (step * STATES + vector * LANES).min(symbols.len());
                let symbols = &symbols[first..];
                let contexts = contexts.get(first..).unwrap_or_default();
                let (some, their): ([u8; LANES], [u8; LANES]) = (load(symbols), load(contexts));
                let mut entries = simd.gather(table, &lanes!(i => u32::from(their[i]) << 8 | u32::from(some[i])));
                if symbols.len() < LANES {
                    entries = lanes!(i => if i < symbols.len() { entries[i] } else { NOTHING });
                }
                least = lanes!(i => least[i].min(entries[i]));
                states[vector] = put(simd, &states[vector], &entries, words, &mut free);
            }
        }
        (states, free, least.iter().all(|entry| *entry != 0))
    }
}

/// Codes one symbol into each state. Words that leave the states are written before position
/// `free`.
#[inline(always)]
fn put<S: Simd>(
    simd: S,
    states: &[u32; LANES],
    entries: &[u32; LANES],
    words: &mut [u16],
    free: &mut usize,
) -> [u32; LANES] {
    // Frequency 0 becomes 1 here, so that the division is defined; the caller reports the error.
    let frequencies: [u32; LANES] = lanes!(i => (entries[i] & 0xffff).max(1));
    let tops: [u32; LANES] = lanes!(i => states[i] >> (32 - PRECISION));
    let stay = simd.below(&tops, &frequencies);
    let leave = !stay;
    let count = leave.count_ones();
    // Writes the leaving words at the end of a block; the words before them are not used yet.
    let last = !(u32::from(u16::MAX) >> count) as u16;
    let block = simd.expand(&simd.compress(states, leave), last);
    if let Some(place) = words[..*free].last_chunk_mut::<LANES>() {
        *place = lanes!(i => block[i] as u16);
    }
    *free -= count as usize;
    let kept: [u32; LANES] = lanes!(i => if tops[i] < frequencies[i] { states[i] } else { states[i] >> 16 });
    let quotients = simd.divide(&kept, &frequencies);
    lanes!(i => {
        let rest = kept[i].wrapping_sub(quotients[i].wrapping_mul(frequencies[i]));
        (quotients[i] << PRECISION).wrapping_add(rest).wrapping_add(entries[i] >> 16)
    })
}
