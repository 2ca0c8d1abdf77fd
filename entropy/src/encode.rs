//! From symbols to bytes. The encoder goes from last to first, so that the decoder goes from first
//! to last.

use simd::{LANES, Simd, Table, kernel, lanes, load};

use crate::frequencies::{PRECISION, TOTAL};
use crate::plane::look_up;
use crate::states::{LaneSymbols, STATES, VECTORS};
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
        self.append_blocks(symbols, contexts, None, out)
    }

    /// Like [`Self::append`], where the context of each symbol is `map` of a given byte.
    pub(crate) fn append_mapped(
        &self,
        symbols: &[u8],
        given: &[u8],
        map: &[u8; SYMBOLS],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        check_contexts(given, symbols.len(), SYMBOLS)?;
        check_contexts(map, SYMBOLS, self.contexts)?;
        self.append_blocks(symbols, given, Some(map), out)
    }

    /// The contexts, or bytes that `map` maps to contexts, are right in number, and have tables.
    fn append_blocks(
        &self,
        symbols: &[u8],
        contexts: &[u8],
        map: Option<&[u8; SYMBOLS]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(table) = Table::new(&self.entries) else { return Err(Error::NoTable { context: 0, tables: 0 }) };
        let (mut states, mut possible) = ([[LOWEST; LANES]; VECTORS], true);
        // The words of each block, the last block first.
        let mut blocks = Vec::with_capacity(symbols.len().div_ceil(BLOCK));
        let mut places = vec![[0; 2]; symbols.len().next_multiple_of(STATES).min(BLOCK) + LANES];
        let mut mapped = [0; BLOCK];
        for (block, symbols) in symbols.chunks(BLOCK).enumerate().rev() {
            let mut contexts = contexts.get(block * BLOCK..).unwrap_or_default();
            if let Some(map) = map.filter(|_| !contexts.is_empty()) {
                let mapped = &mut mapped[..symbols.len()];
                look_up(map, &contexts[..symbols.len()], mapped);
                contexts = mapped;
            }
            let (after, free, all) = run(states, table, symbols, contexts, &mut places);
            (states, possible) = (after, possible && all);
            blocks.push(places[free..].to_vec());
        }
        if !possible {
            let given = contexts.iter().map(|context| map.map_or(*context, |map| map[usize::from(*context)]));
            return Err(self.impossible(symbols, given));
        }
        let states = &states.as_flattened()[..symbols.len().min(STATES)];
        out.reserve_exact(4 * states.len() + 2 * blocks.iter().map(Vec::len).sum::<usize>());
        out.extend(states.iter().flat_map(|state| state.to_le_bytes()));
        blocks.iter().rev().for_each(|words| out.extend_from_slice(words.as_flattened()));
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
                return Err(self.impossible(symbols, contexts.iter().copied()));
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
    fn impossible(&self, symbols: &[u8], contexts: impl Iterator<Item = u8>) -> Error {
        let contexts = contexts.chain(std::iter::repeat(0));
        let without =
            |(symbol, context): &(u8, u8)| self.entries[usize::from(*context) * SYMBOLS + usize::from(*symbol)] == 0;
        let (symbol, context) = symbols.iter().copied().zip(contexts).find(without).unwrap_or_default();
        Error::Impossible { symbol, context }
    }
}

/// Symbols coded at a time, so that their words stay in the cache.
const BLOCK: usize = 1 << 13;

/// The states after a block, the number of unused places, and whether every symbol had a frequency
/// above 0.
type Outcome = (LaneSymbols<u32>, usize, bool);

kernel! {
    /// Codes a block of symbols. There is a place for each symbol and sixteen more; the words are
    /// at the end.
    fn run<'a>(simd, states: LaneSymbols<u32>, table: Table<'a>, symbols: &'a [u8], contexts: &'a [u8], places: &'a mut [[u8; 2]]) -> Outcome {
        let free = places.len();
        let mut coder = Coder { states, table, places, free, least: [u32::MAX; LANES] };
        let (steps, tail) = symbols.as_chunks::<STATES>();
        let (of_steps, of_tail) = contexts.split_at(contexts.len().min(STATES * steps.len()));
        if !tail.is_empty() {
            let (mut symbols, mut contexts) = ([0; STATES], [0; STATES]);
            symbols[..tail.len()].copy_from_slice(tail);
            contexts[..of_tail.len().min(tail.len())].copy_from_slice(&of_tail[..of_tail.len().min(tail.len())]);
            coder.step(simd, &symbols, &contexts, tail.len());
        }
        if of_steps.is_empty() {
            for symbols in steps.iter().rev() {
                coder.step(simd, symbols, &[0; STATES], STATES);
            }
        } else {
            for (symbols, contexts) in steps.iter().zip(of_steps.as_chunks().0).rev() {
                coder.step(simd, symbols, contexts, STATES);
            }
        }
        (coder.states, coder.free, coder.least.iter().all(|entry| *entry != 0))
    }
}

/// The state of the kernel.
struct Coder<'a> {
    states: LaneSymbols<u32>,
    table: Table<'a>,
    /// Words are written from the end on.
    places: &'a mut [[u8; 2]],
    /// Number of unused places.
    free: usize,
    /// The least entry of each lane; 0 if a symbol has no frequency.
    least: [u32; LANES],
}

impl Coder<'_> {
    /// Codes one symbol into each of the first `count` states.
    #[inline(always)]
    fn step<S: Simd>(&mut self, simd: S, symbols: &[u8; STATES], contexts: &[u8; STATES], count: usize) {
        for vector in (0..VECTORS).rev() {
            let first = vector * LANES;
            let (some, their): ([u8; LANES], [u8; LANES]) = (load(&symbols[first..]), load(&contexts[first..]));
            let mut entries = simd.gather(self.table, &lanes!(i => u32::from(their[i]) << 8 | u32::from(some[i])));
            if count < STATES {
                entries = lanes!(i => if first + i < count { entries[i] } else { NOTHING });
            }
            self.least = lanes!(i => self.least[i].min(entries[i]));
            // Frequency 0 becomes 1 here, so that the division is defined; the caller reports the
            // error.
            let frequencies: [u32; LANES] = lanes!(i => (entries[i] & 0xffff).max(1));
            let Some(last) = self.places[..self.free].last_chunk_mut() else { return };
            let (kept, words) = simd.drain(&self.states[vector], &frequencies, last);
            self.free -= words;
            let [quotients, rests] = simd.divide(&kept, &frequencies);
            self.states[vector] =
                lanes!(i => (quotients[i] << PRECISION).wrapping_add(rests[i]).wrapping_add(entries[i] >> 16));
        }
    }
}
