//! From symbols to bytes: last to first, so that a decoder goes from first to last.

use simd::{LANES, Simd, Table, kernel, lanes, load};

use crate::frequencies::{PRECISION, TOTAL};
use crate::states::{STATES, VECTORS};
use crate::{Error, Frequencies, LOWEST, check_contexts};

/// Symbols of a table.
const SYMBOLS: usize = 256;

/// What coding leaves a state as it is, for lanes without a symbol: the only symbol of its table.
const NOTHING: u32 = TOTAL;

/// Tables to encode with, one for each context.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// For each context and symbol, start · 2¹⁶ + frequency; contexts up to a power of two.
    entries: Vec<u32>,
    contexts: usize,
}

impl Encoder {
    /// Tables of 1 KiB for each context, of which there is at least one and at most 256.
    pub fn new(frequencies: &[Frequencies]) -> Self {
        let mut entries = vec![0; frequencies.len().next_power_of_two() * SYMBOLS];
        for (table, frequencies) in entries.chunks_mut(SYMBOLS).zip(frequencies) {
            for (symbol, start, f) in frequencies.ranges() {
                table[usize::from(symbol)] = start << 16 | f;
            }
        }
        Self { entries, contexts: frequencies.len() }
    }

    /// Encodes symbols and appends the stream, given a context for each, or no contexts at all if all have the first. It is not longer
    /// than two bytes for each symbol and 4 for each of 32 states; after an error nothing is appended.
    ///
    /// # Errors
    /// [`Error::Impossible`], [`Error::Contexts`] and [`Error::NoTable`].
    pub fn append(&self, symbols: &[u8], contexts: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        check_contexts(contexts, symbols.len(), self.contexts)?;
        let Some(table) = Table::new(&self.entries) else { return Err(Error::NoTable { context: 0, tables: 0 }) };
        // Each symbol lets go of one word at most, and words are written by blocks.
        let mut words = vec![0; symbols.len() + LANES];
        let (states, free, possible) = run(table, symbols, contexts, &mut words);
        if !possible {
            return Err(self.impossible(symbols, contexts));
        }
        let states = &states.as_flattened()[..symbols.len().min(STATES)];
        out.reserve_exact(4 * states.len() + 2 * (words.len() - free));
        out.extend(states.iter().flat_map(|state| state.to_le_bytes()));
        out.extend(words[free..].iter().flat_map(|word| word.to_le_bytes()));
        Ok(())
    }

    /// The same in a stream of `width` states, at most 32: they cost 4 bytes each, which is much for few symbols, and symbol `i` belongs to state
    /// `i mod width`. [`States::narrow`](crate::States::narrow) decodes it.
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

    /// The stream by itself; see [`Self::append`].
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn encode(&self, symbols: &[u8], contexts: &[u8]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.append(symbols, contexts, &mut bytes)?;
        Ok(bytes)
    }

    /// Names the first symbol without a frequency.
    fn impossible(&self, symbols: &[u8], contexts: &[u8]) -> Error {
        let contexts = contexts.iter().copied().chain(std::iter::repeat(0));
        let without =
            |(symbol, context): &(u8, u8)| self.entries[usize::from(*context) * SYMBOLS + usize::from(*symbol)] == 0;
        let (symbol, context) = symbols.iter().copied().zip(contexts).find(without).unwrap_or_default();
        Error::Impossible { symbol, context }
    }
}

/// The final states, the number of words that stayed free at the front, and whether every symbol had a frequency.
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

/// Codes a symbol into each state; words that must leave go before the place `free`.
#[inline(always)]
fn put<S: Simd>(
    simd: S,
    states: &[u32; LANES],
    entries: &[u32; LANES],
    words: &mut [u16],
    free: &mut usize,
) -> [u32; LANES] {
    // Of no symbol at all is 1 here, so that the division is defined; the caller will find out.
    let frequencies: [u32; LANES] = lanes!(i => (entries[i] & 0xffff).max(1));
    let tops: [u32; LANES] = lanes!(i => states[i] >> (32 - PRECISION));
    let stay = simd.below(&tops, &frequencies);
    let leave = !stay;
    let count = leave.count_ones();
    // The words that leave, at the end of a block; what is before them is not used yet.
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
