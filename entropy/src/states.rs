//! The states of a stream, sixteen in a vector, and the step that decodes a symbol from each state.

use simd::{LANES, Simd, Table, lanes, load};

use crate::frequencies::PRECISION;
use crate::{Error, LOWEST};

/// Number of vectors of states: while one waits for its table, the other one proceeds.
pub(crate) const VECTORS: usize = 2;

/// Number of states of a stream.
pub const STATES: usize = VECTORS * LANES;

/// Bytes of the states at the front of a stream.
pub const STATE_BYTES: usize = 4 * STATES;

/// Mask of the state bits that form the slot.
const SLOTS: u32 = (1 << PRECISION) - 1;

/// A value for each state: symbols, contexts or places in tables.
pub type LaneSymbols<T> = [[T; LANES]; VECTORS];

/// The states of a decoder, for models whose contexts depend on symbols just decoded.
/// [`Self::step`] decodes the next 32 symbols of the stream; call it in a loop inside
/// `simd::kernel!`.
#[derive(Clone, Debug)]
pub struct States<'a> {
    /// The states, and the place in the words.
    pub(crate) at: At<'a>,
    /// Symbols that are left.
    left: usize,
    /// Number of states.
    width: usize,
}

impl<'a> States<'a> {
    /// Reads the initial states of a stream of `symbols` symbols.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are too few for the states, or end with half a word.
    pub fn new(bytes: &'a [u8], symbols: usize) -> Result<Self, Error> {
        Self::narrow(bytes, symbols, STATES)
    }

    /// Like [`Self::new`], for a stream of `width` states, at most 32; see
    /// [`crate::Encoder::append_narrow`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn narrow(bytes: &'a [u8], symbols: usize, width: usize) -> Result<Self, Error> {
        let cut = Error::Damaged("it is cut off");
        let width = width.clamp(1, STATES);
        let (first, rest) = bytes.split_at_checked(4 * symbols.min(width)).ok_or(cut)?;
        let (words, []) = rest.as_chunks() else { return Err(cut) };
        let mut states = [[LOWEST; LANES]; VECTORS];
        for (state, bytes) in states.as_flattened_mut().iter_mut().zip(first.as_chunks().0) {
            *state = u32::from_le_bytes(*bytes);
        }
        if states.as_flattened().iter().any(|state| *state < LOWEST) {
            return Err(Error::Damaged("a state is too small"));
        }
        Ok(Self { at: At { lanes: states, words, next: 0 }, left: symbols, width })
    }

    /// Decodes the next 32 symbols, which have these contexts. The last step may have fewer
    /// symbols; the other lanes are then meaningless.
    #[inline(always)]
    pub fn step<S: Simd>(&mut self, simd: S, table: Table<'_>, contexts: &LaneSymbols<u32>) -> LaneSymbols<u8> {
        if self.left < STATES || self.width < STATES {
            return self.one_by_one(table, contexts);
        }
        self.left -= STATES;
        self.at.step(simd, table, contexts)
    }

    /// Marks up to `most` symbols as decoded, as many as whole steps of all states decode. The
    /// caller decodes them with [`At::step`].
    pub(crate) fn whole_steps(&mut self, most: usize) -> usize {
        let symbols = if self.width < STATES { 0 } else { most.min(self.left) / STATES * STATES };
        self.left -= symbols;
        symbols
    }

    /// A step of a narrow stream, or the last step.
    #[inline(never)]
    fn one_by_one(&mut self, table: Table<'_>, contexts: &LaneSymbols<u32>) -> LaneSymbols<u8> {
        let mut symbols = [[0; LANES]; VECTORS];
        let count = self.left.min(STATES);
        self.left -= count;
        for (i, (symbol, context)) in
            symbols.as_flattened_mut().iter_mut().zip(contexts.as_flattened()).take(count).enumerate()
        {
            let state = &mut self.at.lanes.as_flattened_mut()[i % self.width];
            let entry = table.get(context << PRECISION | *state & SLOTS);
            *state = ((entry >> (32 - PRECISION)) + 1).wrapping_mul(*state >> PRECISION).wrapping_add(entry & SLOTS);
            if *state < LOWEST {
                let word = self.at.words.get(self.at.next).copied().unwrap_or_default();
                *state = *state << 16 | u32::from(u16::from_le_bytes(word));
                self.at.next += 1;
            }
            *symbol = (entry >> PRECISION) as u8;
        }
        symbols
    }

    /// Symbols that are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Checks that the stream ended correctly.
    ///
    /// # Errors
    /// [`Error::Damaged`] if symbols or words are left, or a final state is not the initial state
    /// of the encoder.
    pub fn finish(self) -> Result<(), Error> {
        let ended = self.left == 0 && self.at.next == self.at.words.len();
        if ended && self.at.lanes.as_flattened().iter().all(|state| *state == LOWEST) {
            return Ok(());
        }
        Err(Error::Damaged("it does not end where it should"))
    }
}

/// What a step changes. A loop keeps it in registers if it is a variable of its own.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    lanes: LaneSymbols<u32>,
    words: &'a [[u8; 2]],
    /// Index of the next word. Words beyond the end read as zeros; [`States::finish`] detects that.
    next: usize,
}

impl At<'_> {
    /// Decodes a symbol from each state.
    #[inline(always)]
    pub(crate) fn step<S: Simd>(&mut self, simd: S, table: Table<'_>, contexts: &LaneSymbols<u32>) -> LaneSymbols<u8> {
        let mut symbols = [[0; LANES]; VECTORS];
        for vector in 0..VECTORS {
            symbols[vector] = self.take(simd, table, &contexts[vector], vector);
        }
        symbols
    }

    /// Decodes one symbol from each state of a vector.
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, table: Table<'_>, contexts: &[u32; LANES], vector: usize) -> [u8; LANES] {
        let old = self.lanes[vector];
        let places: [u32; LANES] = lanes!(i => contexts[i] << PRECISION | old[i] & SLOTS);
        let entries = simd.gather(table, &places);
        // f·⌊x/2¹²⌋ + offset, where only the product has to wait for the frequency.
        let tops: [u32; LANES] = lanes!(i => old[i] >> PRECISION);
        let sums: [u32; LANES] = lanes!(i => tops[i] + (entries[i] & SLOTS));
        let states = lanes!(i => (entries[i] >> (32 - PRECISION)).wrapping_mul(tops[i]).wrapping_add(sums[i]));
        let rest = self.words.get(self.next..).unwrap_or_default();
        let padded;
        let words = if let Some(words) = rest.first_chunk() {
            words
        } else {
            padded = load(rest);
            &padded
        };
        let (lanes, words) = simd.refill(&states, words);
        self.next += words;
        self.lanes[vector] = lanes;
        lanes!(i => (entries[i] >> PRECISION) as u8)
    }
}
